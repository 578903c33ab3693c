//! `identityHeader`: a header set by a trusted proxy in front of the gateway.

use e2e::harness::{Authority, Gate, Peers, Request, gateway, provider};

use crate::fixtures::{RESEARCHER, UNKNOWN_IDENTITY, WRITER, WRONG, agents, chat_body, chat_request, upstream};
use crate::outcome::Outcome::{self, Agent, Anonymous, Known, NoKey, NotNamed};
use crate::outcome::{case, check};

const NOT_ALLOWED: Outcome = Known("agent/researcher", 403, "model_not_allowed");
const HEADER: &str = "x-agent-id";

fn manifests(audience: &str) -> String {
    provider("") + &agents() + &gateway(&format!("audience: {audience}\nidentityHeader: {HEADER}"))
}

fn says(request: Request, identities: &[&str]) -> Request {
    identities.iter().fold(request, |request, identity| request.header(HEADER, identity))
}

#[tokio::test]
async fn the_header_makes_the_identity() {
    let upstream = upstream().await;
    for (audience, refused) in [("auto", NoKey), ("agents", NotNamed)] {
        let gate = Gate::start(manifests(audience), &upstream).await;
        let cases = [
            ("exact", says(chat_request(&gate), &[RESEARCHER]), Agent("researcher")),
            ("over HTTP/2", says(chat_request(&gate), &[RESEARCHER]).http2(), Agent("researcher")),
            ("a prefix", says(chat_request(&gate), &[WRITER]), Agent("team")),
            ("an unknown identity", says(chat_request(&gate), &[UNKNOWN_IDENTITY]), refused),
            ("none", chat_request(&gate), refused),
            ("empty", says(chat_request(&gate), &[""]), refused),
            ("twice", says(chat_request(&gate), &[RESEARCHER, WRITER]), refused),
            ("twice, over HTTP/2", says(chat_request(&gate), &[RESEARCHER, WRITER]).http2(), refused),
            ("the named one first", says(chat_request(&gate), &[RESEARCHER, UNKNOWN_IDENTITY]), refused),
            ("the named one last", says(chat_request(&gate), &[UNKNOWN_IDENTITY, RESEARCHER]), refused),
            ("once empty", says(chat_request(&gate), &["", RESEARCHER]), refused),
            ("then empty", says(chat_request(&gate), &[RESEARCHER, ""]), refused),
            ("two in one", says(chat_request(&gate), &[&format!("{RESEARCHER}, {WRITER}")]), refused),
            ("another header", chat_request(&gate).header("x-agent-name", RESEARCHER), refused),
            ("a certificate's header", chat_request(&gate).header("x-forwarded-client-cert", format!("URI={RESEARCHER}")), refused),
            ("with a wrong key", says(chat_request(&gate), &[RESEARCHER]).header("x-api-key", WRONG), NoKey),
        ];
        check(&gate, cases.map(|(name, request, outcome)| case(name, request, outcome))).await;
    }
}

/// A prefix must not match a value with two identities: proxies may join two header lines into one.
#[tokio::test]
async fn a_prefix_does_not_swallow_a_second_identity() {
    let upstream = upstream().await;
    let gate = Gate::start(manifests("agents"), &upstream).await;
    let cases = [
        ("twice", says(chat_request(&gate), &[WRITER, RESEARCHER])),
        ("twice, over HTTP/2", says(chat_request(&gate), &[WRITER, UNKNOWN_IDENTITY]).http2()),
        ("joined", says(chat_request(&gate), &[&format!("{WRITER}, {UNKNOWN_IDENTITY}")])),
        ("joined without a space", says(chat_request(&gate), &[&format!("{WRITER},{RESEARCHER}")])),
    ];
    check(&gate, cases.map(|(name, request)| case(name, request, NotNamed))).await;
}

#[tokio::test]
async fn the_header_counts_before_the_certificate() {
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    let gate =
        Gate::builder().manifests(manifests("agents")).mtls(Peers::Optional, &mesh).upstream("vllm-local", &upstream).start().await;
    let (researcher, unknown) = (mesh.client(&[RESEARCHER]), mesh.client(&[UNKNOWN_IDENTITY]));
    let cases = [
        ("both", says(chat_request(&gate), &[WRITER]).identity(&researcher), Agent("team")),
        ("only the header is named", says(chat_request(&gate), &[WRITER]).identity(&unknown), Agent("team")),
        ("only the certificate is named", says(chat_request(&gate), &[UNKNOWN_IDENTITY]).identity(&researcher), NotNamed),
        ("the certificate alone", chat_request(&gate).identity(&researcher), Agent("researcher")),
        ("the header alone", says(chat_request(&gate), &[RESEARCHER]), Agent("researcher")),
        ("two headers", says(chat_request(&gate), &[WRITER, UNKNOWN_IDENTITY]).identity(&researcher), NotNamed),
    ];
    check(&gate, cases.map(|(name, request, outcome)| case(name, request, outcome))).await;
}

