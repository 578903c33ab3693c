//! Four budgets at once: the provider's, its external share, and two of the key's own, in many interleavings.
//!
//! Requests are random: `PAI_SEED=…` repeats a run, except for the scheduling of Envoy's workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::harness::{
    Answer, Gate, Key, MODEL, RateLimit, Received, Reply, Rng, Upstream, gateway, named_provider, responses, seed, until,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// The prompt tokens of each request, as the provider counts them.
const PROMPT: u64 = 9;
/// The size of a client's requests once larger requests are no longer served.
const LEAST: u64 = 4;
/// The tokens of an aborted response: its prompt and three words.
const ABORTED: u64 = PROMPT + 3;

/// The random kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A response without streaming.
    Whole,
    /// A stream that is read to its end.
    Stream,
    /// A stream that the client aborts after three words.
    Aborted,
    /// The provider fails and charges nothing.
    Failed,
}

/// One developer of the scenario.
#[derive(Debug, Clone, Copy)]
struct Developer {
    name: &'static str,
    per_day: Option<u64>,
    tokens_per_minute: Option<u64>,
    requests_per_minute: Option<u64>,
}

const DEVELOPERS: [Developer; 5] = [
    Developer { name: "free", per_day: None, tokens_per_minute: None, requests_per_minute: Some(6000) },
    Developer { name: "wide", per_day: Some(100_000), tokens_per_minute: Some(80_000), requests_per_minute: Some(6000) },
    Developer { name: "narrow", per_day: Some(3000), tokens_per_minute: Some(50_000), requests_per_minute: Some(6000) },
    Developer { name: "slow", per_day: Some(60_000), tokens_per_minute: Some(2500), requests_per_minute: Some(6000) },
    Developer { name: "seldom", per_day: Some(60_000), tokens_per_minute: Some(60_000), requests_per_minute: Some(30) },
];

/// The tokens that the provider has sent, by developer.
#[derive(Debug, Default)]
struct Sent([AtomicU64; DEVELOPERS.len()]);

/// What the clients of one developer received.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    admitted: u64,
    exhausted: bool,
    by_requests: u64,
    by_tokens: u64,
}

/// A gateway with its developers, and the totals.
struct Scene {
    gate: Gate,
    manifests: String,
    upstream: Upstream,
    sent: Arc<Sent>,
    seen: [Mutex<Seen>; DEVELOPERS.len()],
    provider_cap: u64,
    external_cap: u64,
    start: Instant,
}

// === impl Kind ===

impl Kind {
    fn drawn(rng: &mut Rng) -> Self {
        [Self::Whole, Self::Whole, Self::Stream, Self::Stream, Self::Aborted, Self::Failed][rng.below(6) as usize]
    }
}

// === impl Developer ===

impl Developer {
    fn key(&self) -> Key {
        Key::new(self.name)
    }

    fn manifest(&self) -> String {
        let limits = [
            ("maxTokensPerDay", self.per_day),
            ("tokensPerMinute", self.tokens_per_minute),
            ("requestsPerMinute", self.requests_per_minute),
        ];
        let lines: String = limits.iter().filter_map(|(name, limit)| Some(format!("{name}: {}\n", (*limit)?))).collect();
        self.key().manifest(&lines)
    }
}

fn operator() -> Key {
    Key::new("operator")
}

/// The fields of the request that determine the provider's response: developer (for the totals), kind, and number of words.
fn body(developer: usize, kind: Kind, words: u64) -> Value {
    json!({
        "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": words,
        "stream": matches!(kind, Kind::Stream | Kind::Aborted), "user": format!("{developer} {kind:?}"),
    })
}

