//! `pai describe`.

use jiff::Timestamp;

use super::get::{select, select_secrets};
use super::resource::{NAMES, Resource, Selection};
use super::{Outcome, Shared};
use crate::directory::{GatewayDirectory, Secret};
use crate::failure::Failure;
use crate::gateway::{Drift, ModelProviderStatus, Running};
use crate::manifest::{Kind, Manifest, ManifestSet};
use crate::output::{self, rows, style};

/// Show manifests and secrets in detail, with their use
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pai describe model-provider vllm-local   # also warns where allowedModels and the server's models differ
  pai describe gateway")]
pub struct Args {
    #[arg(value_name = "KIND [NAME]", required = true, num_args = 1.., help = format!("What to show: {NAMES}"))]
    what: Vec<String>,
}

/// Where details of manifests are from.
struct Details {
    set: ManifestSet,
    running: Option<Running>,
}

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let Selection { resource, names } = Selection::parse(&self.what)?;
        let directory = shared.directory()?;
        let texts = match resource {
            Resource::Manifests(kind) => {
                let set = directory.manifests()?;
                let details = Details { running: Running::find(&directory), set };
                select(kind, &names, &details.set)?.into_iter().map(|manifest| details.of(manifest)).collect()
            }
            Resource::Secrets => secrets(&names, &directory)?,
        };
        output::print(&texts.join("\n\n"))
    }
}

fn secrets(names: &[String], directory: &GatewayDirectory) -> Result<Vec<String>, Failure> {
    let found = select_secrets(names, directory)?;
    let set = directory.manifests()?;
    Ok(found.iter().map(|secret| describe_secret(secret, &set)).collect())
}

fn describe_secret(secret: &Secret, set: &ManifestSet) -> String {
    let refers = |provider: &&Manifest| provider.secret_reference().is_some_and(|reference| reference.name == secret.name);
    let users: Vec<&str> = set.of_kind(Kind::ModelProvider).filter(refers).map(|provider| provider.name.as_str()).collect();
    let mut text = line("Name", &secret.name) + &line("Created", &time(secret.created)) + &line("Keys", &secret.keys.join(", "));
    text += &line("Used by", if users.is_empty() { "<none>" } else { "" });
    for user in users {
        text += &format!("  ModelProvider {user}\n");
    }
    text
}

// === impl Details ===

impl Details {
    fn of(&self, manifest: &Manifest) -> String {
        let mut text =
            line("Name", &manifest.name) + &line("Kind", manifest.kind.name()) + &line("Created", &time(manifest.created));
        text += "Spec:\n";
        text += &indented(&serde_yaml::to_string(manifest.spec()).unwrap_or_default());
        match (manifest.kind, &self.running) {
            (Kind::Gateway, _) => {}
            (_, None) => text += &line("Usage", "<no gateway runs>"),
            (Kind::ModelProvider, Some(running)) => text += &provider(manifest, running),
            (Kind::Agent, Some(running)) => text += &caller(manifest, &running.control.agents().unwrap_or_default()),
            (Kind::AccessKey, Some(running)) => text += &caller(manifest, &running.control.access_keys().unwrap_or_default()),
        }
        text
    }
}

fn provider(manifest: &Manifest, running: &Running) -> String {
    let status = running.control.model_providers().unwrap_or_default();
    let Some(status) = status.into_iter().find(|status| status.name == manifest.name) else {
        return line("Usage", "<not in force yet>");
    };
    let mut text = usage(Some(status.used_today), status.last_used.as_deref());
    text += &format!("  {}", line("Reserved", &status.reserved.to_string()));
    text + &models(manifest, &status)
}

/// Compares what the manifest allows with what the server lists.
fn models(manifest: &Manifest, status: &ModelProviderStatus) -> String {
    let Some(listed) = &status.listed else {
        return line("Models of the server", "<not known yet>");
    };
    let mut text = line("Models of the server", if listed.is_empty() { "<none>" } else { "" });
    for model in listed {
        text += &format!("  {model}\n");
    }
    let Some(drift) = Drift::between(manifest, listed) else { return text };
    let warning = style::heading("Warning:");
    for entry in &drift.missing {
        text += &format!(
            "{warning} allowedModels contains {entry}, and the server does not serve it: requests for it fail. Load it, or remove the entry\n"
        );
    }
    for model in &drift.not_allowed {
        text += &format!("{warning} the server also serves {model}: add it to allowedModels to allow it\n");
    }
    text
}

fn caller(manifest: &Manifest, callers: &[crate::gateway::CallerStatus]) -> String {
    match callers.iter().find(|caller| caller.name == manifest.name) {
        Some(caller) => usage(caller.used_today, caller.last_used.as_deref()),
        None => line("Usage", "<not in force yet>"),
    }
}

fn usage(today: Option<u64>, last: Option<&str>) -> String {
    let today = today.map_or_else(|| "<not counted: no cap>".to_owned(), |today| format!("{today} tokens"));
    let last = last.map_or_else(|| "<never>".to_owned(), |last| format!("{last} ({})", rows::ago(Some(last))));
    format!("Usage:\n  {}  {}", line("Today", &today), line("Last used", &last))
}

fn line(name: &str, value: &str) -> String {
    format!("{:<12} {value}", format!("{name}:")).trim_end().to_owned() + "\n"
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn time(created: u64) -> String {
    let time = i64::try_from(created).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    format!("{} ({} ago)", time.unwrap_or_default(), rows::age(created))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn names_are_aligned() {
        assert_eq!(line("Name", "a"), "Name:        a\n");
        assert_eq!(line("Usage", ""), "Usage:\n");
    }
}