#[tokio::test]
async fn the_header_never_reaches_the_provider() {
    let upstream = upstream().await;
    let gate = Gate::start(manifests("auto"), &upstream).await;
    for request in [
        chat_request(&gate),
        chat_request(&gate).http2(),
        chat_request(&gate).http2().trailer(HEADER, UNKNOWN_IDENTITY).trailer("x-harmless", "1"),
    ] {
        says(request, &[RESEARCHER]).send().await.ok();
        let seen = upstream.last();
        assert!(!String::from_utf8_lossy(&seen.trailers).contains(HEADER), "{}", String::from_utf8_lossy(&seen.trailers));
        assert!(!format!("{:?}", seen.headers).contains(HEADER), "{:?}", seen.headers);
        assert!(!String::from_utf8_lossy(&seen.head).contains("spiffe:"), "{}", String::from_utf8_lossy(&seen.head));
    }
    assert_eq!(upstream.requests().len(), 3);
}

/// The same manifests with fixed routing, where the headers are forwarded before the body is evaluated.
#[tokio::test]
async fn with_fixed_routing_too() {
    let upstream = upstream().await;
    let settings = gateway(&format!("routing: fixed\naudience: agents\nidentityHeader: {HEADER}"));
    let gate = Gate::builder()
        .manifests(provider("") + &agents() + &settings)
        .without_stop_iteration()
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let cases = [
        ("named", says(chat_request(&gate), &[RESEARCHER]), Agent("researcher")),
        ("named, over HTTP/2", says(chat_request(&gate), &[WRITER]).http2(), Agent("team")),
        ("an unknown identity", says(chat_request(&gate), &[UNKNOWN_IDENTITY]), NotNamed),
        ("anonymous", chat_request(&gate), NotNamed),
        ("a key", chat_request(&gate).header("x-api-key", WRONG), NoKey),
        ("a key on an unknown path", gate.get("/nope").header("x-api-key", WRONG), NoKey),
        ("an unlisted model", says(gate.chat(&chat_body("vllm-local/other")), &[RESEARCHER]), NOT_ALLOWED),
    ];
    check(&gate, cases.map(|(name, request, outcome)| case(name, request, outcome))).await;
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| request.header(HEADER).is_none()), "{seen:?}");
}

/// Without agents, an identity has no effect; the header is still removed before forwarding.
#[tokio::test]
async fn without_agents_the_header_is_only_removed() {
    let upstream = upstream().await;
    let gate = Gate::start(provider("") + &gateway(&format!("identityHeader: {HEADER}")), &upstream).await;
    let cases = [
        ("none", chat_request(&gate)),
        ("one", says(chat_request(&gate), &[RESEARCHER])),
        ("two", says(chat_request(&gate), &[RESEARCHER, WRITER])),
    ];
    check(&gate, cases.map(|(name, request)| case(name, request, Anonymous))).await;
    assert!(upstream.requests().iter().all(|request| request.header(HEADER).is_none()));
}

#[tokio::test]
async fn a_header_is_named_in_any_case() {
    let upstream = upstream().await;
    let manifests = manifests("agents").replace(HEADER, "X-Agent-ID");
    let gate = Gate::start(manifests, &upstream).await;
    check(&gate, [case("named", says(chat_request(&gate), &[RESEARCHER]), Agent("researcher"))]).await;
    assert_eq!(upstream.last().header(HEADER), None);
}

/// A value that is not visible ASCII matches no agent, and cannot corrupt the error that quotes it.
#[tokio::test]
async fn odd_values_are_refused_in_good_order() {
    let upstream = upstream().await;
    let gate = Gate::start(manifests("agents"), &upstream).await;
    let long = "a".repeat(20_000);
    for value in [b"\"}],\\".as_slice(), b"\xff\xfe", "ü".as_bytes(), b"a\tb", long.as_bytes()] {
        let reply = chat_request(&gate).header(HEADER, value).send().await;
        reply.refused(403, "invalid_request_error", "caller_not_allowed");
        assert!(reply.body.len() < 2000, "{} bytes for {} bytes of identity", reply.body.len(), value.len());
    }
    check(&gate, [case("named", says(chat_request(&gate), &[RESEARCHER]), Agent("researcher"))]).await;
}
