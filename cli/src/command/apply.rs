//! `pai apply`.

use std::path::PathBuf;

use similar::TextDiff;

use super::change::{self, Wait};
use super::{Outcome, Shared};
use crate::directory::GatewayDirectory;
use crate::failure::Failure;
use crate::gateway::Rendering;
use crate::manifest::{Change, Manifest, ManifestSet, read_all};
use crate::output::{self, yaml};

/// Create or change manifests
///
/// All manifests of all files are applied, or, if one of them is wrong, none. A running gateway uses them at once: streams in progress end as
/// they began, and counted tokens stay counted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pai apply -f model-provider.yaml
  pai apply -f manifests/ --prune          # also delete what is in no file of the directory
  pai apply -f agents.yaml --dry-run --diff
  cat key.yaml | pai apply -f -")]
pub struct Args {
    /// File with manifests, directory of such files, or - for standard input. Can be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Check everything and print what would change, but change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the lines that change
    #[arg(long)]
    diff: bool,
    /// Delete manifests that are in none of the files
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    wait: Wait,
}

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let documents = read_all(&self.files)?;
        let directory = shared.directory()?;
        if self.dry_run {
            let old = directory.manifests()?;
            let (set, changes) = old.apply(&documents, change::now(), self.prune)?;
            self.check(&directory, &set)?;
            return self.print(&old, &changes);
        }
        let lock = directory.lock()?;
        let old = directory.manifests()?;
        let (set, changes) = old.apply(&documents, change::now(), self.prune)?;
        change::commit(&directory, &lock, set, &self.wait)?;
        self.print(&old, &changes)
    }

    fn check(&self, directory: &GatewayDirectory, set: &ManifestSet) -> Result<(), Failure> {
        change::check_secrets(directory, set)?;
        Rendering::new(directory).files(set).map(drop)
    }

    fn print(&self, old: &ManifestSet, changes: &[(Manifest, Change)]) -> Outcome {
        let note = if self.dry_run { " (dry run)" } else { "" };
        let mut text = String::new();
        for (manifest, change) in changes {
            if self.diff {
                text += &diff(old.get(manifest.kind, &manifest.name), manifest, *change);
            }
            text += &format!("{} {}{note}\n", manifest.id(), change.word());
        }
        output::print(&text)
    }
}

/// Returns the lines that change, with those around them.
fn diff(old: Option<&Manifest>, new: &Manifest, change: Change) -> String {
    let text = |manifest: &Manifest| yaml::manifest(&manifest.value);
    let before = old.map(text).unwrap_or_default();
    let after = if change == Change::Pruned { String::new() } else { text(new) };
    if before == after {
        return String::new();
    }
    let id = new.id();
    TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).header(&id, &id).to_string()
}
