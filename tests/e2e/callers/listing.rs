//! `GET /v1/models` and developers' models: every caller sees exactly the models that it may use.

use std::collections::BTreeSet;

use e2e::harness::{Gate, Request, Upstream, gateway, named_provider};
use serde_json::Value;

use crate::fixtures::{access_key, agent, chat_body, upstream};
use crate::outcome::Outcome::{self, Agent, Key, Known, Refused};
use crate::outcome::{case, check};

const HEADER: &str = "x-agent-id";

/// The keys: name, and the patterns of `models`.
const KEYS: [(&str, Option<&str>); 8] = [
    ("everything", None),
    ("star", Some("['*']")),
    ("provider", Some("['listed/*']")),
    ("prefix", Some("['listed/org/*']")),
    ("reference", Some("[wild/large]")),
    ("mixed", Some("[wild/large, listed/small, 'listed/qwen/x']")),
    ("inside", Some("['internal/*', internal/secret, closed/shut]")),
    ("denied", Some("[listed/denied, listed/absent, listed/small]")),
];

fn secret(name: &str) -> String {
    format!("pak_{name}-0123456789abcdef")
}

async fn gate(upstream: &Upstream) -> Gate {
    let open = "externalAccess: { enabled: true }";
    let keys: String = KEYS
        .iter()
        .map(|(name, models)| {
            access_key(
                name,
                &secret(name),
                &models.map(|models| format!("models: {models}")).iter().map(String::as_str).collect::<Vec<_>>(),
            )
        })
        .collect();
    let models =
        ["wild/large", "internal/secret", "listed/org/deep", "listed/denied", "listed/qwen/x", "listed/absent", "listed/small"];
    let builder = Gate::builder()
        .manifests(named_provider(
            "listed",
            &format!("allowedModels: [small, 'qwen/*', org/deep, denied]\ndeniedModels: [denied]\n{open}"),
        ))
        .manifests(named_provider("wild", &format!("deniedModels: ['bad*']\n{open}")))
        .manifests(named_provider("internal", "allowedModels: [secret]"))
        .manifests(named_provider("closed", "allowedModels: [shut]\nexternalAccess: { enabled: false }"))
        .manifests(agent("researcher", &["researcher"], &models))
        .manifests(agent("other", &["other"], &["listed/small"]))
        .manifests(keys)
        .manifests(gateway(&format!("identityHeader: {HEADER}")));
    let providers = ["listed", "wild", "internal", "closed"];
    providers.iter().fold(builder, |builder, name| builder.upstream(name, upstream)).start().await
}

fn as_agent(request: Request, name: &str) -> Request {
    request.header(HEADER, name)
}

fn as_developer(request: Request, name: &str) -> Request {
    request.header("authorization", format!("Bearer {}", secret(name)))
}

