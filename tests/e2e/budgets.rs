//! Budgets: reserved on admission, settled once, enforced by two workers together. The rules are in `docs/budgets.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e::harness::{
    Answer, Gate, MODEL, Upstream, gateway, go_seconds, named_provider, provider, responses, seconds_to_midnight, until,
};
use serde_json::{Value, json};

fn ask(max_tokens: u64) -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens })
}

fn without_limit() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }] })
}

#[tokio::test]
async fn what_is_admitted_is_reserved_and_then_settled() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000"), &upstream).await;
    let asked = gate.chat(&ask(100)).spawn_send();
    let call = upstream.call().await;
    let during = gate.provider("vllm-local").await;
    assert_eq!(during.used_today, 0);
    assert!((101..300).contains(&during.reserved), "{during:?}");
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
    assert_eq!(gate.used().await, 8);
}

#[tokio::test]
async fn completions_times_prompts_times_n_are_reserved() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 100000"), &upstream).await;
    for (body, least, most) in [
        (json!({ "prompt": ["a", "b", "c"], "n": 2, "max_tokens": 100 }), 603, 700),
        (json!({ "prompt": [[1, 2, 3], [4, 5]], "max_tokens": 100 }), 205, 300),
        (json!({ "prompt": [1, 2, 3], "max_tokens": 100 }), 103, 200),
        (json!({ "prompt": "a" }), 17, 100),
        (json!({ "prompt": ["a", "b"], "max_tokens": null }), 34, 120),
    ] {
        let mut body = body;
        body["model"] = json!(MODEL);
        let asked = gate.post("/v1/completions").json(&body).spawn_send();
        let call = upstream.call().await;
        let reserved = gate.provider("vllm-local").await.reserved;
        assert!((least..=most).contains(&reserved), "{reserved} for {body}");
        assert_eq!(call.request.json(), body);
        call.answer(Answer::error(400, &json!({ "error": {} }))).await;
        asked.await.unwrap();
        assert_eq!(gate.used().await, 0);
    }
}

#[tokio::test]
async fn an_exhausted_budget_rejects_until_midnight() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 995))).await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000"), &upstream).await;
    let first = gate.chat(&ask(900)).send().await;
    first.ok();
    assert_eq!(gate.used().await, 1000);
    for request in [gate.chat(&ask(10)), gate.chat(&ask(10)).http2(), gate.chat(&without_limit())] {
        let reply = request.send().await;
        reply.quota_exhausted();
        assert_eq!(reply.header("x-ratelimit-limit-tokens"), Some("1000"));
        assert_eq!(reply.header("x-ratelimit-remaining-tokens"), Some("0"));
    }
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(gate.used().await, 1000);
}

#[tokio::test]
async fn an_overage_is_kept() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 5000))).await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000"), &upstream).await;
    gate.chat(&ask(100)).send().await.ok();
    assert_eq!(gate.used().await, 5005);
    gate.chat(&ask(1)).send().await.refused(429, "insufficient_quota", "insufficient_quota");
}

#[tokio::test]
async fn a_budget_that_is_only_reserved_may_be_retried() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000"), &upstream).await;
    let asked = gate.chat(&ask(850)).spawn_send();
    let call = upstream.call().await;
    let reply = gate.chat(&ask(300)).send().await;
    reply.refused(429, "tokens", "rate_limit_exceeded");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_ne!(reply.header("x-should-retry"), Some("false"));
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
    assert_eq!(gate.used().await, 8);
    let asked = gate.chat(&ask(300)).spawn_send();
    upstream.call().await.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
}

