//! Providers that fail several times in a row enter a cooldown, and are tried again later.

use e2e::harness::EnvoyFeature::ClusterRefresh;
use e2e::harness::until;

use crate::fixtures::{ANTHROPIC, OPENAI, SceneBuilder, VLLM, assert_failed, assert_served, scene};

/// The number of consecutive failures that start a cooldown, and the number of workers.
const FAILURES: usize = 5;
const WORKERS: usize = 2;

#[tokio::test]
async fn a_failing_provider_cools_down_and_is_tried_again() {
    e2e::needs!(ClusterRefresh);
    for wish in ["503", "reset"] {
        let scene = scene().await;
        for _ in 0..40 {
            assert_served(&scene.ask(&format!("vllm-local={wish}")).await, &OPENAI);
        }
        let [vllm, openai, _] = scene.request_counts();
        assert!((FAILURES..=FAILURES * WORKERS).contains(&vllm), "{vllm} requests to a provider that fails");
        assert_eq!(openai, 40);
        scene.gate.access_log(|line| line["attempts"] == "vllm-local=cooldown" && line["tries"] == 1).await;
        let again = async || {
            let reply = scene.ask("").await;
            (reply.ok().header("x-pai-provider") == Some(VLLM.name)).then_some(())
        };
        until("it is tried again", again).await;
    }
}

#[tokio::test]
async fn an_unreachable_provider_cools_down_too() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    scene.upstream(&VLLM).stop().await;
    for _ in 0..20 {
        assert_served(&scene.ask("").await, &OPENAI);
    }
    scene.gate.access_log(|line| line["attempts"] == "vllm-local=cooldown").await;
    let failures = scene.gate.stats("cluster.vllm-local.upstream_cx_connect_fail").into_values().sum::<u64>();
    assert!(failures <= (FAILURES * WORKERS) as u64, "{failures}");
}

/// A cooldown rejects nothing: a request without another candidate is still sent to the provider.
#[tokio::test]
async fn a_provider_in_cooldown_serves_if_it_is_the_only_candidate() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().models(&[&VLLM, &OPENAI]).start().await;
    for _ in 0..20 {
        assert_served(&scene.ask("vllm-local=503").await, &OPENAI);
    }
    scene.gate.access_log(|line| line["attempts"] == "vllm-local=cooldown").await;
    scene.exhaust(&OPENAI).await;
    assert_served(&scene.ask("").await, &VLLM);
}

/// Client errors do not count as failures of the provider.
#[tokio::test]
async fn a_bad_request_starts_no_cooldown() {
    let scene = scene().await;
    for _ in 0..15 {
        assert_failed(&scene.ask("vllm-local=400").await, &VLLM, 400);
    }
    assert_eq!(scene.request_counts(), [15, 0, 0]);
    if ClusterRefresh.is_supported() {
        assert_served(&scene.ask("vllm-local=503 openai=503").await, &ANTHROPIC);
    }
}
