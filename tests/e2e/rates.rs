//! Rates of access keys: requests and tokens per minute, exact over two workers.
//!
//! Times are measured by the test's own clock around its requests and responses, so that every bound holds on a machine of any
//! speed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::harness::{Answer, Call, Gate, GateBuilder, Key, MODEL, Reply, Request, Upstream, gateway, named_provider, responses};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const INVALID: &str = "invalid_request_error";

fn ask(max_tokens: u64) -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens })
}

fn operator() -> Key {
    Key::new("operator")
}

fn alice() -> Key {
    Key::new("alice")
}

async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}

/// A provider with unlimited budgets, and alice's key with this spec.
fn with(spec: &str, upstream: &Upstream) -> GateBuilder {
    let provider =
        "maxTokensPerDay: 100000000\nmaxTokensPerRequest: 50000\nexternalAccess: { enabled: true, maxTokensPerDay: 90000000 }";
    Gate::builder()
        .manifests(gateway("operators: { keys: [operator] }"))
        .manifests(operator().manifest(""))
        .manifests(named_provider("vllm-local", provider))
        .manifests(alice().manifest(spec))
        .upstream("vllm-local", upstream)
}

/// Sends all requests at once, each on a connection of its own, and waits for the responses.
async fn at_once(requests: impl IntoIterator<Item = Request>) -> Vec<Reply> {
    let sent: Vec<JoinHandle<Reply>> = requests.into_iter().map(Request::spawn_send).collect();
    let mut replies = Vec::new();
    for reply in sent {
        replies.push(reply.await.unwrap());
    }
    replies
}

/// Returns the number of served requests; fails unless the others were rejected by the rate of `of`.
#[track_caller]
fn served(replies: &[Reply], of: &str) -> usize {
    let (served, refused): (Vec<&Reply>, Vec<&Reply>) = replies.iter().partition(|reply| reply.status == 200);
    for reply in refused {
        reply.rate_limited(of);
    }
    served.len()
}

// === requests per minute ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_burst_is_admitted_over_all_workers() {
    const RATE: usize = 6;
    let upstream = upstream().await;
    let gate = with(&format!("requestsPerMinute: {RATE}"), &upstream).start().await;
    let start = Instant::now();
    let replies = at_once((0..3 * RATE).map(|_| gate.chat(&ask(8)).key(&alice()))).await;
    let passed = served(&replies, "requests");
    assert!(start.elapsed() < Duration::from_secs(10), "the next would pass meanwhile: {:?}", start.elapsed());
    assert_eq!(passed, RATE);
    assert_eq!(upstream.requests().len(), RATE);
    for reply in &replies {
        let requests = reply.rate_limit("requests").unwrap();
        assert_eq!(requests.limit, RATE as u64);
        assert!(requests.reset <= 60.0 && requests.reset > 0.0, "{requests:?}");
        if reply.status == 429 {
            assert_eq!(requests.remaining, 0, "{}", reply.describe());
            assert!((1..=10).contains(&reply.retry_after()), "{}", reply.describe());
        }
    }
    // Other keys are not charged for it.
    gate.get("/v1/models").key(&operator()).send().await.ok();
}

/// Sends as fast as one connection can until a request is rejected; returns the number of served requests.
async fn until_refused(gate: &Gate) -> u64 {
    let get = format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", alice().secret());
    let mut raw = gate.raw().await;
    for passed in 0.. {
        raw.write(&get).await;
        let reply = raw.reply().await.unwrap();
        if reply.status != 200 {
            reply.rate_limited("requests");
            return passed;
        }
    }
    unreachable!("it is refused sooner or later")
}

