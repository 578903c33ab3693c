//! Fixtures: manifests of agents and keys, requests, and the upstream.

use std::fmt::Display;

use e2e::harness::{Answer, Gate, Key, MODEL, Request, Upstream, responses};
use serde_json::{Value, json};

/// The identity of the Agent `researcher`.
pub const RESEARCHER: &str = "spiffe://cluster.local/ns/agents/sa/researcher";
/// An identity that only the prefix of the Agent `team` matches.
pub const WRITER: &str = "spiffe://cluster.local/ns/team/sa/writer";
/// An identity that no manifest matches.
pub const UNKNOWN_IDENTITY: &str = "spiffe://cluster.local/ns/elsewhere/sa/unknown";
/// An identity of an operator.
pub const OPERATOR: &str = "spiffe://cluster.local/ns/platform/sa/operator";

/// The developers' keys, and one that does not exist.
pub const ALICE: &str = "pak_alice-7d0f6c1b2a9e4358";
pub const BOB: &str = "pak_bob-1c5f9a3e7b2d4860";
pub const DISABLED: &str = "pak_disabled-5b8e1d4c7f2a9036";
pub const EXPIRED: &str = "pak_expired-9a6d3c0f7e1b2854";
pub const WRONG: &str = "pak_wrong-2f7c4e9b1d8a0635";

/// Secrets that must not appear in any output.
pub const SECRETS: [&str; 5] = [ALICE, BOB, DISABLED, EXPIRED, WRONG];

/// Returns a manifest of this kind and name with these lines of `spec`.
fn manifest(kind: &str, name: &str, lines: impl IntoIterator<Item = String>) -> String {
    let spec: String = lines.into_iter().map(|line| format!("  {line}\n")).collect();
    format!("---\napiVersion: pai.io/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec:\n{spec}")
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("'{item}'")).collect();
    format!("[{}]", items.join(", "))
}

/// Returns an `Agent` with these identities and models.
pub fn agent(name: &str, identities: &[&str], models: &[&str]) -> String {
    manifest("Agent", name, [format!("identities: {}", list(identities)), format!("models: {}", list(models))])
}

/// Returns an `Agent` with its own budget.
pub fn agent_with_budget(name: &str, identities: &[&str], models: &[&str], tokens: u64) -> String {
    agent(name, identities, models) + &format!("  maxTokensPerDay: {tokens}\n")
}

/// Returns the `AccessKey` of this secret with these additional lines of `spec`.
pub fn access_key(name: &str, secret: &str, lines: &[&str]) -> String {
    Key::with_secret(name, secret).manifest(&lines.join("\n"))
}

/// Returns the agents `researcher`, matched exactly, and `team`, matched by prefix.
pub fn agents() -> String {
    let models = [reference()];
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    agent("researcher", &[RESEARCHER], &models) + &agent("team", &["spiffe://cluster.local/ns/team/*"], &models)
}

/// Returns the keys `alice` and `bob`, a disabled key and an expired key.
pub fn keys() -> String {
    access_key("alice", ALICE, &[])
        + &access_key("bob", BOB, &["expires: 2999-01-01T00:00:00Z", "disabled: false"])
        + &access_key("disabled", DISABLED, &["disabled: true"])
        + &access_key("expired", EXPIRED, &["expires: 2026-01-01T00:00:00Z"])
}

/// Returns the reference of the default model.
pub fn reference() -> String {
    format!("vllm-local/{MODEL}")
}

/// Returns the body of a chat with this model.
pub fn chat_body(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 })
}

/// Returns a chat request that every accepted caller may send.
pub fn chat_request(gate: &Gate) -> Request {
    gate.chat(&chat_body(&reference()))
}

/// Starts an upstream that reports 5 prompt and 3 completion tokens.
pub async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}
