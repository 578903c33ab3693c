//! The filter's configurations, and the credentials that requests need under them.
//!
//! Caps are large enough for all requests, but the filter still has to check them.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::envoy::CALLOUTS;
use super::soak;
use super::workload::{FIRST, MODEL, SECOND};

/// A configuration of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Configuration {
    /// One provider, open to all callers.
    Open,
    /// As `Open`, with a guard against prompt injection.
    Guarded,
    /// Three agents, identified by a header (so that the figures contain no TLS), each with a daily budget.
    Agents,
    /// As `Agents`, with a second provider for retries.
    Fallback,
    /// This number of access keys with a daily budget and both rates, three agents, and an external share. Without keys:
    /// [`Self::Open`].
    Keys(usize),
    /// As `Keys`, with a guard against prompt injection.
    All(usize),
    /// As `Open`, with callouts and this `maxTokensPerRequest`.
    Counted(u64),
    /// All features at once, for a [soak](super::soak).
    Soak,
}

/// More than any test can use.
pub(super) const TOKENS_PER_DAY: u64 = 1_000_000_000_000_000;
const REQUEST_CAP: &str = "1048576";
const TOKENS_PER_MINUTE: u64 = 1_000_000_000_000;
const REQUESTS_PER_MINUTE: u64 = 60_000_000;

const GUARDS: &str = "  guards: [{ name: injection, type: promptInjection }]\n";

/// Two additional keys of [`Configuration::All`]: one for another model only, one with an exhausted budget.
pub(super) const OTHER_MODEL_KEY: &str = "pak_other_model";
pub(super) const EXHAUSTED_KEY: &str = "pak_exhausted";
/// Enough for one small chat.
const EXHAUSTED_KEY_TOKENS_PER_DAY: u64 = 300;

const AGENTS: usize = 3;
const AGENT_HEADER: &str = "x-agent-id";

// === impl Configuration ===

impl Configuration {
    /// Returns the manifests.
    pub(super) fn manifests(self) -> String {
        self.revision("")
    }

    /// Returns the manifests with one additional model, so that `GET /v1/models` identifies the revision.
    pub(super) fn revision(self, model: &str) -> String {
        let mut manifests = match self {
            Self::Open | Self::Keys(0) => provider(FIRST, model, "") + &gateway("routing: body"),
            Self::Counted(cap) => {
                let provider = provider(FIRST, model, "").replace(REQUEST_CAP, &cap.to_string());
                provider + &gateway(&format!("callouts: {{ {FIRST}: {CALLOUTS} }}"))
            }
            Self::Guarded => provider(FIRST, model, GUARDS) + &gateway("routing: body"),
            Self::Agents => provider(FIRST, model, "") + &agents(&[FIRST]) + &gateway(&format!("identityHeader: {AGENT_HEADER}")),
            Self::Fallback => {
                let providers = provider(FIRST, model, "") + "---\n" + &provider(SECOND, model, "");
                providers + &agents(&[FIRST, SECOND]) + &gateway(&format!("identityHeader: {AGENT_HEADER}"))
            }
            Self::Keys(_) | Self::All(_) => {
                let external = format!("  externalAccess: {{ enabled: true, maxTokensPerDay: {TOKENS_PER_DAY} }}\n");
                let guards = if matches!(self, Self::All(_)) { GUARDS } else { "" };
                provider(FIRST, model, &(external + guards)) + &agents(&[FIRST]) + &gateway("routing: body")
            }
            Self::Soak => soak::manifests(),
        };
        if let Self::Keys(keys) | Self::All(keys) = self {
            (0..keys).for_each(|number| access_key(&mut manifests, number));
        }
        if let Self::All(_) = self {
            let other_model = format!("sha256: \"{}\", models: [\"{FIRST}/other\"]", sha256(OTHER_MODEL_KEY));
            let exhausted = format!("sha256: \"{}\", maxTokensPerDay: {EXHAUSTED_KEY_TOKENS_PER_DAY}", sha256(EXHAUSTED_KEY));
            manifests += &manifest("AccessKey", "other-model", &other_model);
            manifests += &manifest("AccessKey", "exhausted", &exhausted);
        }
        manifests
    }

