//! The workloads, and the responses that they expect.

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::client::Answer;

/// The model's name at the stand-in.
pub(super) const MODEL: &str = "meta-llama/Meta-Llama-3-70B-Instruct";
/// The provider that clients name.
pub(super) const FIRST: &str = "vllm-local";
/// The provider for retries.
pub(super) const SECOND: &str = "vllm-other";
/// The model's name in requests. The stand-in also serves it, for Envoys that do not rewrite it.
pub(super) const REFERENCE: &str = "vllm-local/meta-llama/Meta-Llama-3-70B-Instruct";
/// The completion tokens of most responses. With the role event, a stream has 65 events before `[DONE]`.
pub(super) const TOKENS: usize = 64;

const CHAT_BYTES: usize = 250;
/// A body of up to this many bytes contains one question.
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
    /// A chat with a body of 250 bytes, without streaming
    Chat,
    /// As chat, with a body of 8 KB
    #[value(name = "chat-8k")]
    Chat8k,
    /// A chat with a body of 112 KB in many messages
    Long,
    /// As long, with a body of 1 MB
    #[value(name = "chat-1m")]
    Chat1m,
    /// The small chat as a stream of 65 events, as fast as the server writes them
    Sse,
    /// As sse, with 1,000 events
    #[value(name = "sse-1000")]
    Sse1000,
    /// As sse, with 2 ms between events, so that each arrives alone
    Paced,
    /// As sse, with as few writes as possible
    Burst,
}

/// Whether the response is a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    No,
    Plain,
    /// A stream that ends with its usage.
    WithUsage,
}

/// The expected response, derived from the first one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    of: &'static str,
    status: u16,
    length: usize,
    /// The allowed difference in length, in bytes.
    slack: usize,
    end: &'static [u8],
}

// === impl Workload ===

impl Workload {
    /// The default workloads.
    pub const DEFAULT: [Self; 7] = [Self::Chat, Self::Chat8k, Self::Long, Self::Chat1m, Self::Sse, Self::Sse1000, Self::Paced];

    /// Returns the title in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Chat => "chat, 250 B",
            Self::Chat8k => "chat, 8 KB body",
            Self::Long => "chat, 112 KB body",
            Self::Chat1m => "chat, 1 MB body",
            Self::Sse => "SSE, 65 events",
            Self::Sse1000 => "SSE, 1,000 events",
            Self::Paced => "SSE, 65 events, 2 ms apart",
            Self::Burst => "SSE, 65 events at once",
        }
    }

    /// Returns the number of requests of one round.
    pub(super) fn requests(self) -> u64 {
        match self {
            Self::Chat | Self::Chat8k => 8000,
            Self::Sse => 2400,
            Self::Long | Self::Burst => 4000,
            Self::Paced | Self::Sse1000 => 320,
            Self::Chat1m => 400,
        }
    }

    pub(super) fn is_stream(self) -> bool {
        matches!(self, Self::Sse | Self::Sse1000 | Self::Paced | Self::Burst)
    }

    /// Returns the number of events of a streamed response, including the role event and `[DONE]`.
    pub(super) fn events(self) -> Option<u64> {
        self.is_stream().then_some(self.tokens() as u64 + 2)
    }

    fn tokens(self) -> usize {
        if self == Self::Sse1000 { 999 } else { TOKENS }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Chat8k => 8 * 1024,
            Self::Long => 112 * 1024,
            Self::Chat1m => 1024 * 1024,
            _ => CHAT_BYTES,
        }
    }

    /// Returns the complete request as an official client sends it. `credentials` are the header lines that identify the caller.
    /// The request contains the header that routes it when no filter does.
    pub(super) fn request(self, credentials: &str) -> Vec<u8> {
        self.request_with(credentials, self.body())
    }

    /// Returns the complete request with another limit of completion tokens.
    pub(super) fn request_with_limit(self, credentials: &str, limit: u64) -> Vec<u8> {
        let mut body = self.body();
        body.pop();
        body.extend_from_slice(format!(",\"max_tokens\":{limit}}}").as_bytes());
        self.request_with(credentials, body)
    }

    fn request_with(self, credentials: &str, body: Vec<u8>) -> Vec<u8> {
        let pace = match self {
            Self::Paced => "x-standin-fault: interval=2ms\r\n",
            Self::Burst => "x-standin-fault: coalesce\r\n",
            Self::Sse1000 => "x-standin-fault: tokens=999\r\n",
            Self::Chat | Self::Chat8k | Self::Long | Self::Chat1m | Self::Sse => "",
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
        chat(REFERENCE, if self.is_stream() { Streaming::Plain } else { Streaming::No }, self.bytes())
    }

    /// Checks the first response in detail.
    pub(super) fn examine(self, answer: &Answer) -> Result<Expected> {
        let body = std::str::from_utf8(&answer.body)?;
        let tokens = self.tokens();
        let text = if self.is_stream() { streamed(body, tokens) } else { whole(body, tokens) };
        let text = text.with_context(|| format!("{}: not the answer of a chat: {body}", self.title()))?;
        ensure!(text.len() == tokens * 4, "{}: an answer of {} bytes instead of {}", self.title(), text.len(), tokens * 4);
        let end = if self.is_stream() { END } else { b"}" };
        Ok(Expected { of: self.title(), status: 200, length: body.len(), slack: 0, end })
    }
}

