//! The configuration of a soak: all features of the filter at once.

use super::super::configuration::{self, TOKENS_PER_DAY};
use super::super::envoy::CALLOUTS;
use super::super::workload::{FIRST, MODEL};

/// The provider of complete responses. Its charge is known exactly.
pub(super) const HEALTHY: &str = FIRST;
/// The provider of aborted and incomplete responses. Its charge is known within bounds.
pub(super) const CUT: &str = "vllm-cut";
/// Its server responds 503 to every second request. An agent's request is retried at [`HEALTHY`].
pub(super) const FAILING: &str = "vllm-failing";
/// Its server's responses are invalid HTTP or JSON.
pub(super) const GARBAGE: &str = "vllm-garbage";
/// The provider with a small daily budget.
pub(super) const EXHAUSTED: &str = "vllm-spent";

/// The header that identifies the agent.
pub(super) const AGENT_HEADER: &str = "x-agent-id";
/// The number of agents, and of keys of the same kind.
pub(super) const CALLERS: usize = 20;
/// The agent that may read the budgets.
pub(super) const OPERATOR: usize = 0;

const EXHAUSTED_KEY_TOKENS_PER_DAY: u64 = 2000;
const REQUESTS_PER_MINUTE: u64 = 60_000_000;
const TOKENS_PER_MINUTE: u64 = 1_000_000_000_000;
/// The request rate of the rate-limited key.
const SLOW_REQUESTS_PER_MINUTE: u64 = 60;

/// Returns the manifests.
pub(in super::super) fn manifests() -> String {
    let external = format!("  externalAccess: {{ enabled: true, maxTokensPerDay: {TOKENS_PER_DAY} }}\n");
    let guarded = format!("{external}  guards: [{{ name: injection, type: promptInjection }}]\n");
    let mut all = vec![
        provider(HEALTHY, TOKENS_PER_DAY, &guarded),
        provider(CUT, TOKENS_PER_DAY, &guarded),
        provider(FAILING, TOKENS_PER_DAY, ""),
        provider(GARBAGE, TOKENS_PER_DAY, &external),
        provider(EXHAUSTED, EXHAUSTED_KEY_TOKENS_PER_DAY, &external),
    ];
    all.extend((0..CALLERS).map(agent));
    all.extend((0..CALLERS).map(|number| key(&format!("key-{number}"), &secret(number), "*", REQUESTS_PER_MINUTE)));
    all.push(key("other-model", &secret_named("other-model"), &format!("{CUT}/*"), REQUESTS_PER_MINUTE));
    all.push(key("slow", &secret_named("slow"), "*", SLOW_REQUESTS_PER_MINUTE));
    all.push(manifest("Gateway", "default", &format!("identityHeader: {AGENT_HEADER}, callouts: {{ {FIRST}: {CALLOUTS} }}")));
    all.join("---\n")
}

/// Returns the identity of an agent.
pub(super) fn identity(number: usize) -> String {
    format!("spiffe://soak.test/ns/agents/sa/agent-{number}")
}

/// Returns a developer's access key.
pub(super) fn secret(number: usize) -> String {
    secret_named(&format!("{number:043}"))
}

/// Returns an access key with this name.
pub(super) fn secret_named(name: &str) -> String {
    format!("pak_{name}")
}

fn provider(name: &str, tokens_per_day: u64, more: &str) -> String {
    format!(
        "apiVersion: pai.io/v1\nkind: ModelProvider\nmetadata: {{ name: {name} }}\nspec:\n\
         \x20 provider: vllm\n\
         \x20 endpoint: http://127.0.0.1:8000/v1\n\
         \x20 allowedModels: [{MODEL}]\n\
         \x20 maxTokensPerDay: {tokens_per_day}\n\
         \x20 maxTokensPerRequest: 131072\n\
         {more}"
    )
}

fn agent(number: usize) -> String {
    let models = format!("[{FAILING}/{MODEL}, {HEALTHY}/{MODEL}]");
    let spec = format!("identities: [{}], models: {models}, maxTokensPerDay: {TOKENS_PER_DAY}", identity(number));
    manifest("Agent", &format!("agent-{number}"), &spec)
}

fn key(name: &str, secret: &str, models: &str, requests_per_minute: u64) -> String {
    let spec = format!(
        "sha256: \"{}\", models: [\"{models}\"], maxTokensPerDay: {TOKENS_PER_DAY}, \
         requestsPerMinute: {requests_per_minute}, tokensPerMinute: {TOKENS_PER_MINUTE}",
        configuration::sha256(secret)
    );
    manifest("AccessKey", name, &spec)
}

fn manifest(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: pai.io/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_accepts_them() {
        let policy = pai_filter::config::load(manifests().as_bytes(), &|_| None).unwrap_or_else(|invalid| panic!("{invalid}"));
        assert!(policy.keys.get(CALLERS + 1).is_some() && !policy.agents.is_empty());
    }
}
