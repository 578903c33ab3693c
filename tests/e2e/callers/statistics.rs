//! Statistics and access log contain the name of the agent or key, never the credential, and only configured names.

use std::collections::BTreeSet;

use e2e::harness::{Gate, Request, Upstream, gateway, provider, until};
use serde_json::Value;

use crate::fixtures::{
    ALICE, BOB, RESEARCHER, SECRETS, UNKNOWN_IDENTITY, WRITER, WRONG, agents, chat_body, chat_request, keys, upstream,
};

const HEADER: &str = "x-agent-id";

async fn gate(upstream: &Upstream) -> Gate {
    let provider = provider("externalAccess: { enabled: true }\ndeniedModels: [bad]");
    Gate::start(provider + &agents() + &keys() + &gateway(&format!("identityHeader: {HEADER}")), upstream).await
}

fn known(request: Request) -> Request {
    request.header(HEADER, RESEARCHER)
}

fn key(request: Request, secret: &str) -> Request {
    request.header("authorization", format!("Bearer {secret}"))
}

/// Returns the series of one statistic: labels and value.
fn series(gate: &Gate, statistic: &str) -> Vec<(String, f64)> {
    let text = gate.prometheus();
    let lines = text.lines().filter_map(|line| line.strip_prefix(statistic)?.strip_prefix('{'));
    lines
        .filter_map(|line| line.rsplit_once("} "))
        .filter_map(|(labels, value)| Some((labels.to_owned(), value.parse().ok()?)))
        .collect()
}

async fn until_counted(gate: &Gate, statistic: &str, labels: &[&str], wanted: f64) {
    until(&format!("{statistic} {labels:?} is {wanted}"), async || {
        let found = series(gate, statistic).into_iter().find(|(known, _)| labels.iter().all(|label| known.contains(label)));
        found.filter(|(_, value)| (value - wanted).abs() < f64::EPSILON)
    })
    .await;
}

#[tokio::test]
async fn requests_and_tokens_are_counted_by_subject() {
    let upstream = upstream().await;
    let gate = gate(&upstream).await;
    for request in [
        known(chat_request(&gate)),
        known(chat_request(&gate)).http2(),
        chat_request(&gate).header(HEADER, WRITER),
        key(chat_request(&gate), ALICE),
    ] {
        request.send().await.ok();
    }
    for request in [known(gate.chat(&chat_body("vllm-local/bad"))), key(gate.chat(&chat_body("vllm-local/bad")), BOB)] {
        request.send().await.refused(403, "invalid_request_error", "model_not_allowed");
    }
    for request in [chat_request(&gate), key(chat_request(&gate), WRONG), chat_request(&gate).header(HEADER, UNKNOWN_IDENTITY)] {
        request.send().await.refused(401, "invalid_request_error", "invalid_api_key");
    }
    for (subject, decision, count) in [
        ("agent/researcher", "allowed", 2.0),
        ("agent/team", "allowed", 1.0),
        ("key/alice", "allowed", 1.0),
        ("agent/researcher", "model_not_allowed", 1.0),
        ("key/bob", "model_not_allowed", 1.0),
    ] {
        let labels = [format!("subject=\"{subject}\""), format!("decision=\"{decision}\"")];
        until_counted(&gate, "pai_subject_requests_total", &[&labels[0], &labels[1]], count).await;
    }
    // A caller that is not configured has no series of its own.
    until_counted(&gate, "pai_requests_total", &["decision=\"invalid_api_key\""], 3.0).await;
    for (subject, prompt, completion) in [("agent/researcher", 10.0, 6.0), ("agent/team", 5.0, 3.0), ("key/alice", 5.0, 3.0)] {
        let label = format!("subject=\"{subject}\"");
        until_counted(&gate, "pai_subject_prompt_tokens_total", &[&label], prompt).await;
        until_counted(&gate, "pai_subject_completion_tokens_total", &[&label], completion).await;
    }
}

#[tokio::test]
async fn client_input_never_creates_a_time_series() {
    let upstream = upstream().await;
    let gate = gate(&upstream).await;
    for number in 0..20 {
        key(chat_request(&gate), &format!("pak_canary-{number}")).send().await;
        chat_request(&gate).header(HEADER, format!("spiffe://canary/{number}")).send().await;
        chat_request(&gate).header(HEADER, format!("spiffe://cluster.local/ns/team/sa/canary.{number}=;")).send().await.ok();
        chat_request(&gate).header(HEADER, format!("agent/researcher;.;canary=.={number}")).send().await;
    }
    until_counted(&gate, "pai_subject_requests_total", &["subject=\"agent/team\"", "decision=\"allowed\""], 20.0).await;
    until_counted(&gate, "pai_requests_total", &["decision=\"invalid_api_key\""], 60.0).await;
    let text = gate.prometheus();
    assert!(!text.contains("canary") && gate.stats("canary").is_empty());
    let subjects: BTreeSet<&str> =
        text.split("subject=\"").skip(1).filter_map(|rest| rest.split('"').next()).filter(|subject| !subject.is_empty()).collect();
    let configured = ["agent/researcher", "agent/team", "key/alice", "key/bob", "key/disabled", "key/expired", "anonymous", "none"];
    assert!(subjects.is_subset(&configured.into()), "{subjects:?}");
}

#[tokio::test]
async fn the_access_log_names_subject_and_decision() {
    let upstream = upstream().await;
    let gate = gate(&upstream).await;
    let cases = [
        ("a", known(chat_request(&gate)), "agent/researcher", "allowed"),
        ("b", key(chat_request(&gate), ALICE), "key/alice", "allowed"),
        ("c", key(gate.chat(&chat_body("vllm-local/bad")), ALICE), "key/alice", "model_not_allowed"),
        ("d", known(gate.post("/v1/chat/completions").text("{")), "agent/researcher", "invalid_body"),
        ("e", known(gate.get("/nope")), "agent/researcher", "unknown_url"),
        ("f", key(gate.get("/pai/v1/model-providers"), BOB), "key/bob", "caller_not_allowed"),
        ("g", key(chat_request(&gate), WRONG), "none", "invalid_api_key"),
        ("h", chat_request(&gate), "none", "invalid_api_key"),
        ("i", known(chat_request(&gate)).http2(), "agent/researcher", "allowed"),
    ];
    for (name, request, subject, decision) in cases {
        request.header("x-test-case", name).send().await;
        let line = gate.access_log(|line| line["case"] == name).await;
        assert_eq!((line["subject"].as_str(), line["decision"].as_str()), (Some(subject), Some(decision)), "{name}: {line}");
        if decision == "allowed" {
            assert_eq!((&line["prompt_tokens"], &line["completion_tokens"]), (&Value::from("5"), &Value::from("3")), "{line}");
        }
    }
}

/// Nothing that an operator can read contains a key.
#[tokio::test]
async fn no_credential_is_anywhere() {
    let upstream = upstream().await;
    let gate = gate(&upstream).await;
    for secret in SECRETS {
        for name in ["authorization", "x-api-key", "api-key"] {
            let value = if name == "authorization" { format!("Bearer {secret}") } else { secret.to_owned() };
            let reply = chat_request(&gate).header(name, value).send().await;
            assert!(!reply.describe().contains(secret), "{}", reply.describe());
        }
    }
    let lines = format!("{:?}", gate.access_lines());
    for secret in SECRETS {
        for text in [&gate.logs(), &gate.prometheus(), &lines] {
            assert!(!text.contains(secret), "{secret}");
        }
        assert!(gate.stats(secret).is_empty());
        assert!(upstream.requests().iter().all(|request| !String::from_utf8_lossy(&request.head).contains(secret)));
    }
}
