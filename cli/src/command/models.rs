//! `pai models`.

use clap::ValueEnum;
use serde_json::json;

use super::{Outcome, Shared};
use crate::client::{Client, Model, TargetArgs};
use crate::output;

/// What is shown where the context length is not known.
const UNKNOWN: &str = "—";

/// List the models that you can use
///
/// Lists what the gateway lists for your access key. A model that only a pattern such as `vllm-local/*` allows can be used without being listed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pai models
  pai models -o name
  pai models --url https://api.example.com --access-key pak_…")]
pub struct Args {
    /// Output format; default: a table
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Name,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let client = Client::new(self.target.resolve(&shared.directory()?)?)?;
        let models = client.models()?;
        if models.is_empty() {
            output::note(&format!("{} lists no models for you", client.url()));
        }
        match self.output {
            Some(Format::Json) => output::print(&as_json(&models)),
            Some(Format::Name) => {
                output::print(&models.iter().map(|model| format!("{}\n", output::printable(&model.id))).collect::<String>())
            }
            None if models.is_empty() => Ok(()),
            None => output::print(&table(&models)),
        }
    }
}

fn table(models: &[Model]) -> String {
    let row = |model: &Model| {
        let context = model.max_model_len.map_or_else(|| UNKNOWN.to_owned(), |length| length.to_string());
        [output::printable(&model.id), output::printable(&model.owned_by), context]
    };
    output::table::render(["MODEL", "PROVIDER", "CONTEXT"], models.iter().map(row).collect())
}

fn as_json(models: &[Model]) -> String {
    let item = |model: &Model| json!({"id": model.id, "provider": model.owned_by, "contextLength": model.max_model_len});
    format!("{:#}\n", json!({"items": models.iter().map(item).collect::<Vec<_>>()}))
}
