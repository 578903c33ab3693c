//! The order of the first three error checks, and that they run before any body is read.

use std::time::Duration;

use e2e::harness::{Authority, ClientCertificate, Gate, GateBuilder, Peers, Reply, Request, Upstream, gateway, provider};

use crate::fixtures::{
    ALICE, OPERATOR, RESEARCHER, UNKNOWN_IDENTITY, WRONG, agents, chat_body, chat_request, keys, reference, upstream,
};
use crate::outcome::Outcome::{Agent, Key, NoKey, NotNamed, Refused};
use crate::outcome::{case, check};

const CHAT: &str = "/v1/chat/completions";
const PROVIDERS: &str = "/pai/v1/model-providers";
const UNKNOWN_URL: crate::outcome::Outcome = Refused(404, "unknown_url");
const UNSUPPORTED: crate::outcome::Outcome = Refused(415, "unsupported_encoding");
const TOO_LARGE: crate::outcome::Outcome = Refused(413, "request_too_large");

fn open() -> String {
    provider("externalAccess: { enabled: true }")
}

fn developers(upstream: &Upstream) -> GateBuilder {
    Gate::builder()
        .manifests(open() + &keys() + &gateway("audience: external\nmaxRequestBytes: 1000"))
        .upstream("vllm-local", upstream)
}

fn agents_only(upstream: &Upstream) -> GateBuilder {
    Gate::builder()
        .manifests(open() + &agents() + &keys() + &gateway("audience: agents\nmaxRequestBytes: 1000"))
        .upstream("vllm-local", upstream)
}

