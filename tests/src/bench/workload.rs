//! What is asked, and how a good answer looks.

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::client::Answer;

/// The model, as the stand-in calls it.
pub(super) const MODEL: &str = "meta-llama/Meta-Llama-3-70B-Instruct";
/// The provider that clients name.
pub(super) const FIRST: &str = "vllm-local";
/// The one that requests move on to.
pub(super) const SECOND: &str = "vllm-other";
/// The model as clients name it. The stand-in knows it too, for the Envoys that do not rewrite it.
pub(super) const REFERENCE: &str = "vllm-local/meta-llama/Meta-Llama-3-70B-Instruct";
/// Tokens of every answer: with the one that announces the role, a stream has 65 events before `[DONE]`.
pub(super) const TOKENS: usize = 64;

const CHAT_BYTES: usize = 250;
const LONG_BYTES: usize = 112 * 1024;
/// A body of up to so many bytes has one question.
const SHORT_BYTES: usize = 1024;
const END: &[u8] = b"data: [DONE]\n\n";

const SENTENCES: [&str; 6] = [
    "The ledger keeps one record for each budget and day, and every worker of the proxy changes it in the same way.",
    "She said: \"Count what was promised, then what was used\" — and closed the book.\nThe next page was empty.",
    "A stream may be cut at any byte; whatever was generated until then has been paid for with somebody's electricity.",
    "Les modèles répondent en français aussi bien qu'en anglais, à condition qu'on le leur demande poliment.",
    "fn main() {\n    println!(\"{}\", std::env::args().count());\n}",
    "In the morning the fox ran over the hill, across the old road and past the two red barns, where nobody saw it.",
];

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// A chat with a body of 250 bytes, answered in one piece
    Chat,
    /// The same as a stream of 65 events, as fast as the server writes them
    Sse,
    /// A chat with a body of 112 KB in many messages
    Long,
    /// The stream with 2 ms between its events, so that each arrives alone
    Paced,
    /// The stream in as few writes as can be
    Burst,
}

/// Whether the answer is to be a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    No,
    Plain,
    /// One that ends with its usage.
    WithUsage,
}

/// What every answer to a workload must be like, learned from the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    workload: Workload,
    length: usize,
}

// === impl Workload ===

impl Workload {
    /// What is measured where nothing else is asked for.
    pub const DEFAULT: [Self; 4] = [Self::Chat, Self::Sse, Self::Paced, Self::Long];

    /// As the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Chat => "chat, 250 B",
            Self::Sse => "SSE, 65 events",
            Self::Long => "chat, 112 KB body",
            Self::Paced => "SSE, 65 events, 2 ms apart",
            Self::Burst => "SSE, 65 events at once",
        }
    }

    /// Requests of one round.
    pub(super) fn requests(self) -> u64 {
        match self {
            Self::Chat => 8000,
            Self::Sse => 2400,
            Self::Long | Self::Burst => 4000,
            Self::Paced => 320,
        }
    }

    pub(super) fn is_stream(self) -> bool {
        matches!(self, Self::Sse | Self::Paced | Self::Burst)
    }

    /// The whole request, as an official client sends it; `credentials`: lines that show who asks. The header that routes it where
    /// no filter does goes with it.
    pub(super) fn request(self, credentials: &str) -> Vec<u8> {
        let body = self.body();
        let pace = match self {
            Self::Paced => "x-standin-fault: interval=2ms\r\n",
            Self::Burst => "x-standin-fault: coalesce\r\n",
            Self::Chat | Self::Sse | Self::Long => "",
        };
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\n\
             host: gateway.test:8080\r\n\
             accept: application/json\r\n\
             accept-encoding: gzip, deflate\r\n\
             {credentials}content-type: application/json\r\n\
             user-agent: OpenAI/Python 2.8.0\r\n\
             x-stainless-async: false\r\n\
             x-stainless-lang: python\r\n\
             x-stainless-os: Linux\r\n\
             x-stainless-package-version: 2.8.0\r\n\
             x-stainless-retry-count: 0\r\n\
             x-pai-provider: vllm-local\r\n\
             {pace}content-length: {}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    }

    fn body(self) -> Vec<u8> {
        let bytes = if self == Self::Long { LONG_BYTES } else { CHAT_BYTES };
        chat(REFERENCE, if self.is_stream() { Streaming::Plain } else { Streaming::No }, bytes)
    }

    /// Looks closely at the first answer.
    pub(super) fn examine(self, answer: &Answer) -> Result<Expected> {
        let body = std::str::from_utf8(&answer.body)?;
        let tokens = if self.is_stream() { streamed(body) } else { whole(body) };
        let text = tokens.with_context(|| format!("{}: not the answer of a chat: {body}", self.title()))?;
        ensure!(text.len() == TOKENS * 4, "{}: an answer of {} bytes instead of {}", self.title(), text.len(), TOKENS * 4);
        Ok(Expected { workload: self, length: body.len() })
    }
}

