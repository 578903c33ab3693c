//! The actions that an exchange returns to its host.

use std::time::Duration;

use crate::http::headers::HeaderEdit;
use crate::http::refusal::Reply;
use crate::openai::Splice;
use crate::policy::{Credential, Policy};

/// The action on a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Forward the request.
    Continue,
    /// Hold the request back until more of it is received.
    Hold,
    /// Hold the request back, send this callout, and call `on_callout` with the response.
    Ask(Box<CalloutRequest>),
    /// Apply the changes and forward the request.
    Forward(Forward),
    /// Send this local reply.
    Reply(Reply),
}

/// Changes to a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// The edits to the headers.
    pub headers: Vec<HeaderEdit>,
    /// The replacement of the body's beginning.
    pub body: Option<Splice>,
}

/// The action on the headers of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponseStep {
    /// Forward the headers.
    Continue,
    /// Apply the edits and forward the headers.
    Edit(Vec<HeaderEdit>),
    /// Apply the edits, and hold the headers back until the body is read.
    Hold(Vec<HeaderEdit>),
    /// Send this local reply instead of the response.
    Reply(Reply),
}

/// The action on a chunk of a response's body.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// Forward the chunk.
    Continue,
    /// Send these bytes instead.
    Replace(Vec<u8>),
    /// Hold the body back until more of it is received.
    Hold,
    /// Send this local reply instead of the whole response.
    Reply(Reply),
}

/// The action on an attempt that starts.
#[derive(Debug, PartialEq, Eq)]
pub enum AttemptStep {
    /// Apply the edits to the request's headers and forward it.
    Forward(Vec<HeaderEdit>),
    /// Send this local reply: no attempt is due.
    Refuse(Reply),
    /// Send this local reply and report an error: the proxy has added no credential.
    MissingCredential(Reply),
    /// Send this local reply and report an error: the request is in the wrong provider's cluster.
    Misrouted(Reply),
}

/// The edits to request and response headers after an attempt got a response, or ended without one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AttemptEdits {
    /// The edits to the request, for the next attempt.
    pub request: Vec<HeaderEdit>,
    /// The edits to the response, which control whether Envoy retries.
    pub response: Vec<HeaderEdit>,
}

/// An HTTP request that the filter itself sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalloutRequest {
    /// The name of Envoy's cluster, which has no attempt filter.
    pub cluster: Box<str>,
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The authority.
    pub authority: Box<str>,
    /// The value of `authorization`, if the provider needs one.
    pub credential: Option<Credential>,
    /// The body, which is JSON; empty for a request without one.
    pub body: Vec<u8>,
    /// The timeout of the response.
    pub timeout: Duration,
}

// === impl CalloutRequest ===

impl CalloutRequest {
    /// Creates a request to the provider at this index; `path` returns the path below the endpoint, whose base path it receives. Returns
    /// `None` if the policy names no cluster for callouts to the provider.
    pub fn to_provider(
        policy: &Policy,
        provider: usize,
        method: &'static str,
        path: impl FnOnce(&str) -> String,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Option<Self> {
        let (callout, provider) = (policy.callout(provider)?, policy.providers.get(provider)?);
        Some(Self {
            cluster: callout.cluster.clone(),
            method,
            path: path(&provider.endpoint.base_path),
            authority: provider.endpoint.authority.clone(),
            credential: provider.credential.value().cloned(),
            body,
            timeout,
        })
    }
}

/// How a callout has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalloutEnd<'a> {
    /// It was answered.
    Answered {
        /// The status.
        status: u16,
        /// The beginning of the body: at most [`CalloutEnd::LIMIT`] bytes.
        body: &'a [u8],
    },
    /// It was not answered in time, or its connection failed.
    Unanswered,
    /// The host did not send it.
    NotSent,
}

// === impl CalloutEnd ===

impl CalloutEnd<'_> {
    /// The number of bytes of an answer's body that are read.
    pub const LIMIT: usize = 1024;
}
