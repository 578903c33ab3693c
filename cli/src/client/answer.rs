//! The answer to a chat completion request: one JSON object, or a stream of events.

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::Value;

use super::http::reported;
use crate::command::Outcome;
use crate::failure::Failure;

/// What is known when an answer has ended.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// Why it has ended: `stop`, `length`, …
    pub finish_reason: Option<String>,
    /// What was used, where the provider reports it.
    pub usage: Option<Usage>,
}

/// The tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Those of the prompt.
    pub prompt_tokens: u64,
    /// Those of the answer.
    pub completion_tokens: u64,
}

/// Reads a stream and passes each text on as it arrives.
pub fn read_stream(stream: impl Read, mut on_text: impl FnMut(&str) -> Outcome) -> Result<Answer, Failure> {
    let (mut answer, mut is_done) = (Answer::default(), false);
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(|error| broken_off(&error.to_string()))?;
        let Some(data) = line.strip_prefix("data:").map(str::trim) else {
            continue;
        };
        if data == "[DONE]" {
            is_done = true;
            break;
        }
        if let Some(message) = reported(data) {
            return Err(Failure::refused(message));
        }
        answer.add(&serde_json::from_str(data).unwrap_or_default(), "delta", &mut on_text)?;
    }
    if is_done || answer.finish_reason.is_some() { Ok(answer) } else { Err(broken_off("the stream ended early")) }
}

/// Reads an answer that is one object, and passes its text on.
pub fn read_whole(body: impl Read, mut on_text: impl FnMut(&str) -> Outcome) -> Result<Answer, Failure> {
    let value: Value = serde_json::from_reader(BufReader::new(body)).map_err(|error| broken_off(&error.to_string()))?;
    let mut answer = Answer::default();
    answer.add(&value, "message", &mut on_text)?;
    Ok(answer)
}

fn broken_off(reason: &str) -> Failure {
    Failure::unreachable(format!(
        "the answer broke off: {reason}\n  Send the request again; `pai models` shows whether the gateway answers"
    ))
}

// === impl Answer ===

impl Answer {
    fn add(&mut self, value: &Value, part: &str, on_text: &mut impl FnMut(&str) -> Outcome) -> Outcome {
        if let Some(usage) = value.get("usage").and_then(|usage| Usage::deserialize(usage).ok()) {
            self.usage = Some(usage);
        }
        let Some(choice) = value.get("choices").and_then(|choices| choices.get(0)) else {
            return Ok(());
        };
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish_reason = Some(reason.to_owned());
        }
        match choice.get(part).and_then(|part| part.get("content")?.as_str()) {
            Some(text) if !text.is_empty() => on_text(text),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Usage, read_stream, read_whole};

    fn stream(text: &str) -> Result<(String, Answer), String> {
        let mut seen = String::new();
        let on_text = |text: &str| {
            seen.push_str(text);
            Ok(())
        };
        let answer = read_stream(text.as_bytes(), on_text).map_err(|failure| failure.to_string())?;
        Ok((seen, answer))
    }

    #[test]
    fn streams_are_read_event_by_event() {
        let text = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
            : comment\n\ndata:{\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\r\n\r\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\ndata: [DONE]\n\n";
        let usage = Some(Usage { prompt_tokens: 7, completion_tokens: 2 });
        assert_eq!(stream(text).unwrap(), ("Hello".to_owned(), Answer { finish_reason: Some("stop".to_owned()), usage }));
    }

    #[test]
    fn a_stream_that_ends_early_is_an_error() {
        let error = stream("data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n").unwrap_err();
        assert!(error.starts_with("the answer broke off: the stream ended early"), "{error}");
        let error =
            stream("data: {\"error\":{\"message\":\"The budget is used up.\",\"code\":\"insufficient_quota\"}}\n\n").unwrap_err();
        assert_eq!(error, "The budget is used up.");
    }

    #[test]
    fn answers_without_a_text_have_none() {
        let body = r#"{"choices": [{"message": {"content": null}, "finish_reason": "tool_calls"}], "usage": null}"#;
        let answer = read_whole(body.as_bytes(), |_| unreachable!()).unwrap();
        assert_eq!(answer, Answer { finish_reason: Some("tool_calls".to_owned()), usage: None });
    }
}
