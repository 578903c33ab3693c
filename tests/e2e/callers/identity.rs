//! Identities: the first URI of a verified certificate, or a waypoint's filter state; never a value that the client merely sends.

use std::time::{Duration, SystemTime};

use e2e::harness::{
    Authority, ClientCertificate, EnvoyFeature, Gate, GateBuilder, Peers, Request, Upstream, gateway, provider, until,
};

use crate::fixtures::{RESEARCHER, UNKNOWN_IDENTITY, WRITER, agent, agents, chat_request, reference, upstream};
use crate::outcome::Outcome::{Agent, NoKey, NotNamed};
use crate::outcome::{case, check};

fn builder(upstream: &Upstream) -> GateBuilder {
    Gate::builder().manifests(provider("") + &agents()).upstream("vllm-local", upstream)
}

#[tokio::test]
async fn the_first_uri_of_a_certificate_counts() {
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    let gate = builder(&upstream).mtls(Peers::Required, &mesh).start().await;
    let chat_request = |certificate: &ClientCertificate| chat_request(&gate).identity(certificate);
    let cases = [
        case("one URI", chat_request(&mesh.client(&[RESEARCHER])), Agent("researcher")),
        case("over HTTP/2", chat_request(&mesh.client(&[RESEARCHER])).http2(), Agent("researcher")),
        case("a prefix", chat_request(&mesh.client(&[WRITER])), Agent("team")),
        case("the named one first", chat_request(&mesh.client(&[RESEARCHER, UNKNOWN_IDENTITY])), Agent("researcher")),
        case("the named one second", chat_request(&mesh.client(&[UNKNOWN_IDENTITY, RESEARCHER])), NoKey),
        case("another scheme first", chat_request(&mesh.client(&["https://example.org/", RESEARCHER])), NoKey),
        case("two that are named", chat_request(&mesh.client(&[WRITER, RESEARCHER])), Agent("team")),
        case("a host", chat_request(&mesh.client_host("researcher.agents.svc")), NoKey),
        case("no name at all", chat_request(&mesh.client(&[])), NoKey),
        case("longer than an exact one", chat_request(&mesh.client(&[&format!("{RESEARCHER}2")])), NoKey),
        case("shorter than an exact one", chat_request(&mesh.client(&[RESEARCHER.trim_end_matches('r')])), NoKey),
        case("other case", chat_request(&mesh.client(&[&RESEARCHER.replace("sa/r", "sa/R")])), NoKey),
        case("a prefix itself", chat_request(&mesh.client(&["spiffe://cluster.local/ns/team/"])), Agent("team")),
        case("less than a prefix", chat_request(&mesh.client(&["spiffe://cluster.local/ns/team"])), NoKey),
        case("a pattern for a name", chat_request(&mesh.client(&["spiffe://cluster.local/ns/*"])), NoKey),
    ];
    check(&gate, cases).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_no_identity() {
    let upstream = upstream().await;
    let (mesh, foreign) = (Authority::new("mesh"), Authority::new("foreign"));
    let forged = foreign.client(&[RESEARCHER]);
    let gate = builder(&upstream).mtls(Peers::Optional, &mesh).start().await;
    assert!(chat_request(&gate).identity(&forged).try_stream().await.is_err());
    check(&gate, [case("ours", chat_request(&gate).identity(&mesh.client(&[RESEARCHER])), Agent("researcher"))]).await;

    let gate = builder(&upstream).manifests(gateway("audience: agents")).mtls(Peers::AcceptUntrusted, &mesh).start().await;
    // Before 1.39 Envoy does not report verification; docs/callers.md warns about such a listener.
    let taken = if EnvoyFeature::PeerCertificateValid.is_supported() { NotNamed } else { Agent("researcher") };
    let cases = [
        case("forged", chat_request(&gate).identity(&forged), taken),
        case("forged over HTTP/2", chat_request(&gate).identity(&forged).http2(), taken),
        case("none", chat_request(&gate), NotNamed),
        case("ours", chat_request(&gate).identity(&mesh.client(&[RESEARCHER])), Agent("researcher")),
        case("forged after ours", chat_request(&gate).identity(&forged), taken),
    ];
    check(&gate, cases).await;
}

/// An expired certificate is no identity, even on a listener that accepts it.
#[tokio::test]
async fn an_expired_certificate_is_no_identity() {
    e2e::needs!(PeerCertificateValid);
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    let gate = builder(&upstream).mtls(Peers::AcceptUntrusted, &mesh).start().await;
    let expired = mesh.client_until(&[RESEARCHER], SystemTime::now() - Duration::from_secs(60));
    check(&gate, [case("expired before", chat_request(&gate).identity(&expired), NoKey)]).await;

    let expiring = mesh.client_until(&[RESEARCHER], SystemTime::now() + Duration::from_secs(3));
    check(&gate, [case("not yet expired", chat_request(&gate).identity(&expiring), Agent("researcher"))]).await;
    until("the certificate has expired", async || {
        (chat_request(&gate).identity(&expiring).send().await.status == 401).then_some(())
    })
    .await;
}

/// For a resumed session Envoy reports only that a certificate was presented, not that it was verified.
#[tokio::test]
async fn a_resumed_session_has_the_identity_of_its_first_handshake() {
    let upstream = upstream().await;
    let (mesh, foreign) = (Authority::new("mesh"), Authority::new("foreign"));
    for peers in [Peers::Required, Peers::AcceptUntrusted] {
        let gate = builder(&upstream).mtls(peers, &mesh).start().await;
        check_resumed(&gate, &mesh.client(&[RESEARCHER]), 200).await;
        if peers == Peers::AcceptUntrusted {
            let status = if EnvoyFeature::PeerCertificateValid.is_supported() { 401 } else { 200 };
            check_resumed(&gate, &foreign.client(&[RESEARCHER]), status).await;
        }
    }
}

/// Performs one full handshake, then resumed sessions.
async fn check_resumed(gate: &Gate, certificate: &ClientCertificate, status: u16) {
    let certificate = certificate.clone().resuming();
    let mut resumed = 0;
    for number in 0..8 {
        let answer = chat_request(gate).identity(&certificate).stream().await;
        resumed += u32::from(answer.resumed);
        let reply = answer.rest().await;
        assert_eq!(reply.status, status, "request {number}, {resumed} sessions resumed: {}", reply.describe());
    }
    assert!(resumed >= 4, "{resumed} sessions were resumed");
}

/// Headers that clients send to pose as another caller.
const CLAIMS: [(&str, &str); 14] = [
    ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/agents/sa/researcher"),
    ("x-forwarded-client-cert", "By=spiffe://a;Hash=00;Subject=\"\";URI=spiffe://cluster.local/ns/agents/sa/researcher"),
    ("x-agent-id", RESEARCHER),
    ("x-pai-identity", RESEARCHER),
    ("x-pai-agent", "researcher"),
    ("x-pai-subject", "agent/researcher"),
    ("x-pai-provider", "vllm-local"),
    ("x-envoy-peer-metadata-id", RESEARCHER),
    ("x-envoy-peer-metadata", "ChoKCnByaW5jaXBhbBIMGgpyZXNlYXJjaGVy"),
    ("x-istio-attributes", RESEARCHER),
    ("io.istio.peer_principal", RESEARCHER),
    ("baggage", "k8s.namespace.name=agents,service.name=researcher"),
    ("from", RESEARCHER),
    ("identity", RESEARCHER),
];

fn claiming(request: Request, claim: (&str, &str)) -> Request {
    request.header(claim.0, claim.1)
}

#[tokio::test]
async fn what_a_client_sends_is_no_identity() {
    let upstream = upstream().await;
    let mesh = Authority::new("mesh");
    for (audience, refused) in [("auto", NoKey), ("agents", NotNamed)] {
        let gate =
            builder(&upstream).manifests(gateway(&format!("audience: {audience}"))).mtls(Peers::Optional, &mesh).start().await;
        let (unknown, writer) = (mesh.client(&[UNKNOWN_IDENTITY]), mesh.client(&[WRITER]));
        let cases = CLAIMS.into_iter().flat_map(|claim| {
            [
                case(format!("anonymous, {claim:?}"), claiming(chat_request(&gate), claim), refused),
                case(format!("anonymous over HTTP/2, {claim:?}"), claiming(chat_request(&gate).http2(), claim), refused),
                case(format!("an unknown identity, {claim:?}"), claiming(chat_request(&gate).identity(&unknown), claim), refused),
                case(format!("another agent, {claim:?}"), claiming(chat_request(&gate).identity(&writer), claim), Agent("team")),
            ]
        });
        check(&gate, cases).await;
    }
}

#[tokio::test]
async fn a_waypoint_reports_its_peers_principal() {
    let upstream = upstream().await;
    for (principal, outcome) in [(RESEARCHER, Agent("researcher")), (UNKNOWN_IDENTITY, NoKey)] {
        let gate = builder(&upstream).connection_state("io.istio.peer_principal", principal).start().await;
        check(&gate, [case(principal, chat_request(&gate), outcome), case("over HTTP/2", chat_request(&gate).http2(), outcome)])
            .await;
    }
    // Headers with which peers identify themselves, and the proxy's own identity.
    let others =
        ["io.istio.local_principal", "downstream_peer", "wasm.downstream_peer", "upstream_peer", "wasm.io.istio.peer_principal"];
    let gate = others.iter().fold(builder(&upstream), |builder, state| builder.connection_state(state, RESEARCHER)).start().await;
    check(&gate, [case("other state", chat_request(&gate), NoKey)]).await;
}

#[tokio::test]
async fn the_most_specific_identity_wins_in_any_order() {
    let upstream = upstream().await;
    let models = reference();
    let agents = [
        ("anyone", "*"),
        ("trust-domain", "spiffe://cluster.local/*"),
        ("namespace", "spiffe://cluster.local/ns/agents/*"),
        ("family", "spiffe://cluster.local/ns/agents/sa/res*"),
        ("exact", RESEARCHER),
        // A pattern that is longer than an exact name only by its star.
        ("starred", "spiffe://cluster.local/ns/agents/sa/researcher*"),
    ];
    let manifests = agents.map(|(name, identity)| agent(name, &[identity], &[&models]));
    let reversed: String = manifests.iter().rev().map(String::as_str).collect();
    for agents in [manifests.concat(), reversed] {
        let manifests = provider("") + &agents + &gateway("identityHeader: x-agent-id");
        let gate = Gate::start(manifests, &upstream).await;
        let cases = [
            (RESEARCHER, "exact"),
            ("spiffe://cluster.local/ns/agents/sa/researcher-2", "starred"),
            ("spiffe://cluster.local/ns/agents/sa/researche", "family"),
            ("spiffe://cluster.local/ns/agents/sa/writer", "namespace"),
            ("spiffe://cluster.local/ns/agents", "trust-domain"),
            ("spiffe://elsewhere/ns/agents/sa/researcher", "anyone"),
            ("*", "anyone"),
        ];
        check(&gate, cases.map(|(identity, name)| case(identity, chat_request(&gate).header("x-agent-id", identity), Agent(name))))
            .await;
        // `*` matches every caller with an identity, not anonymous callers.
        check_anonymous(&gate).await;
    }
}

async fn check_anonymous(gate: &Gate) {
    chat_request(gate).send().await.refused(401, "invalid_request_error", "invalid_api_key");
}
