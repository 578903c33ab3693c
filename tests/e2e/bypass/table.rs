//! Runs all rows of a table and reports all failures together at the end.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

use e2e::harness::{Answer, Gate, GateBuilder, Received, Reply, Upstream, provider, responses};
use serde_json::Value;

use crate::row::{CHARGE, Expected, Row, Sent};
use crate::{bodies, caps, fields, framing, headers, http1, http2, models, paths};

/// A denied model that a pattern of the allowed models matches.
pub const FORBIDDEN: &str = "qwen/secret";

/// The paths that a provider may receive.
const CANONICAL: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];

/// Headers that a provider must not receive.
const HIDDEN: [&str; 13] = [
    "authorization",
    "x-api-key",
    "api-key",
    "proxy-authorization",
    "cookie",
    "x-forwarded-client-cert",
    "x-agent-id",
    "openai-organization",
    "x-vllm-priority",
    "x-data-parallel-rank",
    "x-session-id",
    "accept-encoding",
    "x-envoy-retry-on",
];

/// A gateway and its provider, which reports the same usage for every request.
pub struct Table {
    gate: Gate,
    upstream: Upstream,
    /// The tokens charged so far.
    used: Cell<u64>,
}

// === impl Table ===

impl Table {
    /// One provider with a model list and caps, open to anonymous callers.
    pub async fn open() -> Self {
        Self::behind(Gate::builder().manifests(manifests())).await
    }

    /// The gateway of this builder, with its provider.
    pub async fn behind(builder: GateBuilder) -> Self {
        let upstream = Upstream::answering(well_behaved).await;
        Self { gate: builder.upstream("vllm-local", &upstream).start().await, upstream, used: Cell::new(0) }
    }

    /// Runs the rows one after the other. Fails with all rows whose result differs from the expected one.
    pub async fn run(self, rows: impl IntoIterator<Item = Row>) {
        let rows: Vec<Row> = rows.into_iter().collect();
        let (table, forwarded) = (Rc::new(self), rows.iter().map(Row::forwarded).sum::<usize>());
        let rows = rows.into_iter().map(|row| {
            let (table, about) = (Rc::clone(&table), format!("{}\nsent: {}", row.name, row.sent));
            (about, async move { table.row(&row).await })
        });
        run_all(rows).await;
        assert_eq!(table.upstream.requests().len(), forwarded, "an unexpected request arrived late");
    }

