//! Credentials: the caller's is never forwarded, the provider's is sent to that provider only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Gate, GateBuilder, MODEL, Upstream, gateway, named_provider, provider, responses, until};
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

const INJECTED: &str = "x-pai-credential";

/// The settings of a gateway whose proxy has the secrets, with these others.
fn by_proxy(others: &str) -> String {
    gateway(&format!("credentials: proxy\nidentityHeader: x-agent-id\n{others}"))
}

/// Provider `a` with a reference, `b` without, and an agent that falls back in this order.
fn pair(order: &str) -> String {
    let agent = format!(
        "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: me }}\nspec:\n  identities: [td/me]\n  models: [{order}]\n"
    );
    named_provider("a", KEYED) + &named_provider("b", "") + &agent + &by_proxy("")
}

fn ask(gate: &Gate, reference: &str) -> e2e::harness::Request {
    let mut body = hello();
    body["model"] = json!(reference);
    gate.chat(&body)
        .header("x-agent-id", "td/me")
        .header("authorization", "Bearer sk-callers-own")
        .header(INJECTED, "sk-callers-own")
}

/// Fails unless the last request of a provider has this `authorization`, and no other secret.
#[track_caller]
fn assert_sent(upstream: &Upstream, authorization: Option<&str>) {
    let seen = upstream.last();
    let head = String::from_utf8_lossy(&seen.head).to_lowercase();
    assert_eq!(seen.header("authorization"), authorization.map(str::as_bytes), "{head}");
    assert!(!head.contains("x-pai-") && head.matches("sk-").count() == usize::from(authorization.is_some()), "{head}");
}

async fn with_pair(order: &str, a: &Upstream, b: &Upstream, inject: impl FnOnce(GateBuilder) -> GateBuilder) -> Gate {
    inject(Gate::builder().manifests(pair(order)).upstream("a", a).upstream("b", b).fallback()).start().await
}

#[tokio::test]
async fn a_credential_of_the_proxy_is_not_sent_to_the_next_provider() {
    e2e::needs!(ClusterRefresh);
    let (failing, working) = (Upstream::answering(|_| Answer::error(503, &json!({}))).await, upstream().await);
    let inject = |builder: GateBuilder| builder.injected("a", INJECTED, "sk-of-a", true);
    let gate = with_pair(&format!("a/{MODEL}, b/{MODEL}"), &failing, &working, inject).await;
    for request in [ask(&gate, &format!("a/{MODEL}")), ask(&gate, &format!("a/{MODEL}")).http2()] {
        assert_eq!(request.send().await.ok().header("x-pai-provider"), Some("b"));
        assert_sent(&failing, Some("Bearer sk-of-a"));
        assert_sent(&working, None);
    }
    // The other way round, each of them has its own.
    let gate = with_pair(&format!("b/{MODEL}, a/{MODEL}"), &working, &failing, inject).await;
    assert_eq!(ask(&gate, &format!("b/{MODEL}")).send().await.ok().header("x-pai-provider"), Some("a"));
    assert_sent(&failing, None);
    assert_sent(&working, Some("Bearer sk-of-a"));
    assert!(!gate.logs().contains("sk-of-a") && !gate.admin("/config_dump").contains("sk-of-a"));
}

/// The only candidate of a request has its credential moved too, and the next request has the next secret.
#[tokio::test]
async fn a_rotated_secret_is_used_by_the_next_request() {
    let (a, b) = (upstream().await, upstream().await);
    let inject = |builder: GateBuilder| builder.injected("a", INJECTED, "sk-first", true);
    let gate = with_pair(&format!("a/{MODEL}"), &a, &b, inject).await;
    ask(&gate, &format!("a/{MODEL}")).send().await.ok();
    assert_sent(&a, Some("Bearer sk-first"));
    gate.rotate_secret("a", "sk-second\n").await;
    until("the secret is in use", async || {
        ask(&gate, &format!("a/{MODEL}")).send().await.ok();
        a.last().header("authorization").is_some_and(|value| value == b"Bearer sk-second").then_some(())
    })
    .await;
    assert_sent(&a, Some("Bearer sk-second"));
}

#[tokio::test]
async fn a_missing_credential_is_the_gateways_error() {
    let (a, b) = (upstream().await, upstream().await);
    for order in [format!("a/{MODEL}"), format!("a/{MODEL}, b/{MODEL}")] {
        // No injector, one without a secret that forwards the request, and one that answers it.
        for (injected, optional) in [(false, true), (true, true), (true, false)] {
            let inject = |builder: GateBuilder| if injected { builder.injected("a", INJECTED, "", optional) } else { builder };
            let gate = with_pair(&order, &a, &b, inject).await;
            let reply = ask(&gate, &format!("a/{MODEL}")).send().await;
            reply.refused(502, "server_error", "upstream_auth");
            assert!(reply.message().contains("no credential for model provider `a`"), "{}", reply.describe());
            let line = gate.access_log(|line| line["status"] == 502).await;
            assert_eq!(
                (&line["decision"], &line["provider"], &line["prompt_tokens"]),
                (&json!("upstream_auth"), &json!("a"), &json!("0"))
            );
            let log = gate.logs();
            assert_eq!(log.matches("`credential_injector` of its cluster has written no").count(), usize::from(optional), "{log}");
        }
    }
    assert!(a.requests().is_empty() && b.requests().is_empty());
}

/// A provider that no agent falls back from or to: its cluster has no attempt filter, and the injector writes the header of the API.
#[tokio::test]
async fn without_an_attempt_filter_the_proxy_writes_the_header_itself() {
    let upstream = Upstream::answering(|request| match &*request.path {
        "/v1/models" => Answer::json(&responses::models(4096)),
        _ => Answer::json(&responses::chat(5, 3)),
    })
    .await;
    for (routing, fixed) in [("", false), ("routing: fixed\n", true)] {
        let mut builder = Gate::builder();
        if fixed {
            builder = builder.without_stop_iteration();
        }
        let gate = builder
            .manifests(
                provider(KEYED)
                    + &gateway(&format!("credentials: proxy\n{routing}callouts: {{ vllm-local: vllm-local-callouts }}")),
            )
            .injected("vllm-local", "authorization", "Bearer sk-of-the-proxy", false)
            .injected("vllm-local-callouts", "authorization", "Bearer sk-of-callouts", false)
            .upstream("vllm-local", &upstream)
            .start()
            .await;
        for request in [with_callers_secrets(&gate), gate.chat(&hello()).http2()] {
            request.send().await.ok();
            let chats: Vec<_> = upstream.requests().into_iter().filter(|request| request.path == "/v1/chat/completions").collect();
            let seen = chats.last().unwrap();
            assert_eq!(seen.header("authorization"), Some(b"Bearer sk-of-the-proxy".as_slice()));
            assert!(!String::from_utf8_lossy(&seen.head).contains("sk-callers-own"), "{seen:?}");
        }
        until("a callout", async || {
            let callouts = upstream.requests();
            let seen = callouts.iter().find(|request| request.path == "/v1/models")?;
            assert_eq!(seen.header("authorization"), Some(b"Bearer sk-of-callouts".as_slice()));
            Some(())
        })
        .await;
    }
}
