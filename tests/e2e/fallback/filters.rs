//! Gateways with the attempt filter in none of their clusters, in some, or without effect.

use e2e::harness::EnvoyFeature::ClusterRefresh;
use e2e::harness::{Answer, Gate, MODEL, Upstream, provider, responses};
use serde_json::json;

use crate::fixtures::{OPENAI, SceneBuilder, VLLM, assert_failed, assert_served};

/// Fallback by budgets needs no attempt filter.
#[tokio::test]
async fn in_no_cluster() {
    let scene = SceneBuilder::new().with(|_| Gate::builder()).start().await;
    assert_served(&scene.ask("").await, &VLLM);
    assert_failed(&scene.ask("vllm-local=503").await, &VLLM, 503);
    scene.ask("vllm-local=reset").await.refused(503, "server_error", "upstream_unavailable");
    scene.exhaust(&VLLM).await;
    assert_served(&scene.ask("").await, &OPENAI);
    assert_eq!(scene.request_counts(), [4, 1, 0]);
}

/// Without the attempt filter the request is not rewritten for its provider, and the client receives an error. The request
/// contained no key. (For a single candidate, the gateway would have rewritten it.)
#[tokio::test]
async fn in_all_clusters_but_the_first() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().without_attempt_filter(&VLLM).start().await;
    scene.ask("").await.refused(503, "server_error", "upstream_unavailable");
    assert_served(&scene.ask_with(&OPENAI, "").await, &OPENAI);
    let [_, openai, anthropic] = scene.charges().await;
    assert_eq!((openai, anthropic), (OPENAI.tokens(), 0));
}

#[tokio::test]
async fn in_all_clusters_but_the_second() {
    let scene = SceneBuilder::new().without_attempt_filter(&OPENAI).start().await;
    for _ in 0..3 {
        let reply = scene.ask("vllm-local=503").await;
        if ClusterRefresh.is_supported() {
            reply.refused(503, "server_error", "upstream_unavailable");
        } else {
            assert_failed(&reply, &VLLM, 503);
        }
    }
    assert_served(&scene.ask("").await, &VLLM);
}

/// With fixed routing the headers are forwarded before the body, so the attempt filter does not hold them.
#[tokio::test]
async fn with_fixed_routing() {
    let upstream = Upstream::answering(|request| match request.json()["max_tokens"].as_u64() {
        Some(9) => Answer::error(503, &json!({ "error": "busy" })),
        _ => Answer::json(&responses::chat(5, 3)),
    })
    .await;
    let manifests = provider("maxTokensPerDay: 1000");
    let gate = Gate::builder().fallback().routing_fixed().manifests(manifests).upstream("vllm-local", &upstream).start().await;
    let body = |limit| json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": limit });
    for request in [gate.chat(&body(8)), gate.chat(&body(8)).http2()] {
        assert_eq!(request.send().await.ok().header("x-pai-provider"), Some("vllm-local"));
    }
    assert_eq!(gate.chat(&body(9)).send().await.status, 503);
    assert_eq!(upstream.requests().len(), 3);
    assert!(upstream.requests().iter().all(|request| request.headers.iter().all(|(name, _)| !name.starts_with("x-pai-"))));
    assert_eq!(gate.used().await, 16);
}
