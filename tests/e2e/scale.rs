//! Ten thousand access keys in one configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::harness::{Answer, Gate, Key, MODEL, Upstream, gateway, named_provider, responses, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const KEYS: usize = 10_000;
/// Far above the typical time, so that a slow machine does not fail the test; the measured time is printed.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest configuration that the filter accepts.
const LARGEST: usize = 8 << 20;

fn developer(number: usize) -> Key {
    Key::new(&format!("developer-{number:05}"))
}

fn operator() -> Key {
    Key::new("operator")
}

fn base() -> String {
    gateway("operators: { keys: [operator] }")
        + &operator().manifest("")
        + &named_provider("vllm-local", "maxTokensPerDay: 1000000\nexternalAccess: { enabled: true, maxTokensPerDay: 900000 }")
}

/// Returns all keys as YAML documents.
fn yaml() -> String {
    let limits = "maxTokensPerDay: 200000\nrequestsPerMinute: 60\ntokensPerMinute: 100000\nmodels: ['vllm-local/*']";
    let keys: String = (0..KEYS).map(|number| developer(number).manifest(limits)).collect();
    base() + &keys
}

/// Returns the same keys as one object, as in a `WasmPlugin`: the numbers have passed through protobuf.
fn items() -> String {
    let manifest = |kind: &str, name: &str, spec: Value| json!({ "apiVersion": "pai.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let provider = json!({
        "provider": "vllm", "endpoint": "http://vllm-local.test:8000/v1", "maxTokensPerDay": 1_000_000,
        "externalAccess": { "enabled": true, "maxTokensPerDay": 900_000 },
    });
    let mut items = vec![
        manifest("Gateway", "default", json!({ "operators": { "keys": ["operator"] } })),
        manifest("ModelProvider", "vllm-local", provider),
        manifest("AccessKey", "operator", json!({ "sha256": operator().sha256() })),
    ];
    items.extend((0..KEYS).map(developer).map(|key| {
        let spec = json!({
            "sha256": key.sha256(), "maxTokensPerDay": 200_000.0, "requestsPerMinute": 60.0, "tokensPerMinute": 100_000.0,
            "models": ["vllm-local/*"],
        });
        manifest("AccessKey", key.name(), spec)
    }));
    json!({ "items": items }).to_string()
}

fn hello() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 8 })
}

