//! What a stand-in tells about itself: counters at one moment, and requests as they arrived.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// How many requests are remembered.
pub const MAX_RECORDED_REQUESTS: usize = 1000;
/// How much of a request's body is remembered.
pub const MAX_RECORDED_BODY: usize = 16 * 1024;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Outcome {
    /// Being answered.
    Open,
    /// Answered to the end.
    Completed,
    /// Answered with an error status.
    Refused,
    /// The client went away.
    Aborted,
    /// A fault cut it.
    Cut,
}

/// Counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests on `/v1/…`, each once it had arrived.
    pub requests: u64,
    /// Answered 2xx, to the end.
    pub completed: u64,
    /// Answered with an error status.
    pub refused: u64,
    /// Abandoned by the client.
    pub aborted: u64,
    /// Cut by a fault.
    pub cut: u64,
    /// Requests that have not ended.
    pub in_flight: u64,
    /// Streams that have not ended.
    pub streams_open: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Tokens of all models.
    pub total: ModelCounters,
    /// By model as asked for.
    pub models: BTreeMap<String, ModelCounters>,
}

/// Tokens of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelCounters {
    /// Requests that the model worked on.
    pub requests: u64,
    /// Their prompts.
    pub prompt_tokens: u64,
    /// What was sent of their completions.
    pub completion_tokens: u64,
}

/// One request as it arrived, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct RecordedRequest {
    /// `POST`
    pub method: String,
    /// As sent, with its query.
    pub path: String,
    /// As sent.
    pub model: Option<String>,
    /// The field that bounded the completion.
    pub limit_field: Option<&'static str>,
    /// Its value.
    pub limit: Option<i64>,
    /// Whether it asked for a stream.
    pub stream: bool,
    /// As sent.
    pub stream_options: Option<Value>,
    /// Completions for each prompt.
    pub n: Option<i64>,
    /// Prompt tokens; 0 for a request that the model never worked on.
    pub prompt_tokens: u64,
    /// Completion tokens sent.
    pub completion_tokens: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Status of the answer; 0 for none.
    pub status: u16,
    /// `authorization` as received.
    pub authorization: Option<String>,
    /// All headers as received; bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The body, or its first [`MAX_RECORDED_BODY`] bytes; bytes that are not UTF-8 are replaced.
    pub body: String,
}

// === impl ModelCounters ===

impl ModelCounters {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
    }

    /// Prompt and completion: what a budget is charged.
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
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
