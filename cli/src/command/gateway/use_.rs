//! `pai gateway use`.

use super::Outcome;
use crate::client::Store;
use crate::output;

/// Choose the gateway that commands use
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  pai gateway use api.example.com  # `pai gateway list` lists the names")]
pub struct Args {
    /// Name of the login
    name: String,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        Store::of_user()?.update(|logins| {
            logins.check(&self.name)?;
            logins.current = Some(self.name.clone());
            Ok(())
        })?;
        output::note(&format!("Using `{}`. In this shell: eval $(pai gateway env)", self.name));
        Ok(())
    }
}
