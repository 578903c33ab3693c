//! `pai version`.

use super::Outcome;
use crate::gateway::EnvoyBinary;
use crate::{digest, module, output};

/// Print the versions of pai, its filter module and Envoy
///
/// Envoy is the one that `pai gateway run` would start.
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
        output::print(&format!("module  sha256:{} ({size} KiB)\n", digest::sha256(&module)))?;
        match EnvoyBinary::find(None) {
            Ok(envoy) => output::print(&format!("envoy   {} ({})\n", envoy.version, envoy.path.display())),
            Err(failure) => {
                output::note(&failure.to_string());
                output::print("envoy   not found\n")
            }
        }
    }
}
