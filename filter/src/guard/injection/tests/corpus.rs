//! The labelled prompts of `tests/guards`: how many attacks are found, and how many harmless prompts are taken for one.
//!
//! `tune` is what the rules were made with. `heldout` was not looked at while they were made. `docs/guards.md` has the tables, which
//! `cargo test -p pai-filter corpus -- --nocapture` prints; `PAI_GUARD_SHOW=tune` with `--ignored` prints every prompt of a folder
//! that was classified wrongly.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Sensitivity, detect};

const LEVELS: [(&str, Sensitivity); 3] = [("low", Sensitivity::Low), ("medium", Sensitivity::Medium), ("high", Sensitivity::High)];

struct Prompt {
    attack: bool,
    family: String,
    text: String,
}

/// How many of some prompts were taken for attacks.
#[derive(Default, Clone, Copy)]
struct Count {
    taken: u32,
    all: u32,
}

impl Count {
    fn add(&mut self, taken: bool) {
        self.taken += u32::from(taken);
        self.all += 1;
    }

    fn share(self) -> f64 {
        f64::from(self.taken) / f64::from(self.all.max(1))
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guards").join(name)
}

/// Every prompt of every `.jsonl` file of a folder.
fn prompts(folder: &Path) -> Vec<Prompt> {
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> =
        files.map(|file| file.unwrap().path()).filter(|file| file.extension().is_some_and(|e| e == "jsonl")).collect();
    files.sort();
    let lines = files.iter().flat_map(|file| {
        let text = fs::read_to_string(file).unwrap();
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>()
    });
    let prompt = |line: String| {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let field = |name: &str| value[name].as_str().unwrap().to_owned();
        Prompt { attack: field("label") == "attack", family: field("family"), text: field("text") }
    };
    lines.map(prompt).collect()
}

/// For each level: harmless prompts taken for attacks, and attacks found; and a table of it.
fn measure(name: &str) -> ([(Count, Count); 3], String) {
    let prompts = prompts(&folder(name));
    let mut families: BTreeMap<(bool, &str), [Count; 3]> = BTreeMap::new();
    let mut totals = [(Count::default(), Count::default()); 3];
    for prompt in &prompts {
        let found = detect(&prompt.text, Sensitivity::High);
        let row = families.entry((prompt.attack, &prompt.family)).or_default();
        for ((_, level), (count, total)) in LEVELS.iter().zip(row.iter_mut().zip(&mut totals)) {
            let taken = found.is_some_and(|found| found.level <= *level);
            count.add(taken);
            if prompt.attack { total.1.add(taken) } else { total.0.add(taken) }
        }
    }
    let mut table = format!("| {name}: taken for attacks | of | low | medium | high |\n|---|---|---|---|---|\n");
    for ((attack, family), counts) in &families {
        let [low, medium, high] = counts.map(|count| count.taken);
        let label = if *attack { "attack:" } else { "harmless:" };
        let _ = writeln!(table, "| {label} {family} | {} | {low} | {medium} | {high} |", counts[0].all);
    }
    table.push('\n');
    for ((level, _), (harmless, attacks)) in LEVELS.iter().zip(totals) {
        let precision = f64::from(attacks.taken) / f64::from((attacks.taken + harmless.taken).max(1));
        let _ = writeln!(
            table,
            "- {level}: precision {:.1} %, recall {:.1} % ({} of {}), false positives {:.2} % ({} of {})",
            precision * 100.0,
            attacks.share() * 100.0,
            attacks.taken,
            attacks.all,
            harmless.share() * 100.0,
            harmless.taken,
            harmless.all
        );
    }
    println!("{table}");
    (totals, table)
}

#[test]
fn the_tuning_prompts_are_judged_no_worse_than_before() {
    let (totals, _) = measure("tune");
    for ((level, (harmless, attacks)), (most_false, least_found)) in LEVELS.iter().zip(totals).zip(FLOORS) {
        assert!(harmless.share() <= most_false, "{}: {} of {} harmless prompts are refused", level.0, harmless.taken, harmless.all);
        assert!(attacks.share() >= least_found, "{}: {} of {} attacks are found", level.0, attacks.taken, attacks.all);
    }
}

/// The largest share of harmless prompts that each level may refuse, and the smallest of attacks that it must find.
const FLOORS: [(f64, f64); 3] = [(0.002, 0.30), (0.006, 0.67), (0.10, 0.73)];

#[test]
fn the_documentation_says_what_is_measured() {
    let documentation = include_str!("../../../../../docs/guards.md");
    for name in ["tune", "heldout"] {
        let (_, table) = measure(name);
        assert!(documentation.contains(&table), "docs/guards.md does not have this table:\n{table}");
    }
}

#[test]
#[ignore = "for those who change the rules"]
fn show() {
    let name = std::env::var("PAI_GUARD_SHOW").unwrap_or_else(|_| "tune".to_owned());
    for prompt in prompts(&folder(&name)) {
        let found = detect(&prompt.text, Sensitivity::Medium);
        if found.is_some() != prompt.attack {
            let kind = found.map_or(prompt.family.as_str(), |found| found.family);
            println!("{} {kind}: {}", if prompt.attack { "MISSED" } else { "FALSE" }, prompt.text.replace('\n', "\\n"));
        }
    }
}
