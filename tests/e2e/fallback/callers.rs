//! Callers without an agent's list have one candidate. A request that the server did not receive is retried there.

use std::time::Duration;

use e2e::harness::{Key, Request, until};

use crate::fixtures::{CAP, OPENAI, Scene, SceneBuilder, VLLM, assert_failed, assert_served};

fn alice() -> Key {
    Key::new("alice")
}

/// Two callers without fallback: their setup and their requests.
async fn scenes(with: impl Fn(SceneBuilder) -> SceneBuilder) -> [(Scene, Option<Key>); 2] {
    let open = format!("maxTokensPerDay: {CAP}\nexternalAccess: {{ enabled: true }}");
    let developers = SceneBuilder::new().spec(&VLLM, &open).spec(&OPENAI, &open).manifests_of(&alice().manifest(""));
    let anonymous = with(SceneBuilder::new().anonymous()).start().await;
    [(with(developers).start().await, Some(alice())), (anonymous, None)]
}

fn by(key: Option<&Key>, request: Request) -> Request {
    match key {
        Some(key) => request.key(key),
        None => request,
    }
}

#[tokio::test]
async fn they_have_one_candidate() {
    for (scene, key) in scenes(|staging| staging).await {
        let ask = async |wish: &str| scene.send(by(key.as_ref(), scene.chat(wish))).await;
        assert_served(&ask("").await, &VLLM);
        assert_failed(&ask("vllm-local=503").await, &VLLM, 503);
        assert_failed(&ask("vllm-local=429").await, &VLLM, 429);
        ask("vllm-local=401").await.refused(502, "server_error", "upstream_auth");
        ask("vllm-local=reset").await.refused(503, "server_error", "upstream_unavailable");
        assert_eq!(scene.request_counts(), [5, 0, 0]);
        let used = scene.gate.used().await;
        scene.upstream(&VLLM).stop().await;
        ask("").await.refused(503, "server_error", "upstream_unavailable");
        let line = scene.gate.access_log(|line| line["flags"].as_str().is_some_and(|flags| flags.contains("UF"))).await;
        assert!(line["tries"].as_u64().unwrap() > 1, "{line}");
        assert_eq!(scene.gate.used().await, used);
        scene.upstream(&VLLM).restart().await;
        ask("vllm-local=exhaust").await.ok();
        scene.gate.used().await;
        ask("").await.quota_exhausted();
        assert_eq!(scene.request_counts(), [6, 0, 0]);
    }
}

#[tokio::test]
async fn by_status_too() {
    for (scene, key) in scenes(|staging| staging.with(|builder| builder.retry_on_status())).await {
        assert_failed(&scene.send(by(key.as_ref(), scene.chat("vllm-local=503"))).await, &VLLM, 503);
        assert_eq!(scene.request_counts(), [1, 0, 0]);
    }
}

#[tokio::test]
async fn a_connection_that_fails_is_tried_again() {
    for (scene, key) in scenes(|staging| staging.with(|builder| builder.back_off(Duration::from_millis(300)))).await {
        scene.upstream(&VLLM).stop().await;
        let asked = by(key.as_ref(), scene.chat("")).spawn_send();
        let retry =
            async || scene.gate.stats("cluster.vllm-local.upstream_rq_retry").values().any(|count| *count > 0).then_some(());
        until("Envoy tries again", retry).await;
        scene.upstream(&VLLM).restart().await;
        assert_served(&asked.await.unwrap(), &VLLM);
        assert_eq!(scene.gate.used().await, VLLM.tokens());
    }
}
