//! `pai logout`.

use super::Outcome;
use crate::client::Store;
use crate::output;

/// Remove a stored access key
///
/// Without NAME, logs out of the current gateway. The key itself stays valid until the operator deletes it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pai logout                  # the current gateway
  pai logout api.example.com  # this one; `pai gateway list` lists the names")]
pub struct Args {
    /// Name of the login
    name: Option<String>,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let store = Store::of_user()?;
        let Some(name) = self.name.or(store.load()?.current) else {
            output::note("Not logged in to any gateway");
            return Ok(());
        };
        let left = store.update(|logins| {
            logins.check(&name)?;
            logins.gateways.remove(&name);
            logins.current.take_if(|current| *current == name);
            Ok(logins.gateways.len())
        })?;
        output::note(&format!("Logged out of `{name}`"));
        if left > 0 {
            output::note("To use another login: pai gateway use NAME (`pai gateway list` lists them)");
        }
        Ok(())
    }
}
