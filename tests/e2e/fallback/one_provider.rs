//! Envoys that retry within one cluster only, as all before 1.39 do: a failure is retried with another model of the same provider.
//! Exhausted budgets and cooldowns still lead to other providers.

use std::time::Duration;

use e2e::harness::{EnvoyFeature, GateBuilder, Reply, envoy_version, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::abort::sent;
use crate::fixtures::{OPENAI, Scene, SceneBuilder, VLLM, assert_failed, assert_served, chat_body, check, scene};

/// The models of the first provider, in the agent's order.
const BIG: &str = "big";
const SMALL: &str = "small";

/// With the shipped route, and with one route per provider.
const ROUTES: [fn(GateBuilder) -> GateBuilder; 2] = [GateBuilder::without_cluster_refresh, GateBuilder::with_route_per_provider];

/// The agent may use two models of the first provider, and one model of each of the others.
fn two_models(route: impl Fn(GateBuilder) -> GateBuilder) -> SceneBuilder {
    SceneBuilder::new().with_models_first(&[BIG, SMALL]).with(route)
}

/// A chat that names the first model.
fn chat(text: &str) -> Value {
    let mut body = chat_body(&VLLM, text);
    body["model"] = json!(format!("{}/{BIG}", VLLM.name));
    body
}

async fn ask(scene: &Scene, text: &str) -> Reply {
    scene.send(scene.gate.chat(&chat(text))).await
}

/// Fails unless the second model has served the request.
#[track_caller]
fn served_by_small(reply: &Reply) {
    let by = (reply.ok().header("x-pai-provider"), reply.header("x-pai-model"));
    assert_eq!(by, (Some(VLLM.name), Some(SMALL)), "{}", reply.describe());
}

/// Returns the models of the requests to the first provider.
fn models(scene: &Scene) -> Vec<String> {
    scene.upstream(&VLLM).requests().iter().map(|request| request.json()["model"].as_str().unwrap().to_owned()).collect()
}

/// The filter reads Envoy's version and logs the result once.
#[tokio::test]
async fn the_missing_feature_is_logged_once() {
    let scene = scene().await;
    scene.gate.reconfigure(SceneBuilder::new().manifests()).await.unwrap();
    for _ in 0..8 {
        assert_served(&scene.ask("").await, &VLLM);
    }
    let (major, minor) = envoy_version();
    let message = format!("Envoy {major}.{minor} retries within one cluster only");
    let log = scene.gate.logs();
    let times = usize::from(!EnvoyFeature::ClusterRefresh.is_supported());
    assert_eq!((log.matches(&message).count(), log.matches("retries within one cluster only").count()), (times, times), "{log}");
}

#[tokio::test]
async fn a_failure_is_followed_by_another_model() {
    for route in ROUTES {
        for by_status in [false, true] {
            let staging = two_models(route).with(|builder| if by_status { builder.retry_on_status() } else { builder });
            let scene = staging.start().await;
            for wish in ["503", "429", "404"] {
                served_by_small(&ask(&scene, &format!("{BIG}={wish}")).await);
                let line = scene.gate.access_log(|line| line["attempts"] == format!("{}={wish}", VLLM.name)).await;
                assert_eq!((&line["model"], &line["tries"]), (&json!(SMALL), &json!(2)));
            }
            assert_eq!(scene.charges().await, [3 * VLLM.tokens(), 0, 0]);
            // The server may have been processing the request when the connection broke.
            served_by_small(&ask(&scene, &format!("{BIG}=reset")).await);
            let [both, openai, anthropic] = scene.charges().await;
            assert!((20..200).contains(&(both - 4 * VLLM.tokens())), "{both}");
            assert_eq!((openai, anthropic), (0, 0));
            assert_eq!(models(&scene), [BIG, SMALL].repeat(4));
        }
    }
}

#[tokio::test]
async fn and_by_no_other_provider() {
    for route in ROUTES {
        let scene = two_models(route).start().await;
        let reply = ask(&scene, &format!("{BIG}=503 {SMALL}=502")).await;
        if EnvoyFeature::ClusterRefresh.is_supported() {
            // The filter cannot detect that the route does not use the feature.
            reply.refused(503, "server_error", "upstream_unavailable");
        } else {
            assert_failed(&reply, &VLLM, 502);
        }
        ask(&scene, &format!("{BIG}=503 {SMALL}=reset")).await.refused(503, "server_error", "upstream_unavailable");
        let [estimate, openai, anthropic] = scene.charges().await;
        assert!((20..200).contains(&estimate), "{estimate}");
        assert_eq!((openai, anthropic), (0, 0));
        assert_eq!(scene.request_counts(), [4, 0, 0]);
    }
}

#[tokio::test]
async fn a_budget_leads_to_another_provider() {
    for route in ROUTES {
        let scene = SceneBuilder::new().with(route).start().await;
        scene.exhaust(&VLLM).await;
        assert_served(&scene.ask("").await, &OPENAI);
        assert_eq!(scene.logged("attempts", |line| line["provider"] == OPENAI.name).await, "vllm-local=exhausted");
        let reply = scene.ask("openai=503").await;
        if EnvoyFeature::ClusterRefresh.is_supported() {
            reply.refused(503, "server_error", "upstream_unavailable");
        } else {
            assert_failed(&reply, &OPENAI, 503);
        }
        assert_eq!(scene.request_counts(), [1, 2, 0]);
        let [_, openai, anthropic] = scene.charges().await;
        assert_eq!((openai, anthropic), (OPENAI.tokens(), 0));
    }
}

#[tokio::test]
async fn a_cooldown_leads_to_another_provider() {
    for route in ROUTES {
        let scene = SceneBuilder::new().with(route).start().await;
        let mut failures = 0;
        until("the first provider is in its cooldown in both workers", async || {
            let reply = scene.ask("vllm-local=503").await;
            if reply.status == 503 {
                failures += 1;
            } else {
                assert_served(&reply, &OPENAI);
            }
            (scene.request_counts()[1] >= 20).then_some(())
        })
        .await;
        assert!((5..=10).contains(&failures), "{failures}");
        assert_eq!(scene.request_counts(), [failures, 20, 0]);
        assert_eq!(scene.charges().await, [0, 20 * OPENAI.tokens(), 0]);
    }
}

#[tokio::test]
async fn no_provider_listens() {
    for route in ROUTES {
        // No other provider is a candidate for the retry.
        let scene = two_models(route).settings("maxAttempts: 2").start().await;
        scene.upstream(&VLLM).stop().await;
        ask(&scene, "").await.refused(503, "server_error", "upstream_unavailable");
        let line = scene.gate.access_log(|line| line["status"] == 503).await;
        assert_eq!(line["attempts"], format!("{}=connect", VLLM.name));
        assert_eq!(scene.charges().await, [0, 0, 0]);
        scene.upstream(&VLLM).restart().await;
        ask(&scene, "").await.ok();
    }
}

#[tokio::test]
async fn a_model_that_does_not_start_to_respond() {
    for route in ROUTES {
        let scene = two_models(route).with(|builder| builder.try_timeout(Duration::from_millis(300))).start().await;
        served_by_small(&ask(&scene, &format!("{BIG}=hang")).await);
        let [both, ..] = scene.charges().await;
        assert!((20..200).contains(&(both - VLLM.tokens())), "{both}");
    }
}

/// Each attempt receives the client's body unchanged, except for the model.
#[tokio::test]
async fn bodies_are_sent_again() {
    for route in ROUTES {
        // Without a cap, because each broken connection is charged the estimate.
        let scene = SceneBuilder::new().spec(&VLLM, "").with_models_first(&[BIG, SMALL]).with(route).start().await;
        for wish in ["503", "reset"] {
            for http2 in [false, true] {
                let text = chat(&format!("{BIG}={wish} {}", "lorem ".repeat(100_000))).to_string().replace(":8", " :\t8");
                let request = scene.gate.post("/v1/chat/completions").chunked([&text[..10], &text[10..300_000], &text[300_000..]]);
                let request = request.trailer("x-harmless", "1").trailer("authorization", "Bearer pak_no");
                served_by_small(&scene.send(if http2 { request.http2() } else { request }).await);
                for (model, request) in [SMALL, BIG].iter().zip(scene.upstream(&VLLM).requests().iter().rev()) {
                    assert!(request.body == text.replace(&format!("{}/{BIG}", VLLM.name), model).as_bytes(), "{model}");
                }
            }
        }
        assert_eq!(scene.request_counts(), [8, 0, 0]);
    }
}

#[tokio::test]
async fn a_client_that_leaves_the_second_model() {
    for route in ROUTES {
        let scene = two_models(route).start().await;
        let raw = sent(&scene, &chat(&format!("{BIG}=503 {SMALL}=hang"))).await;
        until("the second receives the request", async || (scene.request_counts()[0] == 2).then_some(())).await;
        raw.reset();
        scene.gate.access_log(|line| line["attempts"] == format!("{}=503", VLLM.name)).await;
        let [estimate, openai, anthropic] = scene.charges().await;
        assert!((20..200).contains(&estimate), "{estimate}");
        assert_eq!((openai, anthropic), (0, 0));
    }
}

/// Many concurrent requests, including streams: all are served, and each is charged its usage.
#[tokio::test]
async fn nothing_is_lost_and_nothing_counted_twice() {
    const CLIENTS: u64 = 80;
    for route in ROUTES {
        let scene = two_models(route).start().await;
        let mut asked = JoinSet::new();
        for number in 0..CLIENTS {
            let mut body = chat(&format!("{BIG}={}", [503, 429, 500, 401][number as usize % 4]));
            body["stream"] = json!(number % 3 == 0);
            let request = scene.gate.chat(&body);
            asked.spawn(if number % 2 == 0 { request.http2() } else { request }.send());
        }
        for reply in asked.join_all().await {
            check(&reply);
            served_by_small(&reply);
            assert!(!reply.cut);
        }
        assert_eq!(scene.charges().await, [CLIENTS * VLLM.tokens(), 0, 0]);
        let models = models(&scene);
        assert_eq!(models.iter().filter(|model| *model == SMALL).count() as u64, CLIENTS);
    }
}
