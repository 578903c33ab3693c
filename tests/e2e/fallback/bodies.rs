//! The request of each attempt, rewritten for its provider, and streamed responses.

use e2e::harness::{MODEL, Reply};
use serde_json::{Value, json};

use crate::fixtures::{ANTHROPIC, OPENAI, PROVIDERS, Scene, SceneBuilder, VLLM, assert_served, chat_body, check, scene};

fn limit(body: &Value) -> Option<u64> {
    body["max_tokens"].as_u64().or(body["max_completion_tokens"].as_u64())
}

/// [`Scene`](crate::fixtures::Scene) checks the path, authority and key of every request.
#[tokio::test]
async fn each_attempt_is_rewritten_for_its_provider() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    let text = "Grüße \u{1f600} \\ \" vllm-local=503 openai=429";
    assert_served(&scene.ask(text).await, &ANTHROPIC);
    for member in PROVIDERS {
        let request = scene.upstream(member).last();
        let body = request.json();
        assert_eq!(body["model"], member.model);
        assert_eq!(body["messages"], json!([{ "role": "user", "content": text }]), "{body}");
        assert_eq!(limit(&body), Some(8), "{body}");
        assert_eq!(request.path, member.path);
        assert_eq!(request.header("content-type"), Some(b"application/json".as_slice()));
        if let Some(length) = request.header("content-length") {
            assert_eq!(length, request.body.len().to_string().as_bytes());
        }
    }
}

#[tokio::test]
async fn a_single_candidate_is_rewritten_as_well() {
    let scene = scene().await;
    scene.exhaust(&VLLM).await;
    scene.exhaust(&OPENAI).await;
    assert_served(&scene.ask("Hello").await, &ANTHROPIC);
    let body = scene.upstream(&ANTHROPIC).last().json();
    assert_eq!((body["model"].as_str(), limit(&body)), (Some(ANTHROPIC.model), Some(8)));
}

/// Providers of one dialect receive the client's body unchanged, except for the model.
#[tokio::test]
async fn large_bodies_are_sent_again() {
    e2e::needs!(ClusterRefresh);
    let mut staging = SceneBuilder::new().dialect(&OPENAI, "vllm");
    for member in PROVIDERS {
        staging = staging.spec(member, "");
    }
    let scene = staging.start().await;
    for size in [1 << 20, 16 << 20] {
        let frame =
            json!({ "model": VLLM.reference(), "messages": [{ "role": "user", "content": "vllm-local=503 " }], "max_tokens": 8 });
        let frame = frame.to_string().replace(":8", " :\t8");
        let text = frame.replace("=503 ", &format!("=503 {}", "lorem \\u0069psum ".repeat((size - frame.len()) / 17)));
        assert!(text.len() <= size && text.len() > size - 32, "{}", text.len());
        for request in [scene.chat("").body(&text), scene.chat("").body(&text).http2()] {
            assert_served(&scene.send(request).await, &OPENAI);
            let sent = |model| text.replace(&VLLM.reference(), model);
            assert!(scene.upstream(&VLLM).last().body == sent(VLLM.model).as_bytes());
            assert!(scene.upstream(&OPENAI).last().body == sent(OPENAI.model).as_bytes());
        }
    }
}

/// An aggregator uses the client's model name: its body is unchanged, including its length.
#[tokio::test]
async fn a_body_that_fits_as_it_was_written() {
    e2e::needs!(ClusterRefresh);
    let there = VLLM.reference();
    let staging = SceneBuilder::new().dialect(&OPENAI, "vllm").references(&[&there, &format!("{}/{there}", OPENAI.name)]);
    let scene = staging.start().await;
    let body = chat_body(&VLLM, "vllm-local=503");
    for _ in 0..4 {
        let reply = scene.send(scene.gate.chat(&body)).await;
        assert_eq!((reply.ok().header("x-pai-provider"), reply.header("x-pai-model")), (Some(OPENAI.name), Some(&*there)));
        assert_eq!(scene.upstream(&OPENAI).last().text(), body.to_string());
    }
    assert_eq!(scene.request_counts(), [4, 4, 0]);
}

