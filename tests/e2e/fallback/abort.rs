//! Clients that disconnect while the gateway retries a request at the next provider.

use std::time::Duration;

use e2e::harness::{Upstream, until};
use serde_json::{Value, json};

use crate::fixtures::{OPENAI, Scene, SceneBuilder, VLLM, chat_body};

/// Longer than any test; Envoy's back-off is random below this value.
const LONG: Duration = Duration::from_secs(3600);

async fn logged(scene: &Scene) {
    scene.gate.access_log(|line| line["path"] == "/v1/chat/completions").await;
}

/// Sends a chat on a connection that the test can reset.
pub async fn sent(scene: &Scene, body: &Value) -> e2e::harness::Raw {
    let body = body.to_string();
    let mut raw = scene.gate.raw().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gate.test\r\ncontent-type: application/json\r\n{}: {}\r\ncontent-length: {}\r\n\r\n",
        crate::fixtures::IDENTITY,
        crate::fixtures::RESEARCHER,
        body.len()
    );
    raw.write(head + &body).await;
    raw
}

/// Between two attempts no provider has the request, and none charges for it.
#[tokio::test]
async fn between_attempts() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with(|builder| builder.back_off(LONG)).start().await;
    let raw = sent(&scene, &chat_body(&VLLM, "vllm-local=503")).await;
    let retry =
        async || scene.gate.stats("cluster.vllm-local.retry.upstream_rq_completed").values().any(|count| *count == 1).then_some(());
    until("Envoy waits before it tries again", retry).await;
    raw.reset();
    logged(&scene).await;
    assert_eq!(scene.charges().await, [0, 0, 0]);
    assert_eq!(scene.request_counts(), [1, 0, 0]);
}

/// The second provider has received the complete prompt.
#[tokio::test]
async fn during_the_second_attempt() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with_upstream(&OPENAI, Upstream::scripted().await).start().await;
    let raw = sent(&scene, &chat_body(&VLLM, "vllm-local=503")).await;
    let call = scene.upstream(&OPENAI).call().await;
    raw.reset();
    call.aborted().await;
    logged(&scene).await;
    let [vllm, openai, anthropic] = scene.charges().await;
    assert!((20..200).contains(&openai), "{openai}");
    assert_eq!((vllm, anthropic), (0, 0));
    assert_eq!(scene.request_counts(), [1, 1, 0]);
}

#[tokio::test]
async fn during_the_first_attempt() {
    let scene = SceneBuilder::new().with_upstream(&VLLM, Upstream::scripted().await).start().await;
    let raw = sent(&scene, &chat_body(&VLLM, "")).await;
    let call = scene.upstream(&VLLM).call().await;
    raw.reset();
    call.aborted().await;
    logged(&scene).await;
    let [vllm, openai, anthropic] = scene.charges().await;
    assert!((20..200).contains(&vllm), "{vllm}");
    assert_eq!((openai, anthropic), (0, 0));
    assert_eq!(scene.request_counts(), [1, 0, 0]);
}

/// A stream that the client aborts is charged to its provider.
#[tokio::test]
async fn in_the_middle_of_a_stream_of_the_second() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with_upstream(&OPENAI, Upstream::scripted().await).start().await;
    let mut body = chat_body(&VLLM, "vllm-local=503");
    body["stream"] = json!(true);
    let asked = scene.gate.chat(&body).spawn_stream();
    let mut call = scene.upstream(&OPENAI).call().await;
    call.start_stream()
        .await
        .chunk(e2e::harness::responses::role(None))
        .await
        .chunk(e2e::harness::responses::delta("one", None))
        .await;
    let mut stream = asked.await.unwrap();
    stream.event().await.unwrap();
    stream.event().await.unwrap();
    stream.abort().await;
    call.aborted().await;
    let [vllm, openai, anthropic] = scene.charges().await;
    assert!((20..200).contains(&openai), "{openai}");
    assert_eq!((vllm, anthropic), (0, 0));
    assert_eq!(scene.request_counts(), [1, 1, 0]);
}
