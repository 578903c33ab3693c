//! `pai create access-key`, `pai rotate access-key`.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::change::{self, Wait};
use super::get::not_found;
use super::{Outcome, Shared};
use crate::digest::sha256;
use crate::failure::Failure;
use crate::manifest::{Document, Kind, Manifest, ManifestSet};
use crate::output;

/// Bytes of randomness of a key: 43 characters in base64url.
const KEY_BYTES: usize = 32;

/// Create an access key for a developer
///
/// Prints the key once, on standard output. The gateway stores only its SHA-256.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pai create access-key alice-laptop --expires 90d --max-tokens-per-day 200000
  pai create access-key ci --models 'vllm-local/*' --requests-per-minute 60

Developers use it with `pai login URL --access-key pak_...`. Only providers with
externalAccess.enabled: true are open to them.")]
pub struct Create {
    /// Name of the key, such as alice-laptop
    name: String,
    /// Models that the key may use, separated by commas: references, `PROVIDER/*`, `*`
    #[arg(long, value_name = "MODELS", value_delimiter = ',')]
    models: Vec<String>,
    /// Tokens per UTC day
    #[arg(long, value_name = "N")]
    max_tokens_per_day: Option<u64>,
    /// Tokens per minute
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Requests per minute
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,
    /// How long the key is valid, such as 90d
    #[arg(long, value_name = "DURATION", value_parser = change::duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    wait: Wait,
}

/// Replace an access key by a new one
///
/// Prints the new key once. The old one is valid for the time of grace. Limits and counted tokens stay those of the name.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// Name of the key
    name: String,
    /// How long the old key stays valid, such as 24h
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = change::duration)]
    grace: Duration,
    #[command(flatten)]
    wait: Wait,
}

impl Create {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let directory = shared.directory()?;
        let lock = directory.lock()?;
        let old = directory.manifests()?;
        if old.get(Kind::AccessKey, &self.name).is_some() {
            let name = &self.name;
            return Err(Failure::refused(format!("access key `{name}` exists; `pai rotate access-key {name}` replaces its key")));
        }
        let key = new_key()?;
        let document = Document::made_by("pai create access-key", self.manifest(&key)?);
        let (set, _) = old.apply(&[document], change::now(), false)?;
        change::commit(&directory, &lock, set.clone(), &self.wait)?;
        output::note(&format!("accesskey.pai.io/{} created. This is the key; it is not shown again:", self.name));
        output::print(&format!("{key}\n"))?;
        warn_about_use(&old, &set);
        Ok(())
    }

    fn manifest(&self, key: &str) -> Result<Value, Failure> {
        let mut spec = Map::new();
        spec.insert("sha256".to_owned(), sha256(key).into());
        if !self.models.is_empty() {
            spec.insert("models".to_owned(), self.models.clone().into());
        }
        let numbers = [
            ("maxTokensPerDay", self.max_tokens_per_day),
            ("tokensPerMinute", self.tokens_per_minute),
            ("requestsPerMinute", self.requests_per_minute),
        ];
        for (field, number) in numbers {
            spec.extend(number.map(|number| (field.to_owned(), number.into())));
        }
        if let Some(expires) = self.expires {
            spec.insert("expires".to_owned(), after(expires)?.into());
        }
        Ok(json!({ "apiVersion": "pai.io/v1", "kind": "AccessKey", "metadata": { "name": self.name }, "spec": spec }))
    }
}

impl Rotate {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let directory = shared.directory()?;
        let lock = directory.lock()?;
        let old = directory.manifests()?;
        let found = old.get(Kind::AccessKey, &self.name).ok_or_else(|| not_found(Kind::AccessKey.resource(), &self.name))?;
        let mut value = found.value.clone();
        let spec = value.get_mut("spec").and_then(Value::as_object_mut).context("the manifest has no spec")?;
        let key = new_key()?;
        let previous = spec.insert("sha256".to_owned(), sha256(&key).into());
        spec.remove("previous");
        if !self.grace.is_zero() {
            spec.insert("previous".to_owned(), json!({ "sha256": previous, "expires": after(self.grace)? }));
        }
        let (set, _) = old.apply(&[Document::made_by("pai rotate access-key", value)], change::now(), false)?;
        change::commit(&directory, &lock, set, &self.wait)?;
        output::note(&format!("accesskey.pai.io/{} configured. This is the new key; it is not shown again:", self.name));
        output::print(&format!("{key}\n"))?;
        Ok(())
    }
}

/// Returns a key: `pak_` and 43 random characters.
fn new_key() -> Result<String, Failure> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::refused(format!("the operating system has no random numbers: {error}")))?;
    Ok(format!("pak_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Returns the time after a duration, in RFC 3339 to the second.
fn after(duration: Duration) -> Result<String, Failure> {
    let seconds = i64::try_from(duration.as_secs()).ok().and_then(|seconds| Timestamp::now().as_second().checked_add(seconds));
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(|time| time.to_string()).ok_or_else(|| Failure::usage("the duration is too long"))
}

/// Warns where the key cannot be used yet, or where its existence changes who may call.
fn warn_about_use(old: &ManifestSet, new: &ManifestSet) {
    if !new.of_kind(Kind::ModelProvider).any(Manifest::is_external) {
        output::warn("no ModelProvider is open to access keys; set spec.externalAccess.enabled: true in one");
    }
    if old.is_open() {
        output::warn("the gateway was open; callers now need a key or the identity of an Agent");
    }
}

#[cfg(test)]
mod tests {
    use super::new_key;

    #[test]
    fn a_key_has_the_documented_form() {
        let key = new_key().unwrap();
        let secret = key.strip_prefix("pak_").unwrap();
        assert_eq!(secret.len(), 43);
        assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{key}");
        assert_ne!(key, new_key().unwrap());
    }
}
