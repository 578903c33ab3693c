//! Which failures are retried at another provider, which are not, and the client's response.

use std::time::Duration;

use e2e::harness::{Answer, Reply, Upstream, responses, until};
use serde_json::json;

use crate::fixtures::{ANTHROPIC, OPENAI, PROVIDERS, SceneBuilder, VLLM, assert_failed, assert_served, chat_body, scene};

/// Sends a request for each of these behaviours, each for another model of the first provider, so that none enters its cooldown.
async fn each(wishes: &[&str], staging: SceneBuilder, verify: impl Fn(&str, &Reply)) {
    let models: Vec<String> = wishes.iter().map(|wish| format!("for-{wish}")).collect();
    let scene = staging.with_models(&models).start().await;
    for (wish, model) in wishes.iter().zip(&models) {
        let mut body = chat_body(&VLLM, &format!("{}={wish}", VLLM.name));
        body["model"] = json!(format!("{}/{model}", VLLM.name));
        verify(wish, &scene.send(scene.gate.chat(&body)).await);
    }
    assert_eq!(scene.request_counts()[0], wishes.len());
}

/// Gateways that retry by the filter's header, and by the status.
fn stagings() -> [SceneBuilder; 2] {
    [SceneBuilder::new(), SceneBuilder::new().with(|builder| builder.retry_on_status())]
}

const STATUSES: [&str; 11] = ["401", "403", "404", "408", "429", "500", "502", "503", "504", "529", "599"];
const RESETS: [&str; 3] = ["reset", "close", "half"];

#[tokio::test]
async fn an_error_or_a_broken_connection_sends_the_request_on() {
    e2e::needs!(ClusterRefresh);
    let failures = [&STATUSES[..], &RESETS].concat();
    for staging in stagings() {
        each(&failures, staging, |_, reply| assert_served(reply, &OPENAI)).await;
    }
}

#[tokio::test]
async fn what_the_client_did_wrong_does_not() {
    for staging in stagings() {
        each(&["400", "409", "413", "422"], staging, |wish, reply| {
            assert_eq!(reply.status.to_string(), wish);
            assert_eq!(reply.header("x-pai-provider"), Some(VLLM.name), "{}", reply.describe());
        })
        .await;
    }
}

#[tokio::test]
async fn the_log_contains_the_skipped_providers() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    assert_served(&scene.ask("vllm-local=503").await, &OPENAI);
    let line = scene.gate.access_log(|line| line["provider"] == OPENAI.name).await;
    assert_eq!((&line["attempts"], &line["tries"], &line["model"]), (&json!("vllm-local=503"), &json!(2), &json!(OPENAI.model)));
    assert_served(&scene.ask("vllm-local=reset openai=429").await, &ANTHROPIC);
    let line = scene.gate.access_log(|line| line["provider"] == ANTHROPIC.name).await;
    assert_eq!((&line["attempts"], &line["tries"]), (&json!("vllm-local=reset,openai=429"), &json!(3)));
    assert_served(&scene.ask("").await, &VLLM);
    let line = scene.gate.access_log(|line| line["provider"] == VLLM.name).await;
    assert!(line["attempts"].as_str().is_none_or(str::is_empty), "{line}");
    assert_eq!(line["decision"], "allowed");
}

/// The primary received the complete prompt, and its state is unknown; an error status shows that it generated nothing.
#[tokio::test]
async fn each_provider_is_charged_for_what_it_did() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    assert_served(&scene.ask("vllm-local=503").await, &OPENAI);
    assert_eq!(scene.charges().await, [0, OPENAI.tokens(), 0]);
    assert_served(&scene.ask("vllm-local=reset").await, &OPENAI);
    let [estimate, openai, anthropic] = scene.charges().await;
    assert!((20..200).contains(&estimate), "{estimate}");
    assert_eq!((openai, anthropic), (2 * OPENAI.tokens(), 0));
    assert_served(&scene.ask("vllm-local=429 openai=500").await, &ANTHROPIC);
    assert_eq!(scene.charges().await, [estimate, openai, ANTHROPIC.tokens()]);
}

#[tokio::test]
async fn no_provider_listens() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    scene.upstream(&VLLM).stop().await;
    assert_served(&scene.ask("").await, &OPENAI);
    assert_eq!(scene.charges().await, [0, OPENAI.tokens(), 0]);
    assert_eq!(scene.logged("attempts", |line| line["provider"] == OPENAI.name).await, "vllm-local=connect");
    scene.upstream(&VLLM).restart().await;
    assert_served(&scene.ask("").await, &VLLM);
}

#[tokio::test]
async fn a_provider_that_does_not_start_to_respond() {
    e2e::needs!(ClusterRefresh);
    let scene = SceneBuilder::new().with(|builder| builder.try_timeout(Duration::from_millis(300))).start().await;
    assert_served(&scene.ask("vllm-local=hang").await, &OPENAI);
    let [estimate, openai, _] = scene.charges().await;
    assert!((20..200).contains(&estimate), "{estimate}");
    assert_eq!(openai, OPENAI.tokens());
    until("the first is given up", async || (scene.upstream(&VLLM).aborted() == 1).then_some(())).await;
    scene.ask("vllm-local=hang openai=hang anthropic=hang").await.refused(503, "server_error", "upstream_unavailable");
}

