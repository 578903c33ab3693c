//! Compares the charged tokens with the engine's own counts: exactly if every response is read to its end, within bounds if clients
//! disconnect.
//!
//! The engine counts a prompt once for each of its completions, usage counts it once. The prefix cache changes neither. The engine
//! also counts tokens that it generates after a client has disconnected, which no response reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use e2e::harness::{Gate, Request, Rng, seed, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::random_text::{one_of, percent, text};
use super::server::{Counts, MODELS, Server, answer, reported, sum};

/// The number of requests of the three phases.
const COMPLETED: u64 = 180;
const ABORTED: u64 = 60;
const MIXED: u64 = 60;
/// The number of concurrent clients.
const CLIENTS: u64 = 6;
/// Requests without streaming whose clients disconnect.
const UNREAD: u64 = 6;

/// A request, and when its client disconnects.
#[derive(Debug, Clone)]
struct TestRequest {
    case: String,
    path: &'static str,
    body: Value,
    /// `n`
    choices: u64,
    /// The number of events after which the client disconnects.
    leaves_after: Option<u64>,
}

/// What a client received.
#[derive(Debug)]
struct Seen {
    request: TestRequest,
    status: u16,
    /// The usage at the end of the response, if requested.
    reported: Option<(u64, u64)>,
    /// The minimum number of tokens received.
    delivered: u64,
    left: bool,
}

/// The charge of a request in the access log.
#[derive(Debug, Clone, Copy)]
struct Charge {
    prompt: u64,
    completion: u64,
}

/// The totals of a phase: charged tokens, and the engine's counts.
#[derive(Debug, Default)]
struct Phase {
    requests: u64,
    left: u64,
    prompt: u64,
    completion: u64,
    /// Prompt tokens as the engine counts them.
    engine_prompt: u64,
    delivered: u64,
    by_status: BTreeMap<u16, u64>,
}

/// A gateway, its server, and their counts before the phase.
struct Accounting {
    gate: Arc<Gate>,
    server: Server,
    engine: Counts,
    ledger: u64,
    series: u64,
}

// === impl TestRequest ===

impl TestRequest {
    /// Generates a request whose response is read to its end.
    fn random(rng: &mut Rng, case: String) -> Self {
        let chat = percent(rng, 60);
        let choices = if percent(rng, 25) { 2 + rng.below(3) } else { 1 };
        let (pieces, limit) = (1 + rng.below(120), 1 + rng.below(24));
        let words = text(rng, pieces);
        let mut body = json!({ "model": one_of(rng, &MODELS) });
        if chat {
            body["messages"] = json!([{ "role": "user", "content": words }]);
        } else {
            body["prompt"] = if percent(rng, 25) { json!([words, text(rng, 5)]) } else { json!(words) };
        }
        match rng.below(10) {
            // The length of chats is random; completions end after 16 tokens.
            0 => {}
            1 if chat => body["max_completion_tokens"] = json!(limit),
            2 => (body["max_tokens"], body["ignore_eos"]) = (json!(60 + limit), json!(true)),
            3 => (body["max_tokens"], body["stop"]) = (json!(60 + limit), json!(["e", "a"])),
            _ => body["max_tokens"] = json!(limit),
        }
        if choices > 1 {
            body["n"] = json!(choices);
        }
        if percent(rng, 50) {
            body["stream"] = json!(true);
            match rng.below(4) {
                0 => {}
                1 => body["stream_options"] = json!({ "include_usage": false }),
                2 => body["stream_options"] = json!({ "include_usage": true }),
                _ => body["stream_options"] = json!({ "include_usage": true, "continuous_usage_stats": true }),
            }
        }
        let path = if chat { "/v1/chat/completions" } else { "/v1/completions" };
        Self { case, path, body, choices, leaves_after: None }
    }

    /// Generates a request for a long stream that its client aborts.
    fn left(rng: &mut Rng, case: String) -> Self {
        let mut request = Self::random(rng, case);
        if request.body["prompt"].is_array() {
            request.body["prompt"] = json!("Once upon a time");
        }
        let body = request.body.as_object_mut().unwrap();
        body.retain(|name, _| !["max_completion_tokens", "stop"].contains(&name.as_str()));
        request.body["stream"] = json!(true);
        (request.body["max_tokens"], request.body["ignore_eos"]) = (json!(300 + rng.below(300)), json!(true));
        request.leaves_after = Some(1 + rng.below(30));
        request
    }

