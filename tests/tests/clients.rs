//! The official OpenAI clients for Python and Node through a gate: unmodified, with nothing but a base URL changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::harness::{Answer, Gate, SLASHED, Upstream, gateway, installed_clients, provider, says};
use e2e::standin::{Options, StandIn};
use serde_json::json;
use tokio::process::Command;

/// The programs of `tests/clients`, by what runs them.
#[derive(Clone, Copy, Debug)]
enum Client {
    Python,
    Node,
}

// === impl Client ===

impl Client {
    /// Runs a scenario against the gate; fails the test with what the client printed.
    async fn run(self, scenario: &str, gate: &Gate) {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        let mut command = match self {
            Self::Python => Command::new(installed_clients().join("python/bin/python")),
            Self::Node => Command::new("node"),
        };
        command.arg(programs.join(match self {
            Self::Python => "openai_client.py",
            Self::Node => "openai_client.mjs",
        }));
        let base = format!("http://{}/v1", gate.address());
        let run = command.args([base.as_str(), scenario]).env("PAI_CLIENTS", installed_clients()).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(60), run).await.expect("the client ends").expect("the client starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?}, {scenario}:\n{said}");
    }
}

async fn everything(client: Client) {
    let vllm = StandIn::start(Options { tokens: 12, ..Options::default() }).await.unwrap();
    let limits =
        format!("maxTokensPerDay: 1000000\nallowedModels: [{SLASHED}, denied]\ndeniedModels: [denied]\nmaxTokensPerRequest: 4000");
    let manifests = provider(&limits) + &gateway("maxRequestBytes: 100000");
    let gate = Gate::builder().manifests(manifests).address("vllm-local", vllm.addr()).start().await;
    client.run("everything", &gate).await;
    vllm.idle().await;
    let total = vllm.counters().total;
    assert!(total.requests >= 7, "{total:?}");
    assert_eq!(gate.used().await, total.prompt_tokens + total.completion_tokens);
}

async fn spent(client: Client) {
    let upstream = Upstream::answering(|_| Answer::json(&says::chat(5, 995))).await;
    let gate = Gate::start(provider(&format!("maxTokensPerDay: 1000\nallowedModels: [{SLASHED}]")), &upstream).await;
    gate.chat(&json!({ "model": SLASHED, "messages": [], "max_tokens": 8 })).send().await.ok();
    assert_eq!(gate.used().await, 1000);
    client.run("spent", &gate).await;
    gate.access_log(|line| line["status"] == 429).await;
    let asked = gate.access_lines().iter().filter(|line| line["status"] == 429).count();
    assert_eq!(asked, 1, "the client tried again");
    assert_eq!(upstream.requests().len(), 1);
}

async fn reserved(client: Client) {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider(&format!("maxTokensPerDay: 1000\nallowedModels: [{SLASHED}]")), &upstream).await;
    let asked = gate.chat(&json!({ "model": SLASHED, "messages": [], "max_tokens": 850 })).sending();
    let call = upstream.call().await;
    let mut retried_after = Duration::ZERO;
    tokio::join!(client.run("reserved", &gate), async {
        gate.access_log(|line| line["status"] == 429).await;
        let refused = Instant::now();
        call.answer(Answer::json(&says::chat(5, 3))).await;
        let second = upstream.call().await;
        retried_after = refused.elapsed();
        second.answer(Answer::json(&says::chat(5, 3))).await;
    });
    asked.await.unwrap().ok();
    // `retry-after: 1`; the clients' own first pause would be half of that.
    assert!(retried_after > Duration::from_millis(800), "{retried_after:?}");
    assert_eq!(gate.used().await, 16);
}

#[tokio::test]
async fn python_does_everything() {
    everything(Client::Python).await;
}

#[tokio::test]
async fn node_does_everything() {
    everything(Client::Node).await;
}

#[tokio::test]
async fn python_does_not_try_a_spent_budget_again() {
    spent(Client::Python).await;
}

#[tokio::test]
async fn node_does_not_try_a_spent_budget_again() {
    spent(Client::Node).await;
}

#[tokio::test]
async fn python_waits_for_a_reserved_budget() {
    reserved(Client::Python).await;
}

#[tokio::test]
async fn node_waits_for_a_reserved_budget() {
    reserved(Client::Node).await;
}
