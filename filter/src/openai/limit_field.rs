//! The field in which a limit of completion tokens is injected.

use super::Operation;
use crate::policy::Dialect;

/// The field that limits completion tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitField {
    /// `max_tokens`: the older field, which every vLLM and Anthropic's endpoint accept.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's reasoning models accept no other.
    MaxCompletionTokens,
}

// === impl LimitField ===

impl LimitField {
    /// Returns the field for a limit that is injected into a request that sets none.
    pub fn injected_for(dialect: Dialect, operation: Operation) -> Self {
        match (dialect, operation) {
            (Dialect::OpenAi, Operation::Chat) => Self::MaxCompletionTokens,
            _ => Self::MaxTokens,
        }
    }

    /// Returns the field's name in a body.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}