/// Responds as `body` requests, and counts the tokens.
fn answer(request: &Received, sent: &Sent) -> Answer {
    const PAUSE: Duration = Duration::from_millis(3);
    let body = request.json();
    let (developer, kind) = body["user"].as_str().unwrap().split_once(' ').unwrap();
    let words = body["max_tokens"].as_u64().unwrap();
    let sequence = vec!["a"; words as usize];
    let (tokens, answer) = match kind {
        "Whole" => {
            let body = responses::chat(PROMPT, words).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            (PROMPT + words, Answer::raw_chunks([head.into_bytes(), body.into_bytes()]).paced(PAUSE * 4))
        }
        "Stream" => {
            let events = responses::stream(&sequence, PROMPT, true);
            (PROMPT + words, Answer::stream(events.chunks(8).map(|events| events.concat())).paced(PAUSE))
        }
        // Three words, and then nothing until the client disconnects.
        "Aborted" => (ABORTED, Answer::stream(&responses::stream(&sequence, PROMPT, true)[..4]).paced(PAUSE).then_hang()),
        _ => (0, Answer::error(500, &json!({ "error": { "message": "broken" } }))),
    };
    sent.0[developer.parse::<usize>().unwrap()].fetch_add(tokens, Ordering::Relaxed);
    answer
}

// === impl Scene ===

impl Scene {
    async fn new(provider_cap: u64, external_cap: u64) -> Arc<Self> {
        let sent = Arc::new(Sent::default());
        let counted = Arc::clone(&sent);
        let upstream = Upstream::answering(move |request| answer(request, &counted)).await;
        let spec = format!("maxTokensPerDay: {provider_cap}\nexternalAccess: {{ enabled: true, maxTokensPerDay: {external_cap} }}");
        let mut manifests =
            gateway("operators: { keys: [operator] }") + &operator().manifest("") + &named_provider("vllm-local", &spec);
        manifests.extend(DEVELOPERS.map(|developer| developer.manifest()));
        let gate = Gate::start(&manifests, &upstream).await;
        Arc::new(Self {
            gate,
            manifests,
            upstream,
            sent,
            seen: Default::default(),
            provider_cap,
            external_cap,
            start: Instant::now(),
        })
    }

    /// Reads the provider's budgets until `over`; fails if either is ever exceeded. Returns the number of reads.
    fn watch(self: &Arc<Self>, over: &Arc<AtomicBool>) -> JoinHandle<u64> {
        let (scene, over) = (Arc::clone(self), Arc::clone(over));
        tokio::spawn(async move {
            let mut reads = 0;
            while !over.load(Ordering::Relaxed) {
                let shares = scene.gate.provider_budgets(&operator(), "vllm-local").await;
                assert!(!shares.provider.is_exceeded() && !shares.external.is_exceeded(), "{shares:?}");
                reads += 1;
            }
            reads
        })
    }

