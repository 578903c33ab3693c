//! Fixtures: keys, manifests, the upstream and a gateway.

use e2e::harness::{Answer, Gate, GateBuilder, Key, Reply, Upstream, gateway, named_provider, responses};
use serde_json::{Value, json};

pub const OPEN: &str = "externalAccess: { enabled: true }";
pub const INVALID: &str = "invalid_request_error";

/// The identity that may read the providers' state.
pub fn operator() -> Key {
    Key::new("operator")
}

pub fn alice() -> Key {
    Key::new("alice")
}

/// The key `operator` with its manifest, and an identity header of a trusted proxy.
pub fn operated() -> String {
    gateway("operators: { keys: [operator] }\nidentityHeader: x-agent-id") + &operator().manifest("")
}

pub fn agent(spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: researcher }}\nspec:\n  identities: [researcher]\n{lines}")
}

pub fn ask(model: &str, max_tokens: u64) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens })
}

pub async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}

/// A gateway with one provider, `vllm-local`, open to developers.
pub fn with_one(spec: &str, upstream: &Upstream) -> GateBuilder {
    Gate::builder().manifests(operated()).manifests(named_provider("vllm-local", spec)).upstream("vllm-local", upstream)
}

/// Fails unless this is a 401 whose message contains one of these words, in any case.
#[track_caller]
pub fn unauthorized(reply: &Reply, words: &[&str]) {
    reply.refused(401, INVALID, "invalid_api_key");
    let message = reply.message().to_lowercase();
    assert!(words.is_empty() || words.iter().any(|word| message.contains(word)), "{message}");
}

/// Returns the `spec` of an open provider with these caps: its own, and that of its external share.
pub fn capped(provider: u64, external: u64) -> String {
    format!("maxTokensPerDay: {provider}\nexternalAccess: {{ enabled: true, maxTokensPerDay: {external} }}")
}