/// Sends the first key, the last, some between, and one that is not configured.
async fn serves(gate: &Gate) {
    for number in [0, 1, KEYS / 2, KEYS - 1] {
        let reply = gate.chat(&hello()).key(&developer(number)).send().await;
        let limits = reply.ok().rate_limit("requests").unwrap();
        assert_eq!(limits.limit, 60);
    }
    let unknown = gate.chat(&hello()).key(&developer(KEYS)).send().await;
    unknown.refused(401, "invalid_request_error", "invalid_api_key");
    gate.settled_budgets(&operator(), "vllm-local").await;
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Returns the longest response time until `over`.
fn longest_wait(gate: &Arc<Gate>, over: &Arc<AtomicBool>) -> JoinHandle<Duration> {
    let (gate, over) = (Arc::clone(gate), Arc::clone(over));
    tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while !over.load(Ordering::Relaxed) {
            let start = Instant::now();
            gate.get("/pai/v1/model-providers").key(&operator()).send().await.ok();
            longest = longest.max(start.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        longest
    })
}

async fn reload(gate: &Arc<Gate>, what: &str, configuration: &str) {
    assert!(configuration.len() < LARGEST, "{} bytes", configuration.len());
    let over = Arc::new(AtomicBool::new(false));
    let waiting = longest_wait(gate, &over);
    let (start, cpu) = (Instant::now(), gate.cpu());
    gate.reconfigure(configuration).await.unwrap();
    let taken = start.elapsed();
    over.store(true, Ordering::Relaxed);
    let wait = waiting.await.unwrap();
    let cpu = gate.cpu() - cpu;
    let size = mib(configuration.len() as u64);
    eprintln!(
        "{KEYS} keys, {what} of {size:.1} MiB: accepted in {taken:.2?} with {cpu:.2?} of CPU, longest response time {wait:.2?}, {:.0} MiB resident",
        mib(gate.resident())
    );
    assert!(taken < PATIENCE, "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_keys_are_accepted_and_found() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = Arc::new(Gate::start(base() + &developer(0).manifest(""), &upstream).await);
    gate.chat(&hello()).key(&developer(0)).send().await.ok();
    eprintln!("one key: {:.0} MiB resident", mib(gate.resident()));
    let (yaml, items) = (yaml(), items());
    for (what, configuration) in [("YAML", &yaml), ("JSON", &items), ("the same JSON", &items)] {
        reload(&gate, what, configuration).await;
        until("the last key is known", async || {
            (gate.get("/v1/models").key(&developer(KEYS - 1)).send().await.status == 200).then_some(())
        })
        .await;
        serves(&gate).await;
    }
    // The memory of a configuration is reused by the next one.
    let before = gate.resident();
    for (what, configuration) in [("YAML", &yaml), ("JSON", &items), ("YAML", &yaml), ("JSON", &items)] {
        reload(&gate, what, configuration).await;
    }
    assert!(gate.resident() < before + (before >> 2), "{:.0} MiB, and before {:.0}", mib(gate.resident()), mib(before));
    // Rejected as a whole, however long the list: the error names the invalid key.
    let wrong = yaml.clone() + &developer(KEYS - 1).manifest("");
    let start = Instant::now();
    let log = gate.reconfigure(&wrong).await.unwrap_err();
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert!(log.contains(developer(KEYS - 1).name()), "{log}");
    serves(&gate).await;
    // Removes most of the keys again.
    gate.reconfigure(base() + &developer(0).manifest("")).await.unwrap();
    until("the last key is forgotten", async || {
        (gate.get("/v1/models").key(&developer(KEYS - 1)).send().await.status == 401).then_some(())
    })
    .await;
    eprintln!("one key again: {:.0} MiB resident", mib(gate.resident()));
}

/// The overhead of a request does not grow with the number of keys: a thousand requests with the last key, known and unknown.
#[tokio::test]
async fn a_key_among_ten_thousand_is_found_at_once() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let mut few = Duration::ZERO;
    let mut many = Duration::ZERO;
    let unlimited = |number: usize| developer(number).manifest("");
    for (keys, taken) in [(2, &mut few), (KEYS, &mut many)] {
        let manifests = base() + &(0..keys).map(unlimited).collect::<String>();
        let gate = Gate::start(&manifests, &upstream).await;
        let (last, unknown) = (developer(keys - 1), developer(KEYS + 1));
        // On one connection, so that the look-up is measured and not the handshake.
        let mut raw = gate.raw().await;
        let get = |key: &Key| format!("GET /v1/models/m HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", key.secret());
        for key in [&last, &unknown] {
            raw.write(get(key)).await;
            raw.reply().await.unwrap();
        }
        let start = Instant::now();
        for _ in 0..500 {
            raw.write(get(&last)).await;
            assert_eq!(raw.reply().await.unwrap().status, 200);
            raw.write(get(&unknown)).await;
            assert_eq!(raw.reply().await.unwrap().status, 401);
        }
        *taken = start.elapsed();
    }
    eprintln!("a thousand requests: {few:.2?} among 2 keys, {many:.2?} among {KEYS}");
    // A linear search of ten thousand keys would take several times as long.
    assert!(many < few * 3 + Duration::from_millis(500), "{few:?} among few, {many:?} among many");
}

#[tokio::test]
async fn a_configuration_beyond_the_limit_is_refused() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = Gate::start(base() + &developer(0).manifest(""), &upstream).await;
    let mut configuration = base();
    for number in 0.. {
        configuration += &developer(number).manifest("");
        if configuration.len() > LARGEST {
            break;
        }
    }
    let log = gate.reconfigure(&configuration).await.unwrap_err();
    let line =
        log.lines().find(|line| line.contains("configuration refused")).unwrap_or_else(|| panic!("nothing was logged:\n{log}"));
    assert!(line.len() < 500, "{line}");
    gate.chat(&hello()).key(&developer(0)).send().await.ok();
    gate.get("/v1/models").key(&developer(1)).send().await.refused(401, "invalid_request_error", "invalid_api_key");
}
