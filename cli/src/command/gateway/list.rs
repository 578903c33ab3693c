//! `pai gateway list`.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Outcome;
use crate::client::{Logins, Store};
use crate::output;

/// List the gateways that you are logged in to
///
/// The current one has a star. Access keys are not shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pai gateway list
  pai gateway list -o json")]
pub struct Args {
    /// Output format; default: a table
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Name,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let logins = Store::of_user()?.load()?;
        match self.output {
            Some(Format::Json) => output::print(&format!("{:#}\n", as_json(&logins))),
            Some(Format::Name) => output::print(&logins.gateways.keys().map(|name| format!("{name}\n")).collect::<String>()),
            None if logins.gateways.is_empty() => {
                output::note("Not logged in to any gateway. Log in with: pai login URL --access-key pak_…");
                Ok(())
            }
            None => output::print(&table(&logins)),
        }
    }
}

fn table(logins: &Logins) -> String {
    let star = |name| if logins.current.as_ref() == Some(name) { "*" } else { "" };
    let rows = logins.gateways.iter().map(|(name, login)| [star(name).to_owned(), name.clone(), login.url.to_string()]);
    output::table::render(["CURRENT", "NAME", "URL"], rows.collect())
}

fn as_json(logins: &Logins) -> Value {
    let is_current = |name| logins.current.as_ref() == Some(name);
    let items = logins.gateways.iter().map(|(name, login)| json!({"name": name, "url": login.url, "current": is_current(name)}));
    json!({"items": items.collect::<Vec<_>>()})
}
