//! Which callers count as developers, agents or anonymous: all combinations of audience, configuration, credential and identity.

use e2e::harness::{Authority, ClientCertificate, Gate, Peers, Request, gateway, provider};

use crate::fixtures::{
    ALICE, BOB, DISABLED, EXPIRED, RESEARCHER, SECRETS, UNKNOWN_IDENTITY, WRITER, WRONG, agents, chat_request, keys, upstream,
};
use crate::outcome::Outcome::{self, Agent, Anonymous, Key, Known, NoKey, NotNamed};
use crate::outcome::{Case, case, failures};

/// The manifests of a configuration besides its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manifests {
    Nothing,
    Agents,
    Keys,
    KeysOpen,
    ClosedBlock,
    All,
}

use Manifests::{Agents, All, ClosedBlock, Keys, KeysOpen, Nothing};

/// The outcomes of callers under one audience and configuration.
struct Row {
    manifests: Manifests,
    /// Without a key: anonymous, the researcher, a writer, an unknown identity.
    without_key: [Outcome; 4],
    /// With a key that is valid wherever keys are configured, for any caller.
    with_key: Outcome,
}

/// The key is valid, but no provider is open to developers.
const NOT_OPEN: Outcome = Known("key/alice", 403, "model_not_allowed");
const NAMED: [Outcome; 4] = [NoKey, Agent("researcher"), Agent("team"), NoKey];
const NAMED_ONLY: [Outcome; 4] = [NotNamed, Agent("researcher"), Agent("team"), NotNamed];

/// Under this audience, neither `externalAccess` nor a key makes a caller a developer.
const AGENTS: [Row; 4] = [
    Row { manifests: Nothing, without_key: [Anonymous; 4], with_key: NoKey },
    Row { manifests: KeysOpen, without_key: [Anonymous; 4], with_key: NoKey },
    Row { manifests: Agents, without_key: NAMED_ONLY, with_key: NoKey },
    Row { manifests: All, without_key: NAMED_ONLY, with_key: NoKey },
];

const EXTERNAL: [Row; 3] = [
    Row { manifests: Nothing, without_key: [NoKey; 4], with_key: NoKey },
    Row { manifests: Keys, without_key: [NoKey; 4], with_key: NOT_OPEN },
    Row { manifests: All, without_key: [NoKey; 4], with_key: Key("alice") },
];

const AUTO: [Row; 6] = [
    Row { manifests: Nothing, without_key: [Anonymous; 4], with_key: NoKey },
    Row { manifests: Agents, without_key: NAMED, with_key: NoKey },
    Row { manifests: Keys, without_key: [NoKey; 4], with_key: NOT_OPEN },
    Row { manifests: KeysOpen, without_key: [NoKey; 4], with_key: Key("alice") },
    Row { manifests: ClosedBlock, without_key: [NoKey; 4], with_key: NoKey },
    Row { manifests: All, without_key: NAMED, with_key: Key("alice") },
];

impl Manifests {
    fn manifests(self) -> String {
        let (open, closed) = ("externalAccess: { enabled: true }", "externalAccess: { enabled: false }");
        match self {
            Nothing => provider(""),
            Agents => provider("") + &agents(),
            Keys => provider("") + &keys(),
            KeysOpen => provider(open) + &keys(),
            ClosedBlock => provider(closed),
            All => provider(open) + &agents() + &keys(),
        }
    }
}

/// Headers without an access key.
const NO_KEY: [&[(&str, &str)]; 6] = [
    &[],
    &[("authorization", "Bearer sk-x")],
    &[("authorization", "Basic cGFrXzp4")],
    &[("x-api-key", "sk-x"), ("api-key", "pa")],
    &[("authorization", "Bearer Xpak_a")],
    &[("authorization", "")],
];

/// Alice's key in every header in which clients send keys.
const GOOD_KEY: [&[(&str, &str)]; 7] = [
    &[("authorization", BEARER_ALICE)],
    &[("authorization", "bearer pak_alice-7d0f6c1b2a9e4358")],
    &[("x-api-key", ALICE)],
    &[("api-key", ALICE)],
    &[("authorization", BEARER_ALICE), ("x-api-key", ALICE)],
    &[("authorization", "Bearer sk-x"), ("x-api-key", ALICE)],
    &[("authorization", BEARER_ALICE), ("authorization", BEARER_ALICE)],
];

