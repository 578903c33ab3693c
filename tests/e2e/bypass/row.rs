//! One row: what is sent on one connection, and what is to become of it.

use e2e::harness::{EnvoyFeature, MODEL};
use serde_json::Value;

/// Each request that is let through is charged this: what the provider reports of it.
pub const CHARGE: u64 = 8;

pub const CHAT: &str = "/v1/chat/completions";

/// One way to try.
pub struct Row {
    pub name: &'static str,
    pub sent: Sent,
    /// One for each request, in their order.
    pub answers: Vec<Expected>,
    /// What must be true of the body that the provider gets.
    pub forwarded_body: fn(&Value) -> bool,
}

/// Bytes on one connection.
pub enum Sent {
    Http1(Vec<u8>),
    /// Everything after the preface and the client's settings.
    Http2(Vec<u8>),
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The filter refuses it with this status and code.
    Refused(u16, &'static str),
    /// Envoy refuses it with this status, before the filter has seen it.
    Envoy(u16),
    /// The filter answers it itself, with 200.
    Local,
    /// It goes to the provider: to this path, for this model.
    Forwarded(&'static str, &'static str),
    /// HTTP/2: Envoy ends the stream without an answer.
    Reset,
    /// Envoy closes the connection without an answer.
    Closed,
}

/// The row of the table that unreadable bodies get.
pub const INVALID: Expected = Expected::Refused(400, "invalid_body");
/// No such path, or not with this method.
pub const UNKNOWN_URL: Expected = Expected::Refused(404, "unknown_url");
/// No such model for this caller's eyes.
pub const NOT_FOUND: Expected = Expected::Refused(404, "model_not_found");
/// The provider exists, but not with this model.
pub const NOT_ALLOWED: Expected = Expected::Refused(403, "model_not_allowed");
/// More than one request may take.
pub const TOO_LARGE: Expected = Expected::Refused(400, "context_length_exceeded");
/// A key that is none, or none at all.
pub const NO_KEY: Expected = Expected::Refused(401, "invalid_api_key");
/// An ordinary chat, as it should be.
pub const FORWARDED: Expected = Expected::Forwarded(CHAT, MODEL);

// === impl Row ===

impl Row {
    pub fn new(name: &'static str, sent: Sent, answers: impl Into<Vec<Expected>>) -> Self {
        Self { name, sent, answers: answers.into(), forwarded_body: |_| true }
    }

    /// Bytes of HTTP/1.1.
    pub fn http1(name: &'static str, bytes: impl AsRef<[u8]>, answers: impl Into<Vec<Expected>>) -> Self {
        Self::new(name, Sent::Http1(bytes.as_ref().to_vec()), answers)
    }

    /// Frames of HTTP/2.
    pub fn http2(name: &'static str, frames: impl AsRef<[u8]>, answers: impl Into<Vec<Expected>>) -> Self {
        Self::new(name, Sent::Http2(frames.as_ref().to_vec()), answers)
    }

    /// What the provider is forwarded_body besides.
    pub fn forwarding(mut self, forwarded_body: fn(&Value) -> bool) -> Self {
        self.forwarded_body = forwarded_body;
        self
    }

    /// What becomes of it in an Envoy that lacks this.
    pub fn without(mut self, ability: EnvoyFeature, answers: impl Into<Vec<Expected>>) -> Self {
        if !ability.is_supported() {
            self.answers = answers.into();
        }
        self
    }

    /// How many of its requests are let through.
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
