//! Budgets are used up: before a request is rejected because a budget is exhausted, at least 99 % of it are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use e2e::harness::{Answer, Gate, Received, Rng, Upstream, gateway, named_provider, responses, seed};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::ledger::Reader;
use crate::setup::{IDENTITY, RESEARCHER};

const CLIENTS: u64 = 60;
const CAP: u64 = 40_000;

/// Which budget is the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tightest {
    Provider,
    Agent,
}

fn manifests(tightest: Tightest) -> String {
    let cap = |of: Tightest| if tightest == of { CAP } else { 1_000_000 };
    let provider = named_provider("vllm-local", &format!("maxTokensPerDay: {}", cap(Tightest::Provider)));
    let agent = format!(
        "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: researcher }}\nspec:\n  identities: ['{RESEARCHER}']\n  models: [vllm-local/llama]\n  maxTokensPerDay: {}\n",
        cap(Tightest::Agent)
    );
    provider + &agent + &gateway(&format!("identityHeader: {IDENTITY}"))
}

/// Responds slowly with half of the allowed words, so that much more is reserved than used.
fn answer(request: &Received, sent: &AtomicU64) -> Answer {
    let body = request.json();
    let words = body["max_tokens"].as_u64().unwrap() / 2;
    let prompt = 6;
    sent.fetch_add(prompt + words, Ordering::Relaxed);
    if body["stream"] == json!(true) {
        let events = responses::stream(&vec!["w"; words as usize], prompt, true);
        return Answer::stream(events.chunks(8).map(|events| events.concat())).paced(Duration::from_millis(3));
    }
    Answer::raw_chunks([Vec::new(), whole(&responses::chat(prompt, words))]).paced(Duration::from_millis(10))
}

fn whole(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Sends requests until the budget is exhausted; pauses while other reservations block it.
async fn client(gate: Arc<Gate>, number: u64, first_refusal: Arc<AtomicU64>) {
    let mut rng = Rng::new(seed() ^ (number << 32));
    loop {
        let stream = rng.below(2) == 0;
        let body = json!({ "model": "vllm-local/llama", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 + rng.below(60), "stream": stream });
        let request = gate.chat(&body).header(IDENTITY, RESEARCHER);
        if stream && rng.below(3) == 0 {
            let mut answer = request.stream().await;
            let _ = answer.next().await;
            answer.abort().await;
            continue;
        }
        let reply = request.send().await;
        match reply.status {
            200 => {}
            429 if reply.json()["error"]["code"] == "insufficient_quota" => {
                let used = Reader::default().sample(&gate, false).await.map(|ledger| ledger.of("provider/vllm-local")[0].used);
                first_refusal.fetch_min(used.unwrap(), Ordering::Relaxed);
                return;
            }
            _ => {
                reply.rate_limited("tokens");
                tokio::time::sleep(Duration::from_millis(5 + rng.below(20))).await;
            }
        }
    }
}

async fn uses_99_percent_of(tightest: Tightest) {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let upstream = Upstream::answering(move |request| answer(request, &counted)).await;
    let gate = Gate::builder().manifests(manifests(tightest)).upstream("vllm-local", &upstream).with_test_hooks().start().await;
    let gate = Arc::new(gate);
    let first_refusal = Arc::new(AtomicU64::new(u64::MAX));
    let clients: JoinSet<()> = (0..CLIENTS).map(|number| client(Arc::clone(&gate), number, Arc::clone(&first_refusal))).collect();
    clients.join_all().await;
    let used = first_refusal.load(Ordering::Relaxed);
    eprintln!("{tightest:?}: {used} of {CAP} were used at the first insufficient_quota; {} sent", sent.load(Ordering::Relaxed));
    assert!(used * 100 >= CAP * 99, "{used} of {CAP} were used at the first insufficient_quota");
    assert!(used <= CAP, "{used} of {CAP}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_99_percent_of_a_providers_budget() {
    uses_99_percent_of(Tightest::Provider).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_99_percent_of_an_agents_budget() {
    uses_99_percent_of(Tightest::Agent).await;
}
