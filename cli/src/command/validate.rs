//! `pai validate`.

use std::path::PathBuf;

use super::{Outcome, Shared};
use crate::manifest::{ManifestSet, read_all};
use crate::output;

/// Check manifests without a gateway
///
/// Checks the files as a complete configuration, with the code that the gateway uses. All errors are printed, with their lines.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with manifests, directory of such files, or - for standard input. Can be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Args {
    /// Runs the command.
    pub fn run(self, _: &Shared) -> Outcome {
        let documents = read_all(&self.files)?;
        ManifestSet::default().apply(&documents, 0, true)?;
        output::print(&match documents.len() {
            1 => "1 manifest is valid\n".to_owned(),
            count => format!("{count} manifests are valid\n"),
        })
    }
}