#[tokio::test]
async fn a_request_that_can_never_fit_is_a_bad_request() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    for limits in ["maxTokensPerDay: 1000", "maxTokensPerRequest: 1000", "maxTokensPerDay: 5000\nmaxTokensPerRequest: 1000"] {
        let gate = Gate::start(provider(limits), &upstream).await;
        let before = upstream.requests().len();
        let many = |n: u64, limit: u64| json!({ "model": MODEL, "prompt": ["a", "b"], "n": n, "max_tokens": limit });
        for body in [many(6, 100), many(2, 1 << 53), many(1 << 53, 1 << 53)] {
            gate.post("/v1/completions").json(&body).send().await.refused(400, "invalid_request_error", "context_length_exceeded");
        }
        assert_eq!(gate.used().await, 0);
        assert_eq!(upstream.requests().len(), before);
        gate.chat(&ask(1 << 53)).send().await.ok();
        let forwarded = upstream.last().json()["max_tokens"].as_u64().unwrap();
        assert!((800..1000).contains(&forwarded), "{forwarded} with `{limits}`");
    }
}

#[tokio::test]
async fn no_request_is_rejected_by_a_pessimistic_estimate() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(40, 60))).await;
    let gate = Gate::start(provider("maxTokensPerDay: 100000\nmaxTokensPerRequest: 500"), &upstream).await;
    // 100 bytes of text may be 25 tokens or 100: the injected `max_tokens` shrinks to what certainly fits.
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "word ".repeat(20) }], "max_tokens": 400 });
    gate.chat(&body).send().await.ok();
    let forwarded = upstream.last().json();
    let limit = forwarded["max_tokens"].as_u64().unwrap();
    assert!((256..400).contains(&limit), "{forwarded}");
    assert_eq!(forwarded["messages"], body["messages"]);
    assert_eq!(gate.used().await, 100);
}

#[tokio::test]
async fn a_limit_is_injected_only_where_a_cap_binds() {
    let upstream = Upstream::scripted().await;
    let body = without_limit().to_string();
    for (limits, least, most, injected) in [
        ("", 0, 0, false),
        ("maxTokensPerDay: 1000000", 4097, 4200, false),
        ("maxTokensPerDay: 1000000\ndefaultMaxTokens: 1000", 1001, 1100, false),
        ("maxTokensPerRequest: 2000", 0, 2000, true),
        ("maxTokensPerDay: 1000000\nmaxTokensPerRequest: 2000", 1900, 2000, true),
        ("maxTokensPerDay: 1000", 257, 1000, true),
    ] {
        let gate = Gate::start(provider(limits), &upstream).await;
        let asked = gate.post("/v1/chat/completions").text(&body).spawn_send();
        let call = upstream.call().await;
        let reserved = gate.provider("vllm-local").await.reserved;
        assert!((least..=most).contains(&reserved), "{reserved} with `{limits}`");
        let forwarded = call.request.json();
        let limit = [&forwarded["max_tokens"], &forwarded["max_completion_tokens"]].into_iter().find_map(Value::as_u64);
        assert_eq!(limit.is_some(), injected, "{forwarded} with `{limits}`");
        match limit {
            None => assert_eq!(call.request.text(), body),
            Some(limit) => assert!((256..2000).contains(&limit), "{forwarded} with `{limits}`"),
        }
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        asked.await.unwrap().ok();
        assert_eq!(gate.used().await, 8);
    }
}

#[tokio::test]
async fn a_limit_shrinks_with_the_budget_and_then_the_budget_refuses() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 2000\nmaxTokensPerRequest: 1500"), &upstream).await;
    let first = gate.chat(&ask(1400)).spawn_send();
    let first_call = upstream.call().await;
    let second = gate.chat(&without_limit()).spawn_send();
    let second_call = upstream.call().await;
    let forwarded = second_call.request.json();
    let limit = [&forwarded["max_tokens"], &forwarded["max_completion_tokens"]].into_iter().find_map(Value::as_u64).unwrap();
    assert!((256..=600).contains(&limit), "{forwarded}");
    let state = gate.provider("vllm-local").await;
    assert!(state.reserved <= 2000, "{state:?}");
    gate.chat(&without_limit()).send().await.refused(429, "tokens", "rate_limit_exceeded");
    for (call, asked) in [(first_call, first), (second_call, second)] {
        call.answer(Answer::json(&responses::chat(5, 895))).await;
        asked.await.unwrap().ok();
    }
    assert_eq!(gate.used().await, 1800);
    gate.chat(&without_limit()).send().await.refused(429, "insufficient_quota", "insufficient_quota");
}