    /// Replaces the configuration repeatedly until `over`: the same limits, and additional unused keys. Returns the number of
    /// reloads.
    async fn reload(&self, over: &AtomicBool) -> u64 {
        let mut reloads = 0;
        while !over.load(Ordering::Relaxed) {
            reloads += 1;
            let another = Key::new(&format!("another-{reloads}")).manifest("");
            self.gate.reconfigure(another + &self.manifests).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        reloads
    }

    /// Sends one developer's requests one after another, until even the smallest request finds a budget exhausted, or the key's
    /// rate has rejected it often enough.
    fn client(self: &Arc<Self>, developer: usize, seed: u64) -> JoinHandle<()> {
        let scene = Arc::clone(self);
        tokio::spawn(async move {
            let mut rng = Rng::new(seed);
            let (mut largest, mut patience) = (60, 40_u32);
            while patience > 0 {
                let kind = Kind::drawn(&mut rng);
                let words = LEAST + rng.below(largest);
                let Some(reply) = scene.ask(developer, kind, words).await else { continue };
                if scene.judge(developer, words, &reply) {
                    continue;
                }
                match reply.json()["error"]["code"].as_str() {
                    Some("insufficient_quota") if largest == 1 => return scene.saw_spent(developer),
                    Some("insufficient_quota") => largest = 1,
                    _ => {
                        patience -= 1;
                        tokio::time::sleep(Duration::from_millis(10 + rng.below(20))).await;
                    }
                }
            }
        })
    }

    /// Sends one request; `None` if the client aborted it.
    async fn ask(&self, developer: usize, kind: Kind, words: u64) -> Option<Reply> {
        let key = DEVELOPERS[developer].key();
        self.seen[developer].lock().unwrap().requests += 1;
        let mut answer = self.gate.chat(&body(developer, kind, words)).key(&key).stream().await;
        if answer.status == 200 && kind == Kind::Aborted {
            self.seen[developer].lock().unwrap().admitted += 1;
            for _ in 0..4 {
                answer.event().await.unwrap();
            }
            answer.abort().await;
            return None;
        }
        Some(answer.rest().await)
    }

    /// Returns whether the request was admitted; otherwise records the error.
    fn judge(&self, developer: usize, words: u64, reply: &Reply) -> bool {
        let mut seen = self.seen[developer].lock().unwrap();
        if reply.status == 200 || reply.status == 500 {
            seen.admitted += 1;
            return true;
        }
        assert_eq!(reply.status, 429, "{words} words: {}", reply.describe());
        match reply.json()["error"]["type"].as_str() {
            Some("requests") => seen.by_requests += 1,
            Some("tokens") => seen.by_tokens += 1,
            _ => {
                reply.quota_exhausted();
            }
        }
        false
    }

    fn saw_spent(&self, developer: usize) {
        self.seen[developer].lock().unwrap().exhausted = true;
    }

    /// Runs `each` clients of every developer to their end, and compares the remaining tokens with what was sent.
    async fn run(self: &Arc<Self>, each: usize) {
        let over = Arc::new(AtomicBool::new(false));
        let watcher = self.watch(&over);
        let mut rng = Rng::new(seed());
        let clients: Vec<_> =
            (0..each * DEVELOPERS.len()).map(|number| self.client(number % DEVELOPERS.len(), rng.below(u64::MAX))).collect();
        for client in clients {
            client.await.unwrap();
        }
        let total: u64 = (0..DEVELOPERS.len()).map(|developer| self.sent_to(developer)).sum();
        let shares = self.gate.settled_budgets(&operator(), "vllm-local").await;
        over.store(true, Ordering::Relaxed);
        let reads = watcher.await.unwrap();
        eprintln!("seed {}: {total} tokens in {:.1?}, {reads} ledger reads, {:?}", seed(), self.start.elapsed(), self.seen);
        assert!(reads > 20, "{reads}");
        assert_eq!((shares.provider.used_today, shares.external.used_today), (total, total), "{shares:?}");
        let admitted: u64 = self.seen.iter().map(|seen| seen.lock().unwrap().admitted).sum();
        assert_eq!(self.upstream.requests().len() as u64, admitted);
        for developer in 0..DEVELOPERS.len() {
            self.agrees(developer).await;
        }
    }

    fn sent_to(&self, developer: usize) -> u64 {
        self.sent.0[developer].load(Ordering::Relaxed)
    }

    /// Checks that what remains of a key's own budgets is what the provider has not sent to it.
    async fn agrees(&self, developer: usize) {
        let Developer { name, per_day, tokens_per_minute, requests_per_minute } = DEVELOPERS[developer];
        let sent = self.sent_to(developer);
        assert!(per_day.is_none_or(|cap| sent <= cap), "{name}: {sent} of {per_day:?}");
        // The bucket may have refilled since the start, and no longer.
        let drained = |rate: u64| (self.start.elapsed().as_secs_f64() * rate as f64 / 60.0).ceil() as u64;
        if let Some(rate) = tokens_per_minute {
            assert!(sent <= rate + drained(rate), "{name}: {sent} of {rate} per minute");
        }
        if let Some(rate) = requests_per_minute {
            let seen = self.seen[developer].lock().unwrap();
            let passed = seen.requests - seen.by_requests;
            assert!(passed <= rate + drained(rate), "{name}: {passed} of {rate} per minute: {seen:?}");
        }
        let Some(RateLimit { limit, remaining, .. }) = self.rate_limit(developer).await else {
            assert_eq!(per_day.or(tokens_per_minute), None, "{name}");
            return;
        };
        if Some(limit) == per_day {
            assert_eq!(remaining, limit - sent, "{name}");
        } else {
            assert_eq!(Some(limit), tokens_per_minute, "{name}");
            // A token bucket refills, and the largest reservation of a request is missing from it.
            assert!(remaining + sent >= limit && remaining <= limit, "{name}: {remaining} of {limit} with {sent} sent");
        }
    }

    /// Returns the rate limit headers of the key's own budgets, from a rejected request, which reserves nothing.
    async fn rate_limit(&self, developer: usize) -> Option<RateLimit> {
        let key = DEVELOPERS[developer].key();
        let refused = until("a request gets past the rate of requests", async || {
            let reply = self.gate.chat(&body(developer, Kind::Whole, self.least_refused(developer))).key(&key).send().await;
            (reply.rate_limit("tokens").is_some() || reply.json()["error"]["type"] != "requests").then_some(reply)
        })
        .await;
        refused.refused(
            refused.status,
            refused.json()["error"]["type"].as_str().unwrap(),
            refused.json()["error"]["code"].as_str().unwrap(),
        );
        refused.rate_limit("tokens")
    }

    /// A request that fits into every whole budget, but into no remainder of the smallest.
    fn least_refused(&self, developer: usize) -> u64 {
        let caps = [
            Some(self.provider_cap),
            Some(self.external_cap),
            DEVELOPERS[developer].per_day,
            DEVELOPERS[developer].tokens_per_minute,
        ];
        caps.into_iter().flatten().min().unwrap() - 200
    }

    fn saw(&self, name: &str) -> Seen {
        let developer = DEVELOPERS.iter().position(|developer| developer.name == name).unwrap();
        std::mem::take(&mut self.seen[developer].lock().unwrap())
    }
}

/// The external share is exhausted first: for all developers whose own budgets are not exhausted before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_budgets_hold_under_concurrent_requests() {
    const EXTERNAL: u64 = 25_000;
    let scene = Scene::new(40_000, EXTERNAL).await;
    scene.run(4).await;
    let used = (0..DEVELOPERS.len()).map(|developer| scene.sent_to(developer)).sum::<u64>();
    assert!(used * 100 >= EXTERNAL * 99, "{used} of {EXTERNAL} could be used");
    let narrow = scene.sent_to(2);
    assert!(narrow * 100 >= 3000 * 95, "{narrow} of 3000 could be used");
    for name in ["free", "wide", "narrow"] {
        assert!(scene.saw(name).exhausted, "{name}");
    }
    assert!(scene.saw("slow").by_tokens > 0);
    assert!(scene.saw("seldom").by_requests > 0);
}

/// The provider's own budget is exhausted first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_providers_budget_holds_when_it_is_the_smallest() {
    const PROVIDER: u64 = 12_000;
    let scene = Scene::new(PROVIDER, 20_000).await;
    scene.run(3).await;
    let used = (0..DEVELOPERS.len()).map(|developer| scene.sent_to(developer)).sum::<u64>();
    assert!(used * 100 >= PROVIDER * 99, "{used} of {PROVIDER} could be used");
}

/// A reload applies another policy to the same budgets while requests are in flight: nothing is lost, nothing is counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_hold_over_reloads() {
    const EXTERNAL: u64 = 12_000;
    let scene = Scene::new(40_000, EXTERNAL).await;
    let over = AtomicBool::new(false);
    let run = async {
        scene.run(3).await;
        over.store(true, Ordering::Relaxed);
    };
    let ((), reloads) = tokio::join!(run, scene.reload(&over));
    assert!(reloads > 3, "{reloads}");
    let used = (0..DEVELOPERS.len()).map(|developer| scene.sent_to(developer)).sum::<u64>();
    assert!(used * 100 >= EXTERNAL * 99, "{used} of {EXTERNAL} could be used");
}