fn streamed(text: &str, usage: bool) -> Value {
    let mut body = chat_body(&VLLM, text);
    body["stream"] = json!(true);
    if usage {
        body["stream_options"] = json!({ "include_usage": true });
    }
    body
}

async fn stream(scene: &Scene, text: &str, usage: bool) -> Reply {
    let reply = scene.send(scene.gate.chat(&streamed(text, usage))).await;
    assert!(!reply.ok().cut && reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.describe());
    reply
}

fn events(reply: &Reply) -> Vec<Value> {
    let text = reply.text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]");
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn streams_are_forwarded_from_any_provider() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    for (wish, member) in [("", &VLLM), ("vllm-local=503", &OPENAI), ("vllm-local=reset openai=429", &ANTHROPIC)] {
        let before = scene.charges().await.iter().sum::<u64>();
        let reply = stream(&scene, wish, false).await;
        assert_served(&reply, member);
        assert_eq!(reply.text().matches("word ").count() as u64, member.usage.1);
        let events = events(&reply);
        assert!(events.iter().all(|event| event.get("usage").is_none_or(Value::is_null)), "{}", reply.describe());
        assert!(events.iter().all(|event| event["choices"] != json!([])), "{}", reply.describe());
        assert!(scene.charges().await.iter().sum::<u64>() >= before + member.tokens());

        let reply = stream(&scene, wish, true).await;
        assert_served(&reply, member);
        let usage = self::events(&reply).pop().unwrap()["usage"].take();
        assert_eq!(usage["total_tokens"], member.tokens(), "{}", reply.describe());
    }
    let [_, openai, anthropic] = scene.charges().await;
    assert_eq!((openai, anthropic), (2 * OPENAI.tokens(), 2 * ANTHROPIC.tokens()));
}

/// Only vLLM supports usage in each event; other dialects would reject the option.
#[tokio::test]
async fn each_dialect_is_asked_for_usage_by_its_own_option() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    stream(&scene, "vllm-local=503 openai=503", false).await;
    let options = |member| scene.upstream(member).last().json()["stream_options"].clone();
    assert_eq!(options(&VLLM), json!({ "include_usage": true, "continuous_usage_stats": true }));
    assert_eq!(options(&OPENAI), json!({ "include_usage": true }));
    assert_eq!(options(&ANTHROPIC), json!({ "include_usage": true }));
}

#[tokio::test]
async fn several_choices() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    let mut body = chat_body(&VLLM, "vllm-local=503");
    body["n"] = json!(2);
    assert_served(&scene.send(scene.gate.chat(&body)).await, &OPENAI);
    assert_eq!(scene.upstream(&OPENAI).last().json()["n"], 2);
    assert_eq!(scene.charges().await, [0, OPENAI.tokens(), 0]);
}

#[tokio::test]
async fn requests_with_trailers() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    for wish in ["vllm-local=503", "vllm-local=reset"] {
        let text = chat_body(&VLLM, wish).to_string();
        for http2 in [false, true] {
            let request = scene.gate.post("/v1/chat/completions").chunked([&text[..10], &text[10..]]);
            let request =
                request.trailer("x-harmless", "1").trailer("x-pai-provider", "evil").trailer("authorization", "Bearer pak_no");
            assert_served(&scene.send(if http2 { request.http2() } else { request }).await, &OPENAI);
            assert_eq!(scene.upstream(&OPENAI).last().json()["messages"], chat_body(&VLLM, wish)["messages"]);
        }
    }
    assert_eq!(scene.request_counts(), [4, 4, 0]);
}

/// The client's own options apply to every provider.
#[tokio::test]
async fn a_request_without_a_limit() {
    e2e::needs!(ClusterRefresh);
    let scene = scene().await;
    let body =
        json!({ "model": VLLM.reference(), "messages": [{ "role": "user", "content": "vllm-local=503" }], "temperature": 0.5 });
    let reply = scene.gate.chat(&body).send().await;
    check(&reply);
    assert_served(&reply, &OPENAI);
    let sent = scene.upstream(&OPENAI).last().json();
    assert_eq!(sent["temperature"], 0.5);
    assert_eq!(limit(&sent), None, "its budgets have plenty left: {sent}");
    assert_ne!(sent["model"], MODEL);
}
