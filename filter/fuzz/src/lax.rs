//! A request body as a lax server reads it: Python's `json`, where the last of two keys wins, and pydantic's lax mode, where `"5"`,
//! `5.0` and `true` are integers and `"yes"` is true.
//!
//! Python itself is asked by `filter/fuzz/compare-with-python`.

use pai_filter::openai::Operation;
use serde_json::{Map, Value};

/// The members of an object.
pub type Members = Map<String, Value>;

/// What a server makes of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// The model that it looks up.
    pub model: Option<String>,
    /// Whether it streams.
    pub stream: bool,
    /// Whether it streams usage at the end.
    pub include_usage: bool,
    /// Whether it streams usage on every chunk, if at all.
    pub continuous_usage: bool,
    /// The limit of completion tokens that it obeys.
    pub limit: Option<i128>,
    /// The larger of its two limits.
    pub largest_limit: Option<i128>,
    /// Tokens that each completion must have.
    pub min_tokens: i128,
    /// Completions that come back for each prompt.
    pub choices: i128,
    /// Completions that are made in all.
    pub sequences: i128,
}

/// Parses a body; `None` where `serde_json` is stricter than Python: lone surrogates, numbers beyond `f64`, deep nesting.
pub fn members(body: &[u8]) -> Option<Members> {
    match serde_json::from_slice(body) {
        Ok(members) => Some(members),
        Err(error) => {
            let message = error.to_string();
            let stricter = ["surrogate", "hex escape", "number out of range", "recursion limit"];
            assert!(stricter.iter().any(|what| message.contains(what)), "taken, but no JSON: {message}");
            None
        }
    }
}

/// Reads the members as the server of `operation` does.
pub fn read(members: &Members, operation: Operation) -> Reading {
    let options = members.get("stream_options").and_then(Value::as_object).cloned().unwrap_or_default();
    let newer = int(members, "max_completion_tokens").filter(|_| operation == Operation::Chat);
    let older = int(members, "max_tokens").filter(|_| operation != Operation::Embeddings);
    let choices = int(members, "n").unwrap_or(1);
    Reading {
        model: members.get("model").and_then(Value::as_str).map(str::to_owned),
        stream: flag(members, "stream"),
        include_usage: flag(&options, "include_usage"),
        continuous_usage: flag(&options, "continuous_usage_stats"),
        limit: newer.or(older),
        largest_limit: newer.max(older),
        min_tokens: int(members, "min_tokens").unwrap_or(0),
        choices,
        sequences: choices.max(int(members, "best_of").unwrap_or(1)) * prompts(members, operation),
    }
}

/// An integer; null and what is none are absent.
fn int(members: &Members, name: &str) -> Option<i128> {
    match members.get(name)? {
        Value::Bool(flag) => Some((*flag).into()),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i128)
        }
        Value::Number(number) => number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)),
        Value::String(text) => text.trim().replace('_', "").parse().ok(),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn flag(members: &Members, name: &str) -> bool {
    match members.get(name) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() == Some(1.0),
        Some(Value::String(text)) => ["true", "1", "yes", "on", "y", "t"].contains(&&*text.to_ascii_lowercase()),
        _ => false,
    }
}

/// A list of strings or of lists is so many prompts; a list of token ids is one.
fn prompts(members: &Members, operation: Operation) -> i128 {
    match (operation, members.get("prompt")) {
        (Operation::Embeddings, _) => 0,
        (Operation::TextCompletion, Some(Value::Array(items))) if !items.iter().any(Value::is_number) => items.len().max(1) as i128,
        _ => 1,
    }
}