#[tokio::test]
async fn all_fail() {
    e2e::needs!(ClusterRefresh);
    for staging in stagings() {
        let scene = staging.start().await;
        assert_failed(&scene.ask("vllm-local=503 openai=502 anthropic=500").await, &ANTHROPIC, 500);
        assert_failed(&scene.ask("vllm-local=reset openai=429 anthropic=429").await, &ANTHROPIC, 429);
        scene.ask("vllm-local=503 openai=429 anthropic=reset").await.refused(503, "server_error", "upstream_unavailable");
        assert_eq!(scene.request_counts(), [3, 3, 3]);
    }
}

#[tokio::test]
async fn the_last_rejects_the_gateways_key() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    for status in [401, 403] {
        let reply = scene.ask(&format!("vllm-local=503 openai=503 anthropic={status}")).await;
        reply.refused(502, "server_error", "upstream_auth");
    }
    assert_eq!(scene.charges().await, [0, 0, 0]);
}

/// A response that the client has started to read cannot be retried.
#[tokio::test]
async fn nothing_is_retried_once_a_response_has_started() {
    let scene = SceneBuilder::new().with_upstream(&VLLM, Upstream::scripted().await).start().await;
    let mut body = chat_body(&VLLM, "");
    body["stream"] = json!(true);
    let asked = scene.gate.chat(&body).spawn_stream();
    let mut call = scene.upstream(&VLLM).call().await;
    call.start_stream().await.chunk(responses::role(None)).await.chunk(responses::delta("one", None)).await;
    let mut stream = asked.await.unwrap();
    assert!(stream.event().await.unwrap().contains("assistant"));
    call.reset();
    let reply = stream.rest().await;
    assert!(reply.cut && reply.text().contains("one") && !reply.text().contains("[DONE]"), "{}", reply.describe());
    assert_eq!(reply.header("x-pai-provider"), Some(VLLM.name));

    let asked = scene.chat("").spawn_send();
    let mut call = scene.upstream(&VLLM).call().await;
    call.start(200, "application/json").await.chunk("{\"choices\": [").await;
    call.reset();
    assert!(asked.await.unwrap().cut);
    scene.charges().await;
    assert_eq!(scene.request_counts(), [2, 0, 0]);
}

/// Only the gateway's own filter determines what is retried.
#[tokio::test]
async fn a_provider_can_neither_request_nor_forbid_retries() {
    e2e::needs!(ClusterRefresh);
    let upstream = Upstream::answering(|request| {
        let text = request.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        let (header, status) = text.split_once(' ').unwrap();
        let body = if status == "200" {
            responses::chat_of(&VLLM.text(), responses::usage(5, 3))
        } else {
            VLLM.error(status.parse().unwrap())
        };
        Answer::with_headers(status.parse().unwrap(), &[("content-type", "application/json"), (header, "true")], body.to_string())
    })
    .await;
    let scene = SceneBuilder::new().with_upstream(&VLLM, upstream).start().await;
    assert_served(&scene.ask("x-pai-retry 200").await, &VLLM);
    assert_failed(&scene.ask("x-pai-retry 400").await, &VLLM, 400);
    assert_served(&scene.ask("x-envoy-ratelimited 200").await, &VLLM);
    assert_failed(&scene.ask("x-envoy-ratelimited 400").await, &VLLM, 400);
    assert_eq!(scene.request_counts(), [4, 0, 0]);
    for header in ["x-envoy-ratelimited", "x-pai-retry", "x-envoy-overloaded"] {
        assert_served(&scene.ask(&format!("{header} 503")).await, &OPENAI);
    }
    assert_eq!(scene.request_counts(), [7, 3, 0]);
}

#[tokio::test]
async fn over_http2_too() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    assert_served(&scene.send(scene.chat("vllm-local=503").http2()).await, &OPENAI);
    assert_served(&scene.send(scene.chat("vllm-local=reset").http2()).await, &OPENAI);
    assert_failed(&scene.send(scene.chat("vllm-local=503 openai=503 anthropic=503").http2()).await, &ANTHROPIC, 503);
}

#[tokio::test]
async fn the_other_paths_too() {
    e2e::needs!(ClusterRefresh);
    let upstream = Upstream::answering(|_| Answer::json(&responses::embedding(9))).await;
    let staging = PROVIDERS.iter().fold(SceneBuilder::new(), |staging, member| staging.dialect(member, "vllm"));
    let scene = staging.with_upstream(&ANTHROPIC, upstream).models(&[&VLLM, &ANTHROPIC]).start().await;
    scene.upstream(&VLLM).stop().await;
    let reply = scene.send(scene.gate.post("/v1/embeddings").json(&json!({ "model": VLLM.reference(), "input": "a" }))).await;
    assert_eq!(reply.ok().header("x-pai-provider"), Some(ANTHROPIC.name));
    assert_eq!(scene.upstream(&ANTHROPIC).last().path, "/compatible/v1/embeddings");
    assert_eq!(scene.charges().await, [0, 0, 9]);
}