    fn request(&self, gate: &Gate) -> Request {
        gate.post(self.path).header("x-test-case", &self.case).json(&self.body)
    }

    async fn run_phase(self, gate: Arc<Gate>) -> Seen {
        let Some(events) = self.leaves_after else {
            let reply = answer(self.request(&gate)).await;
            let seen = Seen { status: reply.status, reported: None, delivered: 0, left: false, request: self };
            return Seen { reported: (reply.status == 200).then(|| reported(&reply)).flatten(), ..seen };
        };
        let mut stream = self.request(&gate).stream().await;
        let (mut delivered, mut left) = (0, true);
        for _ in 0..events {
            let Some(event) = stream.event().await else {
                left = false;
                break;
            };
            delivered += u64::from(holds_text(&event));
        }
        let status = stream.status;
        stream.abort().await;
        Seen { request: self, status, reported: None, delivered, left }
    }
}

/// Returns whether an event contains a delta of at least one token.
fn holds_text(event: &str) -> bool {
    let Some(event) = event.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok()) else { return false };
    let choice = &event["choices"][0];
    [&choice["text"], &choice["delta"]["content"]].into_iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty()))
}

// === impl Accounting ===

impl Accounting {
    async fn open(gate: &Arc<Gate>, server: Server) -> Self {
        let (engine, ledger) = (server.counts().await, gate.used().await);
        Self { gate: Arc::clone(gate), server, engine, ledger, series: series(gate).await }
    }

    /// Sends these requests from several concurrent clients, and returns the totals.
    async fn run_phase(&self, mut request: impl FnMut(u64) -> TestRequest, count: u64) -> Phase {
        let mut request: Vec<TestRequest> = (0..count).map(&mut request).collect();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let share = request.split_off(request.len() - request.len().min(usize::try_from(count.div_ceil(CLIENTS)).unwrap()));
            let gate = Arc::clone(&self.gate);
            clients.spawn(async move {
                let mut seen = Vec::new();
                for request in share {
                    seen.push(request.run_phase(Arc::clone(&gate)).await);
                }
                seen
            });
        }
        let seen: Vec<Seen> = clients.join_all().await.into_iter().flatten().collect();
        assert_eq!(seen.len() as u64, count);
        let mut phase = Phase::default();
        for seen in seen {
            let charge = self.charge(&seen.request.case).await;
            self.compare(&seen, charge).await;
            phase.add(&seen, charge);
        }
        // The ledger and the time series agree with the access log.
        assert_eq!(self.gate.used().await - self.ledger, phase.prompt + phase.completion);
        assert_eq!(series(&self.gate).await - self.series, phase.prompt + phase.completion);
        phase
    }

    async fn charge(&self, case: &str) -> Charge {
        let line = self.gate.access_log(|line| line["case"] == case).await;
        let count = |name: &str| line[name].as_str().map_or_else(|| line[name].as_u64(), |text| text.parse().ok());
        let count = |name: &str| count(name).unwrap_or_else(|| panic!("no {name}: {line}"));
        Charge { prompt: count("prompt_tokens"), completion: count("completion_tokens") }
    }

    /// Compares the charge of one request with what its client received.
    async fn compare(&self, seen: &Seen, charge: Charge) {
        let Charge { prompt, completion } = charge;
        assert_eq!(seen.status, 200, "{seen:?}");
        if let Some(reported) = seen.reported {
            assert_eq!((prompt, completion), reported, "{seen:?}");
        }
        assert!(completion >= seen.delivered, "{seen:?} was charged {charge:?}");
        if seen.request.leaves_after.is_some() {
            assert_eq!(prompt, self.server.prompt_tokens(&seen.request.body).await, "{seen:?}");
        }
    }

    async fn engine(&self) -> Counts {
        self.server.counts().await.since(self.engine)
    }

    /// Waits until the engine's counts satisfy `enough`; fails with both counts.
    async fn counted(&self, phase: &Phase, enough: impl Fn(&Counts) -> bool) -> Counts {
        let what = format!("the engine has counted as much as was charged: {phase:?}, {:?} before", self.engine);
        until(&what, async || Some(self.engine().await).filter(&enough)).await
    }
}

// === impl Phase ===

impl Phase {
    fn add(&mut self, seen: &Seen, charge: Charge) {
        self.requests += 1;
        self.left += u64::from(seen.left);
        self.prompt += charge.prompt;
        self.completion += charge.completion;
        self.engine_prompt += charge.prompt * seen.request.choices;
        self.delivered += seen.delivered;
        *self.by_status.entry(seen.status).or_default() += 1;
    }