/// Both workers count in the same record, hundreds of times at the same moment: no count is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_counted_twice_or_not_at_all() {
    const RATE: u64 = 2400;
    let upstream = upstream().await;
    let gate = std::sync::Arc::new(with(&format!("requestsPerMinute: {RATE}"), &upstream).start().await);
    let start = Instant::now();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let gate = std::sync::Arc::clone(&gate);
            tokio::spawn(async move { until_refused(&gate).await })
        })
        .collect();
    let mut passed = 0;
    for client in clients {
        passed += client.await.unwrap();
    }
    let most = RATE + (start.elapsed().as_secs_f64() * RATE as f64 / 60.0).floor() as u64;
    assert!((RATE..=most).contains(&passed), "{passed} of {most}");
}

/// Sends until a request is admitted; returns the time of its response.
async fn when_one_passes(gate: &Gate) -> Instant {
    loop {
        let reply = gate.get("/v1/models").key(&alice()).send().await;
        if reply.status == 200 {
            return Instant::now();
        }
        reply.rate_limited("requests");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_passes_for_each_interval_and_not_before() {
    const RATE: u64 = 30;
    const INTERVAL: Duration = Duration::from_secs(2);
    let upstream = upstream().await;
    let gate = with(&format!("requestsPerMinute: {RATE}"), &upstream).start().await;
    let start = Instant::now();
    let burst = at_once((0..RATE).map(|_| gate.get("/v1/models").key(&alice()))).await;
    assert_eq!(served(&burst, "requests"), RATE as usize);
    // Rejected requests in between are not counted: the times are those of the burst alone.
    for nth in 1..=3 {
        let passed = when_one_passes(&gate).await;
        assert!(passed.duration_since(start) >= INTERVAL * nth, "{nth} after {:?}", passed.duration_since(start));
        assert!(passed.duration_since(start) < INTERVAL * (nth + 2), "{nth} after {:?}", passed.duration_since(start));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_retry_after_one_passes() {
    const RATE: u64 = 30;
    let upstream = upstream().await;
    let gate = with(&format!("requestsPerMinute: {RATE}"), &upstream).start().await;
    let start = Instant::now();
    let burst = at_once((0..RATE).map(|_| gate.get("/v1/models").key(&alice()))).await;
    assert_eq!(served(&burst, "requests"), RATE as usize);
    let refused = gate.chat(&ask(8)).key(&alice()).send().await;
    refused.rate_limited("requests");
    // The header contains the remaining seconds, rounded up: two, unless one of them has passed already.
    let least = (2.0 - start.elapsed().as_secs_f64()).ceil().max(1.0) as u64;
    assert!((least..=2).contains(&refused.retry_after()), "{}", refused.describe());
    tokio::time::sleep(Duration::from_secs(refused.retry_after())).await;
    let both = at_once((0..2).map(|_| gate.chat(&ask(8)).key(&alice()))).await;
    if start.elapsed() < Duration::from_secs(4) {
        assert_eq!(served(&both, "requests"), 1, "one, and one only");
    } else {
        assert!(served(&both, "requests") >= 1);
    }
}

#[tokio::test]
async fn an_idle_key_has_its_whole_burst_again_and_no_more() {
    const RATE: u64 = 120;
    let upstream = upstream().await;
    let gate = with(&format!("requestsPerMinute: {RATE}"), &upstream).start().await;
    let first = gate.get("/v1/models").key(&alice()).send().await;
    let requests = first.ok().rate_limit("requests").unwrap();
    assert_eq!((requests.limit, requests.remaining), (RATE, RATE - 1));
    assert!(requests.reset > 0.0 && requests.reset <= 1.0, "{requests:?}");
    // Twice as long as one request takes to refill.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let again = gate.get("/v1/models").key(&alice()).send().await;
    assert_eq!(again.ok().rate_limit("requests").unwrap().remaining, RATE - 1, "no more than the burst");
}

#[tokio::test]
async fn every_authenticated_request_counts_and_reports_what_remains() {
    const RATE: u64 = 20;
    let upstream = Upstream::answering(|request| match request.json()["stream"].as_bool() {
        Some(true) => Answer::stream(responses::stream(&["a"], 5, true)),
        _ if request.json()["max_tokens"] == 13 => Answer::error(500, &json!({ "error": {} })),
        _ => Answer::with_headers(
            200,
            &[("content-type", "application/json"), ("x-ratelimit-limit-requests", "7"), ("x-ratelimit-remaining-requests", "7")],
            responses::chat(5, 3).to_string(),
        ),
    })
    .await;
    let gate = with(&format!("requestsPerMinute: {RATE}\nmodels: ['vllm-local/*']"), &upstream).start().await;
    let chat = |body: Value| gate.chat(&body);
    let model = |model: &str| chat(json!({ "model": model, "messages": [], "max_tokens": 8 }));
    let mut stream = ask(8);
    stream["stream"] = json!(true);
    let mut many = ask(1_000_000);
    many["n"] = json!(1_000_000);
    let start = Instant::now();
    let requests = [
        (200, chat(ask(8))),
        (200, chat(stream)),
        (200, chat(ask(8)).http2()),
        (200, gate.get("/v1/models")),
        (200, gate.get("/v1/models/vllm-local%2Fm")),
        (404, gate.get("/v1/models/nowhere%2Fm")),
        (404, model("nowhere/m")),
        (400, gate.post("/v1/chat/completions").text("{")),
        (400, gate.post("/v1/chat/completions").header("content-type", "text/plain").body("{}")),
        (400, chat(many)),
        (500, chat(ask(13))),
    ];
    let all = requests.len() as u64;
    for (nth, (status, request)) in (1..).zip(requests) {
        let reply = request.key(&alice()).send().await;
        assert_eq!(reply.status, status, "the {nth}th: {}", reply.describe());
        // Requests that are rejected before admission count, and may lack the headers.
        let Some(limits) = reply.rate_limit("requests") else {
            assert!((400..500).contains(&status), "the {nth}th: {}", reply.describe());
            continue;
        };
        let drained = (start.elapsed().as_secs_f64() / 3.0).floor() as u64;
        assert_eq!(limits.limit, RATE, "the {nth}th: {}", reply.describe());
        let counted = RATE - limits.remaining;
        assert!((nth - drained.min(nth)..=nth).contains(&counted), "the {nth}th: {counted}\n{}", reply.describe());
        // Each takes three seconds to refill.
        let whole = nth as f64 * 3.0;
        assert!(limits.reset <= whole + 0.001 && limits.reset >= whole - start.elapsed().as_secs_f64() - 1.0, "{limits:?}, {nth}");
    }
    let left = at_once((0..RATE).map(|_| gate.get("/v1/models").key(&alice()))).await;
    let drained = (start.elapsed().as_secs_f64() / 3.0).ceil() as usize;
    let passed = served(&left, "requests");
    assert!(((RATE - all) as usize..=(RATE - all) as usize + drained).contains(&passed), "{passed} of {}", RATE - all);
    // An unauthenticated request is not counted against a key, and receives no headers of one.
    let unknown = gate.get("/v1/models").key(&Key::new("unknown")).send().await;
    unknown.refused(401, INVALID, "invalid_api_key");
    assert_eq!((unknown.rate_limit("requests"), unknown.rate_limit("tokens")), (None, None));
    let operators = gate.get("/v1/models").key(&operator()).send().await;
    assert_eq!(operators.ok().rate_limit("requests"), None, "no rate, no headers");
}

#[tokio::test]
async fn a_rate_rejects_before_the_body_arrives() {
    let upstream = upstream().await;
    let gate = with("requestsPerMinute: 1", &upstream).start().await;
    gate.chat(&ask(8)).key(&alice()).send().await.ok();
    let head = |length: usize| {
        let secret = alice().secret().to_owned();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nauthorization: Bearer {secret}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut raw = gate.raw().await;
    raw.write(head(1000)).await;
    raw.reply().await.unwrap().rate_limited("requests");
    // Checked before the rate: caller, path and size.
    let mut raw = gate.raw().await;
    raw.write(head(20 << 20)).await;
    raw.reply().await.unwrap().refused(413, INVALID, "request_too_large");
    gate.get("/nowhere").key(&alice()).send().await.refused(404, INVALID, "unknown_url");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn an_operator_with_a_rate_is_counted_too() {
    let upstream = upstream().await;
    let config = gateway("operators: { keys: [alice] }")
        + &named_provider("vllm-local", "externalAccess: { enabled: true }")
        + &alice().manifest("requestsPerMinute: 2");
    let gate = Gate::start(config, &upstream).await;
    let replies = at_once((0..5).map(|_| gate.get("/pai/v1/model-providers").key(&alice()))).await;
    assert_eq!(served(&replies, "requests"), 2);
}

#[tokio::test]
async fn each_key_has_its_own_rate() {
    let upstream = upstream().await;
    let bob = Key::new("bob");
    let gate = with("requestsPerMinute: 2", &upstream).manifests(bob.manifest("requestsPerMinute: 2")).start().await;
    for key in [&alice(), &bob] {
        let replies = at_once((0..5).map(|_| gate.chat(&ask(8)).key(key))).await;
        assert_eq!(served(&replies, "requests"), 2);
    }
}

#[tokio::test]
async fn a_rate_outlives_a_reload() {
    let upstream = upstream().await;
    let config = |rate: u64| {
        gateway("operators: { keys: [operator] }")
            + &operator().manifest("")
            + &named_provider("vllm-local", "externalAccess: { enabled: true }")
            + &alice().manifest(&format!("requestsPerMinute: {rate}"))
    };
    let gate = Gate::start(config(2), &upstream).await;
    let replies = at_once((0..4).map(|_| gate.chat(&ask(8)).key(&alice()))).await;
    assert_eq!(served(&replies, "requests"), 2);
    // A reload that changes something else only. (A worker has it once it responds by it.)
    gate.reconfigure(config(2) + &Key::new("bob").manifest("")).await.unwrap();
    let replies = at_once((0..8).map(|_| gate.chat(&ask(8)).key(&alice()))).await;
    assert_eq!(served(&replies, "requests"), 0);
}

// === tokens per minute ===

/// Sends a request, and returns the upstream's call and what is reserved for it.
async fn in_flight(gate: &Gate, upstream: &Upstream, max_tokens: u64) -> (JoinHandle<Reply>, Call, u64) {
    let before = gate.provider_budgets(&operator(), "vllm-local").await.provider.reserved;
    let asked = gate.chat(&ask(max_tokens)).key(&alice()).spawn_send();
    let call = upstream.call().await;
    let reserved = gate.provider_budgets(&operator(), "vllm-local").await.provider.reserved - before;
    (asked, call, reserved)
}

/// Sends a request that is charged this many tokens.
async fn spend(gate: &Gate, upstream: &Upstream, tokens: u64) -> Reply {
    let (asked, call, _) = in_flight(gate, upstream, tokens / 2).await;
    call.answer(Answer::json(&responses::chat(5, tokens - 5))).await;
    let reply = asked.await.unwrap();
    reply.ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_reserved_than_the_rate_over_all_workers() {
    const RATE: u64 = 1000;
    let upstream = Upstream::scripted().await;
    let gate = with(&format!("tokensPerMinute: {RATE}"), &upstream).start().await;
    let (first, call, each) = in_flight(&gate, &upstream, 100).await;
    let fit = RATE / each;
    assert!((3..=9).contains(&fit), "{each}");
    let asked: Vec<_> = (0..3 * fit).map(|_| gate.chat(&ask(100)).key(&alice()).spawn_send()).collect();
    let mut calls = vec![call];
    for _ in 1..fit {
        calls.push(upstream.call().await);
    }
    // All others are rejected while those are in flight: nothing refills, because nothing is used.
    let held = gate.provider_budgets(&operator(), "vllm-local").await;
    assert_eq!((held.provider.reserved, held.external.reserved), (fit * each, fit * each));
    let refused = gate.chat(&ask(100)).key(&alice()).send().await;
    refused.rate_limited("tokens");
    assert_eq!(refused.retry_after(), 1, "only reservations prevent it");
    let tokens = refused.rate_limit("tokens").unwrap();
    assert_eq!((tokens.limit, tokens.remaining), (RATE, RATE - fit * each));
    for call in calls {
        call.answer(Answer::json(&responses::chat(5, 3))).await;
    }
    let mut replies = vec![first.await.unwrap()];
    for reply in asked {
        replies.push(reply.await.unwrap());
    }
    assert_eq!(served(&replies, "tokens") as u64, fit);
    assert_eq!(upstream.requests().len() as u64, fit);
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!(shares.provider.used_today, fit * 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_rate_refills_and_retry_after_says_when() {
    /// A hundred tokens per second.
    const RATE: u64 = 6000;
    let upstream = Upstream::scripted().await;
    let gate = with(&format!("tokensPerMinute: {RATE}"), &upstream).start().await;
    let (asked, call, _) = in_flight(&gate, &upstream, 3000).await;
    let before_settling = Instant::now();
    call.answer(Answer::json(&responses::chat(5, RATE - 5))).await;
    asked.await.unwrap().ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
    let after_settling = Instant::now();

    let refused = gate.chat(&ask(150)).key(&alice()).send().await;
    refused.rate_limited("tokens");
    let refused_at = Instant::now();
    let tokens = refused.rate_limit("tokens").unwrap();
    let drained = before_settling.elapsed().as_secs_f64() * 100.0;
    assert_eq!(tokens.limit, RATE);
    assert!((tokens.remaining as f64) <= drained, "{tokens:?} after {drained}");
    assert!(tokens.reset <= 60.0 && tokens.reset >= 59.0 - drained / 100.0, "{tokens:?}");
    let wait = refused.retry_after();
    assert!((1..=4).contains(&wait), "{wait}");

    // Not before: the tokens that it requests must have refilled first.
    let (passed_at, reserved) = loop {
        let mut asked = gate.chat(&ask(150)).key(&alice()).spawn_send();
        tokio::select! {
            call = upstream.call() => {
                let passed_at = Instant::now();
                let reserved = gate.provider_budgets(&operator(), "vllm-local").await.provider.reserved;
                call.answer(Answer::json(&responses::chat(5, 3))).await;
                asked.await.unwrap().ok();
                break (passed_at, reserved);
            }
            reply = &mut asked => {
                reply.unwrap().rate_limited("tokens");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
    };
    let needed = Duration::from_secs_f64(reserved as f64 / 100.0);
    assert!(passed_at.duration_since(before_settling) >= needed, "{:?} of {needed:?}", passed_at.duration_since(before_settling));
    // The reported wait was exact, rounded up.
    let exact = (needed.as_secs_f64() - after_settling.duration_since(before_settling).as_secs_f64()).max(0.0);
    assert!(wait as f64 >= exact - refused_at.duration_since(after_settling).as_secs_f64(), "{wait} for {exact}");
    assert!(wait as f64 <= needed.as_secs_f64() + 1.0, "{wait} for {needed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_retry_after_the_tokens_are_there() {
    const RATE: u64 = 6000;
    let upstream = Upstream::scripted().await;
    let gate = with(&format!("tokensPerMinute: {RATE}"), &upstream).start().await;
    spend(&gate, &upstream, RATE).await;
    let refused = gate.chat(&ask(150)).key(&alice()).send().await;
    refused.rate_limited("tokens");
    tokio::time::sleep(Duration::from_secs(refused.retry_after())).await;
    let (asked, call, _) = in_flight(&gate, &upstream, 150).await;
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
}

/// A request without a limit is served with what has refilled, once that is enough for a response.
#[tokio::test]
async fn a_limit_shrinks_to_what_has_refilled() {
    /// A thousand tokens per second.
    const RATE: u64 = 60_000;
    let upstream = Upstream::scripted().await;
    let gate = with(&format!("tokensPerMinute: {RATE}"), &upstream).start().await;
    spend(&gate, &upstream, RATE).await;
    let exhausted_at = Instant::now();
    let without = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }] });
    let refused = gate.chat(&without).key(&alice()).send().await;
    refused.rate_limited("tokens");
    assert!((1..=5).contains(&refused.retry_after()), "no more than `defaultMaxTokens` is waited for: {}", refused.describe());
    tokio::time::sleep(Duration::from_secs(refused.retry_after())).await;
    let asked = gate.chat(&without).key(&alice()).spawn_send();
    let call = upstream.call().await;
    let forwarded = call.request.json();
    let limit = [&forwarded["max_tokens"], &forwarded["max_completion_tokens"]].into_iter().find_map(Value::as_u64).unwrap();
    let drained = (exhausted_at.elapsed().as_secs_f64() * 1000.0) as u64 + 1000;
    assert!((4096..=drained).contains(&limit), "{limit} of {drained}");
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
}

#[tokio::test]
async fn an_overage_is_repaid_by_refilling() {
    /// A thousand tokens per second.
    const RATE: u64 = 60_000;
    let upstream = Upstream::scripted().await;
    let gate = with(&format!("tokensPerMinute: {RATE}"), &upstream).start().await;
    let (asked, call, _) = in_flight(&gate, &upstream, 1000).await;
    let before = Instant::now();
    call.answer(Answer::json(&responses::chat(5, RATE + 1995))).await;
    asked.await.unwrap().ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
    let refused = gate.chat(&ask(500)).key(&alice()).send().await;
    refused.rate_limited("tokens");
    // An overage of two thousand, and a request of five hundred.
    let least = (2.5 - before.elapsed().as_secs_f64()).ceil().max(1.0) as u64;
    assert!((least..=4).contains(&refused.retry_after()), "{}", refused.describe());
    assert_eq!(refused.rate_limit("tokens").unwrap().remaining, 0);
    tokio::time::sleep(Duration::from_secs(refused.retry_after())).await;
    let (asked, call, _) = in_flight(&gate, &upstream, 500).await;
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
}

#[tokio::test]
async fn a_request_larger_than_a_whole_rate_is_a_bad_request() {
    let upstream = upstream().await;
    let gate = with("tokensPerMinute: 1000\nmaxTokensPerDay: 50000", &upstream).start().await;
    for limit in [250, 5000, 1_000_000_000] {
        let mut body = ask(limit);
        body["n"] = json!(4);
        gate.chat(&body).key(&alice()).send().await.refused(400, INVALID, "context_length_exceeded");
    }
    gate.chat(&ask(500)).key(&alice()).send().await.ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
}

#[tokio::test]
async fn an_exhausted_day_is_reported_before_a_rate() {
    let upstream = Upstream::scripted().await;
    let gate = with("tokensPerMinute: 1000\nmaxTokensPerDay: 1000", &upstream).start().await;
    spend(&gate, &upstream, 1000).await;
    let reply = gate.chat(&ask(100)).key(&alice()).send().await;
    reply.quota_exhausted();
    assert!(reply.message().to_lowercase().contains("key"), "{}", reply.message());
}

/// An exhausted daily budget is reported first, then an exhausted rate, then other reservations, for budgets of any owner.
#[tokio::test]
async fn the_most_serious_reason_is_reported_for_any_budget() {
    let upstream = Upstream::scripted().await;
    let provider = "maxTokensPerDay: 20000\nexternalAccess: { enabled: true, maxTokensPerDay: 10000 }";
    let bob = Key::new("bob");
    let gate = Gate::builder()
        .manifests(gateway("operators: { keys: [operator] }"))
        .manifests(operator().manifest(""))
        .manifests(named_provider("vllm-local", provider))
        .manifests(alice().manifest("tokensPerMinute: 6000"))
        .manifests(bob.manifest(""))
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    // Alice's rate lacks tokens, of which a hundred refill per second; bob has reserved some of the external share.
    spend(&gate, &upstream, 6000).await;
    let asked = gate.chat(&ask(3500)).key(&bob).spawn_send();
    let call = upstream.call().await;
    let reply = gate.chat(&ask(700)).key(&alice()).send().await;
    reply.rate_limited("tokens");
    assert!((5..=9).contains(&reply.retry_after()), "a reservation would be gone in one: {}", reply.describe());
    // Now that the share is exhausted, neither waiting nor the end of another request helps.
    call.answer(Answer::json(&responses::chat(5, 3495))).await;
    asked.await.unwrap().ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
    let reply = gate.chat(&ask(700)).key(&alice()).send().await;
    reply.quota_exhausted();
    assert!(reply.message().contains("external"), "{}", reply.message());
    assert_eq!(reply.rate_limit("tokens").unwrap().limit, 6000);
}

#[tokio::test]
async fn a_refused_request_takes_no_tokens_of_the_other_budgets() {
    let upstream = Upstream::scripted().await;
    let gate = with("tokensPerMinute: 1000\nmaxTokensPerDay: 5000", &upstream).start().await;
    let (asked, call, reserved) = in_flight(&gate, &upstream, 700).await;
    for _ in 0..6 {
        let reply = gate.chat(&ask(400)).key(&alice()).send().await;
        reply.rate_limited("tokens");
        assert_eq!(reply.rate_limit("tokens").map(|tokens| (tokens.limit, tokens.remaining)), Some((1000, 1000 - reserved)));
    }
    let shares = gate.provider_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.reserved, shares.external.reserved), (reserved, reserved));
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
    assert_eq!(gate.settled_budgets(&operator(), "vllm-local").await.external.used_today, 8);
}

/// Many clients of one key, for three seconds, on both workers: the served tokens are bounded by the burst and the refill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_hold_under_concurrent_connections() {
    const REQUESTS: u64 = 60;
    const TOKENS: u64 = 3000;
    const EACH: u64 = 40;
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, EACH - 5)).paced(Duration::from_millis(1))).await;
    let spec = format!("tokensPerMinute: {TOKENS}");
    let bob = Key::new("bob");
    let builder = with(&format!("requestsPerMinute: {REQUESTS}"), &upstream).manifests(bob.manifest(&spec));
    let gate = std::sync::Arc::new(builder.start().await);
    let passed = std::sync::Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let start = Instant::now();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (gate, passed) = (std::sync::Arc::clone(&gate), std::sync::Arc::clone(&passed));
            tokio::spawn(async move {
                let which = client % 2;
                let (key, of) = [(alice(), "requests"), (Key::new("bob"), "tokens")][which].clone();
                while start.elapsed() < Duration::from_secs(3) {
                    let reply = gate.chat(&ask(30)).key(&key).send().await;
                    if reply.status == 200 {
                        passed[which].fetch_add(1, Ordering::Relaxed);
                    } else {
                        reply.rate_limited(of);
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let elapsed = start.elapsed().as_secs_f64();
    let requests = passed[0].load(Ordering::Relaxed);
    let most = REQUESTS + (elapsed * REQUESTS as f64 / 60.0).floor() as u64;
    assert!((REQUESTS + 2..=most).contains(&requests), "{requests} of {most}");
    let tokens = passed[1].load(Ordering::Relaxed) * EACH;
    let most = TOKENS + (elapsed * TOKENS as f64 / 60.0).ceil() as u64;
    // The remainder is less than the rejected request: thirty tokens, and the upper bound of the prompt.
    assert!((TOKENS - 200..=most).contains(&tokens), "{tokens} of {most}");
    gate.settled_budgets(&operator(), "vllm-local").await;
}
