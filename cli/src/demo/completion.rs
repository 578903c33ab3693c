//! Completions of the stand-in: a fixed text, as one JSON object or as a stream of one token for each event.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::service::{ApiError, Body};
use super::{MAX_MODEL_LEN, tokens};

const TEXT: &str = "This is a stand-in for vLLM that is part of pai. No model runs, and this text is always the same. \
    The gateway in front of it is real: it checked the model and the budgets, and charges the tokens of this answer. \
    Put your own server behind it with a ModelProvider manifest and pai apply.";
/// The time between two tokens of a stream.
const INTERVAL: Duration = Duration::from_millis(20);
const MAX_CHOICES: u64 = 128;

/// Which API a completion is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Text,
}

/// One completion, ready to be written.
#[derive(Debug)]
pub struct Completion {
    api: Api,
    model: String,
    prompt_tokens: u64,
    /// The tokens of each choice.
    words: Vec<&'static str>,
    choices: u64,
    finish_reason: &'static str,
    stream: bool,
    include_usage: bool,
    continuous_usage: bool,
}

// === impl Completion ===

impl Completion {
    /// Plans the answer to a request.
    pub fn new(api: Api, model: &str, body: &Value) -> Result<Self, ApiError> {
        let (prompts, prompt_tokens) = match api {
            Api::Chat => (1, tokens::of_messages(messages(body)?)),
            Api::Text => {
                let prompt =
                    body.get("prompt").ok_or_else(|| ApiError::bad_request("Either prompt or prompt_embeds must be provided."))?;
                (tokens::prompts(prompt).len() as u64, tokens::of_prompt(prompt))
            }
        };
        let limit = limit(body, MAX_MODEL_LEN.saturating_sub(prompt_tokens))?;
        let words: Vec<_> = TEXT.split_inclusive(' ').collect();
        let finish_reason = if (words.len() as u64) > limit { "length" } else { "stop" };
        let flag = |name| body.get("stream_options").and_then(|options| options.get(name)?.as_bool()).unwrap_or(false);
        Ok(Self {
            api,
            model: model.to_owned(),
            prompt_tokens,
            words: words.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect(),
            choices: (body.get("n").and_then(Value::as_u64).unwrap_or(1) * prompts).clamp(1, MAX_CHOICES),
            finish_reason,
            stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
            include_usage: flag("include_usage"),
            continuous_usage: flag("include_usage") && flag("continuous_usage_stats"),
        })
    }

    /// Returns whether the answer is a stream.
    pub fn streams(&self) -> bool {
        self.stream
    }

    /// Returns the answer as one object.
    pub fn whole(&self) -> Value {
        let text = self.words.concat();
        let choices = (0..self.choices).map(|index| match self.api {
            Api::Chat => {
                json!({"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": self.finish_reason})
            }
            Api::Text => json!({"index": index, "text": text, "finish_reason": self.finish_reason}),
        });
        let usage = self.usage(self.words.len());
        self.object(if self.api == Api::Chat { "chat.completion" } else { "text_completion" }, choices.collect(), Some(usage))
    }

    /// Returns the answer as a stream. Its production ends when the client disconnects.
    pub fn stream(self) -> Body {
        let (sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(self.send(sender));
        body.boxed()
    }

    async fn send(self, mut sender: Sender<Bytes, Infallible>) -> Option<()> {
        if self.api == Api::Chat {
            let start = json!({"role": "assistant", "content": ""});
            for index in 0..self.choices {
                let choice = json!({"index": index, "delta": start, "finish_reason": null});
                send(&mut sender, &self.chunk(vec![choice], self.continuous_usage.then_some(0))).await?;
            }
        }
        for (position, word) in self.words.iter().enumerate() {
            tokio::time::sleep(INTERVAL).await;
            for index in 0..self.choices {
                let choice = self.token(index, word, position + 1 == self.words.len());
                send(&mut sender, &self.chunk(vec![choice], self.continuous_usage.then_some(position + 1))).await?;
            }
        }
        if self.include_usage {
            send(&mut sender, &self.chunk(Vec::new(), Some(self.words.len()))).await?;
        }
        sender.send_data("data: [DONE]\n\n".into()).await.ok()
    }

    fn token(&self, index: u64, word: &str, is_last: bool) -> Value {
        let finish_reason = is_last.then_some(self.finish_reason);
        match self.api {
            Api::Chat => json!({"index": index, "delta": {"content": word}, "finish_reason": finish_reason}),
            Api::Text => json!({"index": index, "text": word, "finish_reason": finish_reason}),
        }
    }

    fn chunk(&self, choices: Vec<Value>, generated: Option<usize>) -> Value {
        let object = if self.api == Api::Chat { "chat.completion.chunk" } else { "text_completion" };
        self.object(object, choices, generated.map(|generated| self.usage(generated)))
    }

    fn object(&self, object: &str, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let id = if self.api == Api::Chat { "chatcmpl-demo" } else { "cmpl-demo" };
        let mut value = json!({"id": id, "object": object, "created": 0, "model": self.model, "choices": choices});
        if let (Some(usage), Some(object)) = (usage, value.as_object_mut()) {
            object.insert("usage".to_owned(), usage);
        }
        value
    }

    fn usage(&self, generated: usize) -> Value {
        let completion = generated as u64 * self.choices;
        json!({"prompt_tokens": self.prompt_tokens, "total_tokens": self.prompt_tokens + completion, "completion_tokens": completion})
    }
}

fn messages(body: &Value) -> Result<&[Value], ApiError> {
    let messages = body.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
    messages.map(Vec::as_slice).ok_or_else(|| ApiError::bad_request("`messages` must be a list that is not empty"))
}

/// Returns the most tokens that a choice may have.
fn limit(body: &Value, left: u64) -> Result<u64, ApiError> {
    let named =
        ["max_completion_tokens", "max_tokens"].into_iter().find_map(|name| body.get(name).filter(|value| !value.is_null()));
    let limit = named.map_or(Some(left), Value::as_u64).filter(|limit| *limit > 0);
    let limit =
        limit.filter(|_| left > 0 || named.is_some()).ok_or_else(|| ApiError::bad_request("max_tokens must be at least 1"))?;
    if limit > left {
        return Err(ApiError::bad_request(&format!(
            "This model's maximum context length is {MAX_MODEL_LEN} tokens. However, you requested {limit} output tokens and {left} are left. \
             Please reduce the length of the input prompt or the number of requested output tokens."
        )));
    }
    Ok(limit)
}

async fn send(sender: &mut Sender<Bytes, Infallible>, event: &Value) -> Option<()> {
    sender.send_data(format!("data: {event}\n\n").into()).await.ok()
}
