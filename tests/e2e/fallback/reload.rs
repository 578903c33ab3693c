//! A new configuration while requests are in progress: each attempt uses the configuration under which its request was admitted.

use e2e::harness::Upstream;

use crate::fixtures::{ANTHROPIC, OPENAI, SceneBuilder, VLLM, assert_served};

#[tokio::test]
async fn a_request_keeps_its_policy() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with_upstream(&VLLM, Upstream::scripted().await).start().await;
    let asked = scene.chat("").spawn_send();
    let call = scene.upstream(&VLLM).call().await;
    let without = SceneBuilder::new().models(&[&VLLM, &ANTHROPIC]).manifests();
    scene.gate.reconfigure(without).await.unwrap();
    call.answer(VLLM.failing(503)).await;
    assert_served(&asked.await.unwrap(), &OPENAI);

    let asked = scene.chat("").spawn_send();
    scene.upstream(&VLLM).call().await.answer(VLLM.failing(503)).await;
    assert_served(&asked.await.unwrap(), &ANTHROPIC);
    assert_eq!(scene.charges().await, [0, OPENAI.tokens(), ANTHROPIC.tokens()]);
}

/// After a reset of the first attempt, only the attempt's end is reported to the filter.
#[tokio::test]
async fn after_a_reset_too() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with_upstream(&VLLM, Upstream::scripted().await).start().await;
    let asked = scene.chat("").spawn_send();
    let call = scene.upstream(&VLLM).call().await;
    scene.gate.reconfigure(SceneBuilder::new().models(&[&VLLM]).manifests()).await.unwrap();
    call.reset();
    assert_served(&asked.await.unwrap(), &OPENAI);
    let [estimate, openai, _] = scene.charges().await;
    assert!((20..200).contains(&estimate), "{estimate}");
    assert_eq!(openai, OPENAI.tokens());
}

/// The new configuration does not contain the provider that serves the request.
#[tokio::test]
async fn a_removed_provider_serves_what_it_had_started() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with_upstream(&VLLM, Upstream::scripted().await).start().await;
    let asked = scene.chat("").spawn_send();
    let call = scene.upstream(&VLLM).call().await;
    let all = SceneBuilder::new().models(&[&VLLM, &ANTHROPIC]).manifests();
    let openai = all.split("---\n").find(|manifest| manifest.contains("name: openai }\nspec")).unwrap().to_owned();
    scene.gate.reconfigure(all.replace(&openai, "")).await.unwrap();
    call.answer(VLLM.failing(503)).await;
    assert_served(&asked.await.unwrap(), &OPENAI);
}

#[tokio::test]
async fn a_refused_configuration_changes_nothing() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().start().await;
    scene.gate.reconfigure("kind: Nothing").await.unwrap_err();
    assert_served(&scene.ask("vllm-local=503").await, &OPENAI);
}
