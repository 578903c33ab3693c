//! Changes while requests run.

use std::process::Stdio;
use std::time::Duration;

use e2e::harness::{Answer, Upstream, responses};
use e2e::standin::{Options, StandIn};
use serde_json::json;

use super::{MODEL, Scene, manifest, provider};

/// Streams that run while the configuration changes.
const STREAMS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn no_change_cuts_a_stream() {
    let scene = Scene::start();
    let interval = Duration::from_millis(60);
    let vllm = StandIn::start(Options { tokens: 64, token_interval: interval, ..Options::default() }).await.unwrap();
    let other = StandIn::start(Options::default()).await.unwrap();
    scene.apply(&[provider("vllm-local", &vllm.url(), json!({ "maxTokensPerDay": 1_000_000 }))]);
    let model = format!("vllm-local/{MODEL}");
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let request = scene.chat(&model, json!({ "stream": true, "max_tokens": 64 }));
        streams.push(tokio::spawn(async move { request.send().await.unwrap().text().await }));
    }
    vllm.until(|counters| counters.in_flight >= STREAMS as u64).await;
    // Another cap, an agent with a fallback (which gives the provider's cluster an attempt filter), another provider, and none at all.
    let local = |cap: u64| provider("vllm-local", &vllm.url(), json!({ "maxTokensPerDay": cap }));
    let two = provider("other", &other.url(), json!({}));
    let agent =
        manifest("Agent", "a", json!({ "identities": ["x"], "models": [format!("vllm-local/{MODEL}"), format!("other/{MODEL}")] }));
    scene.apply(&[local(10)]);
    scene.apply(&[local(10), two, agent]);
    scene.shell.run("pai delete agent a && pai delete model-provider vllm-local");
    assert!(vllm.counters().in_flight > 0, "the changes came while streams ran");
    for stream in streams {
        let text = stream.await.unwrap().expect("the stream is not cut");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }
    vllm.idle().await;
    let total = vllm.counters().total;
    assert_eq!(total.completion_tokens, 64 * STREAMS as u64);
    scene.apply(&[local(1_000_000)]);
    assert_eq!(
        scene.used("vllm-local").await,
        total.prompt_tokens + total.completion_tokens,
        "the tokens were charged, also of a deleted provider"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_below_what_is_used_is_exhausted() {
    let scene = Scene::start();
    let vllm = StandIn::start(Options::default()).await.unwrap();
    let model = format!("vllm-local/{MODEL}");
    scene.apply(&[provider("vllm-local", &vllm.url(), json!({ "maxTokensPerDay": 100_000 }))]);
    assert_eq!(scene.chat(&model, json!({})).send().await.unwrap().status(), 200);
    let used = scene.used("vllm-local").await;
    assert!(used > 0);
    scene.apply(&[provider("vllm-local", &vllm.url(), json!({ "maxTokensPerDay": used }))]);
    assert_eq!(scene.chat(&model, json!({})).send().await.unwrap().status(), 429);
    scene.apply(&[provider("vllm-local", &vllm.url(), json!({ "maxTokensPerDay": 100_000 }))]);
    assert_eq!(scene.chat(&model, json!({})).send().await.unwrap().status(), 200);
    assert!(scene.used("vllm-local").await > used, "the counts survived");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_without_a_key_does_not_see_the_key_of_another() {
    let scene = Scene::start();
    let gated = Upstream::answering(|_| Answer::new(503, "application/json", "{}")).await;
    let open = Upstream::answering(|_| Answer::json(&responses::chat(1, 1))).await;
    scene.shell.run("pai add secret gated --from-literal api-key=SECRET-OF-GATED");
    let url = |upstream: &Upstream| format!("http://{}", upstream.address());
    let reference = json!({ "apiKeySecretRef": { "name": "gated", "key": "api-key" } });
    let models = [format!("gated/{MODEL}"), format!("open/{MODEL}")];
    scene.apply(&[
        provider("gated", &url(&gated), reference),
        provider("open", &url(&open), json!({})),
        manifest("Agent", "a", json!({ "identities": ["x"], "models": models })),
        manifest("Gateway", "default", json!({ "identityHeader": "x-agent-id" })),
    ]);
    let chat = scene.chat(&models[0], json!({})).header("x-agent-id", "x").header("authorization", "Bearer of-the-client");
    let answer = chat.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-pai-provider"].to_str().unwrap()), (200, "open"));
    let chats = |upstream: &Upstream| {
        let received = upstream.requests();
        received
            .into_iter()
            .filter(|request| request.method == "POST")
            .map(|request| request.header("authorization").map(|value| String::from_utf8_lossy(value).into_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(chats(&gated), [Some("Bearer SECRET-OF-GATED".to_owned())]);
    assert_eq!(chats(&open), [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_apply_leaves_a_gateway_that_serves_and_can_be_changed() {
    let scene = Scene::start();
    let vllm = StandIn::start(Options::default()).await.unwrap();
    let model = format!("vllm-local/{MODEL}");
    scene.apply(&[provider("vllm-local", &vllm.url(), json!({}))]);
    for round in 0..30_u64 {
        let more: Vec<_> = (0..round % 4).map(|index| provider(&format!("more-{index}"), &vllm.url(), json!({}))).collect();
        let manifests = [vec![provider("vllm-local", &vllm.url(), json!({ "maxTokensPerDay": 1_000_000 + round }))], more].concat();
        scene.shell.write("manifests.json", &json!({ "items": manifests }).to_string());
        let mut apply = scene.shell.pai().args(["apply", "--prune", "-f", "manifests.json"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(12 * round));
        let _ = apply.kill();
        let _ = apply.wait();
        let answer = scene.chat(&model, json!({})).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{round}: {}", answer.text().await.unwrap());
    }
    scene.apply(&[provider("vllm-local", &vllm.url(), json!({ "maxTokensPerDay": 7 }))]);
    assert_eq!(
        scene.chat(&model, json!({})).send().await.unwrap().status(),
        400,
        "no request fits into the cap of the last change"
    );
}
