//! The stand-in's statistics: a snapshot of its counters, and the recorded requests.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The maximum number of recorded requests.
pub const MAX_RECORDED_REQUESTS: usize = 1000;
/// The maximum recorded length of a request body.
pub const MAX_RECORDED_BODY: usize = 16 * 1024;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Outcome {
    /// In progress.
    Open,
    /// The response was sent completely.
    Completed,
    /// The response had an error status.
    Refused,
    /// The client disconnected.
    Aborted,
    /// A fault cut the response off.
    Cut,
}

/// A snapshot of the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests on `/v1/…` that were received completely.
    pub requests: u64,
    /// Requests with a complete 2xx response.
    pub completed: u64,
    /// Requests with an error status.
    pub refused: u64,
    /// Requests that the client aborted.
    pub aborted: u64,
    /// Responses cut off by a fault.
    pub cut: u64,
    /// Requests in progress.
    pub in_flight: u64,
    /// Streams in progress.
    pub streams_open: u64,
    /// Open connections.
    pub connections: u64,
    /// Prompts that were counted at `/tokenize`.
    pub tokenized: u64,
    /// Tokens of all models.
    pub total: ModelCounters,
    /// Tokens by requested model.
    pub models: BTreeMap<String, ModelCounters>,
}

/// Token counters of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelCounters {
    /// Requests that the model processed.
    pub requests: u64,
    /// Their prompt tokens.
    pub prompt_tokens: u64,
    /// The completion tokens that were sent.
    pub completion_tokens: u64,
}

/// A recorded request and its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct RecordedRequest {
    /// `POST`
    pub method: String,
    /// The path with its query, as received.
    pub path: String,
    /// The `model` as received.
    pub model: Option<String>,
    /// The field that limits the completion.
    pub limit_field: Option<&'static str>,
    /// The value of that field.
    pub limit: Option<i64>,
    /// Whether a stream was requested.
    pub stream: bool,
    /// The `stream_options` as received.
    pub stream_options: Option<Value>,
    /// Completions per prompt.
    pub n: Option<i64>,
    /// Prompt tokens; 0 if the model did not process the request.
    pub prompt_tokens: u64,
    /// Completion tokens sent.
    pub completion_tokens: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The response status; 0 if there was no response.
    pub status: u16,
    /// The `authorization` header as received.
    pub authorization: Option<String>,
    /// All headers as received; invalid UTF-8 is replaced.
    pub headers: Vec<(String, String)>,
    /// The first [`MAX_RECORDED_BODY`] bytes of the body; invalid UTF-8 is replaced.
    pub body: String,
}

// === impl ModelCounters ===

impl ModelCounters {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
    }

    /// Returns the sum of prompt and completion tokens, which a budget is charged.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn from_u8(number: u8) -> Self {
        let all = [Self::Open, Self::Completed, Self::Refused, Self::Aborted, Self::Cut];
        all.into_iter().find(|outcome| *outcome as u8 == number).unwrap_or(Self::Open)
    }
}

impl RecordedRequest {
    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