async fn listed(request: Request) -> Vec<String> {
    let body = request.send().await.ok().json();
    assert_eq!(body["object"], "list");
    let id = |model: &Value| {
        let id = model["id"].as_str().unwrap().to_owned();
        assert_eq!(model["owned_by"].as_str(), id.split('/').next(), "{model}");
        id
    };
    body["data"].as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn every_caller_sees_its_own_list() {
    let gate = gate(&upstream().await).await;
    let expected = ["wild/large", "internal/secret", "listed/org/deep", "listed/qwen/x", "listed/small"];
    for request in [gate.get("/v1/models"), gate.get("/v1/models").http2()] {
        assert_eq!(listed(as_agent(request, "researcher")).await, expected);
    }
    assert_eq!(listed(as_agent(gate.get("/v1/models"), "other")).await, ["listed/small"]);

    // A developer sees the models that its key allows.
    for (name, expected) in [
        ("everything", &["listed/small", "listed/org/deep"][..]),
        ("star", &["listed/small", "listed/org/deep"]),
        ("provider", &["listed/small", "listed/org/deep"]),
        ("prefix", &["listed/org/deep"]),
        ("reference", &["wild/large"]),
        ("mixed", &["wild/large", "listed/small", "listed/qwen/x"]),
        ("inside", &[]),
        ("denied", &["listed/small"]),
    ] {
        let seen = listed(as_developer(gate.get("/v1/models"), name)).await;
        let unique: BTreeSet<&str> = seen.iter().map(String::as_str).collect();
        assert_eq!(unique.len(), seen.len(), "{name}: {seen:?}");
        assert_eq!(unique, expected.iter().copied().collect(), "{name}");
    }
}

#[tokio::test]
async fn a_model_is_found_by_callers_that_may_use_it() {
    let upstream = upstream().await;
    let gate = gate(&upstream).await;
    let get = |reference: &str| gate.get(&format!("/v1/models/{}", reference.replace('/', "%2F")));
    let missing = |subject: &'static str| Known(subject, 404, "model_not_found");
    let agents = [
        ("wild/large", Agent("researcher")),
        ("internal/secret", Agent("researcher")),
        ("listed/org/deep", Agent("researcher")),
        ("listed/qwen/x", Agent("researcher")),
        ("listed/qwen/y", missing("agent/researcher")),
        ("listed/denied", missing("agent/researcher")),
        ("listed/absent", missing("agent/researcher")),
        ("wild/other", missing("agent/researcher")),
        ("closed/shut", missing("agent/researcher")),
        ("nowhere/x", missing("agent/researcher")),
    ];
    let developers = [
        ("everything", "listed/small", Key("everything")),
        ("everything", "listed/qwen/any", Key("everything")),
        ("everything", "wild/any", Key("everything")),
        ("everything", "wild/org/any", Key("everything")),
        ("everything", "wild/bad-one", missing("key/everything")),
        ("everything", "listed/denied", missing("key/everything")),
        ("everything", "listed/other", missing("key/everything")),
        ("everything", "internal/secret", missing("key/everything")),
        ("everything", "closed/shut", missing("key/everything")),
        ("everything", "nowhere/x", missing("key/everything")),
        ("prefix", "listed/org/deep", Key("prefix")),
        ("prefix", "listed/small", missing("key/prefix")),
        ("prefix", "wild/org/deep", missing("key/prefix")),
        ("reference", "wild/large", Key("reference")),
        ("reference", "wild/large2", missing("key/reference")),
        ("inside", "internal/secret", missing("key/inside")),
        ("inside", "closed/shut", missing("key/inside")),
        ("denied", "listed/denied", missing("key/denied")),
        ("denied", "listed/absent", missing("key/denied")),
    ];
    let agents = agents.map(|(model, outcome)| case(model, as_agent(get(model), "researcher"), outcome));
    let developers =
        developers.map(|(name, model, outcome)| case(format!("{name}: {model}"), as_developer(get(model), name), outcome));
    check(&gate, agents.into_iter().chain(developers)).await;
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn developers_use_what_they_see() {
    let upstream = upstream().await;
    let gate = gate(&upstream).await;
    const NOT_ALLOWED: Outcome = Refused(403, "model_not_allowed");
    const NOT_FOUND: Outcome = Refused(404, "model_not_found");
    let cases = [
        ("everything", "listed/small", Key("everything")),
        ("everything", "listed/qwen/any", Key("everything")),
        ("everything", "wild/org/any", Key("everything")),
        ("everything", "small", Key("everything")),
        ("everything", "org/deep", Key("everything")),
        ("everything", "whatever", Key("everything")),
        ("everything", "internal/secret", NOT_ALLOWED),
        ("everything", "closed/shut", NOT_ALLOWED),
        ("everything", "listed/denied", NOT_ALLOWED),
        ("everything", "wild/bad-one", NOT_ALLOWED),
        // A provider without a model list never serves a bare id with a slash; the internal provider does not exist for developers.
        ("everything", "nowhere/x", NOT_FOUND),
        ("provider", "listed/org/deep", Key("provider")),
        ("provider", "wild/large", NOT_ALLOWED),
        ("provider", "shut", NOT_FOUND),
        ("provider", "secret", NOT_FOUND),
        ("prefix", "listed/org/deep", Key("prefix")),
        ("prefix", "org/deep", Key("prefix")),
        ("prefix", "listed/small", NOT_ALLOWED),
        ("prefix", "small", NOT_FOUND),
        ("reference", "wild/large", Key("reference")),
        ("reference", "large", Key("reference")),
        ("reference", "wild/large2", NOT_ALLOWED),
        ("reference", "small", NOT_FOUND),
        ("inside", "internal/secret", NOT_ALLOWED),
        ("inside", "secret", NOT_FOUND),
        ("denied", "listed/denied", NOT_ALLOWED),
        ("denied", "listed/small", Key("denied")),
    ];
    let cases = cases
        .map(|(name, model, outcome)| case(format!("{name}: {model}"), as_developer(gate.chat(&chat_body(model)), name), outcome));
    check(&gate, cases).await;

    // An error mentions no model that the developer may not use.
    for (name, model) in [("everything", "nowhere/x"), ("prefix", "small"), ("reference", "small"), ("inside", "secret")] {
        let message = as_developer(gate.chat(&chat_body(model)), name).send().await.message();
        for hidden in ["internal/", "closed/", "listed/denied", "listed/absent", "listed/qwen/x"] {
            assert!(!message.contains(hidden), "{name}: {message}");
        }
        let usable = match name {
            "everything" => "listed/small",
            "prefix" => "listed/org/deep",
            "reference" => "wild/large",
            _ => "",
        };
        assert!(message.contains(usable), "{name}: {message}");
    }
}
