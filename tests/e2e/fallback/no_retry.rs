//! Envoy does not retry although the filter requested it, or gives up: the client receives the last response, with the right
//! provider's name, and the next candidate keeps no reservation.

use std::time::Duration;

use e2e::harness::{Answer, Upstream};
use serde_json::json;

use crate::fixtures::{OPENAI, Scene, SceneBuilder, VLLM, assert_failed, assert_served, chat_body};

async fn with(change: impl FnOnce(e2e::harness::GateBuilder) -> e2e::harness::GateBuilder) -> Scene {
    SceneBuilder::new().with(change).start().await
}

#[tokio::test]
async fn after_so_many_retries() {
    e2e::needs!(ClusterRefresh);
    let scene = with(|builder| builder.max_retries(1)).await;
    assert_failed(&scene.ask("vllm-local=503 openai=502").await, &OPENAI, 502);
    scene.ask("vllm-local=503 openai=reset").await.refused(503, "server_error", "upstream_unavailable");
    scene.ask("vllm-local=503 openai=401").await.refused(502, "server_error", "upstream_auth");
    let [vllm, openai, anthropic] = scene.charges().await;
    assert!((20..200).contains(&openai), "{openai}");
    assert_eq!((vllm, anthropic), (0, 0));
    assert_eq!(scene.request_counts(), [3, 3, 0]);
}

#[tokio::test]
async fn never() {
    let scene = with(|builder| builder.max_retries(0)).await;
    assert_failed(&scene.ask("vllm-local=429").await, &VLLM, 429);
    scene.ask("vllm-local=reset").await.refused(503, "server_error", "upstream_unavailable");
    let [vllm, openai, anthropic] = scene.charges().await;
    assert!((20..200).contains(&vllm), "{vllm}");
    assert_eq!((openai, anthropic), (0, 0));
    assert_eq!(scene.request_counts(), [2, 0, 0]);
}

#[tokio::test]
async fn with_a_body_larger_than_the_retry_buffer() {
    e2e::needs!(ClusterRefresh);
    let scene = with(|builder| builder.retry_buffer(10_000)).await;
    let long = format!("vllm-local=503 {}", "a".repeat(100_000));
    assert_failed(&scene.ask(&long).await, &VLLM, 503);
    assert_eq!(scene.request_counts(), [1, 0, 0]);
    assert_served(&scene.ask("vllm-local=503").await, &OPENAI);
    assert_eq!(scene.charges().await, [0, OPENAI.tokens(), 0]);
}

/// A provider may send a 100 response first, after which Envoy does not retry.
#[tokio::test]
async fn after_an_answer_that_goes_on() {
    let upstream = Upstream::answering(|_| {
        let body = VLLM.error(503).to_string();
        Answer::raw(format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    })
    .await;
    let scene = SceneBuilder::new().with_upstream(&VLLM, upstream).start().await;
    assert_failed(&scene.ask("").await, &VLLM, 503);
    assert_eq!(scene.charges().await, [0, 0, 0]);
    assert_eq!(scene.request_counts(), [1, 0, 0]);
}

#[tokio::test]
async fn where_the_first_circuit_is_open() {
    let scene = with(|builder| builder.circuit_open(VLLM.name)).await;
    scene.ask("").await.refused(503, "server_error", "upstream_unavailable");
    assert_eq!(scene.charges().await, [0, 0, 0]);
    assert_eq!(scene.request_counts(), [0, 0, 0]);
}

#[tokio::test]
async fn where_the_second_circuit_is_open() {
    e2e::needs!(ClusterRefresh);
    let scene = with(|builder| builder.circuit_open(OPENAI.name)).await;
    scene.ask("vllm-local=503").await.refused(503, "server_error", "upstream_unavailable");
    assert_eq!(scene.charges().await, [0, 0, 0]);
    assert_eq!(scene.request_counts(), [1, 0, 0]);
}

/// The whole request times out: the provider that has the prompt is charged for it.
#[tokio::test]
async fn in_the_end() {
    e2e::needs!(ClusterRefresh);
    let scene = with(|builder| builder.route_timeout(Duration::from_millis(400))).await;
    scene.ask("vllm-local=503 openai=hang").await.refused(504, "server_error", "upstream_timeout");
    let [vllm, openai, anthropic] = scene.charges().await;
    assert!((20..200).contains(&openai), "{openai}");
    assert_eq!((vllm, anthropic), (0, 0));
    assert_eq!(scene.request_counts(), [1, 1, 0]);
}

#[tokio::test]
async fn between_attempts() {
    e2e::needs!(ClusterRefresh);
    let scene = with(|builder| builder.route_timeout(Duration::from_millis(400)).back_off(Duration::from_secs(3600))).await;
    scene.ask("vllm-local=503").await.refused(504, "server_error", "upstream_timeout");
    assert_eq!(scene.charges().await, [0, 0, 0]);
    assert_eq!(scene.request_counts(), [1, 0, 0]);
}

/// If no remaining provider listens, none is charged.
#[tokio::test]
async fn where_no_remaining_provider_listens() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().start().await;
    scene.upstream(&OPENAI).stop().await;
    scene.upstream(&crate::fixtures::ANTHROPIC).stop().await;
    scene.ask("vllm-local=503").await.refused(503, "server_error", "upstream_unavailable");
    let mut body = chat_body(&VLLM, "vllm-local=503");
    body["stream"] = json!(true);
    scene.send(scene.gate.chat(&body).http2()).await.refused(503, "server_error", "upstream_unavailable");
    assert_eq!(scene.charges().await, [0, 0, 0]);
    assert_eq!(scene.request_counts(), [2, 0, 0]);
}
