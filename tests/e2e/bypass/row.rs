//! One row: the bytes sent on one connection, and the expected result.

use e2e::harness::{EnvoyFeature, MODEL};
use serde_json::Value;

/// The charge of each forwarded request, as the provider reports it.
pub const CHARGE: u64 = 8;

pub const CHAT: &str = "/v1/chat/completions";

/// One attempt.
pub struct Row {
    pub name: &'static str,
    pub sent: Sent,
    /// The expected results, one for each request in order.
    pub answers: Vec<Expected>,
    /// A condition that the forwarded body must satisfy.
    pub forwarded_body: fn(&Value) -> bool,
}

/// Bytes sent on one connection.
pub enum Sent {
    Http1(Vec<u8>),
    /// Everything after the preface and the client's settings.
    Http2(Vec<u8>),
}

/// The expected result of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The filter rejects it with this status and code.
    Refused(u16, &'static str),
    /// Envoy rejects it with this status before it reaches the filter.
    Envoy(u16),
    /// The filter responds itself, with 200.
    Local,
    /// It is forwarded to the provider, with this path and model.
    Forwarded(&'static str, &'static str),
    /// HTTP/2: Envoy resets the stream without a response.
    Reset,
    /// Envoy closes the connection without a response.
    Closed,
}

/// The error for invalid bodies.
pub const INVALID: Expected = Expected::Refused(400, "invalid_body");
/// The error for unknown paths and methods.
pub const UNKNOWN_URL: Expected = Expected::Refused(404, "unknown_url");
/// The error for models that the caller cannot see.
pub const NOT_FOUND: Expected = Expected::Refused(404, "model_not_found");
/// The error for a model that is not allowed at an existing provider.
pub const NOT_ALLOWED: Expected = Expected::Refused(403, "model_not_allowed");
/// The error for requests above the maximum size in tokens.
pub const TOO_LARGE: Expected = Expected::Refused(400, "context_length_exceeded");
/// The error for a missing or invalid key.
pub const NO_KEY: Expected = Expected::Refused(401, "invalid_api_key");
/// A valid chat that is forwarded.
pub const FORWARDED: Expected = Expected::Forwarded(CHAT, MODEL);

// === impl Row ===

impl Row {
    pub fn new(name: &'static str, sent: Sent, answers: impl Into<Vec<Expected>>) -> Self {
        Self { name, sent, answers: answers.into(), forwarded_body: |_| true }
    }

    /// A row of HTTP/1.1 bytes.
    pub fn http1(name: &'static str, bytes: impl AsRef<[u8]>, answers: impl Into<Vec<Expected>>) -> Self {
        Self::new(name, Sent::Http1(bytes.as_ref().to_vec()), answers)
    }

    /// A row of HTTP/2 frames.
    pub fn http2(name: &'static str, frames: impl AsRef<[u8]>, answers: impl Into<Vec<Expected>>) -> Self {
        Self::new(name, Sent::Http2(frames.as_ref().to_vec()), answers)
    }

    /// Adds a condition on the forwarded body.
    pub fn forwarding(mut self, forwarded_body: fn(&Value) -> bool) -> Self {
        self.forwarded_body = forwarded_body;
        self
    }

    /// Replaces the expected results if the Envoy under test lacks this feature.
    pub fn without(mut self, ability: EnvoyFeature, answers: impl Into<Vec<Expected>>) -> Self {
        if !ability.is_supported() {
            self.answers = answers.into();
        }
        self
    }

    /// Returns the number of requests that are forwarded.
    pub fn forwarded(&self) -> usize {
        self.answers.iter().filter(|answer| matches!(answer, Expected::Forwarded(..))).count()
    }
}

// === impl Sent ===

impl std::fmt::Display for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Http1(bytes) | Self::Http2(bytes)) = self;
        let shown = &bytes[..bytes.len().min(700)];
        write!(f, "{}{}", shown.escape_ascii(), if shown.len() < bytes.len() { "…" } else { "" })
    }
}
