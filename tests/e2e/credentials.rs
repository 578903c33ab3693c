//! Credentials: the caller's is never forwarded, the provider's is sent to that provider only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Gate, MODEL, Upstream, provider, responses};
use serde_json::{Value, json};

const KEYED: &str = "apiKeySecretRef: { name: vllm-token, key: api-key }";
const VARIABLE: &str = "PAI_SECRET_VLLM_TOKEN_API_KEY";

fn hello() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 })
}

async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}

fn with_callers_secrets(gate: &Gate) -> e2e::harness::Request {
    gate.chat(&hello())
        .header("authorization", "Bearer sk-callers-own")
        .header("x-api-key", "sk-callers-own")
        .header("api-key", "sk-callers-own")
        .header("proxy-authorization", "Basic sk-callers-own")
        .header("cookie", "session=sk-callers-own")
}

#[tokio::test]
async fn the_callers_credential_never_reaches_the_provider() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    with_callers_secrets(&gate).send().await.ok();
    let seen = upstream.last();
    assert!(!String::from_utf8_lossy(&seen.head).contains("sk-callers-own"), "{seen:?}");
    assert_eq!(seen.header("authorization"), None);
}

#[tokio::test]
async fn the_providers_key_is_sent_to_it() {
    let upstream = upstream().await;
    let gate = Gate::builder()
        .manifests(provider(KEYED))
        .env(VARIABLE, "  sk-of-the-provider\n")
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    for request in [with_callers_secrets(&gate), with_callers_secrets(&gate).http2(), gate.chat(&hello())] {
        let reply = request.send().await;
        assert!(!reply.ok().describe().contains("sk-of-the-provider"));
        let seen = upstream.last();
        assert_eq!(seen.header("authorization"), Some(b"Bearer sk-of-the-provider".as_slice()));
        assert!(!String::from_utf8_lossy(&seen.head).contains("sk-callers-own"), "{seen:?}");
    }
    assert!(!gate.logs().contains("sk-of-the-provider"));
}

#[tokio::test]
async fn a_key_that_is_no_header_value_rejects_the_configuration() {
    for bad in ["two words\u{7}", "a\nb", "", "schlüssel"] {
        let refused = Gate::builder().manifests(provider(KEYED)).env(VARIABLE, bad).start_rejected().await;
        assert!(refused.log.contains(VARIABLE), "{}", refused.log);
    }
}

#[tokio::test]
async fn a_rejected_provider_key_is_the_gateways_error() {
    for status in [401, 403] {
        let upstream =
            Upstream::answering(move |_| Answer::error(status, &json!({ "error": "Unauthorized: sk-of-the-provider" }))).await;
        let gate = Gate::builder()
            .manifests(provider(&format!("{KEYED}\nmaxTokensPerDay: 1000")))
            .env(VARIABLE, "sk-of-the-provider")
            .upstream("vllm-local", &upstream)
            .start()
            .await;
        for request in [gate.chat(&hello()), gate.chat(&hello()).http2()] {
            let reply = request.send().await;
            reply.refused(502, "server_error", "upstream_auth");
            assert!(!reply.text().contains("sk-of-the-provider"));
        }
        assert_eq!(gate.used().await, 0);
    }
}

#[tokio::test]
async fn trailers_contain_no_more_than_headers() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = Gate::start(provider(""), &upstream).await;
    let request = gate.chat(&json!({ "model": MODEL, "messages": [] })).http2();
    request
        .trailer("authorization", "Bearer secret")
        .trailer("x-vllm-priority", "-9")
        .trailer("x-pai-provider", "evil")
        .trailer("x-harmless", "1")
        .send()
        .await
        .ok();
    let seen = upstream.last();
    let trailers = String::from_utf8_lossy(&seen.trailers);
    assert!(trailers.contains("x-harmless: 1"), "{seen:?}");
    for word in ["secret", "evil", "x-vllm-priority"] {
        assert!(!trailers.contains(word) && !String::from_utf8_lossy(&seen.head).contains(word), "{seen:?}");
    }
}