/// Sends requests without a limit until at most a context length of 2048 is reserved, and checks that no limit is injected.
async fn until_the_window_bounds(gate: &Gate, upstream: &Upstream) {
    until("the context length bounds what is reserved", async || {
        let asked = gate.chat(&without_limit()).spawn_send();
        let call = upstream.call().await;
        let reserved = gate.provider("vllm-local").await.reserved;
        assert_eq!(call.request.json(), without_limit());
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        asked.await.unwrap().ok();
        gate.used().await;
        (reserved <= 2048).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_context_length_is_read_from_the_server() {
    let upstream = Upstream::answering(|request| {
        if request.method == "GET" {
            Answer::json(&responses::models(2048))
        } else {
            Answer::json(&responses::chat(5, 3)).paced(Duration::ZERO)
        }
    })
    .await;
    let scripted = Upstream::scripted().await;
    let gate = Gate::builder()
        .manifests(provider("maxTokensPerDay: 1000000"))
        .manifests(gateway("callouts: { vllm-local: models-callouts }"))
        .upstream("vllm-local", &scripted)
        .upstream("models", &upstream)
        .start()
        .await;
    until("the filter has requested the models", async || {
        upstream.requests().iter().any(|request| request.path == "/v1/models" && request.method == "GET").then_some(())
    })
    .await;
    until_the_window_bounds(&gate, &scripted).await;
}

#[tokio::test]
async fn the_context_length_is_read_from_an_error() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000000"), &upstream).await;
    let asked = gate.chat(&ask(3000)).spawn_send();
    upstream.call().await.answer(Answer::error(400, &responses::too_long(2048, 3000, 5))).await;
    let refusal = asked.await.unwrap();
    assert_eq!(refusal.status, 400);
    assert_eq!(refusal.json(), responses::too_long(2048, 3000, 5));
    assert_eq!(gate.used().await, 0);
    until_the_window_bounds(&gate, &upstream).await;

    // A known context length bounds each prompt by itself, not all prompts of a request together.
    let prompts = vec![vec![1; 1000]; 10];
    let asked =
        gate.post("/v1/completions").json(&json!({ "model": MODEL, "prompt": prompts, "n": 2, "max_tokens": 100 })).spawn_send();
    let call = upstream.call().await;
    let reserved = gate.provider("vllm-local").await.reserved;
    assert!((12_000..12_200).contains(&reserved), "{reserved}");
    call.answer(Answer::json(&responses::completion(10_000, 2000))).await;
    asked.await.unwrap().ok();
    assert_eq!(gate.used().await % 8, 12_000 % 8);
}

#[tokio::test]
async fn an_error_about_an_injected_limit_is_not_forwarded() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerRequest: 3000"), &upstream).await;
    let other = json!({ "error": { "message": "temperature must be non-negative", "type": "BadRequestError", "param": null, "code": 400 } });
    let asked = gate.chat(&without_limit()).spawn_send();
    let call = upstream.call().await;
    assert!(call.request.json()["max_tokens"].as_u64().unwrap() > 2048, "the context length is not known yet");
    call.answer(Answer::error(400, &other)).await;
    let refusal = asked.await.unwrap();
    assert_eq!((refusal.status, refusal.json()), (400, other), "what is not about the limit passes");

    let asked = gate.chat(&without_limit()).spawn_send();
    let call = upstream.call().await;
    let forwarded = call.request.json()["max_tokens"].as_u64().unwrap();
    call.answer(Answer::error(400, &responses::too_long(2048, forwarded, 5))).await;
    let refusal = asked.await.unwrap();
    refusal.refused(503, "server_error", "upstream_unavailable");
    assert_eq!((refusal.header("x-should-retry"), refusal.header("retry-after")), (Some("true"), Some("1")));

    // Trailers also end a request. (Another model, whose context length is unknown.)
    let other = json!({ "model": "another", "messages": [{ "role": "user", "content": "Hi" }] });
    let asked = gate.chat(&other).spawn_send();
    let mut call = upstream.call().await;
    call.start(400, "application/json").await.chunk(responses::too_long(2048, 2900, 5).to_string()).await;
    call.end_with_trailer("x-end", "yes").await;
    asked.await.unwrap().refused(503, "server_error", "upstream_unavailable");

    until("every worker knows the context length", async || {
        let asked = gate.chat(&without_limit()).spawn_send();
        let call = upstream.call().await;
        let forwarded = call.request.json();
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        asked.await.unwrap().ok();
        (forwarded == without_limit()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn estimates_are_calibrated_by_reported_usage() {
    let text = "word ".repeat(200);
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": text }], "max_tokens": 10 });
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider(&format!("maxTokensPerDay: 1000000\nallowedModels: [{MODEL}]")), &upstream).await;
    let mut reserved = Vec::new();
    for _ in 0..40 {
        let asked = gate.chat(&body).spawn_send();
        let call = upstream.call().await;
        reserved.push(gate.provider("vllm-local").await.reserved);
        call.answer(Answer::json(&responses::chat(650, 10))).await;
        asked.await.unwrap().ok();
        gate.used().await;
    }
    let (first, last) = (reserved[0], reserved[39]);
    assert!((260..660).contains(&first), "not calibrated, by the kinds of the characters: {reserved:?}");
    assert!((660..900).contains(&last), "calibrated: {reserved:?}");
}

#[tokio::test]
async fn admitted_responses_report_what_remains() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000"), &upstream).await;
    for (round, stream) in [false, true].into_iter().enumerate() {
        let mut body = ask(100);
        body["stream"] = json!(stream);
        let asked = gate.chat(&body).spawn_stream();
        let mut call = upstream.call().await;
        let state = gate.provider("vllm-local").await;
        assert_eq!(state.used_today, round as u64 * 8);
        call.start(200, if stream { "text/event-stream" } else { "application/json" }).await;
        if stream {
            call.chunk(responses::stream(&["a", "b", "c"], 5, true).concat()).await;
        } else {
            call.chunk(responses::chat(5, 3).to_string()).await;
        }
        let answer = asked.await.unwrap();
        let value = |name: &str| answer.headers[name].to_str().unwrap();
        assert_eq!(value("x-ratelimit-limit-tokens"), "1000");
        let remaining = 1000 - state.used_today - state.reserved;
        assert_eq!(value("x-ratelimit-remaining-tokens"), remaining.to_string());
        let reset = go_seconds(value("x-ratelimit-reset-tokens"));
        assert!((reset - seconds_to_midnight() as f64).abs() <= 2.0, "{reset}");
        call.end().await;
        answer.rest().await.ok();
        assert_eq!(gate.used().await, (round as u64 + 1) * 8);
    }
    let unbounded = Gate::start(provider(""), &upstream).await;
    let asked = unbounded.chat(&ask(100)).spawn_send();
    upstream.call().await.answer(Answer::json(&responses::chat(5, 3))).await;
    let reply = asked.await.unwrap();
    assert!(reply.ok().headers.keys().all(|name| !name.as_str().starts_with("x-ratelimit-")), "{}", reply.describe());
}

#[tokio::test]
async fn each_provider_has_its_own_budget() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 95))).await;
    let gate = Gate::builder()
        .manifests(provider("maxTokensPerDay: 100"))
        .manifests(named_provider("second", "maxTokensPerDay: 1000"))
        .upstream("vllm-local", &upstream)
        .upstream("second", &upstream)
        .start()
        .await;
    let on = |name: &str| gate.chat(&json!({ "model": format!("{name}/{MODEL}"), "messages": [], "max_tokens": 50 }));
    on("vllm-local").send().await.ok();
    gate.used().await;
    on("vllm-local").send().await.refused(429, "insufficient_quota", "insufficient_quota");
    on("second").send().await.ok();
    let second = until("the second is settled", async || Some(gate.provider("second").await).filter(|state| state.reserved == 0));
    assert_eq!(second.await.used_today, 100);
}

