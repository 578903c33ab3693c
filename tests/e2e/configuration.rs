//! The configurations that the filter accepts, and its behaviour when it rejects one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Gate, MODEL, Upstream, gateway, named_provider, provider, responses, until};
use serde_json::{Value, json};

fn hello() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello, world!" }], "max_tokens": 8 })
}

async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}

/// Returns the lines that the filter logged.
fn filter_lines(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("wasm log")).collect()
}

#[tokio::test]
async fn a_refused_configuration_leaves_the_old_one_in_force() {
    let upstream = upstream().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000"), &upstream).await;
    let log = gate.reconfigure(provider("maxTokensPerDay: 0")).await.unwrap_err();
    let lines = filter_lines(&log);
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("ModelProvider vllm-local: spec.maxTokensPerDay: must be at least 1, got 0"), "{log}");
    for _ in 0..8 {
        gate.chat(&hello()).send().await.ok();
    }
    assert_eq!(gate.provider("vllm-local").await.max_tokens_per_day, Some(1000));
}

#[tokio::test]
async fn every_refusal_names_manifest_and_field() {
    let local = |spec: &str| provider(spec);
    let cases: &[(String, &[&str])] = &[
        (local("maxTokensPerDay: -1"), &["ModelProvider vllm-local", "spec.maxTokensPerDay"]),
        (local("maxTokensPerDay: 1.5"), &["ModelProvider vllm-local", "spec.maxTokensPerDay"]),
        (local("maxTokensPerRequest: many"), &["ModelProvider vllm-local", "spec.maxTokensPerRequest"]),
        (local("maxTokensPerWeek: 5"), &["ModelProvider vllm-local", "maxTokensPerWeek"]),
        (local("guards: [{ name: x }]"), &["ModelProvider vllm-local", "spec.guards"]),
        (local("allowedModels: llama"), &["ModelProvider vllm-local", "spec.allowedModels"]),
        (local("apiKeySecretRef: { name: absent, key: api-key }"), &["ModelProvider vllm-local", "PAI_SECRET_ABSENT_API_KEY"]),
        (local("") + &local(""), &["ModelProvider vllm-local"]),
        (local("").replace("vllm-local", "Not_A_Label"), &["metadata.name"]),
        (local("").replace("provider: vllm", "provider: llamacpp"), &["ModelProvider vllm-local", "spec.provider"]),
        (local("").replace("http://", "ftp://"), &["ModelProvider vllm-local", "spec.endpoint"]),
        (local("").replace(":8000/v1\n", ":8000/v1?key=1\n"), &["ModelProvider vllm-local", "spec.endpoint"]),
        (local("").replace("http://", "http://user:pass@"), &["ModelProvider vllm-local", "spec.endpoint"]),
        (local("").replace("pai.io/v1", "pai.io/v9"), &["apiVersion"]),
        (local("").replace("ModelProvider", "ModelServer"), &["ModelServer"]),
        (local("") + &gateway("maxRequestBytes: 0"), &["Gateway default", "spec.maxRequestBytes"]),
        (local("") + &gateway("audience: everyone"), &["Gateway default", "spec.audience"]),
        (local("") + &gateway("routing: path"), &["Gateway default", "spec.routing"]),
        (local("") + &gateway("speed: fast"), &["Gateway default", "speed"]),
        (local("") + &gateway("callouts: { vllm-lokal: x }"), &["Gateway default", "spec.callouts"]),
        (local("") + &gateway("routing: body") + &gateway("routing: body"), &["Gateway"]),
        (local("") + &named_provider("other", "") + &gateway("routing: fixed"), &["Gateway default", "spec.routing"]),
        ("a: [b".to_owned(), &[]),
        ("just text".to_owned(), &[]),
    ];
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    for (manifests, named) in cases {
        let log = match gate.reconfigure(manifests).await {
            Err(log) => log,
            Ok(()) => panic!("was taken:\n{manifests}"),
        };
        let lines = filter_lines(&log);
        assert_eq!(lines.len(), 1, "one line for\n{manifests}\nbut\n{log}");
        for word in *named {
            assert!(lines[0].contains(word), "`{word}` is not named for\n{manifests}\nbut\n{}", lines[0]);
        }
    }
    gate.chat(&hello()).send().await.ok();
}