/// The body of a chat of this many bytes: one question, or as many turns as it takes, and then up to 1 KB more.
pub(super) fn chat(model: &str, streaming: Streaming, bytes: usize) -> Vec<u8> {
    let body = |messages: &[Value]| {
        let mut body = json!({"messages": messages, "model": model, "temperature": 0.7});
        if let Some(fields) = body.as_object_mut() {
            fields.extend(streaming.fields());
        }
        body.to_string().into_bytes()
    };
    let mut messages = vec![json!({"role": "system", "content": "You are a helpful assistant."})];
    let question = |padding: usize| json!({"role": "user", "content": format!("What did the fox see?{}", "?".repeat(padding))});
    if bytes <= SHORT_BYTES {
        let without = body(&[messages.as_slice(), &[question(0)]].concat()).len();
        messages.push(question(bytes.saturating_sub(without)));
        return body(&messages);
    }
    let mut length = body(&messages).len();
    while length < bytes {
        let message = message(messages.len());
        length += message.to_string().len() + 1;
        messages.push(message);
    }
    body(&messages)
}

/// A turn of a conversation: one paragraph.
fn message(number: usize) -> Value {
    let role = if number % 2 == 1 { "user" } else { "assistant" };
    let sentences: Vec<&str> = SENTENCES.iter().cycle().skip(number).take(5).copied().collect();
    json!({"role": role, "content": sentences.join(" ")})
}

fn whole(body: &str) -> Result<String> {
    let answer: Value = serde_json::from_str(body)?;
    let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str).context("no content")?;
    let usage = answer.pointer("/usage/completion_tokens").and_then(Value::as_u64).context("no usage")?;
    ensure!(usage == TOKENS as u64, "{usage} tokens");
    Ok(text.to_owned())
}

fn streamed(body: &str) -> Result<String> {
    let events = body.strip_suffix("data: [DONE]\n\n").context("no end")?;
    let events: Vec<&str> = events.split_terminator("\n\n").collect();
    ensure!(events.len() == TOKENS + 1, "{} events", events.len());
    let mut text = String::new();
    for event in events {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ").context("no data")?)?;
        ensure!(event.get("usage").is_none(), "usage that was not asked for");
        text += event.pointer("/choices/0/delta/content").and_then(Value::as_str).context("no delta")?;
    }
    Ok(text)
}

// === impl Streaming ===

impl Streaming {
    fn fields(self) -> serde_json::Map<String, Value> {
        let fields = match self {
            Self::No => json!({}),
            Self::Plain => json!({ "stream": true }),
            Self::WithUsage => json!({ "stream": true, "stream_options": { "include_usage": true } }),
        };
        fields.as_object().cloned().unwrap_or_default()
    }
}

// === impl Expected ===

impl Expected {
    /// Whether another answer is as long, and ends as it should.
    pub(super) fn check(&self, answer: &Answer) -> Result<()> {
        let end = if self.workload.is_stream() { END } else { b"}" };
        ensure!(
            answer.body.len() == self.length && answer.body.ends_with(end),
            "{}: an answer of {} bytes, where the first had {}",
            self.workload.title(),
            answer.body.len(),
            self.length
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_of_the_size_they_say() {
        assert_eq!(Workload::Chat.body().len(), CHAT_BYTES);
        assert_eq!(Workload::Sse.body().len(), CHAT_BYTES);
        let long = Workload::Long.body().len();
        assert!((LONG_BYTES..LONG_BYTES + 1024).contains(&long), "{long}");
    }
}
