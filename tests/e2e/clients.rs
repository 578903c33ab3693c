//! The official OpenAI clients for Python and Node through a gateway: unmodified, with only the base URL changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::harness::{
    Answer, Gate, GateBuilder, Key, SLASHED, Upstream, gateway, installed_clients, named_provider, provider, responses, until,
};
use e2e::standin::{Options, StandIn};
use serde_json::{Value, json};
use tokio::process::Command;

/// The identity of the agent `researcher`.
const RESEARCHER: &str = "spiffe://cluster.local/ns/agents/sa/researcher";

/// The programs in `tests/clients`, by runtime.
#[derive(Clone, Copy, Debug)]
enum Client {
    Python,
    Node,
}

// === impl Client ===

impl Client {
    /// Runs a scenario against the gateway; fails the test with the client's output.
    async fn run(self, scenario: &str, gate: &Gate) {
        self.run_with(scenario, gate, &[]).await;
    }

    /// Runs a scenario with these `PAI_KEY…` environment variables.
    async fn run_with(self, scenario: &str, gate: &Gate, keys: &[(&str, &Key)]) {
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
        let keys = keys.iter().map(|(name, key)| (*name, key.secret()));
        let run = command.args([base.as_str(), scenario]).env("PAI_CLIENTS", installed_clients()).envs(keys).kill_on_drop(true);
        let run = run.output();
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

async fn exhausted(client: Client) {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 995))).await;
    let gate = Gate::start(provider(&format!("maxTokensPerDay: 1000\nallowedModels: [{SLASHED}]")), &upstream).await;
    gate.chat(&json!({ "model": SLASHED, "messages": [], "max_tokens": 8 })).send().await.ok();
    assert_eq!(gate.used().await, 1000);
    client.run("exhausted", &gate).await;
    gate.access_log(|line| line["status"] == 429).await;
    let asked = gate.access_lines().iter().filter(|line| line["status"] == 429).count();
    assert_eq!(asked, 1, "the client tried again");
    assert_eq!(upstream.requests().len(), 1);
}

async fn reserved(client: Client) {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider(&format!("maxTokensPerDay: 1000\nallowedModels: [{SLASHED}]")), &upstream).await;
    let asked = gate.chat(&json!({ "model": SLASHED, "messages": [], "max_tokens": 850 })).spawn_send();
    let call = upstream.call().await;
    let mut retried_after = Duration::ZERO;
    tokio::join!(client.run("reserved", &gate), async {
        gate.access_log(|line| line["status"] == 429).await;
        let refused = Instant::now();
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        let second = upstream.call().await;
        retried_after = refused.elapsed();
        second.answer(Answer::json(&responses::chat(5, 3))).await;
    });
    asked.await.unwrap().ok();
    // `retry-after: 1`; the clients' own first pause would be half of that.
    assert!(retried_after > Duration::from_millis(800), "{retried_after:?}");
    assert_eq!(gate.used().await, 16);
}

// === developers ===

fn alice() -> Key {
    Key::new("alice")
}

/// A provider that is open to developers, one that is not, and alice's key with this spec.
fn for_alice(spec: &str) -> GateBuilder {
    let open =
        format!("maxTokensPerDay: 50000\nallowedModels: [{SLASHED}]\nexternalAccess: {{ enabled: true, maxTokensPerDay: 40000 }}");
    Gate::builder()
        .manifests(gateway("operators: { keys: [operator] }"))
        .manifests(Key::new("operator").manifest(""))
        .manifests(named_provider("vllm-local", &open))
        .manifests(named_provider("inside", &format!("allowedModels: [{SLASHED}]")))
        .manifests(alice().manifest(spec))
}

