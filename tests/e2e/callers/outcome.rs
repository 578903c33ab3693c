//! The outcome of a request, from its response and the access log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::harness::{Gate, Reply, Request, until};
use serde_json::Value;

use crate::fixtures::SECRETS;

/// The subject of a request, or why it was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Served as an anonymous agent.
    Anonymous,
    /// Served as this agent.
    Agent(&'static str),
    /// Served as the developer with this key.
    Key(&'static str),
    /// Served to an operator.
    Operator,
    /// Authenticated as this subject, and rejected with this status and code.
    Known(&'static str, u16, &'static str),
    /// Rejected: a valid key is required.
    NoKey,
    /// Rejected: no manifest matches the caller.
    NotNamed,
    /// Rejected for any caller, with this status and code.
    Refused(u16, &'static str),
}

use Outcome::{Agent, Anonymous, Key, Known, NoKey, NotNamed, Operator, Refused};

/// A request and its expected outcome.
pub struct Case {
    /// The name in a failure report.
    pub name: String,
    /// The request.
    pub request: Request,
    /// The expected outcome.
    pub outcome: Outcome,
}

/// Returns a [`Case`].
pub fn case(name: impl Into<String>, request: Request, outcome: Outcome) -> Case {
    Case { name: name.into(), request, outcome }
}

/// Sends all requests in turn. Fails with all unexpected outcomes.
pub async fn check(gate: &Gate, cases: impl IntoIterator<Item = Case>) {
    let failures = failures(gate, cases).await;
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// Returns the unexpected outcomes, one line each.
pub async fn failures(gate: &Gate, cases: impl IntoIterator<Item = Case>) -> Vec<String> {
    let mut replies = BTreeMap::new();
    for case in cases {
        let number = SENT.fetch_add(1, Ordering::Relaxed);
        let reply = case.request.header("x-test-case", number.to_string()).send().await;
        replies.insert(number, (case.name, case.outcome, reply));
    }
    let subjects = until("every case is in the access log", async || {
        let subjects: BTreeMap<usize, String> = gate.access_lines().iter().filter_map(subject).collect();
        replies.keys().all(|number| subjects.contains_key(number)).then_some(subjects)
    });
    let subjects = subjects.await;
    let mismatches = replies.iter().filter_map(|(number, (name, outcome, reply))| {
        let wrong = outcome.mismatch(reply, &subjects[number])?;
        let said: String = reply.text().chars().take(200).collect();
        Some(format!("{name}: {wrong}, not {outcome:?}: {said}"))
    });
    mismatches.collect()
}

/// Numbers the cases, so that each can be found in the access log.
static SENT: AtomicUsize = AtomicUsize::new(0);

fn subject(line: &Value) -> Option<(usize, String)> {
    let number = line["case"].as_str()?.parse().ok()?;
    Some((number, line["subject"].as_str().unwrap_or("-").to_owned()))
}

// === impl Outcome ===

impl Outcome {
    /// Returns the actual outcome, if it differs.
    fn mismatch(self, reply: &Reply, subject: &str) -> Option<String> {
        if SECRETS.iter().any(|secret| reply.describe().contains(secret)) {
            return Some("a key in the answer".to_owned());
        }
        let code = if reply.status == 200 { String::new() } else { code(reply) };
        let seen = (reply.status, code.as_str(), subject);
        let matches = match self {
            Anonymous => seen == (200, "", "anonymous"),
            Agent(name) => seen == (200, "", &format!("agent/{name}")),
            Key(name) => seen == (200, "", &format!("key/{name}")),
            Operator => seen == (200, "", "operator"),
            Known(subject, status, code) => seen == (status, code, subject),
            NoKey => seen == (401, "invalid_api_key", "none"),
            NotNamed => seen == (403, "caller_not_allowed", "none"),
            Refused(status, code) => (seen.0, seen.1) == (status, code),
        };
        (!matches).then(|| format!("{} {code} as {subject}", reply.status))
    }
}

fn code(reply: &Reply) -> String {
    serde_json::from_slice::<Value>(&reply.body)
        .ok()
        .and_then(|body| Some(body["error"]["code"].as_str()?.to_owned()))
        .unwrap_or_else(|| "without a code".to_owned())
}
