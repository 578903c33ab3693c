//! Who plays: the manifests of agents and keys, what they chat_request, and who answers.

use std::fmt::Display;

use e2e::harness::{Answer, Gate, Key, MODEL, Request, Upstream, responses};
use serde_json::{Value, json};

/// The identity of the Agent `researcher`.
pub const RESEARCHER: &str = "spiffe://cluster.local/ns/agents/sa/researcher";
/// One that only the prefix of the Agent `team` names.
pub const WRITER: &str = "spiffe://cluster.local/ns/team/sa/writer";
/// One that no manifest names.
pub const UNKNOWN_IDENTITY: &str = "spiffe://cluster.local/ns/elsewhere/sa/stranger";
/// One that operates the gateway.
pub const OPERATOR: &str = "spiffe://cluster.local/ns/platform/sa/operator";

/// The developers' keys, and one that nobody ever made.
pub const ALICE: &str = "pak_alice-7d0f6c1b2a9e4358";
pub const BOB: &str = "pak_bob-1c5f9a3e7b2d4860";
pub const DISABLED: &str = "pak_disabled-5b8e1d4c7f2a9036";
pub const EXPIRED: &str = "pak_expired-9a6d3c0f7e1b2854";
pub const WRONG: &str = "pak_wrong-2f7c4e9b1d8a0635";

/// What must never be seen again once it was sent.
pub const SECRETS: [&str; 5] = [ALICE, BOB, DISABLED, EXPIRED, WRONG];

/// A manifest of this kind and name with these lines of `spec`.
fn manifest(kind: &str, name: &str, lines: impl IntoIterator<Item = String>) -> String {
    let spec: String = lines.into_iter().map(|line| format!("  {line}\n")).collect();
    format!("---\napiVersion: pai.io/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec:\n{spec}")
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("'{item}'")).collect();
    format!("[{}]", items.join(", "))
}

/// An `Agent` with these identities and models.
pub fn agent(name: &str, identities: &[&str], models: &[&str]) -> String {
    manifest("Agent", name, [format!("identities: {}", list(identities)), format!("models: {}", list(models))])
}

/// An `Agent` with a budget of its own.
pub fn agent_with_budget(name: &str, identities: &[&str], models: &[&str], tokens: u64) -> String {
    agent(name, identities, models) + &format!("  maxTokensPerDay: {tokens}\n")
}

/// The `AccessKey` of this secret with these further lines of `spec`.
pub fn access_key(name: &str, secret: &str, lines: &[&str]) -> String {
    Key::with_secret(name, secret).manifest(&lines.join("\n"))
}

/// The agents `researcher`, named exactly, and `team`, named by a prefix.
pub fn agents() -> String {
    let models = [reference()];
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    agent("researcher", &[RESEARCHER], &models) + &agent("team", &["spiffe://cluster.local/ns/team/*"], &models)
}

/// The keys `alice` and `bob`, one that is disabled and one that has expired.
pub fn keys() -> String {
    access_key("alice", ALICE, &[])
        + &access_key("bob", BOB, &["expires: 2999-01-01T00:00:00Z", "disabled: false"])
        + &access_key("disabled", DISABLED, &["disabled: true"])
        + &access_key("expired", EXPIRED, &["expires: 2026-01-01T00:00:00Z"])
}

/// The model that everybody asks for, as a reference.
pub fn reference() -> String {
    format!("vllm-local/{MODEL}")
}

/// A chat with this model.
pub fn chat_body(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 })
}

/// A chat that anybody may chat_request for who may chat_request at all.
pub fn chat_request(gate: &Gate) -> Request {
    gate.chat(&chat_body(&reference()))
}

/// A server that says 5 prompt and 3 completion tokens.
pub async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}