async fn developer(client: Client) {
    let vllm = StandIn::start(Options { tokens: 12, ..Options::default() }).await.unwrap();
    let (expired, disabled) = (Key::new("expired"), Key::new("disabled"));
    let gate = for_alice("maxTokensPerDay: 30000\nrequestsPerMinute: 600\ntokensPerMinute: 20000")
        .manifests(expired.manifest("expires: 2020-01-01T00:00:00Z"))
        .manifests(disabled.manifest("disabled: true"))
        .address("vllm-local", vllm.addr())
        .start()
        .await;
    let keys = [
        ("PAI_KEY", &alice()),
        ("PAI_KEY_UNKNOWN", &Key::new("unknown")),
        ("PAI_KEY_EXPIRED", &expired),
        ("PAI_KEY_DISABLED", &disabled),
    ];
    client.run_with("developer", &gate, &keys).await;
    vllm.idle().await;
    let total = vllm.counters().total;
    let shares = gate.settled_budgets(&Key::new("operator"), "vllm-local").await;
    assert_eq!(shares.provider.used_today, total.prompt_tokens + total.completion_tokens);
    assert_eq!(shares.external.used_today, shares.provider.used_today);
}

async fn spent_key(client: Client) {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 995))).await;
    let gate = for_alice("maxTokensPerDay: 1000").upstream("vllm-local", &upstream).start().await;
    gate.chat(&json!({ "model": SLASHED, "messages": [], "max_tokens": 8 })).key(&alice()).send().await.ok();
    gate.settled_budgets(&Key::new("operator"), "vllm-local").await;
    client.run_with("exhausted", &gate, &[("PAI_KEY", &alice())]).await;
    gate.access_log(|line| line["status"] == 429).await;
    let asked = gate.access_lines().iter().filter(|line| line["status"] == 429).count();
    assert_eq!(asked, 1, "the client tried again");
    assert_eq!(upstream.requests().len(), 1);
}

/// Runs a client into an error: one 429, then a 200 for a request that was sent no earlier than its `retry-after` allowed.
async fn waits(client: Client, gate: &Gate) {
    client.run_with("limited", gate, &[("PAI_KEY", &alice())]).await;
    let chats = |line: &Value| line["subject"] == "key/alice" && line["path"] == "/v1/chat/completions";
    let lines = until("both tries are in the access log", async || {
        // The request that exhausted the rate may be logged late, and is first.
        let lines: Vec<Value> = gate.access_lines().into_iter().filter(chats).skip_while(|line| line["status"] != 429).collect();
        (lines.len() >= 2).then_some(lines)
    })
    .await;
    let statuses: Vec<u64> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [429, 200], "{lines:?}");
    let start = |line: &Value| line["start"].as_str().unwrap().parse::<f64>().unwrap();
    let retry_after: f64 = lines[0]["retry_after"].as_str().unwrap().parse().unwrap();
    let waited = start(&lines[1]) - start(&lines[0]);
    assert!((1.0..=8.0).contains(&retry_after), "{retry_after}");
    assert!(waited >= retry_after - 0.05, "{waited} s of {retry_after} s");
}

/// One request per 7.5 seconds: longer than a client takes to start.
async fn limited_by_requests(client: Client) {
    const RATE: usize = 8;
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = for_alice(&format!("requestsPerMinute: {RATE}")).upstream("vllm-local", &upstream).start().await;
    until("the burst is over", async || (gate.get("/v1/models").key(&alice()).send().await.status == 429).then_some(())).await;
    waits(client, &gate).await;
}

/// 200 tokens per second, with an overage of 1000: longer than a client takes to start.
async fn limited_by_tokens(client: Client) {
    let upstream = Upstream::answering(|request| {
        let completion = if request.json()["max_tokens"] == 8 { 13_195 } else { 3 };
        Answer::json(&responses::chat(5, completion))
    })
    .await;
    let gate = for_alice("tokensPerMinute: 12000").upstream("vllm-local", &upstream).start().await;
    gate.chat(&json!({ "model": SLASHED, "messages": [], "max_tokens": 8 })).key(&alice()).send().await.ok();
    gate.settled_budgets(&Key::new("operator"), "vllm-local").await;
    waits(client, &gate).await;
}

