//! Files of manifests: `-f FILE`, `-f DIRECTORY`, `-f -`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::position::Positions;
use crate::failure::Failure;

/// The endings of files that are read from a directory.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// A text of manifests.
#[derive(Debug)]
pub struct Source {
    /// The path as given, or `standard input`.
    name: String,
    text: String,
}

/// One manifest of a source, of which only the syntax was checked.
#[derive(Debug, Clone)]
pub struct Document {
    source: Rc<Source>,
    /// Its number among the manifests of the source, from 0.
    index: usize,
    /// The manifest.
    pub value: Value,
}

/// Reads the manifests of these paths. All errors of syntax are reported at once.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for source in sources(paths)? {
        match source.parse() {
            Ok(parsed) => documents.extend(parsed),
            Err(lines) => errors.extend(lines),
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(Failure::refused(errors.join("\n"))) }
}

fn sources(paths: &[PathBuf]) -> anyhow::Result<Vec<Rc<Source>>> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            sources.push(Rc::new(Source { name: "standard input".to_owned(), text }));
        } else if path.is_dir() {
            for file in files_of(path)? {
                sources.push(Source::read(&file)?);
            }
        } else {
            sources.push(Source::read(path)?);
        }
    }
    Ok(sources)
}

fn files_of(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("{} cannot be read", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} contains no .yaml, .yml or .json file", directory.display());
    }
    files.sort();
    Ok(files)
}

// === impl Source ===

impl Source {
    fn read(path: &Path) -> anyhow::Result<Rc<Self>> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Rc::new(Self { name: path.display().to_string(), text }))
    }

    fn parse(self: Rc<Self>) -> Result<Vec<Document>, Vec<String>> {
        match pai_filter::config::parse(self.text.as_bytes()) {
            Ok(values) => {
                let document = |(index, value)| Document { source: Rc::clone(&self), index, value };
                Ok(values.into_iter().enumerate().map(document).collect())
            }
            Err(invalid) => Err(invalid.lines().map(|line| format!("{}: {line}", self.name)).collect()),
        }
    }
}

// === impl Document ===

impl Document {
    /// Creates a manifest that a command has made, such as an access key.
    pub fn made_by(command: &str, value: Value) -> Self {
        Self { source: Rc::new(Source { name: command.to_owned(), text: String::new() }), index: 0, value }
    }

    /// Returns where a field of the manifest is: `providers.yaml, document 2, line 14`.
    pub fn place(&self, field: &str) -> String {
        let Source { name, text } = &*self.source;
        match Positions::of(text).and_then(|positions| positions.find(self.index, field)) {
            Some((document, line)) => format!("{name}, document {document}, line {line}"),
            None => name.clone(),
        }
    }
}
