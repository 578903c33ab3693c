//! The length of a completion: the requested limit, the natural length and the context length.

use super::error::ApiError;
use super::lenient_json::{self, Fields};
use super::{Fault, Options};

/// Computes the length of completions.
pub(super) struct Length {
    natural: u64,
    limit: Option<i64>,
}

// === impl Length ===

impl Length {
    pub fn new(fields: &Fields, options: &Options, fault: &Fault, field: &str, limit: Option<i64>) -> Result<Self, ApiError> {
        let window = i64::try_from(options.max_model_len).unwrap_or(i64::MAX);
        match limit {
            Some(limit) if limit < 1 => return Err(below_one(limit)),
            Some(limit) if limit > window => {
                let message = format!(
                    "{field}={limit} cannot be greater than max_model_len={window}. Please request fewer output tokens. (parameter={field}, value={limit})"
                );
                return Err(ApiError::bad_request(message, Some(field)));
            }
            _ => {}
        }
        let at_least = lenient_json::int(fields, "min_tokens")?.unwrap_or(0);
        if let Some(limit) = limit.filter(|limit| at_least > *limit) {
            let message = format!("min_tokens must be less than or equal to max_tokens={limit}, got {at_least}.");
            return Err(ApiError::bad_request(message, None));
        }
        let natural = fault.tokens.unwrap_or(options.tokens).max(u64::try_from(at_least).unwrap_or(0));
        let natural = if lenient_json::flag(fields, "ignore_eos")? { u64::MAX } else { natural.max(1) };
        Ok(Self { natural, limit })
    }

    /// Returns the length and the finish reason.
    pub fn of(&self, prompt: u64, options: &Options) -> Result<(u64, &'static str), ApiError> {
        let window = options.max_model_len;
        if prompt > window {
            return Err(too_long(window));
        }
        if prompt == window {
            return Err(below_one(0));
        }
        let limit = self.limit.and_then(|limit| u64::try_from(limit).ok());
        if let Some(limit) = limit.filter(|limit| options.legacy_length && prompt + limit > window) {
            return Err(sum_too_long(prompt, limit, window));
        }
        let room = limit.unwrap_or(window).min(window - prompt);
        Ok(if self.natural <= room { (self.natural, "stop") } else { (room, "length") })
    }
}

fn below_one(limit: i64) -> ApiError {
    let message = format!("max_tokens must be at least 1, got {limit}. (parameter=max_tokens, value={limit})");
    ApiError::bad_request(message, Some("max_tokens"))
}

fn too_long(window: u64) -> ApiError {
    let least = window + 1; // vLLM stops counting there
    let message = format!(
        "This model's maximum context length is {window} tokens. However, your prompt contains at least {least} input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value={least})"
    );
    ApiError::bad_request(message, Some("input_tokens"))
}

fn sum_too_long(prompt: u64, limit: u64, window: u64) -> ApiError {
    let sum = prompt + limit;
    let message = format!(
        "This model's maximum context length is {window} tokens. However, you requested {limit} output tokens and your prompt contains at least {prompt} input tokens, for a total of at least {sum} tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value={prompt})"
    );
    ApiError::bad_request(message, Some("input_tokens"))
}
