//! `pai get`.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::resource::{NAMES, Resource, Selection};
use super::{Outcome, Shared};
use crate::directory::{GatewayDirectory, Secret};
use crate::failure::Failure;
use crate::gateway::Running;
use crate::manifest::{Kind, Manifest, ManifestSet};
use crate::output::{self, rows, table, yaml};

/// The time between two looks of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// List manifests and secrets
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pai get model-providers
  pai get mp vllm-local -o yaml
  pai get access-keys --watch

LAST USED and what -o wide adds come from the running gateway. Without one they are empty.")]
pub struct Args {
    #[arg(value_name = "KIND [NAME]", required = true, num_args = 1.., help = format!("What to list: {NAMES}"))]
    what: Vec<String>,
    /// Form of the list
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Go on, and print what changes
    #[arg(short, long)]
    watch: bool,
}

/// Forms of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table with more columns
    Wide,
    /// JSON, as `pai apply -f` accepts it
    Json,
    /// A stream of YAML documents, as `pai apply -f` accepts it
    Yaml,
    /// Names only
    Name,
}

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let selection = Selection::parse(&self.what)?;
        let directory = shared.directory()?;
        if !self.watch {
            return output::print(&self.text(&selection, &directory)?.concat());
        }
        let mut seen = BTreeMap::new();
        loop {
            for line in self.text(&selection, &directory)? {
                // A line is printed again when more than its age has changed.
                let (name, rest) = (rows::first_cell(&line), rows::without_last_cell(&line));
                if seen.insert(name, rest.clone()) != Some(rest) {
                    output::print(&line)?;
                }
            }
            sleep(INTERVAL);
        }
    }

    /// Returns the output: the lines of a table, or one text.
    fn text(&self, selection: &Selection, directory: &GatewayDirectory) -> Result<Vec<String>, Failure> {
        match selection.resource {
            Resource::Manifests(kind) => self.manifests(kind, &selection.names, directory),
            Resource::Secrets => self.secrets(&selection.names, directory),
        }
    }

    fn manifests(&self, kind: Kind, names: &[String], directory: &GatewayDirectory) -> Result<Vec<String>, Failure> {
        let set = directory.manifests()?;
        let found = select(kind, names, &set)?;
        let text = match self.output {
            Some(Format::Yaml) => yaml::stream(found.iter().map(|manifest| &manifest.value)),
            Some(Format::Json) => json_text(found.iter().map(|manifest| manifest.value.clone()).collect(), names.len() == 1),
            Some(Format::Name) => found.iter().map(|manifest| format!("{}\n", manifest.id())).collect(),
            Some(Format::Wide) | None if found.is_empty() => return none(directory),
            Some(Format::Wide) | None => {
                let rows = rows::Rows { set: &set, running: Running::find(directory).as_ref(), wide: self.output.is_some() }
                    .of(kind, &found);
                return Ok(table::lines(&rows));
            }
        };
        Ok(vec![text])
    }

    fn secrets(&self, names: &[String], directory: &GatewayDirectory) -> Result<Vec<String>, Failure> {
        let found = select_secrets(names, directory)?;
        let text = match self.output {
            Some(Format::Yaml) => yaml::stream(found.iter().map(secret_value).collect::<Vec<_>>().iter()),
            Some(Format::Json) => json_text(found.iter().map(secret_value).collect(), names.len() == 1),
            Some(Format::Name) => found.iter().map(|secret| format!("secret/{}\n", secret.name)).collect(),
            Some(Format::Wide) | None if found.is_empty() => return none(directory),
            Some(Format::Wide) | None => return Ok(table::lines(&rows::secrets(&found))),
        };
        Ok(vec![text])
    }
}

/// Returns the manifests with these names, or all.
pub fn select<'s>(kind: Kind, names: &[String], set: &'s ManifestSet) -> Result<Vec<&'s Manifest>, Failure> {
    if names.is_empty() {
        return Ok(set.of_kind(kind).collect());
    }
    names.iter().map(|name| set.get(kind, name).ok_or_else(|| not_found(kind.resource(), name))).collect()
}

/// Returns the secrets with these names, or all.
pub fn select_secrets(names: &[String], directory: &GatewayDirectory) -> Result<Vec<Secret>, Failure> {
    let secrets = directory.secrets();
    if names.is_empty() {
        return Ok(secrets.list()?);
    }
    names.iter().map(|name| secrets.get(name)?.ok_or_else(|| not_found("secret", name))).collect()
}

/// Returns the error for a name that is not there.
pub fn not_found(resource: &str, name: &str) -> Failure {
    Failure::refused(format!("{resource} \"{name}\" not found"))
}

fn none(directory: &GatewayDirectory) -> Result<Vec<String>, Failure> {
    output::note(&format!("No resources found in {}.", directory.root().display()));
    Ok(Vec::new())
}

/// A secret without its values.
fn secret_value(secret: &Secret) -> Value {
    json!({ "kind": "Secret", "metadata": { "name": secret.name }, "keys": secret.keys })
}

fn json_text(mut values: Vec<Value>, is_one: bool) -> String {
    let value = match values.pop() {
        Some(only) if is_one && values.is_empty() => only,
        last => json!({ "items": values.into_iter().chain(last).collect::<Vec<_>>() }),
    };
    serde_json::to_string_pretty(&value).map(|text| text + "\n").unwrap_or_default()
}