#[tokio::test]
async fn a_budget_outlives_a_reload() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 95))).await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000"), &upstream).await;
    gate.chat(&ask(100)).send().await.ok();
    assert_eq!(gate.used().await, 100);
    gate.reconfigure(provider("maxTokensPerDay: 120")).await.unwrap();
    until("the new cap is in force", async || (gate.provider("vllm-local").await.max_tokens_per_day == Some(120)).then_some(()))
        .await;
    assert_eq!(gate.used().await, 100);
    gate.chat(&ask(50)).send().await.refused(429, "insufficient_quota", "insufficient_quota");
}

/// The kinds of the concurrent requests, by their `seed`.
fn kind(seed: u64) -> &'static str {
    ["whole", "stream", "aborted"][seed as usize % 3]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_holds_under_fifty_concurrent_requests() {
    const CAP: u64 = 4000;
    const PAUSE: Duration = Duration::from_millis(20);
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let upstream = Upstream::answering(move |request| {
        let words = ["a"; 10];
        match kind(request.json()["seed"].as_u64().unwrap()) {
            "whole" => {
                counted.fetch_add(29, Ordering::Relaxed);
                let body = responses::chat(9, 20).to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
                Answer::raw_chunks([head.into_bytes(), body.into_bytes()]).paced(PAUSE * 5)
            }
            "stream" => {
                counted.fetch_add(19, Ordering::Relaxed);
                Answer::stream(responses::stream(&words, 9, true)).paced(PAUSE)
            }
            // Three words, and then nothing until the client disconnects.
            _ => {
                counted.fetch_add(12, Ordering::Relaxed);
                Answer::stream(&responses::stream(&words, 9, true)[..4]).paced(PAUSE).then_hang()
            }
        }
    })
    .await;
    let gate = Arc::new(Gate::start(provider(&format!("maxTokensPerDay: {CAP}")), &upstream).await);

    let over = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn({
        let (gate, over) = (Arc::clone(&gate), Arc::clone(&over));
        async move {
            let mut samples = 0;
            while !over.load(Ordering::Relaxed) {
                let state = gate.provider("vllm-local").await;
                assert!(state.used_today + state.reserved <= CAP, "{state:?}");
                samples += 1;
            }
            samples
        }
    });

    let asks = (0..50_u64).map(|seed| {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            let mut body = ask(300);
            body["seed"] = json!(seed);
            body["stream"] = json!(kind(seed) != "whole");
            let mut answer = gate.chat(&body).stream().await;
            if answer.status == 200 && kind(seed) == "aborted" {
                for _ in 0..4 {
                    answer.event().await.unwrap();
                }
                answer.abort().await;
                return 200;
            }
            let reply = answer.rest().await;
            if reply.status != 200 {
                reply.refused(429, "tokens", "rate_limit_exceeded");
            }
            reply.status
        })
    });
    let mut admitted = 0;
    for asked in asks.collect::<Vec<_>>() {
        admitted += u64::from(asked.await.unwrap() == 200);
    }
    assert_eq!(gate.used().await, sent.load(Ordering::Relaxed));
    over.store(true, Ordering::Relaxed);
    assert!(watcher.await.unwrap() > 20);
    assert!((8..40).contains(&admitted), "{admitted} of 50 were admitted");
    assert_eq!(upstream.requests().len() as u64, admitted);
}
