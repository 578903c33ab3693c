//! Envoys that are misconfigured or too old: no provider receives another provider's key.

use crate::fixtures::{ANTHROPIC, OPENAI, SceneBuilder, VLLM, assert_failed, assert_served};

/// Before 1.39 Envoy retries at the same cluster, whatever the header contains. Scenes check which keys were sent.
#[tokio::test]
async fn an_envoy_that_retries_at_the_same_cluster() {
    for by_status in [false, true] {
        let staging = SceneBuilder::new().with(|builder| builder.without_cluster_refresh());
        let scene = staging.with(|builder| if by_status { builder.retry_on_status() } else { builder }).start().await;
        for wish in ["503", "reset"] {
            let before = scene.request_counts()[0];
            let reply = scene.ask(&format!("vllm-local={wish}")).await;
            if reply.header("x-pai-provider").is_some() {
                assert_failed(&reply, &VLLM, 503);
            } else {
                reply.refused(503, "server_error", "upstream_unavailable");
            }
            assert_eq!(scene.request_counts(), [before + 1, 0, 0], "{wish}");
        }
        assert_served(&scene.ask("").await, &VLLM);
        let [_, openai, anthropic] = scene.charges().await;
        assert_eq!((openai, anthropic), (0, 0));
    }
}

/// With one candidate, the same cluster is retried if the server did not receive the request.
#[tokio::test]
async fn an_envoy_that_retries_at_the_same_cluster_and_one_candidate() {
    let scene = SceneBuilder::new().models(&[&VLLM]).with(|builder| builder.without_cluster_refresh()).start().await;
    assert_served(&scene.ask("").await, &VLLM);
    assert_failed(&scene.ask("vllm-local=503").await, &VLLM, 503);
    assert_eq!(scene.request_counts(), [2, 0, 0]);
}

#[tokio::test]
async fn a_cluster_labelled_with_another_provider() {
    let scene = SceneBuilder::new().with(|builder| builder.labelled_as(VLLM.name, OPENAI.name)).start().await;
    for reply in [scene.ask("").await, scene.ask("vllm-local=503").await] {
        reply.refused(503, "server_error", "upstream_unavailable");
    }
    assert_eq!(scene.request_counts(), [0, 0, 0]);
    assert_served(&scene.ask_with(&OPENAI, "").await, &OPENAI);
    assert_eq!(scene.charges().await, [0, OPENAI.tokens(), 0]);
}

#[tokio::test]
async fn a_second_cluster_labelled_with_another_provider() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with(|builder| builder.labelled_as(OPENAI.name, VLLM.name)).start().await;
    scene.ask("vllm-local=503").await.refused(503, "server_error", "upstream_unavailable");
    assert_eq!(scene.request_counts(), [1, 0, 0]);
    assert_eq!(scene.charges().await, [0, 0, 0]);
}

/// A request with one candidate is rewritten by the gate filter, but not sent to a cluster labelled with another provider.
#[tokio::test]
async fn a_cluster_labelled_with_another_provider_and_one_candidate() {
    let staging = SceneBuilder::new().models(&[&ANTHROPIC]).with(|builder| builder.labelled_as(ANTHROPIC.name, OPENAI.name));
    let scene = staging.start().await;
    scene.ask_with(&ANTHROPIC, "").await.refused(503, "server_error", "upstream_unavailable");
    assert_eq!(scene.request_counts(), [0, 0, 0]);
    assert_eq!(scene.charges().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_second_provider_without_a_route() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with(|builder| builder.without_route(OPENAI.name)).start().await;
    let reply = scene.ask("vllm-local=503").await;
    reply.refused(503, "server_error", "upstream_unavailable");
    assert_eq!(scene.request_counts(), [1, 0, 0]);
    assert_eq!(scene.charges().await, [0, 0, 0]);
}
