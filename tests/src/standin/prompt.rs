//! Counts the prompt tokens of a request.

use serde_json::Value;

use super::error::ApiError;
use super::lenient_json::{self, Fields};
use super::{Options, tokens};

/// The parts of a request that are counted.
pub(super) enum Prompts<'a> {
    Chat(&'a [Value]),
    Texts(&'a Fields),
}

// === impl Prompts ===

impl Prompts<'_> {
    /// Returns the tokens of each prompt.
    pub fn count(&self, fields: &Fields, options: &Options) -> Result<Vec<u64>, ApiError> {
        let messages = match self {
            Self::Texts(fields) => {
                return texts(lenient_json::field(fields, "prompt"), options.bytes_per_token);
            }
            Self::Chat(messages) => messages,
        };
        if messages.is_empty() {
            let message = "Cannot apply chat template to an empty conversation. Provide at least one message.";
            return Err(ApiError::bad_request(message, None));
        }
        let chat = tokens::of_chat(messages, options.bytes_per_token);
        if chat.images > 0 && options.image_tokens.is_none() {
            return Err(ApiError::bad_request(format!("{} is not a multimodal model", options.canonical_model()), None));
        }
        let tools = lenient_json::field(fields, "tools").map_or(0, |tools| tools.to_string().len());
        let tools = tokens::of_text(tools, options.bytes_per_token);
        Ok(vec![chat.tokens(options.image_tokens.unwrap_or(0)) + tools])
    }
}

/// Returns the tokens of each text or list of ids, of `prompt` or of an embedding's `input`.
pub(super) fn texts(prompt: Option<&Value>, bytes_per_token: u64) -> Result<Vec<u64>, ApiError> {
    let one = |prompt: &Value| match prompt {
        Value::String(text) => tokens::of_text(text.len(), bytes_per_token),
        Value::Array(ids) => ids.len() as u64,
        _ => 0,
    };
    match prompt {
        Some(Value::Array(prompts)) if prompts.is_empty() => Err(ApiError::bad_request("You must pass at least one prompt", None)),
        Some(Value::Array(prompts)) if prompts.iter().all(Value::is_number) => Ok(vec![prompts.len() as u64]),
        Some(Value::Array(prompts)) => Ok(prompts.iter().map(one).collect()),
        Some(prompt @ Value::String(text)) if !text.is_empty() => Ok(vec![one(prompt)]),
        _ => {
            let message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)";
            Err(ApiError::bad_request(message, Some("prompt")))
        }
    }
}
