//! Which providers are candidates for a request, and in which order.

use e2e::harness::until;
use serde_json::json;

use crate::fixtures::{
    ANTHROPIC, OPENAI, PROVIDERS, SceneBuilder, TestProvider, VLLM, assert_failed, assert_served, chat_body, scene,
};

const CAP: &str = "maxTokensPerDay: 1000000";

#[tokio::test]
async fn the_named_one_comes_first_and_then_the_agents_order() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    assert_served(&scene.ask_with(&OPENAI, "openai=503").await, &VLLM);
    assert_served(&scene.ask_with(&OPENAI, "openai=503 vllm-local=503").await, &ANTHROPIC);
    assert_served(&scene.ask_with(&ANTHROPIC, "anthropic=503").await, &VLLM);
    assert_served(&scene.ask_with(&ANTHROPIC, "anthropic=503 vllm-local=reset").await, &OPENAI);
    assert_failed(&scene.ask_with(&OPENAI, "openai=503 vllm-local=503 anthropic=502").await, &ANTHROPIC, 502);
    assert_eq!(scene.request_counts(), [5, 4, 4]);
}

#[tokio::test]
async fn no_more_attempts_than_allowed() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    for (most, asked) in [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (9, [1, 1, 1])] {
        scene.reconfigure(&SceneBuilder::new().settings(&format!("maxAttempts: {most}"))).await;
        let last = asked.iter().sum::<usize>() - 1;
        let asking = async {
            let reply = scene.ask("vllm-local=503 openai=502 anthropic=429").await;
            assert_failed(&reply, PROVIDERS[last], [503, 502, 429][last]);
        };
        assert_eq!(scene.requests_during(asking).await, asked);
    }
}

/// After a reset there is no response for the client, whatever the route does with a request without a destination.
#[tokio::test]
async fn no_more_attempts_than_allowed_after_resets() {
    e2e::needs!(ClusterRefresh);
    for dead_end in [true, false] {
        let staging = SceneBuilder::new().settings("maxAttempts: 2");
        let staging = staging.with(|builder| if dead_end { builder } else { builder.without_no_match_cluster() });
        let scene = staging.start().await;
        let reply = scene.ask("vllm-local=reset openai=reset").await;
        reply.refused(503, "server_error", "upstream_unavailable");
        assert_eq!(scene.request_counts(), [1, 1, 0], "with dead end: {dead_end}");
    }
}

/// A candidate whose own rules reject the request is skipped.
#[tokio::test]
async fn a_provider_that_may_not_serve_is_skipped() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    for rule in [
        "deniedModels: [gpt-5-mini]",
        "allowedModels: [gpt-5]",
        "maxTokensPerRequest: 8",
        "guards: [{ name: words, type: pattern, deny: ['forbidden'] }]",
    ] {
        scene.reconfigure(&SceneBuilder::new().spec(&OPENAI, &format!("{CAP}\n{rule}"))).await;
        let asking = async { assert_served(&scene.ask("a forbidden word vllm-local=503").await, &ANTHROPIC) };
        assert_eq!(scene.requests_during(asking).await, [1, 0, 1], "{rule}");
    }
    assert_eq!(scene.charges().await, [0, 0, 4 * ANTHROPIC.tokens()]);
}

#[tokio::test]
async fn a_guard_that_only_audits_skips_no_provider() {
    e2e::needs!(ClusterRefresh);
    let guard = "guards: [{ name: words, type: pattern, action: audit, deny: ['forbidden'] }]";
    let scene = SceneBuilder::new().spec(&OPENAI, &format!("{CAP}\n{guard}")).start().await;
    assert_served(&scene.ask("a forbidden word vllm-local=503").await, &OPENAI);
}

/// A request that the named provider rejects is not sent to another.
#[tokio::test]
async fn a_rejection_by_the_named_provider_is_final() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    for (rule, status, code) in [
        ("deniedModels: ['meta-llama/*']", 403, "model_not_allowed"),
        ("maxTokensPerRequest: 8", 400, "context_length_exceeded"),
        ("guards: [{ name: words, type: pattern, deny: ['forbidden'] }]", 403, "prompt_rejected"),
    ] {
        scene.reconfigure(&SceneBuilder::new().spec(&VLLM, &format!("{CAP}\n{rule}"))).await;
        let asking = async {
            scene.ask("a forbidden word").await.refused(status, "invalid_request_error", code);
            assert_served(&scene.ask_with(&OPENAI, "a forbidden word openai=503").await, &ANTHROPIC);
        };
        assert_eq!(scene.requests_during(asking).await, [0, 1, 1], "{rule}");
    }
}

#[tokio::test]
async fn only_the_agents_own_models_are_tried() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().models(&[&ANTHROPIC, &VLLM]).start().await;
    assert_served(&scene.ask("vllm-local=503").await, &ANTHROPIC);
    assert_failed(&scene.ask("vllm-local=503 anthropic=502").await, &ANTHROPIC, 502);
    assert_eq!(scene.request_counts(), [2, 0, 2]);
}

#[tokio::test]
async fn an_agent_with_one_model_has_one_candidate() {
    let scene = SceneBuilder::new().models(&[&VLLM]).start().await;
    assert_failed(&scene.ask("vllm-local=503").await, &VLLM, 503);
    scene.ask("vllm-local=reset").await.refused(503, "server_error", "upstream_unavailable");
    assert_eq!(scene.request_counts(), [2, 0, 0]);
    scene.exhaust(&VLLM).await;
    scene.ask("").await.quota_exhausted();
}

/// A bare model id also selects a reference.
#[tokio::test]
async fn a_bare_model_id_falls_back_as_well() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    let mut body = chat_body(&OPENAI, "openai=503");
    body["model"] = json!(OPENAI.model);
    assert_served(&scene.send(scene.gate.chat(&body)).await, &VLLM);
    assert_eq!(asked_models(&scene, &VLLM).await, [VLLM.model]);
}

async fn asked_models(scene: &crate::fixtures::Scene, member: &TestProvider) -> Vec<String> {
    until("the provider received the request", async || {
        let requests = scene.upstream(member).requests();
        let models = requests.iter().map(|request| request.json()["model"].as_str().unwrap().to_owned());
        (!requests.is_empty()).then(|| models.collect())
    })
    .await
}
