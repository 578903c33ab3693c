//! Counts tokens without a tokenizer, by a deterministic rule that can be computed by hand.
//!
//! - text: one token per [`bytes_per_token`](super::Options::bytes_per_token) bytes (4), rounded up;
//! - token ids: one each;
//! - a chat: its messages, plus [`PER_MESSAGE`] for each message and [`PER_CHAT`] once; tools count as their JSON text;
//! - generated text: exactly four bytes per token, so that a response sent back as a prompt counts the same.

use serde_json::Value;

/// The tokens that the chat template adds to each message.
pub const PER_MESSAGE: u64 = 4;
/// The tokens that the chat template adds once, for the model's turn.
pub const PER_CHAT: u64 = 3;

const WORDS: [&str; 16] = [
    " the", " old", " fox", " ran", " far", " and", " saw", " two", " red", " hen", " who", " sat", " off", " log", " not", " one",
];

/// Returns the tokens of a text.
pub fn of_text(bytes: usize, bytes_per_token: u64) -> u64 {
    (bytes as u64).div_ceil(bytes_per_token.max(1))
}

/// Returns the text of the generated token with this number.
pub fn word(number: u64) -> &'static str {
    WORDS.get((number % 16) as usize).copied().unwrap_or(" the")
}

/// The text and images of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chat {
    /// The number of messages.
    pub messages: u64,
    /// The tokens of their texts.
    pub text: u64,
    /// The number of parts that are not text.
    pub images: u64,
}

/// Counts the messages of a chat.
pub fn of_chat(messages: &[Value], bytes_per_token: u64) -> Chat {
    let mut chat = Chat { messages: messages.len() as u64, ..Chat::default() };
    for message in messages {
        match message.get("content") {
            Some(Value::Array(parts)) => parts.iter().for_each(|part| chat.add_part(part, bytes_per_token)),
            Some(Value::String(text)) => chat.text += of_text(text.len(), bytes_per_token),
            _ => {}
        }
    }
    chat
}

// === impl Chat ===

impl Chat {
    /// Returns all of them as prompt tokens.
    pub fn tokens(&self, image_tokens: u64) -> u64 {
        self.text + self.messages * PER_MESSAGE + PER_CHAT + self.images * image_tokens
    }

    fn add_part(&mut self, part: &Value, bytes_per_token: u64) {
        match part.as_str().or_else(|| part.get("text")?.as_str()) {
            Some(text) => self.text += of_text(text.len(), bytes_per_token),
            None => self.images += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_are_four_bytes() {
        let text: String = (0..100).map(word).collect();
        assert_eq!(text.len(), 400);
        assert_eq!(of_text(text.len(), 4), 100);
    }

    #[test]
    fn chats() {
        let messages = json!([
            {"role": "system", "content": "12345678"},
            {"role": "user", "content": [{"type": "text", "text": "1234"}, "12345", {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "content": null},
        ]);
        let chat = of_chat(messages.as_array().unwrap(), 4);
        assert_eq!(chat, Chat { messages: 3, text: 2 + 1 + 2, images: 1 });
        assert_eq!(chat.tokens(100), 5 + 3 * PER_MESSAGE + PER_CHAT + 100);
    }
}
