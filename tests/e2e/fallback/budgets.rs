//! Requests that are sent to another provider because a budget is exhausted, and errors when all are.

use e2e::harness::{RateLimit, Upstream, until};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::fixtures::{
    ANTHROPIC, CAP, OPENAI, Scene, SceneBuilder, TestProvider, VLLM, assert_failed, assert_served, chat_body, scene,
};

/// Starts a chat that reserves nearly all of its provider's budget. No other provider can serve it.
async fn reserve(scene: &Scene, member: &TestProvider) -> JoinHandle<e2e::harness::Reply> {
    let mut body = chat_body(member, &format!("{}=hang", member.name));
    body["max_tokens"] = json!(CAP - 400);
    let asked = scene.upstream(member).requests().len();
    let sent = scene.gate.chat(&body).spawn_send();
    until("the request is on its way", async || (scene.upstream(member).requests().len() > asked).then_some(())).await;
    sent
}

/// A chat that does not fit beside [`reserve`].
fn large(member: &TestProvider) -> serde_json::Value {
    let mut body = chat_body(member, "");
    body["max_tokens"] = json!(1000);
    body
}

#[tokio::test]
async fn an_exhausted_provider_is_skipped() {
    let scene = scene().await;
    scene.exhaust(&VLLM).await;
    let reply = scene.ask("").await;
    assert_served(&reply, &OPENAI);
    assert_eq!(scene.request_counts(), [1, 1, 0]);
    let line = scene.gate.access_log(|line| line["provider"] == OPENAI.name).await;
    assert_eq!((&line["attempts"], &line["tries"]), (&json!("vllm-local=exhausted"), &json!(1)));
    // The remaining tokens are those of the provider that serves.
    let left = RateLimit { limit: CAP, remaining: CAP, reset: 0.0 };
    assert_eq!(reply.rate_limit("tokens").unwrap().limit, left.limit);
    assert!(reply.rate_limit("tokens").unwrap().remaining > CAP / 2);

    scene.exhaust(&OPENAI).await;
    assert_served(&scene.ask("").await, &ANTHROPIC);
    assert_eq!(scene.request_counts(), [1, 2, 1]);
    let [_, _, anthropic] = scene.charges().await;
    assert_eq!(anthropic, ANTHROPIC.tokens());
}

#[tokio::test]
async fn an_exhausted_provider_is_skipped_after_a_failure() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    scene.exhaust(&OPENAI).await;
    assert_served(&scene.ask("vllm-local=503").await, &ANTHROPIC);
    assert_eq!(scene.request_counts(), [1, 1, 1]);
    assert_eq!(scene.logged("attempts", |line| line["provider"] == ANTHROPIC.name).await, "vllm-local=503,openai=exhausted");
}

#[tokio::test]
async fn all_are_exhausted() {
    let scene = scene().await;
    for member in [&VLLM, &OPENAI, &ANTHROPIC] {
        scene.exhaust(member).await;
    }
    scene.ask("").await.quota_exhausted();
    scene.ask_with(&OPENAI, "").await.quota_exhausted();
    assert_eq!(scene.request_counts(), [1, 1, 1]);
}

#[tokio::test]
async fn one_is_only_reserved() {
    let scene = scene().await;
    scene.exhaust(&VLLM).await;
    scene.exhaust(&ANTHROPIC).await;
    let waiting = reserve(&scene, &OPENAI).await;
    for member in [&VLLM, &OPENAI, &ANTHROPIC] {
        scene.send(scene.gate.chat(&large(member))).await.rate_limited("tokens");
    }
    assert_eq!(scene.request_counts(), [1, 1, 1]);
    waiting.abort();
}

#[tokio::test]
async fn a_reserved_provider_is_skipped() {
    let scene = scene().await;
    let waiting = reserve(&scene, &VLLM).await;
    let reply = scene.send(scene.gate.chat(&large(&VLLM))).await;
    assert_served(&reply, &OPENAI);
    assert_eq!(scene.logged("attempts", |line| line["provider"] == OPENAI.name).await, "vllm-local=reserved");
    waiting.abort();
}

/// The agent's own budget limits it at every provider.
#[tokio::test]
async fn an_exhausted_agent_is_rejected_at_every_provider() {
    let scene = SceneBuilder::new().agent("maxTokensPerDay: 1000").start().await;
    scene.ask("vllm-local=exhaust").await.ok();
    scene.charges().await;
    let reply = scene.ask("").await;
    reply.quota_exhausted();
    assert!(reply.message().contains("researcher"), "{}", reply.message());
    assert_eq!(scene.request_counts(), [1, 0, 0]);
}

/// The agent's budget holds one reservation per request, whichever provider is tried.
#[tokio::test]
async fn the_agents_budget_is_not_reserved_twice() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().agent("maxTokensPerDay: 300").start().await;
    let mut body = chat_body(&VLLM, "vllm-local=503 openai=503");
    body["max_tokens"] = json!(160);
    assert_served(&scene.send(scene.gate.chat(&body)).await, &ANTHROPIC);
    assert_eq!(scene.charges().await, [0, 0, ANTHROPIC.tokens()]);
}

/// A candidate is left when the first attempt starts, and none when it fails.
#[tokio::test]
async fn the_others_are_exhausted_during_the_first_attempt() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with_upstream(&VLLM, Upstream::scripted().await).start().await;
    let first = scene.chat("").spawn_send();
    let call = scene.upstream(&VLLM).call().await;
    let second = scene.chat("").spawn_send();
    let another = scene.upstream(&VLLM).call().await;
    scene.exhaust(&OPENAI).await;
    scene.exhaust(&ANTHROPIC).await;
    call.answer(VLLM.failing(503)).await;
    assert_failed(&first.await.unwrap(), &VLLM, 503);
    another.reset();
    second.await.unwrap().refused(503, "server_error", "upstream_unavailable");
    assert_eq!(scene.request_counts(), [2, 1, 1]);
    assert_eq!(
        scene.logged("attempts", |line| line["details"] == "via_upstream" && line["status"] == 503).await,
        "vllm-local=503,openai=exhausted,anthropic=exhausted"
    );
}
