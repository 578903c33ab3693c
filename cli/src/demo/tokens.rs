//! Counts tokens without a tokenizer: one for each four bytes of text, and a few for each message.

use serde_json::Value;

const BYTES: usize = 4;
const PER_MESSAGE: u64 = 4;
const PER_CHAT: u64 = 3;

/// Returns the tokens of the messages of a chat.
pub fn of_messages(messages: &[Value]) -> u64 {
    let of_message = |message: &Value| PER_MESSAGE + message.get("content").map_or(0, of_prompt);
    PER_CHAT + messages.iter().map(of_message).sum::<u64>()
}

/// Returns the tokens of a prompt: a text, a list of token ids, or a list of prompts or parts.
pub fn of_prompt(prompt: &Value) -> u64 {
    match prompt {
        Value::String(text) => text.len().div_ceil(BYTES) as u64,
        Value::Array(items) => items.iter().map(of_prompt).sum(),
        Value::Object(part) => part.get("text").map_or(0, of_prompt),
        Value::Number(_) => 1,
        _ => 0,
    }
}

/// Returns the prompts of a text completion or of embeddings: a list of token ids is one prompt.
pub fn prompts(value: &Value) -> Vec<&Value> {
    match value.as_array() {
        Some(items) if !items.iter().all(Value::is_number) => items.iter().collect(),
        _ => vec![value],
    }
}
