//! What the rules find, measured on labelled prompts.

#[cfg(not(target_arch = "wasm32"))]
mod corpus {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::super::{Sensitivity, judge};

    struct Prompt {
        attack: bool,
        family: String,
        text: String,
    }

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guards").join(name)
    }

    fn prompts(folder: &Path) -> Vec<Prompt> {
        let mut prompts = Vec::new();
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "jsonl")) {
            for line in fs::read_to_string(file).unwrap().lines().filter(|line| !line.trim().is_empty()) {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let field = |name: &str| value[name].as_str().unwrap().to_owned();
                prompts.push(Prompt { attack: field("label") == "attack", family: field("family"), text: field("text") });
            }
        }
        prompts
    }

    #[test]
    #[ignore = "a tool for whoever changes the rules"]
    fn show() {
        let level = match std::env::var("LEVEL").as_deref() {
            Ok("low") => Sensitivity::Low,
            Ok("high") => Sensitivity::High,
            _ => Sensitivity::Medium,
        };
        let mut table: BTreeMap<(bool, String), (usize, usize)> = BTreeMap::new();
        for prompt in prompts(&folder("tune")) {
            let found = judge(&prompt.text, level);
            let row = table.entry((prompt.attack, prompt.family.clone())).or_default();
            row.0 += usize::from(found.is_some());
            row.1 += 1;
            if found.is_some() != prompt.attack {
                println!(
                    "{} {:?} {}",
                    if prompt.attack { "MISS" } else { "FALSE" },
                    found.map_or(prompt.family.as_str(), |f| f.family),
                    prompt.text.replace('\n', "\\n")
                );
            }
        }
        for ((attack, family), (found, all)) in table {
            println!("TABLE {attack} {family} {found}/{all}");
        }
    }
}
