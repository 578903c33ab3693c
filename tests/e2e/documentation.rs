//! The documentation as files: links lead somewhere, and the page about the code names what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the Markdown files at the top of the repository and in `docs/`.
fn pages() -> Vec<PathBuf> {
    let files =
        ["", "docs", "docs/bench", "filter/fuzz", "tests/vllm"].map(|folder| std::fs::read_dir(root().join(folder)).unwrap());
    let files = files.into_iter().flatten().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Returns a page without its blocks of code.
fn prose(page: &str) -> String {
    let mut inside = false;
    let keep = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    };
    page.lines().filter(keep).map(|line| format!("{line}\n")).collect()
}

/// Returns the anchors of a page: those that GitHub makes of headings, and those that are written as `<a id="…">`.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim()));
    let written = prose.split("<a id=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id.to_owned());
    headings.chain(written).collect()
}

/// Returns the targets of the links and images of a page.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&text).iter().filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !there {
                broken.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let (mut reached, mut next) = (BTreeSet::new(), vec![root().join("README.md").canonicalize().unwrap()]);
    while let Some(page) = next.pop() {
        if reached.insert(page.clone()) {
            let pages = links(&read(&page)).into_iter().map(|link| page.parent().unwrap().join(link.split('#').next().unwrap()));
            next.extend(
                pages.filter_map(|link| link.canonicalize().ok()).filter(|link| link.extension().is_some_and(|e| e == "md")),
            );
        }
    }
    let missing: Vec<_> = pages().into_iter().filter(|page| !reached.contains(&page.canonicalize().unwrap())).collect();
    assert!(missing.is_empty(), "no links lead to {missing:?}");
}

/// Returns the rows of the table under a heading, without the head.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Returns what a cell says in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_table_of_folders_is_the_tree() {
    let page = read(&root().join("docs/architecture.md"));
    let written: Vec<String> =
        table(&page, "Folders").iter().map(|row| quoted(&row[0])[0].trim_end_matches('/').to_owned()).collect();
    let entries = std::fs::read_dir(root().join("filter/src")).unwrap().map(|entry| entry.unwrap());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.file_type().unwrap().is_dir());
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    let folders: BTreeSet<String> = folders.iter().map(name).collect();
    assert_eq!(BTreeSet::from_iter(written.iter().cloned()), folders, "docs/architecture.md, \"Folders\", and filter/src differ");
    assert_eq!(written.len(), folders.len(), "a folder is in the table twice");
    for file in files.iter().map(name).filter(|file| file != "lib.rs") {
        assert!(page.contains(&format!("`{file}`")), "docs/architecture.md does not name filter/src/{file}");
    }
}

#[test]
fn the_table_of_rules_names_files_that_are_there() {
    let page = read(&root().join("docs/architecture.md"));
    let rules = table(&page, "Where ten rules are");
    assert_eq!(rules.len(), 10);
    let source = root().join("filter/src");
    let mut paths: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for path in quoted(&page).into_iter().filter(|quoted| quoted.ends_with(".rs")) {
        paths.insert(path, source.join(path));
    }
    for path in quoted(&page).into_iter().filter(|quoted| quoted.starts_with("filter/") || quoted.starts_with("tests/")) {
        paths.insert(path, root().join(path));
    }
    let missing: Vec<_> = paths.iter().filter(|(_, path)| !path.exists()).map(|(name, _)| name).collect();
    assert!(missing.is_empty(), "docs/architecture.md names what is not there: {missing:?}");
}

/// Without a rule in `stats_tags`, Prometheus shows a label as a part of the name.
#[test]
fn the_labels_of_the_metrics_are_tags_in_the_shipped_configurations() {
    let page = read(&root().join("docs/metrics.md"));
    let rows = table(&page, "Metrics");
    let labels: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(&row[2])).collect();
    assert!(labels.contains("provider") && labels.contains("decision"), "{labels:?}");
    for file in ["envoy/envoy.yaml", "envoy/fallback.yaml"] {
        let envoy = read(&root().join(file));
        let missing: Vec<_> = labels.iter().filter(|label| !envoy.contains(&format!("tag_name: {label},"))).collect();
        assert!(missing.is_empty(), "{file} has no stats_tags for {missing:?}");
    }
}

/// The drawing of one request's way names files, too.
#[test]
fn the_way_of_a_request_names_files_that_are_there() {
    let page = read(&root().join("docs/architecture.md"));
    let (_, way) = page.split_once("## One request's way\n\n```\n").unwrap();
    let (way, _) = way.split_once("```").unwrap();
    let source = root().join("filter/src");
    let words =
        way.split(|c: char| c.is_whitespace() || ",()".contains(c)).filter(|word| word.ends_with(".rs") || word.ends_with('/'));
    let folders = ["", "host", "exchange"].map(|folder| source.join(folder));
    let missing: Vec<_> = words.filter(|word| !folders.iter().any(|folder| folder.join(word).exists())).collect();
    assert!(missing.is_empty(), "the drawing in docs/architecture.md names what is not there: {missing:?}");
}

/// Both shipped configurations log the same fields, of the same kinds.
#[test]
fn both_shipped_configurations_have_one_access_log() {
    let format = |file: &str| {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let block = text.split_once("json_format:").unwrap().1.lines().skip(1);
        let fields = block.map(str::trim).take_while(|line| !line.is_empty()).filter(|line| line.contains(": \"%"));
        fields.map(|line| line.split(" #").next().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    let fields = format("envoy/envoy.yaml");
    assert!(fields.len() > 20, "{fields:?}");
    assert_eq!(fields, format("envoy/fallback.yaml"));
}
