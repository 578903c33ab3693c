//! Writes SSE events as vLLM 0.32 does, including field order and nulls.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};

use super::response_plan::{Api, Choice, Event, ResponsePlan, UsageReporting};
use super::tokens;

/// The `system_fingerprint` of the captured server.
pub const FINGERPRINT: &str = "vllm-0.32.0-d65e3ede";

const ENGINE_DIED: &str = r#"{"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", "type": "InternalServerError", "param": null, "code": 500}}"#;

/// Writes the events of one stream.
pub(super) struct Writer {
    start: String,
    end: &'static [u8],
}

/// Returns the seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Encodes a text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

// === impl Writer ===

impl Writer {
    pub fn new(plan: &ResponsePlan) -> Self {
        let object = match plan.api {
            Api::Chat => "chat.completion.chunk",
            Api::Completions => "text_completion",
        };
        let (id, model, created) = (quoted(&plan.id), quoted(&plan.model), now());
        let start = format!(r#"data: {{"id":{id},"object":"{object}","created":{created},"model":{model},"choices":["#);
        Self { start, end: if plan.fault.crlf { b"\r\n\r\n" } else { b"\n\n" } }
    }

    /// Appends one event.
    pub fn write(&self, out: &mut BytesMut, plan: &ResponsePlan, event: Event) {
        match event {
            Event::Done => out.put_slice(b"data: [DONE]"),
            Event::EngineDied => {
                out.put_slice(b"data: ");
                out.put_slice(ENGINE_DIED.as_bytes());
            }
            Event::Role(choice) => self.role(out, plan, choice),
            Event::Token { choice, number, last } => self.token(out, plan, choice, number, last),
            Event::Usage => self.usage(out, plan),
        }
        out.put_slice(self.end);
    }

    fn role(&self, out: &mut BytesMut, plan: &ResponsePlan, choice: usize) {
        put(
            out,
            format_args!(
                r#"{}{{"index":{choice},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]"#,
                self.start
            ),
        );
        if let Some(planned) = plan.choices.get(choice).filter(|_| plan.usage_reporting == UsageReporting::Continuous) {
            running(out, plan, planned, 0);
        }
        out.put_slice(br#","prompt_token_ids":null,"prompt_text":null}"#);
    }

    fn token(&self, out: &mut BytesMut, plan: &ResponsePlan, index: usize, number: u64, last: bool) {
        let Some(choice) = plan.choices.get(index) else {
            return;
        };
        out.put_slice(self.start.as_bytes());
        match plan.api {
            Api::Chat => {
                put(out, format_args!(r#"{{"index":{index},"delta":{{"#));
                delta(out, plan, index, choice, number);
                out.put_slice(br#"},"logprobs":null,"#);
            }
            Api::Completions => {
                put(out, format_args!(r#"{{"index":{index},"text":"{}","logprobs":null,"#, tokens::word(number)));
            }
        }
        match (last, plan.api) {
            (true, Api::Chat) => {
                put(out, format_args!(r#""finish_reason":"{}","stop_reason":null,"token_ids":null}}]"#, choice.finish));
            }
            (false, Api::Chat) => out.put_slice(br#""finish_reason":null,"token_ids":null}]"#),
            (true, Api::Completions) => put(
                out,
                format_args!(
                    r#""finish_reason":"{}","stop_reason":null,"prompt_token_ids":null,"token_ids":null}}]"#,
                    choice.finish
                ),
            ),
            (false, Api::Completions) => {
                out.put_slice(br#""finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]"#);
            }
        }
        match plan.usage_reporting {
            UsageReporting::Continuous => running(out, plan, choice, number + 1),
            UsageReporting::Never if last => put(out, format_args!(r#","system_fingerprint":"{FINGERPRINT}""#)),
            _ => {}
        }
        out.put_u8(b'}');
    }

    fn usage(&self, out: &mut BytesMut, plan: &ResponsePlan) {
        let (prompt, completion) = (plan.prompt_tokens, plan.completion_tokens() + plan.fault.extra_usage);
        let total = prompt + completion;
        put(
            out,
            format_args!(
                r#"{}],"usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}"#,
                self.start
            ),
        );
        if plan.details {
            put(out, format_args!(r#","prompt_tokens_details":{CACHED}"#));
        }
        let reasoning: u64 = plan.choices.iter().map(|choice| plan.reasoning(choice)).sum();
        if reasoning > 0 {
            put(out, format_args!(r#","completion_tokens_details":{{"reasoning_tokens":{reasoning}}}"#));
        }
        put(out, format_args!(r#"}},"system_fingerprint":"{FINGERPRINT}"}}"#));
    }
}

pub(super) const CACHED: &str = r#"{"cached_tokens":0,"created_cache_tokens":0,"multimodal_tokens":null}"#;

fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // a BytesMut grows
}

/// Writes `continuous_usage_stats`: the tokens of one choice so far.
fn running(out: &mut BytesMut, plan: &ResponsePlan, choice: &Choice, completion: u64) {
    let (prompt, total) = (choice.prompt_tokens, choice.prompt_tokens + completion);
    put(out, format_args!(r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}"#));
    if plan.api == Api::Chat {
        match completion.min(plan.reasoning(choice)) {
            0 => out.put_slice(br#","completion_tokens_details":null"#),
            reasoning => put(out, format_args!(r#","completion_tokens_details":{{"reasoning_tokens":{reasoning}}}"#)),
        }
    }
    out.put_u8(b'}');
}

fn delta(out: &mut BytesMut, plan: &ResponsePlan, index: usize, choice: &Choice, number: u64) {
    match &plan.tool {
        None if number < plan.reasoning(choice) => put(out, format_args!(r#""reasoning":"{}""#, tokens::word(number))),
        None => put(out, format_args!(r#""content":"{}""#, tokens::word(number))),
        Some(name) => {
            let arguments = quoted(&argument(number, choice.length));
            let call = match number {
                0 => format!(r#""id":"{}","type":"function","#, call_id(plan, index)),
                _ => String::new(),
            };
            let name = if number == 0 { format!(r#""name":{},"#, quoted(name)) } else { String::new() };
            put(out, format_args!(r#""tool_calls":[{{{call}"index":0,"function":{{{name}"arguments":{arguments}}}}}]"#));
        }
    }
}

/// Returns the text of one token of a tool call. All tokens together form one JSON object.
pub(super) fn argument(number: u64, length: u64) -> String {
    match number {
        _ if length < 2 => "{}".into(),
        0 => r#"{"text":""#.into(),
        _ if number + 1 == length => r#""}"#.into(),
        _ => tokens::word(number).into(),
    }
}

pub(super) fn call_id(plan: &ResponsePlan, index: usize) -> String {
    let suffix: String = plan.id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    format!("chatcmpl-tool-{suffix}{index}")
}
