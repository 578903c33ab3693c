//! What an exchange tells its host to do.

use std::time::Duration;

use crate::http::headers::HeaderEdit;
use crate::http::refusal::Reply;
use crate::openai::Splice;
use crate::policy::Credential;

/// What the host is to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Let it go on.
    Continue,
    /// Hold it until more has come.
    Hold,
    /// Hold it, send this, and call `on_callout` with the answer.
    Ask(CalloutRequest),
    /// Change it and let it go on.
    Forward(Forward),
    /// Answer it.
    Reply(Reply),
}

/// Changes to a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Changes to the headers.
    pub headers: Vec<HeaderEdit>,
    /// What stands in place of the beginning of the body.
    pub body: Option<Splice>,
}

/// What the host is to do with an answer's headers.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponseStep {
    /// Let them go on.
    Continue,
    /// Change them.
    Edit(Vec<HeaderEdit>),
    /// Change them, and hold them until the body has been seen.
    Hold(Vec<HeaderEdit>),
    /// Answer this in their place.
    Reply(Reply),
}

/// What the host is to do with a piece of an answer's body.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// Let it go on.
    Continue,
    /// Send this in its place.
    Replace(Vec<u8>),
    /// Hold it until more has come.
    Hold,
    /// Answer this in place of the whole.
    Reply(Reply),
}

/// What the host is to do with an attempt that begins.
#[derive(Debug, PartialEq, Eq)]
pub enum AttemptStep {
    /// Change the request's headers and let it go on.
    Forward(Vec<HeaderEdit>),
    /// Answer this: the request is not, or no longer, for anybody to see.
    Refuse(Reply),
    /// Answer this: the request is not for this provider, which the operator should know.
    Misrouted(Reply),
}

/// Changes to the headers of both messages once an attempt has been answered, or has ended without an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AttemptEdits {
    /// Of the request, for the next attempt.
    pub request: Vec<HeaderEdit>,
    /// Of the answer, for Envoy's decision about a next attempt.
    pub response: Vec<HeaderEdit>,
}

/// A request of the filter's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalloutRequest {
    /// The host's name of the cluster, which has no attempt filter.
    pub cluster: Box<str>,
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The authority.
    pub authority: Box<str>,
    /// The whole `authorization` value, where the provider wants one.
    pub credential: Option<Credential>,
    /// How long the answer may take.
    pub timeout: Duration,
}
