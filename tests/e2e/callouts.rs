//! A callout in the middle of a held request, in a real Envoy with two workers. The module is the one with test hooks, whose
//! `x-test-callout: CLUSTER` makes the evaluation of a request wait for `GET /v1/models` through that cluster, at most 1 s.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use e2e::harness::{Answer, Gate, GateBuilder, MODEL, Request, Upstream, provider, responses};
use serde_json::{Value, json};

const CLUSTER: &str = "vllm-local-callouts";

fn hello() -> Value {
    json!({ "model": format!("vllm-local/{MODEL}"), "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 })
}

async fn upstream() -> Upstream {
    Upstream::answering(|request| match &*request.path {
        "/v1/models" => Answer::json(&json!({ "object": "list", "data": [] })),
        _ => Answer::json(&responses::chat(5, 3)),
    })
    .await
}

fn builder(upstream: &Upstream) -> GateBuilder {
    Gate::builder().manifests(provider("maxTokensPerDay: 1000")).upstream("vllm-local", upstream).with_test_hooks()
}

fn asking(request: Request) -> Request {
    request.header("x-test-callout", CLUSTER)
}

fn paths(upstream: &Upstream) -> Vec<String> {
    upstream.requests().iter().map(|request| request.path.clone()).collect()
}

#[tokio::test]
async fn a_request_goes_on_once_its_callout_is_answered() {
    let upstream = upstream().await;
    let gate = builder(&upstream).start().await;
    for request in [
        gate.chat(&hello()),
        gate.chat(&hello()).http2(),
        gate.chat(&hello()).http2().trailer("x-checksum", "1"),
        gate.post("/v1/chat/completions").chunked(hello().to_string().as_bytes().chunks(20)),
    ] {
        asking(request).send().await.ok();
    }
    assert_eq!(paths(&upstream), ["/v1/models", "/v1/chat/completions"].repeat(4));
    for request in upstream.requests().iter().filter(|request| request.path != "/v1/models") {
        assert_eq!(request.json()["model"], MODEL, "the body was rewritten after the callout");
    }
    assert_eq!(gate.used().await, 32);
}

#[tokio::test]
async fn a_refusal_after_a_callout_is_answered() {
    let upstream = upstream().await;
    let gate = builder(&upstream).start().await;
    let mut body = hello();
    (body["max_tokens"], body["n"]) = (json!(100_000), json!(4));
    asking(gate.chat(&body)).send().await.refused(400, "invalid_request_error", "context_length_exceeded");
    assert_eq!(paths(&upstream), ["/v1/models"]);
    assert_eq!(gate.used().await, 0);
}

#[tokio::test]
async fn with_fixed_routing_the_body_waits_for_the_callout() {
    let upstream = upstream().await;
    let gate = builder(&upstream).routing_fixed().start().await;
    asking(gate.chat(&hello())).send().await.ok();
    assert_eq!(gate.used().await, 8);
}

#[tokio::test]
async fn a_callout_without_an_answer_does_not_hold_a_request_for_ever() {
    let upstream = Upstream::scripted().await;
    let gate = builder(&upstream).start().await;
    let answer = asking(gate.chat(&hello())).spawn_send();
    let callout = upstream.call().await;
    assert_eq!(callout.request.path, "/v1/models");
    let chat = upstream.call().await;
    assert_eq!(chat.request.path, "/v1/chat/completions");
    chat.answer(Answer::json(&responses::chat(5, 3))).await;
    answer.await.unwrap().ok();
    drop(callout);
    assert_eq!(gate.used().await, 8);
}

#[tokio::test]
async fn an_unknown_cluster_holds_nothing_up() {
    let upstream = upstream().await;
    let gate = builder(&upstream).start().await;
    gate.chat(&hello()).header("x-test-callout", "nowhere").send().await.ok();
    assert_eq!(paths(&upstream), ["/v1/chat/completions"]);
}

#[tokio::test]
async fn a_client_that_leaves_during_a_callout_reserves_nothing() {
    let upstream = Upstream::scripted().await;
    let gate = builder(&upstream).start().await;
    let answer = asking(gate.chat(&hello())).timeout(Duration::from_millis(300)).spawn_send();
    let callout = upstream.call().await;
    answer.abort();
    let line = gate.access_log(|line| line["decision"] == "aborted").await;
    assert_eq!(line["provider"], Value::Null, "{line}");
    callout.answer(Answer::json(&json!({ "object": "list", "data": [] }))).await;
    assert_eq!((gate.used().await, gate.provider("vllm-local").await.reserved), (0, 0));
    let next = gate.chat(&hello()).spawn_send();
    let chat = upstream.call().await;
    assert_eq!(chat.request.path, "/v1/chat/completions", "the request of the client that has left goes nowhere");
    chat.answer(Answer::json(&responses::chat(5, 3))).await;
    next.await.unwrap().ok();
}