/// Returns the body of a chat of at least this many bytes: one question, or as many messages as needed, with up to 1 KB more.
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

/// Returns one message of a conversation: one paragraph.
fn message(number: usize) -> Value {
    let role = if number % 2 == 1 { "user" } else { "assistant" };
    let sentences: Vec<&str> = SENTENCES.iter().cycle().skip(number).take(5).copied().collect();
    json!({"role": role, "content": sentences.join(" ")})
}

fn whole(body: &str, tokens: usize) -> Result<String> {
    let answer: Value = serde_json::from_str(body)?;
    let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str).context("no content")?;
    let usage = answer.pointer("/usage/completion_tokens").and_then(Value::as_u64).context("no usage")?;
    ensure!(usage == tokens as u64, "{usage} tokens");
    Ok(text.to_owned())
}

fn streamed(body: &str, tokens: usize) -> Result<String> {
    let events = body.strip_suffix("data: [DONE]\n\n").context("no end")?;
    let events: Vec<&str> = events.split_terminator("\n\n").collect();
    ensure!(events.len() == tokens + 1, "{} events", events.len());
    let mut text = String::new();
    for event in events {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ").context("no data")?)?;
        ensure!(event.get("usage").is_none(), "usage that was not requested");
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
    /// Expects an error like this one, with `status` and `code`.
    pub(super) fn refusal(of: &'static str, status: u16, code: &str, answer: &Answer) -> Result<Self> {
        let body = String::from_utf8_lossy(&answer.body);
        let found = answer.status() == status && body.contains(&format!("\"code\":\"{code}\""));
        ensure!(found, "{of}: not {status} {code}: {} {body}", answer.status());
        // The message may contain the time until midnight: `10h16m39s`, `10h16m4s`, `10h16m0s`.
        Ok(Self { of, status, length: answer.body.len(), slack: 8, end: b"}}" })
    }

    /// Checks that a response has the same status, the same length within the slack, and the expected end.
    pub(super) fn check(&self, answer: &Answer) -> Result<()> {
        let (status, body) = (answer.status(), &answer.body);
        ensure!(
            status == self.status && body.len().abs_diff(self.length) <= self.slack && body.ends_with(self.end),
            "{}: an answer of {} bytes with {status}, where the first had {} with {}: {}",
            self.of,
            body.len(),
            self.length,
            self.status,
            String::from_utf8_lossy(body.get(..500).unwrap_or(body))
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
        for workload in [Workload::Chat8k, Workload::Long, Workload::Chat1m] {
            let (length, least) = (workload.body().len(), workload.bytes());
            assert!((least..least + 1024).contains(&length), "{workload:?}: {length}");
        }
    }
}