    async fn row(&self, row: &Row) -> Result<(), Vec<String>> {
        let seen = self.upstream.requests().len();
        let result = match &row.sent {
            Sent::Http1(bytes) => http1::run(&self.gate, bytes, &row.answers).await,
            Sent::Http2(frames) => http2::run(&self.gate, frames, &row.answers).await,
        };
        let mut faults = result.err().unwrap_or_default();
        let used = self.gate.used().await;
        let charged = used - self.used.replace(used);
        if charged != CHARGE * row.forwarded() as u64 {
            faults.push(format!("charged {charged}"));
        }
        faults.extend(check_forwarded(row, &self.upstream.requests()[seen..]));
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Runs all rows one after the other, and fails with all failures.
pub async fn run_all<F: Future<Output = Result<(), Vec<String>>> + 'static>(rows: impl Iterator<Item = (String, F)>) {
    let mut failures = Vec::new();
    for (about, row) in rows {
        // Each row runs in a task of its own, so that a panic ends only that row.
        let outcome = tokio::task::LocalSet::new().run_until(async { tokio::task::spawn_local(row).await }).await;
        if let Err(faults) = outcome.unwrap_or_else(|panic| Err(vec![panic.to_string()])) {
            failures.push(format!("--- {about}\n{}", faults.join("\n")));
        }
    }
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
}

/// Returns the provider of most tables.
pub fn manifests() -> String {
    provider(&format!(
        "allowedModels: [{}, {}, 'qwen/*']\ndeniedModels: [{FORBIDDEN}]\nmaxTokensPerDay: 100000000\nmaxTokensPerRequest: 1000",
        e2e::harness::MODEL,
        e2e::harness::SLASHED
    ))
}

/// Returns a correct provider response.
fn well_behaved(request: &Received) -> Answer {
    let streamed = serde_json::from_slice::<Value>(&request.body).is_ok_and(|body| body["stream"] == true);
    match request.path.as_str() {
        "/v1/embeddings" => Answer::json(&responses::embedding(CHARGE)),
        "/v1/completions" => Answer::json(&responses::completion(5, 3)),
        _ if streamed => Answer::stream(responses::stream(&["a", "b", "c"], 5, true)),
        _ => Answer::json(&responses::chat(5, 3)),
    }
}

/// Returns how this response differs from the expected one.
pub fn fault(expected: Expected, reply: Option<&Reply>) -> Option<String> {
    let Some(reply) = reply else {
        return (expected != Expected::Closed).then(|| format!("expected {expected:?}, but the connection was closed"));
    };
    let code = serde_json::from_slice::<Value>(&reply.body).ok().and_then(|body| Some(body["error"]["code"].as_str()?.to_owned()));
    let as_expected = match expected {
        Expected::Refused(status, wanted) => reply.status == status && code.as_deref() == Some(wanted),
        Expected::Envoy(status) => reply.status == status && code.is_none(),
        Expected::Local => reply.status == 200 && reply.header("x-pai-provider").is_none(),
        Expected::Forwarded(_, model) => reply.status == 200 && reply.header("x-pai-model") == Some(model),
        Expected::Reset | Expected::Closed => false,
    };
    (!as_expected).then(|| format!("expected {expected:?}, got {}", reply.describe()))
}

/// Returns how the forwarded requests differ from the expected ones.
fn check_forwarded(row: &Row, seen: &[Received]) -> Vec<String> {
    let expected = row.answers.iter().filter_map(|answer| match answer {
        Expected::Forwarded(path, model) => Some((*path, *model)),
        _ => None,
    });
    let mut faults: Vec<String> = Vec::new();
    if seen.len() != row.forwarded() {
        faults.push(format!("the provider saw {} requests", seen.len()));
    }
    for (request, (path, model)) in seen.iter().zip(expected) {
        let fault = not_canonical(request, path, model).or_else(|| {
            let body = serde_json::from_slice(&request.body).ok()?;
            (!(row.forwarded_body)(&body)).then(|| "an unexpected body".to_owned())
        });
        faults.extend(fault.map(|fault| format!("the provider saw {fault}: {}{}", request.head.escape_ascii(), request.text())));
    }
    faults
}

/// Returns a property of a forwarded request that no forwarded request may have.
fn not_canonical(request: &Received, path: &str, model: &str) -> Option<String> {
    let count = |name: &str| request.headers.iter().filter(|(known, _)| known == name).count();
    let body: Value = match serde_json::from_slice(&request.body) {
        Ok(body) => body,
        Err(error) => return Some(format!("no JSON ({error})")),
    };
    let hidden = |name: &str| {
        HIDDEN.contains(&name) || name.starts_with("x-pai-") && name != "x-pai-provider" || name.starts_with("x-amzn-sagemaker-")
    };
    if request.method != "POST" || request.path != path || !CANONICAL.contains(&path) {
        return Some("another request line".to_owned());
    }
    if body["model"] != model || model == FORBIDDEN {
        return Some(format!("the model {}", body["model"]));
    }
    if count("content-length") + count("transfer-encoding") != 1 || count("host") != 1 || count("content-type") != 1 {
        return Some("an ambiguous head".to_owned());
    }
    if request.header("host") != Some(b"vllm-local.test:8000") {
        return Some("another host".to_owned());
    }
    if request.headers.iter().any(|(_, value)| value.iter().any(|byte| matches!(byte, b'\r' | b'\0'))) {
        return Some("a line break in a header".to_owned());
    }
    if let Some(name) = request.header_names().into_iter().find(|name| hidden(name)) {
        return Some(format!("the header {name}"));
    }
    let trailers = String::from_utf8_lossy(&request.trailers).to_ascii_lowercase();
    let names = trailers.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    names.into_iter().find(|name| hidden(name)).map(|name| format!("the trailer {name}"))
}

#[tokio::test]
async fn no_body_gets_past() {
    Table::open().await.run([models::rows(), bodies::rows(), fields::rows(), caps::rows()].into_iter().flatten()).await;
}

#[tokio::test]
async fn no_request_gets_past() {
    Table::open().await.run([paths::rows(), headers::rows(), framing::rows(), http2::rows()].into_iter().flatten()).await;
}

/// With fallback, the attempt filter rewrites requests, and Envoy buffers them for a retry.
#[tokio::test]
async fn no_request_gets_past_a_gate_with_fallback() {
    let table = Table::behind(Gate::builder().manifests(manifests()).fallback()).await;
    table.run([headers::rows(), framing::rows(), http2::rows()].into_iter().flatten()).await;
}

/// With fixed routing, the headers are forwarded before the body is evaluated.
#[tokio::test]
async fn no_request_gets_past_a_gate_of_fixed_routing() {
    let table = Table::behind(Gate::builder().manifests(manifests()).routing_fixed()).await;
    table.run([caps::rows(), framing::rows(), http2::rows()].into_iter().flatten()).await;
}
