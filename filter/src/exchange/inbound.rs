//! What was asked, whoever comes to serve it, and how it is dressed for one provider.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::clock::Time;
use crate::http::headers::HeaderEdit;
use crate::identity::caller::Caller;
use crate::openai::{BodyChanges, Operation, Request, UnsupportedFields};
use crate::policy::{Dialect, Provider};

/// A request that was read and resolved.
#[derive(Debug)]
pub struct InboundRequest {
    /// Who asks.
    pub caller: Caller,
    /// What for.
    pub operation: Operation,
    /// When it was whole.
    pub started: Time,
    /// What its body says.
    pub request: Request,
    /// The dialect that it is written in: that of the provider it names.
    pub dialect: Dialect,
    /// What other dialects may not take of it; read when the first candidate of another dialect is looked at.
    pub unsupported_fields: OnceCell<UnsupportedFields>,
    /// Bytes of its body.
    pub length: usize,
    /// Whether a header tells that length.
    pub has_length: bool,
}

// === impl InboundRequest ===

impl InboundRequest {
    /// Adds the edits that make the headers, which point at `target`, those of a request to `provider` whose body has these changes.
    pub fn rewrite(&self, edits: &mut Vec<HeaderEdit>, provider: &Provider, target: &[u8], changes: &BodyChanges) {
        rewrite_target(edits, provider, self.operation, target);
        // Also where nothing changes: an attempt before may have had another length.
        if self.has_length {
            edits.push(HeaderEdit::Set("content-length", changes.new_length(self.length).to_string().into()));
        }
    }
}

/// The path of an operation at a provider.
pub fn path(provider: &Provider, operation: Operation) -> String {
    format!("{}{}", provider.endpoint.base_path, operation.path())
}

/// Gives a request that points at `target` this path.
pub fn rewrite_path(edits: &mut Vec<HeaderEdit>, path: String, target: &[u8]) {
    if path.as_bytes() != target {
        edits.push(HeaderEdit::Set(":path", path.into()));
    }
}

/// Points a request at its provider. What is set here wins over removals that stand before.
pub fn rewrite_target(edits: &mut Vec<HeaderEdit>, provider: &Provider, operation: Operation, target: &[u8]) {
    rewrite_path(edits, path(provider, operation), target);
    edits.push(HeaderEdit::Set(":authority", provider.endpoint.authority.to_string().into()));
    if let Some(credential) = &provider.credential {
        // Setting replaces what is there.
        edits.retain(|edit| *edit != HeaderEdit::Remove(Cow::Borrowed("authorization")));
        edits.push(HeaderEdit::Set("authorization", credential.expose().to_owned().into()));
    }
}
