//! Reads a request body as a lax server does: as Python's `json`, where the last of duplicate keys wins, and pydantic's lax mode, where
//! `"5"`, `5.0` and `true` are integers and `"yes"` is true.
//!
//! `filter/fuzz/compare-with-python` compares with Python itself.

use pai_filter::openai::Operation;
use serde_json::{Map, Value};

/// The members of an object.
pub type Members = Map<String, Value>;

/// The values that a server reads from a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    /// The model.
    pub model: Option<String>,
    /// Whether the response is streamed.
    pub stream: bool,
    /// Whether the stream has usage at the end.
    pub include_usage: bool,
    /// Whether every event of the stream has usage, if any has.
    pub continuous_usage: bool,
    /// The limit of completion tokens that the server applies.
    pub limit: Option<i128>,
    /// The larger of the two limits in the body.
    pub largest_limit: Option<i128>,
    /// The minimum number of tokens of each completion.
    pub min_tokens: i128,
    /// The number of completions returned for each prompt.
    pub choices: i128,
    /// The number of completions generated for all prompts.
    pub sequences: i128,
}

/// Parses a body. Returns `None` if `serde_json` is stricter than Python: lone surrogates, numbers beyond `f64`, deep nesting.
pub fn members(body: &[u8]) -> Option<Members> {
    match serde_json::from_slice(body) {
        Ok(members) => Some(members),
        Err(error) => {
            let message = error.to_string();
            let stricter = ["surrogate", "hex escape", "number out of range", "recursion limit"];
            assert!(stricter.iter().any(|what| message.contains(what)), "accepted, but not JSON: {message}");
            None
        }
    }
}

/// Reads the members as a server of `operation` does.
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

/// Returns an integer member; `None` if it is absent, null or not an integer.
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

/// Returns the number of prompts: the length of a list of strings or of lists, and 1 for a list of token ids.
fn prompts(members: &Members, operation: Operation) -> i128 {
    match (operation, members.get("prompt")) {
        (Operation::Embeddings, _) => 0,
        (Operation::TextCompletion, Some(Value::Array(items))) if !items.iter().any(Value::is_number) => items.len().max(1) as i128,
        _ => 1,
    }
}
