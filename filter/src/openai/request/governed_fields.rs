//! The fields of a request body that the filter governs. All others pass unread.

use std::borrow::Cow;

use super::forbidden_fields::FORBIDDEN_FIELDS;
use crate::json::JsonString;

/// A governed field of a body.
pub(super) struct GovernedField {
    /// Its index among the governed fields, the forbidden ones included.
    pub index: usize,
    pub name: &'static str,
    pub kind: FieldKind,
}

/// How the value of a governed field is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    Model,
    Messages,
    /// `prompt` or `input`.
    Prompts,
    MaxTokens,
    MaxCompletionTokens,
    MinTokens,
    N,
    BestOf,
    Stream,
    StreamOptions,
    /// A value that a chat template may write into the prompt.
    PromptText,
    /// See [`FORBIDDEN_FIELDS`].
    Forbidden,
    /// Only 0 is accepted.
    Priority,
    /// An object that vLLM passes to the engine together with the transfer parameters. It must hold no forbidden field.
    ExtraArguments,
    /// An object that reaches the prompt as text. It must hold no forbidden field, such as a template.
    TemplateArguments,
    TruncatePrompt,
}

const GOVERNED_FIELDS: [(&str, FieldKind); 22] = [
    ("model", FieldKind::Model),
    ("messages", FieldKind::Messages),
    ("prompt", FieldKind::Prompts),
    ("input", FieldKind::Prompts),
    ("max_tokens", FieldKind::MaxTokens),
    ("max_completion_tokens", FieldKind::MaxCompletionTokens),
    ("min_tokens", FieldKind::MinTokens),
    ("n", FieldKind::N),
    ("best_of", FieldKind::BestOf),
    ("stream", FieldKind::Stream),
    ("stream_options", FieldKind::StreamOptions),
    ("priority", FieldKind::Priority),
    ("vllm_xargs", FieldKind::ExtraArguments),
    ("chat_template_kwargs", FieldKind::TemplateArguments),
    ("truncate_prompt_tokens", FieldKind::TruncatePrompt),
    ("tools", FieldKind::PromptText),
    ("functions", FieldKind::PromptText),
    ("documents", FieldKind::PromptText),
    ("response_format", FieldKind::PromptText),
    ("structured_outputs", FieldKind::PromptText),
    ("guided_json", FieldKind::PromptText),
    ("suffix", FieldKind::PromptText),
];

/// All governed fields, the forbidden ones last. One table is faster to search than two.
#[expect(clippy::indexing_slicing, reason = "a constant")]
const ALL_FIELDS: [(&str, FieldKind); GOVERNED_FIELDS.len() + FORBIDDEN_FIELDS.len()] = {
    let mut all = [("", FieldKind::Forbidden); GOVERNED_FIELDS.len() + FORBIDDEN_FIELDS.len()];
    let mut index = 0;
    while index < all.len() {
        match index.checked_sub(GOVERNED_FIELDS.len()) {
            None => all[index] = GOVERNED_FIELDS[index],
            Some(forbidden) => all[index].0 = FORBIDDEN_FIELDS[forbidden],
        }
        index += 1;
    }
    all
};

/// Returns the governed field with this name, compared as decoded.
pub(super) fn find(name: &JsonString<'_>) -> Option<GovernedField> {
    let name: Cow<'_, str> = name.decode();
    let found = ALL_FIELDS.iter().enumerate().find(|(_, (known, _))| *known == name);
    found.map(|(index, &(name, kind))| GovernedField { index, name, kind })
}

/// Returns the index of the governed field `name`.
pub(super) fn index(name: &str) -> Option<usize> {
    ALL_FIELDS.iter().position(|(known, _)| *known == name)
}
