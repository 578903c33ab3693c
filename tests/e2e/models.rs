//! The filter's own responses: models and the state of the providers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Gate, SLASHED, Upstream, gateway, named_provider, provider, responses, until};
use serde_json::{Value, json};

async fn gate(upstream: &Upstream) -> Gate {
    Gate::builder()
        .manifests(provider(&format!(
            "allowedModels: [{SLASHED}, 'qwen/*', plain]\ndeniedModels: [qwen/bad]\nmaxTokensPerDay: 1000"
        )))
        .manifests(named_provider("open", "deniedModels: [secret]"))
        .manifests(named_provider("closed", "allowedModels: []"))
        .upstream("vllm-local", upstream)
        .upstream("open", upstream)
        .upstream("closed", upstream)
        .start()
        .await
}

fn listed(name: &str) -> Value {
    json!({ "id": format!("vllm-local/{name}"), "object": "model", "created": 0, "owned_by": "vllm-local" })
}

#[tokio::test]
async fn exact_entries_are_listed_as_references() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::models(4096))).await;
    let gate = gate(&upstream).await;
    for request in [gate.get("/v1/models"), gate.get("/v1/models?limit=2"), gate.get("/v1/models").http2()] {
        let reply = request.send().await;
        assert_eq!(reply.ok().header("content-type"), Some("application/json"));
        assert_eq!(reply.json(), json!({ "object": "list", "data": [listed(SLASHED), listed("plain")] }));
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn what_a_server_lists_itself_is_listed_with_its_context_length() {
    let upstream = Upstream::answering(|request| match &*request.path {
        "/v1/models" => Answer::json(&json!({ "object": "list", "data": [
            { "id": "qwen/good", "max_model_len": 8192 }, { "id": "qwen/bad" }, { "id": "other" }, { "id": "two words" }, { "id": "plain", "max_model_len": 16 },
        ] })),
        _ => Answer::json(&responses::chat(5, 3)),
    })
    .await;
    let gate = Gate::builder()
        .manifests(provider(&format!("allowedModels: [{SLASHED}, 'qwen/*', plain]\ndeniedModels: [qwen/bad]")))
        .manifests(named_provider("quiet", ""))
        .manifests(gateway("callouts: { vllm-local: vllm-local-callouts }"))
        .upstream("vllm-local", &upstream)
        .upstream("quiet", &upstream)
        .start()
        .await;
    let state = until("the callout is answered", async || {
        let state = gate.get("/pai/v1/model-providers").send().await.ok().json();
        state["items"][0]["listed"].is_array().then_some(state)
    })
    .await;
    assert_eq!(state["items"][0]["listed"], json!(["qwen/good", "qwen/bad", "other", "plain"]));
    assert_eq!(state["items"][1]["listed"], Value::Null);
    let with_length = |name: &str, length: u64| {
        let mut model = listed(name);
        model["max_model_len"] = json!(length);
        model
    };
    // Each worker reads context lengths at most once a second.
    until("the context lengths are known", async || {
        let list = gate.get("/v1/models").send().await.ok().json();
        (list["data"] == json!([listed(SLASHED), with_length("plain", 16), with_length("qwen/good", 8192)])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_model_is_retrieved_by_its_reference() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::models(4096))).await;
    let gate = gate(&upstream).await;
    let escaped = SLASHED.replace('/', "%2F");
    for path in [format!("vllm-local/{SLASHED}"), format!("vllm-local%2F{escaped}"), format!("vllm-local%2f{escaped}")] {
        let reply = gate.get(&format!("/v1/models/{path}")).send().await;
        assert_eq!(reply.ok().json(), listed(SLASHED), "{path}");
    }
    let unlisted = gate.get("/v1/models/vllm-local%2Fqwen%2Fgood").send().await;
    assert_eq!(unlisted.ok().json()["id"], "vllm-local/qwen/good");
    let open = gate.get("/v1/models/open%2Fwhatever").send().await;
    assert_eq!(open.ok().json()["owned_by"], "open");
    for path in ["vllm-local%2Fqwen%2Fbad", "vllm-local%2Fother", "open%2Fsecret", "closed%2Fany", "nowhere%2Fmodel"] {
        let reply = gate.get(&format!("/v1/models/{path}")).send().await;
        reply.refused(404, "invalid_request_error", "model_not_found");
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn the_state_of_the_providers_has_the_contracts_fields() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = gate(&upstream).await;
    let before = gate.get("/pai/v1/model-providers").send().await.ok().json();
    assert!(before["ledgerSince"].is_string(), "{before}");
    let first = &before["items"][0];
    let fields: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "name",
            "provider",
            "endpoint",
            "maxTokensPerDay",
            "usedToday",
            "reserved",
            "external",
            "lastUsed",
            "age",
            "models",
            "remaining",
            "resetsAt",
            "contextLengths",
            "cooldowns",
            "listed"
        ]
    );
    assert_eq!(first["provider"], "vllm");
    assert_eq!(first["endpoint"], "http://vllm-local.test:8000/v1");
    assert_eq!((&first["maxTokensPerDay"], &first["usedToday"], &first["reserved"]), (&json!(1000), &json!(0), &json!(0)));
    assert_eq!(first["lastUsed"], Value::Null);
    assert_eq!(before["items"][1]["maxTokensPerDay"], Value::Null);

    let body = json!({ "model": format!("vllm-local/{SLASHED}"), "messages": [], "max_tokens": 8 });
    gate.chat(&body).send().await.ok();
    assert_eq!(gate.used().await, 8);
    let after = gate.provider("vllm-local").await;
    assert!(after.last_used.is_some_and(|at| at.ends_with('Z')));
    assert!(after.age < 60);
    for (method, path) in [("POST", "/pai/v1/model-providers"), ("GET", "/pai/v1/other"), ("GET", "/pai/v1/model-providers/x")] {
        gate.request(method, path).send().await.refused(404, "invalid_request_error", "unknown_url");
    }
}