/// Values that look like access keys but do not authenticate.
const BAD_KEY: [&[(&str, &str)]; 13] = [
    &[("authorization", "Bearer pak_wrong-2f7c4e9b1d8a0635")],
    &[("x-api-key", WRONG)],
    &[("api-key", DISABLED)],
    &[("x-api-key", EXPIRED)],
    &[("authorization", "Bearer pak_")],
    &[("x-api-key", "pak_alice-7d0f6c1b2a9e435")],
    &[("x-api-key", "pak_alice-7d0f6c1b2a9e43588")],
    &[("authorization", BEARER_ALICE), ("x-api-key", BOB)],
    &[("x-api-key", ALICE), ("api-key", WRONG)],
    &[("x-api-key", ALICE), ("x-api-key", BOB)],
    &[("authorization", BEARER_ALICE), ("authorization", "Bearer pak_wrong-2f7c4e9b1d8a0635")],
    &[("authorization", "Bearer pak_alice-7d0f6c1b2a9e4358, Bearer pak_bob-1c5f9a3e7b2d4860")],
    &[("authorization", "bearer pak_wrong-2f7c4e9b1d8a0635")],
];

const BEARER_ALICE: &str = "Bearer pak_alice-7d0f6c1b2a9e4358";

fn with_headers(request: Request, headers: &[(&str, &str)]) -> Request {
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

fn identified(request: Request, identity: Option<&ClientCertificate>) -> Request {
    match identity {
        Some(identity) => request.identity(identity),
        None => request,
    }
}

fn cases(gate: &Gate, row: &Row, callers: &[Option<ClientCertificate>; 4]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (caller, without_key) in callers.iter().zip(row.without_key) {
        let kinds = [(NO_KEY.as_slice(), without_key), (&GOOD_KEY, row.with_key), (&BAD_KEY, NoKey)];
        for (headers, outcome) in kinds.into_iter().flat_map(|(kind, outcome)| kind.iter().map(move |headers| (headers, outcome))) {
            let who = caller.as_ref().map_or("anonymous", ClientCertificate::name);
            let request = identified(with_headers(chat_request(gate), headers), caller.as_ref());
            cases.push(case(format!("{:?}: {who} with {headers:?}", row.manifests), request, outcome));
        }
    }
    cases
}

/// A value that is too long for any key still counts as a key.
#[tokio::test]
async fn a_key_of_any_length_is_a_key() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let long = |length: usize| format!("Bearer pak_{}", "a".repeat(length));
    let cases = [1, 500, 5000, 50_000]
        .map(|length| case(length.to_string(), chat_request(&gate).header("authorization", long(length)), NoKey));
    crate::outcome::check(&gate, cases).await;
}

async fn check_all(audience: Option<&str>, rows: &[Row]) {
    let upstream = upstream().await;
    let authority = Authority::new("mesh");
    let callers = [None, Some(RESEARCHER), Some(WRITER), Some(UNKNOWN_IDENTITY)].map(|uri| uri.map(|uri| authority.client(&[uri])));
    let mut wrong = Vec::new();
    for row in rows {
        let gate = Gate::builder()
            .manifests(row.manifests.manifests())
            .manifests(audience.map(|audience| gateway(&format!("audience: {audience}"))).unwrap_or_default())
            .mtls(Peers::Optional, &authority)
            .upstream("vllm-local", &upstream)
            .start()
            .await;
        wrong.extend(failures(&gate, cases(&gate, row, &callers)).await);
        let log = gate.logs();
        assert!(SECRETS.iter().all(|secret| !log.contains(secret)), "a key is in the log");
    }
    assert!(wrong.is_empty(), "{audience:?}: {} cases failed:\n{}", wrong.len(), wrong.join("\n"));
    for request in upstream.requests() {
        assert!(!String::from_utf8_lossy(&request.head).contains("pak_"), "a key reached the provider: {request:?}");
    }
}

#[tokio::test]
async fn where_every_caller_is_an_agent() {
    check_all(Some("agents"), &AGENTS).await;
}

#[tokio::test]
async fn where_every_caller_is_a_developer() {
    check_all(Some("external"), &EXTERNAL).await;
}

#[tokio::test]
async fn where_the_configuration_decides() {
    // The default audience is `auto`.
    check_all(None, &AUTO[..5]).await;
    check_all(Some("auto"), &AUTO[5..]).await;
}