    fn print(&self, what: &str, engine: Counts) {
        println!(
            "accounting, {what}: {} requests, statuses {:?}, {} left by their clients; charged {} + {} tokens (prompts counted n times: {}); the engine counted {} + {}, with {} preemptions",
            self.requests,
            self.by_status,
            self.left,
            self.prompt,
            self.completion,
            self.engine_prompt,
            engine.prompt,
            engine.generation,
            engine.preemptions
        );
    }
}

/// Returns the charged tokens in the Prometheus metrics.
async fn series(gate: &Gate) -> u64 {
    // Workers send their counts once a second.
    let used = gate.used().await;
    until("the metrics count what the ledger has", async || {
        let metrics = gate.prometheus();
        let counted = sum(&metrics, "pai_prompt_tokens_total") + sum(&metrics, "pai_completion_tokens_total");
        (counted == used).then_some(counted)
    })
    .await
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn what_is_charged_is_what_the_engine_counts() {
    let server = Server::running();
    let seed = seed();
    println!("accounting: PAI_SEED={seed}");
    let mut rng = Rng::new(seed);
    let gate = Arc::new(server.gate("maxTokensPerDay: 50000000\nmaxTokensPerRequest: 32000").start().await);

    let accounting = Accounting::open(&gate, server).await;
    let phase = accounting.run_phase(|at| TestRequest::random(&mut rng, format!("completed-{at}")), COMPLETED).await;
    let total = |engine: &Counts| (engine.prompt, engine.generation);
    let engine =
        accounting.counted(&phase, |engine| engine.prompt >= phase.engine_prompt && engine.generation >= phase.completion).await;
    phase.print("read to the end", engine);
    assert_eq!(total(&engine), (phase.engine_prompt, phase.completion));

    let accounting = Accounting::open(&gate, server).await;
    let phase = accounting.run_phase(|at| TestRequest::left(&mut rng, format!("left-{at}")), ABORTED).await;
    assert!(phase.left * 10 >= phase.requests * 9, "{phase:?}");
    let engine = bounded(&accounting, &phase).await;
    phase.print("left by their clients", engine);
    unread(&accounting, engine).await;

    let accounting = Accounting::open(&gate, server).await;
    let mixed = |at| {
        let case = format!("mixed-{at}");
        if at % 3 == 0 { TestRequest::left(&mut rng, case) } else { TestRequest::random(&mut rng, case) }
    };
    let phase = accounting.run_phase(mixed, MIXED).await;
    let engine = bounded(&accounting, &phase).await;
    phase.print("both", engine);
}

/// If clients disconnect, the engine has generated at least what was charged, and has read at most all prompts once per completion.
async fn bounded(accounting: &Accounting, phase: &Phase) -> Counts {
    let engine = accounting.counted(phase, |engine| engine.prompt >= phase.prompt && engine.generation >= phase.completion).await;
    assert!(engine.prompt <= phase.engine_prompt, "{phase:?}, {engine:?}");
    assert!(phase.completion >= phase.delivered);
    engine
}

/// Clients that disconnect before a response without streaming: the generated tokens are not reported. The prompt is charged.
async fn unread(accounting: &Accounting, before: Counts) {
    let body = json!({ "model": MODELS[0], "prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": true });
    let prompt = accounting.server.prompt_tokens(&body).await;
    let ledger = accounting.gate.used().await;
    for at in 1..=UNREAD {
        let mut line = accounting.gate.raw().await;
        let text = body.to_string();
        line.write(format!(
            "POST /v1/completions HTTP/1.1\r\nhost: gate.test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        ))
        .await;
        until("the engine has begun", async || {
            let read = accounting.engine().await.prompt - before.prompt;
            (read >= prompt * at).then_some(())
        })
        .await;
        drop(line);
    }
    let charged = until("all are settled", async || {
        let provider = accounting.gate.provider("vllm-local").await;
        (provider.reserved == 0).then_some(provider.used_today - ledger)
    })
    .await;
    let engine = accounting.engine().await.since(before);
    println!(
        "accounting, left before a whole answer arrived: {UNREAD} requests; charged {charged} tokens; the engine counted {} + {}",
        engine.prompt, engine.generation
    );
    assert!(charged >= prompt * UNREAD, "{charged}");
}
