//! Why a request body is rejected.

use crate::json::InvalidJson;

/// Why a request body is rejected. The messages are sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBody {
    /// The body is empty.
    #[error("the request has no body")]
    Empty,
    /// The body begins with U+FEFF. JSON texts that are sent must not (RFC 8259, section 8.1), and vLLM rejects them.
    #[error("the body begins with a byte order mark (U+FEFF): send it as UTF-8 without one")]
    ByteOrderMark,
    /// The body is not one strict JSON document.
    #[error("the body is not strict JSON: {0}")]
    Json(#[from] InvalidJson),
    /// The body is JSON, but not an object.
    #[error("the body must be a JSON object")]
    NotObject,
    /// A governed field occurs twice.
    #[error("`{0}` is given more than once")]
    Duplicate(&'static str),
    /// A required field is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A governed field has a value that is not accepted.
    #[error("`{param}` {reason}")]
    Wrong {
        /// The name of the field.
        param: &'static str,
        /// What the value must be.
        reason: &'static str,
    },
}

// === impl InvalidBody ===

impl InvalidBody {
    /// Returns the name of the field at fault; `None` if the body as a whole is.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::Empty | Self::ByteOrderMark | Self::Json(_) | Self::NotObject => None,
            Self::Duplicate(param) | Self::Missing(param) | Self::Wrong { param, .. } => Some(param),
        }
    }

    pub(in crate::openai) fn wrong(param: &'static str, reason: &'static str) -> Self {
        Self::Wrong { param, reason }
    }
}
