//! Operations: statistics, access log, log, and Envoy's own responses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant};

use e2e::harness::{Answer, Gate, GateBuilder, MODEL, Upstream, gateway, provider, responses, until};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello, world!" }], "max_tokens": 8 })
}

fn exact() -> String {
    provider(&format!("maxTokensPerDay: 1000\nallowedModels: [{MODEL}]"))
}

async fn upstream() -> Upstream {
    Upstream::answering(|request| match request.json()["stream"].as_bool() {
        Some(true) => Answer::stream(responses::stream(&["a", "b", "c"], 5, true)),
        _ => Answer::json(&responses::chat(5, 3)),
    })
    .await
}

// === statistics ===

/// Returns the filter's statistics whose names contain all of `parts`, in the Prometheus format: name with labels, and value.
fn numbers(gate: &Gate, parts: &[&str]) -> Vec<(String, f64)> {
    let text = gate.prometheus();
    let lines = text.lines().filter(|line| line.starts_with("pai_") && parts.iter().all(|part| line.contains(part)));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

async fn until_number(gate: &Gate, parts: &[&str], wanted: f64) {
    until(&format!("{parts:?} is {wanted}"), async || {
        numbers(gate, parts).iter().any(|(_, value)| (value - wanted).abs() < f64::EPSILON).then_some(())
    })
    .await;
}

#[tokio::test]
async fn statistics_have_one_prefix_and_count() {
    let upstream = upstream().await;
    let gate = Gate::start(exact(), &upstream).await;
    gate.chat(&hello()).send().await.ok();
    let mut stream = hello();
    stream["stream"] = json!(true);
    gate.chat(&stream).send().await.ok();
    gate.chat(&json!({ "model": "vllm-local/other", "messages": [] })).send().await.refused(
        403,
        "invalid_request_error",
        "model_not_allowed",
    );
    gate.post(CHAT).text("{").send().await.invalid_body(None);
    assert_eq!(gate.used().await, 16);

    let own = gate.stats("wasmcustom.");
    assert!(!own.is_empty());
    assert!(own.keys().all(|name| name.starts_with("wasmcustom.pai_") || name.starts_with("wasmcustom.pai.")), "{own:?}");
    let text = gate.prometheus();
    for (parts, wanted) in [
        (["requests", "vllm-local"].as_slice(), 2.0),
        (&["prompt_tokens", "vllm-local"], 10.0),
        (&["completion_tokens", "vllm-local"], 6.0),
        (&["budget", "limit", "vllm-local"], 1000.0),
        (&["budget", "used", "vllm-local"], 16.0),
        (&["budget", "reserved", "vllm-local"], 0.0),
    ] {
        until_number(&gate, parts, wanted).await;
    }
    for histogram in ["time_to_first_token", "time_per_output_token"] {
        until(&format!("{histogram} has observations"), async || {
            numbers(&gate, &[histogram, "_count"]).iter().any(|(_, count)| *count >= 1.0).then_some(())
        })
        .await;
    }
    assert!(!text.contains("other\""), "a model that is not configured names a statistic");
}

#[tokio::test]
async fn client_input_never_creates_a_statistic() {
    let upstream = upstream().await;
    let gate = Gate::start(provider("allowedModels: ['qwen/*']"), &upstream).await;
    for model in ["qwen/\u{22}x\u{22}", "qwen/a.b=c;d", "qwen/canary-1", "qwen/canary-2", "canary-3"] {
        gate.chat(&json!({ "model": model, "messages": [] })).send().await;
    }
    gate.get("/canary-4").send().await;
    until_number(&gate, &["requests", "qwen/*"], 4.0).await;
    assert!(!gate.prometheus().contains("canary") && gate.stats("canary").is_empty());
}

// === logs ===

#[tokio::test]
async fn the_access_log_has_the_filters_state() {
    let upstream = upstream().await;
    let gate = Gate::start(exact(), &upstream).await;
    gate.chat(&json!({ "model": format!("vllm-local/{MODEL}"), "messages": [], "max_tokens": 9 })).send().await.ok();
    let line = gate.access_log(|line| line["status"] == 200).await;
    assert_eq!((line["provider"].as_str(), line["model"].as_str()), (Some("vllm-local"), Some(MODEL)), "{line}");
    assert_eq!((line["prompt_tokens"].as_str(), line["completion_tokens"].as_str()), (Some("5"), Some("3")), "{line}");
    assert!(line["subject"].is_string(), "{line}");
    let admitted = line["decision"].clone();
    assert!(admitted.is_string(), "{line}");

    let mut stream = hello();
    stream["stream"] = json!(true);
    let mut answer = gate.chat(&stream).stream().await;
    answer.event().await.unwrap();
    answer.rest().await.ok();
    gate.access_log(|line| line["status"] == 200 && line["prompt_tokens"] == "5" && line["completion_tokens"] == "3").await;

    gate.chat(&json!({ "model": "vllm-local/other", "messages": [] })).send().await;
    let refused = gate.access_log(|line| line["status"] == 403).await;
    assert!(refused["decision"].is_string() && refused["decision"] != admitted, "{refused}");
}

#[tokio::test]
async fn neither_bodies_nor_keys_are_logged() {
    let upstream = Upstream::answering(|_| {
        let mut answer = responses::chat_of("canary-answer", responses::usage(5, 3));
        answer["usage"]["canary-usage"] = json!("x");
        Answer::json(&answer)
    })
    .await;
    let gate = Gate::builder()
        .manifests(provider("maxTokensPerDay: 1000\napiKeySecretRef: { name: vllm-token, key: api-key }"))
        .env("PAI_SECRET_VLLM_TOKEN_API_KEY", "canary-provider-key")
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let body =
        json!({ "model": MODEL, "messages": [{ "role": "user", "content": "canary-prompt" }], "max_tokens": 8, "canary-field": 1 });
    gate.chat(&body).header("authorization", "Bearer canary-caller-key").send().await.ok();
    gate.chat(&body).header("x-api-key", "pak_canary-access-key").send().await.refused(
        401,
        "invalid_request_error",
        "invalid_api_key",
    );
    for text in [body.to_string() + "canary-tail", body.to_string().replace("\"max_tokens\":8", "\"max_tokens\":\"canary-value\"")]
    {
        gate.post(CHAT).text(text).send().await.refused(400, "invalid_request_error", "invalid_body");
    }
    let refused = gate
        .reconfigure(provider("maxTokensPerDay: 1000\napiKeySecretRef: { name: vllm-token, key: api-key }\nmaxTokensPerRequest: 0"))
        .await;
    let log = refused.unwrap_err() + &gate.logs();
    assert!(!log.contains("canary"), "{log}");
    let lines = gate.access_lines();
    assert!(lines.iter().all(|line| !line.to_string().contains("canary")), "{lines:?}");
}

// === Envoy's own responses ===

fn gate_to(address: std::net::SocketAddr) -> GateBuilder {
    Gate::builder().manifests(provider("maxTokensPerDay: 1000")).address("vllm-local", address)
}

#[tokio::test]
async fn a_provider_that_is_down_is_unavailable() {
    let gate = gate_to(Upstream::unreachable_address().await).start().await;
    for request in [gate.chat(&hello()), gate.chat(&hello()).http2()] {
        request.send().await.refused(503, "server_error", "upstream_unavailable");
    }
    assert_eq!(gate.used().await, 0);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_in_time_is_a_timeout() {
    let upstream = Upstream::scripted().await;
    let gate = gate_to(upstream.address()).route_timeout(Duration::from_millis(300)).start().await;
    gate.chat(&hello()).send().await.refused(504, "server_error", "upstream_timeout");
    upstream.call().await.aborted().await;
    let used = gate.used().await;
    assert!((1..200).contains(&used), "{used}: it had the whole body");
}

#[tokio::test]
async fn a_provider_without_a_route_is_unavailable() {
    let gate = gate_to(Upstream::unreachable_address().await).without_route("vllm-local").start().await;
    let reply = gate.chat(&hello()).send().await;
    assert!([404, 503].contains(&reply.status), "{}", reply.describe());
    reply.refused(reply.status, "server_error", "upstream_unavailable");
    assert_eq!(gate.used().await, 0);
}

#[tokio::test]
async fn envoys_own_buffer_limit_answers_in_openais_shape() {
    let upstream = upstream().await;
    let gate = Gate::builder().manifests(exact()).buffer_limit(65_536).upstream("vllm-local", &upstream).start().await;
    let mut body = hello();
    body["x"] = json!("a".repeat(300_000));
    for request in [gate.chat(&body), gate.post(CHAT).chunked(body.to_string().as_bytes().chunks(9000))] {
        request.send().await.refused(413, "invalid_request_error", "request_too_large");
    }
    assert_eq!(gate.used().await, 0);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_vm_that_sees_odd_answers_of_envoy_goes_on() {
    let upstream = upstream().await;
    let gate = Gate::start(exact(), &upstream).await;
    let grpc = gate.post(CHAT).header("content-type", "application/grpc").body(hello().to_string()).send().await;
    assert!([200, 400].contains(&grpc.status), "{}", grpc.describe());
    gate.chat(&hello()).send().await.ok();
}

// === incomplete requests ===

/// Longer than the documented thirty seconds.
const SLOW: Duration = Duration::from_secs(45);

/// Slow: the documented time is thirty seconds.
#[tokio::test]
async fn a_request_whose_body_never_comes_is_answered() {
    let upstream = upstream().await;
    let gate = Gate::start(exact(), &upstream).await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n");
    let start = Instant::now();
    let mut raw = gate.raw().await;
    raw.write(&head).await;
    raw.reply_within(SLOW).await.unwrap().refused(408, "invalid_request_error", "request_timeout");
    let waited = start.elapsed();
    assert!((Duration::from_secs(29)..Duration::from_secs(40)).contains(&waited), "{waited:?}");
    assert_eq!(gate.used().await, 0);
}

/// Slow as well, and run at the same time.
#[tokio::test]
async fn a_missing_flag_is_named() {
    let upstream = upstream().await;
    let gate = Gate::builder().manifests(exact()).without_stop_iteration().upstream("vllm-local", &upstream).start().await;
    let asked: Vec<_> = (0..4).map(|_| gate.chat(&hello()).timeout(SLOW).spawn_send()).collect();
    for reply in asked {
        reply.await.unwrap().refused(408, "invalid_request_error", "request_timeout");
    }
    let log = gate.logs();
    let lines = log.lines().filter(|line| line.contains("allow_on_headers_stop_iteration")).count();
    assert!((1..=2).contains(&lines), "once per worker:\n{log}");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_body_that_is_slow_but_comes_is_not_answered_early() {
    let upstream = upstream().await;
    let gate = Gate::start(exact() + &gateway("maxRequestBytes: 1000"), &upstream).await;
    let body = hello().to_string();
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut raw = gate.raw().await;
    raw.write(&head).await;
    for piece in body.as_bytes().chunks(body.len() / 3 + 1) {
        gate.get("/v1/models").send().await.ok();
        raw.write(piece).await;
    }
    raw.reply().await.unwrap().ok();
}