/// A gateway whose agent has two models: one of a scripted provider, one of a hosted provider.
async fn with_fallback(first: &Upstream, second: &StandIn) -> Gate {
    let agent = format!(
        "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: researcher }}\nspec:\n  identities: [{RESEARCHER}]\n  models: [vllm-local/{SLASHED}, hosted/{SLASHED}]\n"
    );
    let hosted = named_provider("hosted", "").replace("provider: vllm", "provider: openai");
    let manifests = provider("maxTokensPerDay: 1000") + &hosted + &agent + &gateway("identityHeader: x-agent-id");
    let gate = Gate::builder().manifests(manifests).fallback().default_header("x-agent-id", RESEARCHER);
    gate.upstream("vllm-local", first).address("hosted", second.addr()).start().await
}

async fn past_a_failure(client: Client) {
    e2e::needs!(ClusterRefresh);
    let first = Upstream::answering(|_| Answer::error(503, &json!({ "error": { "message": "busy" } }))).await;
    let second = StandIn::start(Options { tokens: 8, ..Options::default() }).await.unwrap();
    let gate = with_fallback(&first, &second).await;
    served_by_the_second(client, &gate, &second).await;
    assert_eq!(first.requests().len(), 3);
    assert_eq!(gate.used().await, 0);
}

async fn past_a_spent_budget(client: Client) {
    let first = Upstream::answering(|_| Answer::json(&responses::chat(5, 995))).await;
    let second = StandIn::start(Options { tokens: 8, ..Options::default() }).await.unwrap();
    let gate = with_fallback(&first, &second).await;
    let body = json!({ "model": format!("vllm-local/{SLASHED}"), "messages": [], "max_tokens": 8 });
    gate.chat(&body).send().await.ok();
    assert_eq!(gate.used().await, 1000);
    served_by_the_second(client, &gate, &second).await;
    assert_eq!(first.requests().len(), 1);
}

async fn served_by_the_second(client: Client, gate: &Gate, second: &StandIn) {
    client.run("fallback", gate).await;
    second.idle().await;
    let total = second.counters().total;
    assert_eq!(total.requests, 3, "{total:?}");
    assert_eq!(gate.used_of("hosted").await, total.prompt_tokens + total.completion_tokens);
}

#[tokio::test]
async fn python_falls_back_after_a_failure() {
    past_a_failure(Client::Python).await;
}

#[tokio::test]
async fn node_falls_back_after_a_failure() {
    past_a_failure(Client::Node).await;
}

#[tokio::test]
async fn python_falls_back_after_an_exhausted_budget() {
    past_a_spent_budget(Client::Python).await;
}

#[tokio::test]
async fn node_falls_back_after_an_exhausted_budget() {
    past_a_spent_budget(Client::Node).await;
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
async fn python_does_not_retry_an_exhausted_budget() {
    exhausted(Client::Python).await;
}

#[tokio::test]
async fn node_does_not_retry_an_exhausted_budget() {
    exhausted(Client::Node).await;
}

#[tokio::test]
async fn python_waits_for_a_reserved_budget() {
    reserved(Client::Python).await;
}

#[tokio::test]
async fn node_waits_for_a_reserved_budget() {
    reserved(Client::Node).await;
}

#[tokio::test]
async fn python_serves_developers() {
    developer(Client::Python).await;
}

#[tokio::test]
async fn node_serves_developers() {
    developer(Client::Node).await;
}

#[tokio::test]
async fn python_does_not_retry_an_exhausted_key() {
    spent_key(Client::Python).await;
}

#[tokio::test]
async fn node_does_not_retry_an_exhausted_key() {
    spent_key(Client::Node).await;
}

#[tokio::test]
async fn python_waits_for_a_rate_of_requests() {
    limited_by_requests(Client::Python).await;
}

#[tokio::test]
async fn node_waits_for_a_rate_of_requests() {
    limited_by_requests(Client::Node).await;
}

#[tokio::test]
async fn python_waits_for_a_rate_of_tokens() {
    limited_by_tokens(Client::Python).await;
}

#[tokio::test]
async fn node_waits_for_a_rate_of_tokens() {
    limited_by_tokens(Client::Node).await;
}
