//! The request as the client sent it, and its rewriting for one provider.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::clock::Time;
use crate::exchange::token_count::Counted;
use crate::http::headers::HeaderEdit;
use crate::identity::caller::Caller;
use crate::openai::{BodyChanges, Operation, Request, UnsupportedFields};
use crate::policy::{Dialect, Provider};

/// A request that was parsed, whose caller and model are known.
#[derive(Debug)]
pub struct InboundRequest {
    /// The caller.
    pub caller: Caller,
    /// The operation.
    pub operation: Operation,
    /// The time at which the body was complete.
    pub started: Time,
    /// The parsed body.
    pub request: Request,
    /// The dialect of the request: that of the provider it names.
    pub dialect: Dialect,
    /// The fields that other dialects may not support. Read when the first candidate of another dialect is evaluated.
    pub unsupported_fields: OnceCell<UnsupportedFields>,
    /// What a server has counted; `None` if none was requested to.
    pub counted: Option<Counted>,
    /// The length of the body in bytes.
    pub length: usize,
    /// Whether the request has a `content-length`.
    pub has_length: bool,
}

// === impl InboundRequest ===

impl InboundRequest {
    /// Adds the edits that rewrite the headers, whose path is `target`, for `provider` and a body with these changes.
    pub fn rewrite(&self, edits: &mut Vec<HeaderEdit>, provider: &Provider, target: &[u8], changes: &BodyChanges) {
        rewrite_target(edits, provider, self.operation, target);
        // Also without changes: the body of the previous attempt may have had another length.
        if self.has_length {
            edits.push(HeaderEdit::Set("content-length", changes.new_length(self.length).to_string().into()));
        }
    }
}

/// Returns the path of an operation at a provider.
pub fn path(provider: &Provider, operation: Operation) -> String {
    format!("{}{}", provider.endpoint.base_path, operation.path())
}

/// Adds the edit that replaces the path `target` by `path`, if they differ.
pub fn rewrite_path(edits: &mut Vec<HeaderEdit>, path: String, target: &[u8]) {
    if path.as_bytes() != target {
        edits.push(HeaderEdit::Set(":path", path.into()));
    }
}

/// Adds the edits that set path, authority and credential for a provider. If it has a credential, drops the removal of
/// `authorization` from `edits`.
pub fn rewrite_target(edits: &mut Vec<HeaderEdit>, provider: &Provider, operation: Operation, target: &[u8]) {
    rewrite_path(edits, path(provider, operation), target);
    edits.push(HeaderEdit::Set(":authority", provider.endpoint.authority.to_string().into()));
    if let Some(credential) = provider.credential.value() {
        // Setting a header replaces its value, so that it need not be removed.
        edits.retain(|edit| *edit != HeaderEdit::Remove(Cow::Borrowed("authorization")));
        edits.push(HeaderEdit::Set("authorization", credential.expose().to_owned().into()));
    }
}
