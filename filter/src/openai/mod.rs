//! OpenAI's wire formats, as vLLM and the hosted providers implement them: requests, responses, errors.

mod body_edit;
mod dialect;
mod prompt_size;
pub mod prompt_text;
mod request;
mod response;
mod usage;

pub use body_edit::{BodyChanges, BodyEdit, RequestedUsage, Splice};
pub use dialect::{Translation, UnsupportedFields, Untranslatable};
pub use prompt_size::PromptSize;
pub use request::{InvalidBody, MAX_MODEL_BYTES, Request, is_model_name};
pub use response::{HideUsage, ResponseBody};
pub use usage::{Usage, UsageCounter};

/// The operation of a governed path, named as in OpenTelemetry's GenAI conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    TextCompletion,
    /// `POST /v1/embeddings`
    Embeddings,
}

impl Operation {
    /// Returns the path below the endpoint's base path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::TextCompletion => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }
}