#[tokio::test]
async fn every_error_of_a_configuration_has_a_line() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let vlm = provider("maxTokensPerDay: 0").replace("provider: vllm", "provider: vlm");
    let log = gate.reconfigure(vlm + &gateway("maxAttempt: 3")).await.unwrap_err();
    let lines = filter_lines(&log);
    let expected = [
        "configuration refused: ModelProvider vllm-local: spec.provider: must be one of vllm, openai, anthropic, got \"vlm\"; \
         did you mean `vllm`?",
        "configuration refused: ModelProvider vllm-local: spec.maxTokensPerDay: must be at least 1, got 0",
        "configuration refused: Gateway default: spec.maxAttempt: unknown field; did you mean `maxAttempts`? Known here: ",
    ];
    assert_eq!(lines.len(), expected.len(), "{log}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "`{expected}` is not in {line}");
    }
    gate.chat(&hello()).send().await.ok();
}

#[tokio::test]
async fn two_references_to_one_variable_are_rejected() {
    let refused = Gate::builder()
        .manifests(named_provider("one", "apiKeySecretRef: { name: a-b, key: c }"))
        .manifests(named_provider("two", "apiKeySecretRef: { name: a, key: b-c }"))
        .env("PAI_SECRET_A_B_C", "s3cr3t-value")
        .start_rejected()
        .await;
    assert!(refused.log.contains("PAI_SECRET_A_B_C"), "{}", refused.log);
    assert!(!refused.log.contains("s3cr3t-value"), "{}", refused.log);
}

#[tokio::test]
async fn each_configuration_is_announced_once() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let announced = || gate.logs().lines().filter(|line| line.contains("[info][wasm]")).count();
    for _ in 0..16 {
        gate.chat(&hello()).send().await.ok();
    }
    assert_eq!(announced(), 1, "{}", gate.logs());
    gate.reconfigure(provider("maxTokensPerDay: 1000")).await.unwrap();
    for _ in 0..16 {
        gate.chat(&hello()).send().await.ok();
    }
    assert_eq!(announced(), 2, "{}", gate.logs());
}

#[tokio::test]
async fn the_endpoint_gives_path_and_authority() {
    let cases = [
        ("plain", "http://plain.test:8000/v1", "plain.test:8000", "/v1/chat/completions"),
        ("bare", "http://bare.test", "bare.test", "/v1/chat/completions"),
        ("deep", "https://deep.test/openai/v1", "deep.test", "/openai/v1/chat/completions"),
        ("tail", "http://tail.test/openai/v1/", "tail.test", "/openai/v1/chat/completions"),
    ];
    let upstream = upstream().await;
    let mut builder = Gate::builder();
    for (name, endpoint, _, _) in cases {
        let manifest = named_provider(name, "").replace(&format!("http://{name}.test:8000/v1"), endpoint);
        builder = builder.manifests(manifest).upstream(name, &upstream);
    }
    let gate = builder.start().await;
    for (name, endpoint, authority, path) in cases {
        let body = json!({ "model": format!("{name}/{MODEL}"), "messages": [] });
        gate.chat(&body).send().await.ok();
        let seen = upstream.last();
        let host = String::from_utf8_lossy(seen.header("host").unwrap()).into_owned();
        assert_eq!((host.as_str(), seen.path.as_str()), (authority, path), "{endpoint}");
    }
}

#[tokio::test]
async fn one_object_with_items_is_a_configuration_too() {
    let upstream = upstream().await;
    let items = json!({ "items": [{
        "apiVersion": "pai.io/v1", "kind": "ModelProvider", "metadata": { "name": "vllm-local" },
        "spec": { "provider": "vllm", "endpoint": "http://vllm.test/v1", "maxTokensPerDay": 50000000.0 },
    }] });
    let gate = Gate::start(items.to_string(), &upstream).await;
    gate.chat(&hello()).send().await.ok();
    assert_eq!(gate.provider("vllm-local").await.max_tokens_per_day, Some(50_000_000));
}

#[tokio::test]
async fn a_stream_outlives_its_configuration() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 100000"), &upstream).await;
    let mut body = hello();
    body["stream"] = json!(true);
    let asked = gate.chat(&body).spawn_stream();
    let mut call = upstream.call().await;
    call.start_stream().await.chunk(responses::delta("a", Some((5, 1)))).await;
    let mut answer = asked.await.unwrap();
    assert_eq!(answer.event().await.unwrap(), responses::delta("a", None));

    gate.reconfigure(provider("maxTokensPerDay: 100000\ndeniedModels: ['*']")).await.unwrap();
    let denied = json!({ "model": format!("vllm-local/{MODEL}"), "messages": [] });
    until("the new configuration is in force", async || (gate.chat(&denied).send().await.status == 403).then_some(())).await;

    call.chunk(responses::delta("b", Some((5, 2)))).await.chunk(responses::DONE).await;
    call.end().await;
    let rest = answer.rest().await;
    assert_eq!(rest.text(), responses::delta("b", None) + responses::DONE);
    assert_eq!(gate.used().await, 7);
}