    /// Returns the header lines that identify the caller. All requests have the first line; only an access key in it has an effect.
    pub(super) fn credentials(self) -> String {
        match self {
            Self::Open | Self::Guarded | Self::Counted(_) | Self::Soak | Self::Keys(0) => {
                "authorization: Bearer none\r\n".to_owned()
            }
            Self::Agents | Self::Fallback => format!("authorization: Bearer none\r\n{AGENT_HEADER}: {}\r\n", identity(0)),
            Self::Keys(keys) | Self::All(keys) => format!("authorization: Bearer {}\r\n", key(keys / 2)),
        }
    }
}

fn provider(name: &str, model: &str, more: &str) -> String {
    let comma = if model.is_empty() { "" } else { ", " };
    format!(
        "apiVersion: pai.io/v1\n\
         kind: ModelProvider\n\
         metadata: {{ name: {name} }}\n\
         spec:\n\
         \x20 provider: vllm\n\
         \x20 endpoint: http://127.0.0.1:8000/v1\n\
         \x20 allowedModels: [{MODEL}{comma}{model}]\n\
         \x20 maxTokensPerDay: {TOKENS_PER_DAY}\n\
         \x20 maxTokensPerRequest: {REQUEST_CAP}\n\
         {more}"
    )
}

fn gateway(spec: &str) -> String {
    manifest("Gateway", "default", spec)
}

/// Returns agents that may use the model of these providers.
fn agents(providers: &[&str]) -> String {
    let models: Vec<String> = providers.iter().map(|provider| format!("{provider}/{MODEL}")).collect();
    let models = models.join(", ");
    let spec = |number| format!("identities: [{}], models: [{models}], maxTokensPerDay: {TOKENS_PER_DAY}", identity(number));
    (0..AGENTS).map(|number| manifest("Agent", &format!("agent-{number}"), &spec(number))).collect()
}

/// Returns the hash in an `AccessKey`.
pub(super) fn sha256(key: &str) -> String {
    format!("{:x}", Sha256::digest(key))
}

fn access_key(manifests: &mut String, number: usize) {
    let hash = sha256(&key(number));
    let spec = format!(
        "sha256: \"{hash}\", models: [\"vllm-local/*\"], maxTokensPerDay: {TOKENS_PER_DAY}, \
         requestsPerMinute: {REQUESTS_PER_MINUTE}, tokensPerMinute: {TOKENS_PER_MINUTE}"
    );
    let _ = write!(manifests, "{}", manifest("AccessKey", &format!("key-{number}"), &spec));
}

/// Returns a manifest with a leading document separator.
fn manifest(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: pai.io/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n")
}

fn identity(agent: usize) -> String {
    format!("spiffe://bench.test/ns/agents/sa/agent-{agent}")
}

/// Returns an access key of realistic length.
fn key(number: usize) -> String {
    format!("pak_{number:043}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_accepts_them_and_knows_the_callers() {
        for (configuration, keys, agents) in [
            (Configuration::Open, 0, 0),
            (Configuration::Guarded, 0, 0),
            (Configuration::Counted(5000), 0, 0),
            (Configuration::Agents, 0, AGENTS),
            (Configuration::Fallback, 0, AGENTS),
            (Configuration::Keys(0), 0, 0),
            (Configuration::Keys(20), 20, AGENTS),
            (Configuration::All(20), 22, AGENTS),
        ] {
            for model in ["", "other"] {
                let policy = pai_filter::config::load(configuration.revision(model).as_bytes(), &|_| None);
                let policy = policy.unwrap_or_else(|invalid| panic!("{configuration:?}: {invalid}"));
                let listed = (0..=keys).filter(|place| policy.keys.get(*place).is_some()).count();
                assert_eq!((listed, policy.agents.is_empty()), (keys, agents == 0), "{configuration:?}");
            }
        }
    }
}
