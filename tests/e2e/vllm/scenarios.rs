//! The product's features with a real server.

use std::sync::Arc;

use e2e::harness::{Answer, Gate, GateBuilder, Reply, Request, Upstream, gateway, named_provider, responses, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::server::{CONTEXT_LENGTH, MODELS, Server, answer, events, reported};

const IDENTITY: &str = "x-agent-id";
const RESEARCHER: &str = "spiffe://cluster.local/ns/agents/sa/researcher";

fn chat(members: Value) -> Value {
    let mut body = json!({ "model": format!("vllm-local/{}", MODELS[0]), "messages": [{ "role": "user", "content": "Hello" }] });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

fn completion(members: Value) -> Value {
    let mut body = json!({ "model": MODELS[0], "prompt": "Once upon a time", "max_tokens": 8 });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

/// Fails unless the response reports its usage; returns it.
#[track_caller]
fn usage(reply: &Reply) -> (u64, u64) {
    reported(reply.ok()).unwrap_or_else(|| panic!("no usage:\n{}", reply.describe()))
}

/// Returns the charge of a request. No other request may run at the same time.
async fn charge(gate: &Gate, request: Request) -> (Reply, u64) {
    let before = gate.used().await;
    let reply = answer(request).await;
    (reply, gate.used().await - before)
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn models_are_listed_as_references() {
    let gate = Server::running().gate("").start().await;
    let listed = gate.get("/v1/models").send().await.ok().json();
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, MODELS.map(|model| format!("vllm-local/{model}")));
    gate.get("/v1/models/vllm-local%2Fmeta-llama%2FMeta-Llama-3-70B-Instruct").send().await.ok();
    gate.get("/v1/models/vllm-local%2Fanother").send().await.refused(404, "invalid_request_error", "model_not_found");
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn chats_are_served_and_charged_by_reference_and_by_id() {
    let gate = Server::running().gate("maxTokensPerDay: 50000000\nmaxTokensPerRequest: 32000").start().await;
    for model in MODELS {
        for name in [format!("vllm-local/{model}"), model.to_owned()] {
            let (reply, charged) = charge(&gate, gate.chat(&chat(json!({ "model": name, "max_tokens": 8 })))).await;
            let (prompt, completion) = usage(&reply);
            assert_eq!(charged, prompt + completion);
            assert_eq!((reply.header("x-pai-provider"), reply.header("x-pai-model")), (Some("vllm-local"), Some(model)));
            let limits = reply.rate_limit("tokens").expect("a budget that the caller sees");
            assert_eq!(limits.limit, 50_000_000);
            assert!(limits.remaining < limits.limit);
        }
    }
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn streams_show_the_usage_that_was_asked_for_and_are_charged_all_of_it() {
    let gate = Server::running().gate("maxTokensPerDay: 50000000").start().await;
    let whole = chat(json!({ "max_tokens": 8, "ignore_eos": true }));
    let (reply, expected) = charge(&gate, gate.chat(&whole)).await;
    assert_eq!(usage(&reply).1, 8);
    for (options, at_the_end, everywhere) in [
        (Value::Null, false, false),
        (json!({ "include_usage": false }), false, false),
        (json!({ "include_usage": true }), true, false),
        (json!({ "include_usage": true, "continuous_usage_stats": true }), true, true),
    ] {
        let mut body = whole.clone();
        (body["stream"], body["stream_options"]) = (json!(true), options);
        let (reply, charged) = charge(&gate, gate.chat(&body)).await;
        assert_eq!(charged, expected, "{body}");
        let events = events(reply.ok());
        let (last, others) = events.split_last().unwrap();
        assert!(reply.text().ends_with("data: [DONE]\n\n"));
        assert_eq!(last["choices"] == json!([]), at_the_end, "{body}\n{}", reply.text());
        assert_eq!(!last["usage"].is_null(), at_the_end);
        assert!(others.iter().all(|event| event["usage"].is_null() != everywhere), "{body}\n{}", reply.text());
    }
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn several_completions_of_several_prompts_are_charged_once_for_each_prompt() {
    let server = Server::running();
    let gate = server.gate("maxTokensPerDay: 50000000").start().await;
    let prompt = server.prompt_tokens(&completion(json!({}))).await;
    for (members, prompts, sequences) in [
        (json!({}), 1, 1),
        (json!({ "n": 3 }), 1, 3),
        (json!({ "prompt": ["Once upon a time", "Once upon a time"] }), 2, 2),
        (json!({ "prompt": ["Once upon a time", "Once upon a time"], "n": 2, "stream": true }), 2, 4),
        (json!({ "n": 2, "stream": true, "echo": true }), 1, 2),
    ] {
        let mut body = completion(members);
        body["ignore_eos"] = json!(true);
        let (reply, charged) = charge(&gate, gate.post("/v1/completions").json(&body)).await;
        reply.ok();
        assert_eq!(charged, prompt * prompts + 8 * sequences, "{body}");
    }
    let (reply, charged) = charge(&gate, gate.chat(&chat(json!({ "n": 3, "max_tokens": 8, "ignore_eos": true })))).await;
    assert_eq!(charged, usage(&reply).0 + 24);
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn a_rejected_request_reaches_no_engine() {
    let server = Server::running();
    let gate = server.gate("maxTokensPerRequest: 1000\ndeniedModels: [mistralai/*]").start().await;
    let before = server.counts().await;
    for path in ["/tokenize", "/metrics", "/v1/responses", "/v1/messages", "/inference/v1/generate", "/v1/chat/completions/batch"] {
        gate.post(path).json(&chat(json!({}))).send().await.refused(404, "invalid_request_error", "unknown_url");
    }
    for (members, status, code) in [
        (json!({ "model": "gpt-5" }), 404, "model_not_found"),
        (json!({ "model": format!("vllm-local/{}", MODELS[1]) }), 403, "model_not_allowed"),
        (json!({ "model": null }), 400, "invalid_body"),
        (json!({ "max_tokens": "8" }), 400, "invalid_body"),
        (json!({ "use_beam_search": true, "n": 2 }), 400, "invalid_body"),
        (json!({ "kv_transfer_params": { "prompt_token_ids": [1, 2, 3] } }), 400, "invalid_body"),
        (json!({ "max_tokens": 1000, "n": 4 }), 400, "context_length_exceeded"),
    ] {
        gate.chat(&chat(members)).send().await.refused(status, "invalid_request_error", code);
    }
    let encoded = gate.chat(&chat(json!({}))).header("content-encoding", "gzip");
    encoded.send().await.refused(415, "invalid_request_error", "unsupported_encoding");
    assert_eq!((server.counts().await, gate.used().await), (before, 0));
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn what_vllm_refuses_passes_as_it_is_and_costs_nothing() {
    let server = Server::running();
    let gate = server.gate("maxTokensPerDay: 50000000").start().await;
    let mut body = chat(json!({ "max_tokens": CONTEXT_LENGTH + 1 }));
    let through = gate.chat(&body).send().await;
    body["model"] = json!(MODELS[0]);
    let direct = server.request("POST", "/v1/chat/completions").json(&body).send().await;
    assert_eq!((through.status, through.text()), (400, direct.text()));
    let embeddings = gate.post("/v1/embeddings").json(&json!({ "model": MODELS[0], "input": "Hello" })).send().await;
    assert_eq!((embeddings.status, embeddings.text().as_str()), (404, r#"{"detail":"Not Found"}"#));
    assert_eq!(gate.used().await, 0);
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn the_gates_key_is_used_and_never_revealed() {
    let gate = Server::running().gate_with_key("not-its-key", "").start().await;
    let reply = gate.chat(&chat(json!({}))).header("authorization", "Bearer a-clients-own").send().await;
    reply.refused(502, "server_error", "upstream_auth");
    assert!(!reply.describe().contains("not-its-key"));
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn an_exhausted_budget_rejects_and_was_not_exceeded() {
    let server = Server::running();
    let gate = Arc::new(server.gate("maxTokensPerDay: 2000").start().await);
    let before = server.counts().await;
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let gate = Arc::clone(&gate);
        clients.spawn(async move {
            loop {
                let reply = answer(gate.chat(&chat(json!({ "max_tokens": 20 })))).await;
                match (reply.status, reply.header("x-should-retry")) {
                    (200, _) => {}
                    (429, Some("false")) => {
                        reply.quota_exhausted();
                        return;
                    }
                    // Other reservations block the request.
                    _ => {
                        reply.rate_limited("tokens");
                    }
                }
            }
        });
    }
    clients.join_all().await;
    let used = gate.used().await;
    assert!((1900..=2000).contains(&used), "{used}");
    let made = server.counts().await.since(before);
    assert_eq!(made.prompt + made.generation, used);
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn a_request_without_a_limit_is_held_to_the_smallest_limit() {
    let server = Server::running();
    for (spec, informed, most) in [
        // The cap limits the request, with the context length known or not.
        ("maxTokensPerRequest: 600", false, 600),
        ("maxTokensPerRequest: 600", true, 600),
        // The whole budget.
        ("maxTokensPerDay: 700", true, 700),
        // The context window, for which no limit is injected.
        ("maxTokensPerRequest: 32000", true, CONTEXT_LENGTH),
    ] {
        let gate = if informed { server.gate_with_known_context_length(spec).await } else { server.gate(spec).start().await };
        let reply = answer(gate.chat(&chat(json!({ "ignore_eos": true })))).await;
        let (prompt, completion) = usage(&reply);
        let total = prompt + completion;
        assert!((most - 300..=most).contains(&total), "{spec}: {total}");
        assert_eq!(reply.json()["choices"][0]["finish_reason"], "length");
        assert_eq!(gate.used().await, total);
    }
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn a_context_length_is_read_from_an_error_that_no_client_receives() {
    let gate = Server::running().gate("maxTokensPerRequest: 6000\ndefaultMaxTokens: 8000").start().await;
    let request = || gate.chat(&chat(json!({ "stop": ["e", "a", "i", "o"] })));
    let first = answer(request()).await;
    first.refused(503, "server_error", "upstream_unavailable");
    assert_eq!(first.header("x-should-retry"), Some("true"));
    let second = answer(request()).await;
    usage(&second);
}

fn fallback(server: Server, first: &str) -> GateBuilder {
    let agent = format!(
        "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: researcher }}\nspec:\n  identities: [\"{RESEARCHER}\"]\n  models: [first/{}, vllm-local/{}]\n",
        MODELS[0], MODELS[0]
    );
    server
        .gate("maxTokensPerDay: 50000000")
        .manifests(named_provider("first", first))
        .manifests(agent)
        .manifests(gateway(&format!("identityHeader: {IDENTITY}")))
        .default_header(IDENTITY, RESEARCHER)
        .fallback()
}

#[tokio::test]
#[ignore = "needs a vLLM: scripts/test vllm"]
async fn requests_fall_back_to_vllm_from_a_failed_and_from_an_exhausted_provider() {
    let server = Server::running();
    let failed = Upstream::unreachable_address().await;
    let prompt = server.prompt_tokens(&chat(json!({ "model": MODELS[0] }))).await;
    for (spec, status) in [("maxTokensPerDay: 1000000", "failed"), ("maxTokensPerDay: 300", "exhausted")] {
        let exhausted = Upstream::answering(|_| Answer::json(&responses::chat(5, 400))).await;
        let address = if status == "failed" { failed } else { exhausted.address() };
        let gate = fallback(server, spec).address("first", address).start().await;
        if status == "exhausted" {
            let reply = gate.chat(&chat(json!({ "model": format!("first/{}", MODELS[0]), "max_tokens": 8 }))).send().await;
            assert_eq!(reply.ok().header("x-pai-provider"), Some("first"));
            until("it is settled", async || (gate.provider("first").await.used_today == 405).then_some(())).await;
        }
        for stream in [false, true] {
            let body = json!({ "model": format!("first/{}", MODELS[0]), "max_tokens": 8, "ignore_eos": true, "stream": stream });
            let (reply, charged) = charge(&gate, gate.chat(&chat(body))).await;
            assert_eq!(reply.ok().header("x-pai-provider"), Some("vllm-local"), "{status}");
            assert_eq!(charged, prompt + 8, "{status}");
        }
    }
}
