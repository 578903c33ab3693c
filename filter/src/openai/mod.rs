//! OpenAI's wire formats, as vLLM and the hosted providers speak them: requests, answers, errors.

mod answer;
mod dialect;
mod edit;
mod prefix;
mod probe;
mod prompt;
mod request;
pub mod texts;
mod usage;

pub use answer::{Answer, Hide};
pub use dialect::{Peculiarities, Translation, Unsayable};
pub use edit::{AskUsage, Edit, LimitField, Splice};
pub use prompt::PromptSize;
pub use request::{InvalidBody, MAX_MODEL_BYTES, Request, is_model_name};
pub use usage::{Tally, Usage};

/// What a governed path asks of a model. The names are those of OpenTelemetry's GenAI conventions.
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
    /// The path below the endpoint's base path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::TextCompletion => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }
}