/// A request with every defect that a later check would reject.
fn faulty(gate: &Gate) -> [(&'static str, Request); 6] {
    [
        ("compressed", gate.chat(&chat_body(&reference())).header("content-encoding", "gzip")),
        ("large", gate.post(CHAT).text("x".repeat(2000))),
        ("no JSON", gate.post(CHAT).text("{")),
        ("no media type", gate.post(CHAT).body("{}")),
        ("no such model", gate.chat(&chat_body("nowhere/x"))),
        ("no body", gate.post(CHAT)),
    ]
}

#[tokio::test]
async fn a_missing_key_is_reported_first() {
    let upstream = upstream().await;
    let gate = developers(&upstream).start().await;
    let mut cases = vec![
        case("served", chat_request(&gate).header("x-api-key", ALICE), Key("alice")),
        case("unknown path", gate.get("/nope"), NoKey),
        case("root", gate.get("/"), NoKey),
        case("wrong method", gate.get(CHAT), NoKey),
        case("models", gate.get("/v1/models"), NoKey),
        case("providers", gate.get(PROVIDERS), NoKey),
        case("wrong key on an unknown path", gate.get("/nope").header("x-api-key", WRONG), NoKey),
        case("over HTTP/2", chat_request(&gate).http2(), NoKey),
    ];
    cases.extend(faulty(&gate).map(|(name, request)| case(name, request, NoKey)));
    check(&gate, cases).await;
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn with_a_key_the_path_is_checked_next_then_the_permission() {
    let upstream = upstream().await;
    let gate = developers(&upstream).start().await;
    let key = |request: Request| request.header("x-api-key", ALICE);
    let forbidden = Refused(403, "caller_not_allowed");
    let large = "x".repeat(2000);
    let cases = [
        ("unknown path", gate.get("/nope"), UNKNOWN_URL),
        ("wrong method", gate.get(CHAT), UNKNOWN_URL),
        ("wrong method for providers", gate.post(PROVIDERS), UNKNOWN_URL),
        ("unknown path below", gate.get("/pai/v1/model-providers/x"), UNKNOWN_URL),
        ("unknown path, compressed", gate.post("/nope").header("content-encoding", "gzip"), UNKNOWN_URL),
        ("unknown path, large", gate.post("/nope").text(&large), UNKNOWN_URL),
        ("providers", gate.get(PROVIDERS), forbidden),
        ("providers with a query", gate.get("/pai/v1/model-providers?a=b"), forbidden),
        ("providers, escaped", gate.get("/pai/v1/%6dodel-providers"), forbidden),
        ("providers, compressed", gate.get(PROVIDERS).header("content-encoding", "gzip"), forbidden),
        ("providers, large", gate.request("GET", PROVIDERS).text(&large), forbidden),
        ("compressed", gate.post(CHAT).text(&large).header("content-encoding", "gzip"), UNSUPPORTED),
        ("large", gate.post(CHAT).text(&large), TOO_LARGE),
        ("no JSON", gate.post(CHAT).text("{"), Refused(400, "invalid_body")),
    ];
    check(&gate, cases.map(|(name, request, outcome)| case(name, key(request), outcome))).await;
}

#[tokio::test]
async fn an_unknown_identity_is_reported_after_the_path_and_before_all_else() {
    let upstream = upstream().await;
    let authority = Authority::new("mesh");
    let gate = agents_only(&upstream).mtls(Peers::Optional, &authority).start().await;
    let [unknown, researcher] = [UNKNOWN_IDENTITY, RESEARCHER].map(|uri| authority.client(&[uri]));
    let as_stranger = |request: Request| request.identity(&unknown);
    let mut cases = vec![
        case("named", chat_request(&gate).identity(&researcher), Agent("researcher")),
        case("named, unknown path", gate.get("/nope").identity(&researcher), UNKNOWN_URL),
        case("named, compressed", as_named(&gate, &researcher), UNSUPPORTED),
        case("unknown path", as_stranger(gate.get("/nope")), UNKNOWN_URL),
        case("wrong method", as_stranger(gate.get(CHAT)), UNKNOWN_URL),
        case("unknown path, anonymous", gate.get("/nope"), UNKNOWN_URL),
        case("a key on an unknown path", as_stranger(gate.get("/nope")).header("x-api-key", ALICE), NoKey),
        case("a key of a named one", chat_request(&gate).identity(&researcher).header("x-api-key", ALICE), NoKey),
        case("models", as_stranger(gate.get("/v1/models")), NotNamed),
        case("one model", as_stranger(gate.get("/v1/models/vllm-local%2Fx")), NotNamed),
        case("providers", as_stranger(gate.get(PROVIDERS)), NotNamed),
        case("anonymous", chat_request(&gate), NotNamed),
        case("over HTTP/2", as_stranger(chat_request(&gate)).http2(), NotNamed),
    ];
    cases.extend(faulty(&gate).map(|(name, request)| case(name, as_stranger(request), NotNamed)));
    check(&gate, cases).await;
    assert_eq!(upstream.requests().len(), 1);
}

fn as_named(gate: &Gate, researcher: &ClientCertificate) -> Request {
    chat_request(gate).header("content-encoding", "gzip").identity(researcher)
}

#[tokio::test]
async fn unauthenticated_callers_are_rejected_before_the_body_arrives() {
    let upstream = upstream().await;
    for (builder, status, code) in
        [(developers(&upstream), 401, "invalid_api_key"), (agents_only(&upstream), 403, "caller_not_allowed")]
    {
        let gate = builder.start().await;
        let mut raw = gate.raw().await;
        raw.write(format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n"))
            .await;
        let reply = raw.reply_within(Duration::from_secs(5)).await.expect("an answer");
        reply.refused(status, "invalid_request_error", code);
    }
    assert!(upstream.requests().is_empty());
}

/// The identity in an error message is what an operator puts into a manifest.
fn says(reply: &Reply, words: &[&str]) {
    let message = reply.message();
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[tokio::test]
async fn an_error_says_what_to_add() {
    let upstream = upstream().await;
    let authority = Authority::new("mesh");
    let unknown = authority.client(&[UNKNOWN_IDENTITY]);

    let gate = agents_only(&upstream).mtls(Peers::Optional, &authority).start().await;
    says(&chat_request(&gate).identity(&unknown).send().await, &[UNKNOWN_IDENTITY, "Agent"]);
    says(&chat_request(&gate).send().await, &["Agent"]);
    let other = authority.client(&[OPERATOR]);
    let reply = chat_request(&gate).identity(&other).send().await;
    says(&reply, &[OPERATOR]);
    assert!(!reply.message().contains(UNKNOWN_IDENTITY) && !reply.message().contains(RESEARCHER), "{}", reply.message());
    // Where every caller is an agent, a key has no effect.
    says(&chat_request(&gate).header("x-api-key", ALICE).send().await, &["key"]);

    let gate = Gate::builder()
        .manifests(open() + &agents() + &keys())
        .mtls(Peers::Optional, &authority)
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let message = chat_request(&gate).identity(&unknown).send().await.message();
    assert!(message.contains(UNKNOWN_IDENTITY) || message.contains("identities"), "{message}");
    says(&chat_request(&gate).send().await, &["key"]);
    says(&chat_request(&gate).header("x-api-key", WRONG).send().await, &["key"]);
}
