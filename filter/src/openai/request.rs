//! What a request says about cost, read strictly.
//!
//! A governed_field key may stand once, however it is spelled, and only with the type that OpenAI's API documents; vLLM takes
//! `"5"`, `5.0` and `"yes"` too, and the last of two keys, which is how a lax gateway and its server come to disagree.

use std::borrow::Cow;
use std::ops::Range;

use super::{Operation, PromptSize};
use crate::json::{InvalidJson, JsonString, Reader, ValueKind};

/// The longest model id or reference.
pub const MAX_MODEL_BYTES: usize = 256;

/// A request body as far as it is governed_field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The model id or reference, of the form `[\x21-\x7e]{1,256}`.
    pub model: String,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whether the client asked for the chunk with the usage.
    pub include_usage: bool,
    /// Whether the client asked for the usage on every chunk. It counts only together with `include_usage`.
    pub continuous_usage: bool,
    /// The limit of completion tokens that vLLM will obey, if the request names one.
    pub limit: Option<u64>,
    /// The largest limit that any server may obey: chat has two fields for it.
    pub largest_limit: Option<u64>,
    /// Tokens that each completion must have; vLLM refuses a limit below.
    pub min_tokens: u64,
    /// `n`: completions that come back for each prompt.
    pub choices: u64,
    /// Prompts; 1 for chat, 0 for embeddings.
    pub prompts: u64,
    /// Completions that are made in all: the larger of `n` and `best_of`, × prompts.
    pub sequences: u64,
    /// What reaches the prompt.
    pub prompt: PromptSize,
    pub(super) ranges: FieldRanges,
}

/// Where the governed_field members lie, for editing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldRanges {
    /// After the opening brace.
    pub start: usize,
    pub model: Range<usize>,
    /// `max_tokens`, and whether it is more than null.
    pub max_tokens: Option<(Range<usize>, bool)>,
    /// `max_completion_tokens`, likewise.
    pub max_completion_tokens: Option<(Range<usize>, bool)>,
    pub stream_options: Option<StreamOptionsRanges>,
}

/// Where the members of `stream_options` lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamOptionsRanges {
    Null(Range<usize>),
    Object {
        /// After the opening brace.
        start: usize,
        empty: bool,
        include_usage: Option<Range<usize>>,
        continuous_usage: Option<Range<usize>>,
    },
}

/// Whether `name` can be a model id or a reference: `[\x21-\x7e]{1,256}`. What passes fits into a header value.
pub fn is_model_name(name: &str) -> bool {
    (1..=MAX_MODEL_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

/// Why a body is refused, for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBody {
    /// Nothing was sent.
    #[error("the request has no body")]
    Empty,
    /// Not one strict JSON document.
    #[error("the body is not strict JSON: {0}")]
    Json(#[from] InvalidJson),
    /// JSON, but no object.
    #[error("the body must be a JSON object")]
    NotObject,
    /// A governed_field key stands twice.
    #[error("`{0}` is given more than once")]
    Duplicate(&'static str),
    /// A key that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A governed_field key has a value that it must not have.
    #[error("`{param}` {reason}")]
    Wrong {
        /// The key.
        param: &'static str,
        /// What its value should be.
        reason: &'static str,
    },
}

/// What a governed_field key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Model,
    Messages,
    /// `prompt` or `input`.
    Prompts,
    MaxTokens,
    MaxCompletionTokens,
    MinTokens,
    N,
    BestOf,
    Stream,
    StreamOptions,
    /// Something that a template may write into the prompt.
    PromptText,
    /// Something that moves cost or content past the gate; why: `docs/security.md`.
    Forbidden,
    Priority,
    /// What vLLM hands to the engine together with the transfer parameters.
    ExtraArguments,
    /// What reaches the prompt as text, and may name a template.
    TemplateArguments,
    Truncate,
}

/// The governed_field keys. A key's place is its bit in the set of those seen.
const GOVERNED_FIELDS: [(&str, FieldKind); 27] = [
    ("model", FieldKind::Model),
    ("messages", FieldKind::Messages),
    ("prompt", FieldKind::Prompts),
    ("input", FieldKind::Prompts),
    ("max_tokens", FieldKind::MaxTokens),
    ("max_completion_tokens", FieldKind::MaxCompletionTokens),
    ("min_tokens", FieldKind::MinTokens),
    ("n", FieldKind::N),
    ("best_of", FieldKind::BestOf),
    ("stream", FieldKind::Stream),
    ("stream_options", FieldKind::StreamOptions),
    ("priority", FieldKind::Priority),
    ("vllm_xargs", FieldKind::ExtraArguments),
    ("chat_template_kwargs", FieldKind::TemplateArguments),
    ("truncate_prompt_tokens", FieldKind::Truncate),
    ("tools", FieldKind::PromptText),
    ("functions", FieldKind::PromptText),
    ("documents", FieldKind::PromptText),
    ("response_format", FieldKind::PromptText),
    ("structured_outputs", FieldKind::PromptText),
    ("guided_json", FieldKind::PromptText),
    ("suffix", FieldKind::PromptText),
    ("kv_transfer_params", FieldKind::Forbidden),
    ("ec_transfer_params", FieldKind::Forbidden),
    ("use_beam_search", FieldKind::Forbidden),
    ("prompt_embeds", FieldKind::Forbidden),
    ("chat_template", FieldKind::Forbidden),
];

/// What a body says while it is being read.
#[derive(Default)]
struct RequestBuilder {
    seen: u32,
    model: Option<String>,
    stream: bool,
    include_usage: bool,
    continuous_usage: bool,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    min_tokens: u64,
    n: Option<u64>,
    best_of: Option<u64>,
    prompts: Option<u64>,
    prompt: PromptSize,
    ranges: FieldRanges,
}

// === impl Request ===

impl Request {
    /// Reads a whole body.
    pub fn parse(body: &[u8], operation: Operation) -> Result<Self, InvalidBody> {
        if body.is_empty() {
            return Err(InvalidBody::Empty);
        }
        let mut reader = Reader::new(body);
        if reader.kind()? != ValueKind::Object {
            reader.skip()?;
            reader.finish()?;
            return Err(InvalidBody::NotObject);
        }
        let mut builder = RequestBuilder::default();
        let mut object = reader.object()?;
        builder.ranges.start = reader.offset();
        while let Some(name) = object.next(&mut reader)? {
            match governed_field(&name) {
                Some(place) => builder.member(place, &mut reader)?,
                None => {
                    reader.skip()?;
                }
            }
        }
        reader.finish()?;
        builder.finish(operation)
    }
}

// === impl InvalidBody ===

impl InvalidBody {
    /// The field that is at fault, if it is one.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::Empty | Self::Json(_) | Self::NotObject => None,
            Self::Duplicate(param) | Self::Missing(param) | Self::Wrong { param, .. } => Some(param),
        }
    }

    pub(super) fn wrong(param: &'static str, reason: &'static str) -> Self {
        Self::Wrong { param, reason }
    }
}

/// A governed_field key's place in [`GOVERNED_FIELDS`], its name and what it is about.
type Governed = (usize, &'static str, FieldKind);

fn governed_field(text: &JsonString<'_>) -> Option<Governed> {
    let name: Cow<'_, str> = text.decode();
    let found = GOVERNED_FIELDS.iter().enumerate().find(|(_, (known, _))| *known == name);
    found.map(|(place, (name, key))| (place, *name, *key))
}

// === impl RequestBuilder ===

impl RequestBuilder {
    fn member(&mut self, (place, name, key): Governed, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        if self.seen & 1 << place != 0 {
            return Err(InvalidBody::Duplicate(name));
        }
        self.seen |= 1 << place;
        match key {
            FieldKind::Model => self.model(reader),
            FieldKind::MaxTokens => {
                let (value, place) = positive(reader, name)?;
                (self.max_tokens, self.ranges.max_tokens) = (value, Some((place, value.is_some())));
                Ok(())
            }
            FieldKind::MaxCompletionTokens => {
                let (value, place) = positive(reader, name)?;
                (self.max_completion_tokens, self.ranges.max_completion_tokens) = (value, Some((place, value.is_some())));
                Ok(())
            }
            FieldKind::MinTokens => {
                self.min_tokens = not_negative(reader, name)?;
                Ok(())
            }
            FieldKind::N => {
                (self.n, _) = positive(reader, name)?;
                Ok(())
            }
            FieldKind::BestOf => {
                (self.best_of, _) = positive(reader, name)?;
                Ok(())
            }
            FieldKind::Stream => {
                self.stream = flag(reader, name)?.0;
                Ok(())
            }
            FieldKind::StreamOptions => self.stream_options(reader),
            FieldKind::Messages => self.messages(reader),
            FieldKind::Prompts => self.prompts(reader, name),
            FieldKind::PromptText => Ok(self.prompt.verbatim(reader)?),
            FieldKind::Forbidden => absent(reader, name),
            FieldKind::Priority => priority(reader, name),
            FieldKind::ExtraArguments => arguments(reader, name),
            FieldKind::TemplateArguments => {
                let start = reader.offset();
                arguments(reader, name)?;
                self.prompt.text_bytes += (reader.offset() - start) as u64;
                Ok(())
            }
            FieldKind::Truncate => {
                (self.prompt.truncated, self.prompt.cut) = truncation(reader, name)?;
                Ok(())
            }
        }
    }

    fn model(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        const RULE: InvalidBody =
            InvalidBody::Wrong { param: "model", reason: "must be a string of 1 to 256 visible ASCII characters" };
        if reader.kind()? != ValueKind::String {
            reader.skip()?;
            return Err(RULE);
        }
        let start = reader.offset();
        let model = reader.text()?.decode();
        if !is_model_name(&model) {
            return Err(RULE);
        }
        self.ranges.model = start..reader.offset();
        self.model = Some(model.into_owned());
        Ok(())
    }

    fn messages(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        if reader.kind()? != ValueKind::Array {
            return Err(InvalidBody::wrong("messages", "must be an array"));
        }
        self.prompt.messages(reader)
    }

    fn prompts(&mut self, reader: &mut Reader<'_>, name: &'static str) -> Result<(), InvalidBody> {
        let prompts = self.prompt.prompts(reader, name)?;
        // Nobody completes an `input`.
        self.prompts = Some(prompts).filter(|_| name == "prompt").or(self.prompts);
        Ok(())
    }

    fn stream_options(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        const NAME: &str = "stream_options";
        match reader.kind()? {
            ValueKind::Null => {
                self.ranges.stream_options = Some(StreamOptionsRanges::Null(reader.skip()?));
                return Ok(());
            }
            ValueKind::Object => {}
            _ => return Err(InvalidBody::wrong(NAME, "must be an object or null")),
        }
        let mut options = reader.object()?;
        let start = reader.offset();
        let (mut empty, mut include_usage, mut continuous_usage) = (true, None, None);
        while let Some(key) = options.next(reader)? {
            empty = false;
            let (value, place) = if key.is("include_usage") {
                (&mut self.include_usage, &mut include_usage)
            } else if key.is("continuous_usage_stats") {
                (&mut self.continuous_usage, &mut continuous_usage)
            } else {
                reader.skip()?;
                continue;
            };
            if place.is_some() {
                return Err(InvalidBody::Duplicate(NAME));
            }
            let (flag, range) = flag(reader, NAME)?;
            (*value, *place) = (flag, Some(range));
        }
        self.ranges.stream_options = Some(StreamOptionsRanges::Object { start, empty, include_usage, continuous_usage });
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        GOVERNED_FIELDS.iter().position(|(known, _)| *known == name).is_some_and(|place| self.seen & 1 << place != 0)
    }

    fn finish(mut self, operation: Operation) -> Result<Request, InvalidBody> {
        let model = self.model.take().ok_or(InvalidBody::Missing("model"))?;
        let (subject, there) = match operation {
            Operation::Chat => ("messages", self.has("messages")),
            Operation::TextCompletion => ("prompt", self.has("prompt")),
            Operation::Embeddings => ("input", self.has("input") || self.has("messages")),
        };
        if !there {
            return Err(InvalidBody::Missing(subject));
        }
        if operation != Operation::Chat {
            // No server goes by it there.
            self.ranges.max_completion_tokens = None;
        }
        // Each prompt is cut by itself.
        self.prompt.cut = self.prompt.cut.map(|cut| cut.saturating_mul(self.prompts.unwrap_or(1).max(1)));
        let choices = self.n.unwrap_or(1);
        let (limit, largest_limit, prompts) = match operation {
            Operation::Chat => (self.max_completion_tokens.or(self.max_tokens), self.max_completion_tokens.max(self.max_tokens), 1),
            // vLLM ignores `max_completion_tokens` here.
            Operation::TextCompletion => (self.max_tokens, self.max_tokens, self.prompts.unwrap_or(1).max(1)),
            Operation::Embeddings => (None, None, 0),
        };
        Ok(Request {
            model,
            stream: self.stream,
            include_usage: self.include_usage,
            continuous_usage: self.continuous_usage,
            limit,
            largest_limit,
            min_tokens: self.min_tokens,
            choices,
            prompts,
            sequences: choices.max(self.best_of.unwrap_or(1)).saturating_mul(prompts),
            prompt: self.prompt,
            ranges: self.ranges,
        })
    }
}

/// Reads an integer of at least 1, or null, and where it stands.
fn positive(reader: &mut Reader<'_>, param: &'static str) -> Result<(Option<u64>, Range<usize>), InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        return Ok((None, reader.skip()?));
    }
    let start = reader.offset();
    let value = integer(reader, param)?;
    match u64::try_from(value) {
        Ok(value @ 1..) => Ok((Some(value), start..reader.offset())),
        _ => Err(InvalidBody::wrong(param, "must be at least 1")),
    }
}

/// Reads an integer of at least 0, or null for 0.
fn not_negative(reader: &mut Reader<'_>, param: &'static str) -> Result<u64, InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        reader.literal()?;
        return Ok(0);
    }
    u64::try_from(integer(reader, param)?).map_err(|_| InvalidBody::wrong(param, "must be at least 0"))
}

/// Reads whether the server is to cut prompts, and to how many tokens; -1 stands for its window.
fn truncation(reader: &mut Reader<'_>, param: &'static str) -> Result<(bool, Option<u64>), InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        reader.literal()?;
        return Ok((false, None));
    }
    match integer(reader, param)? {
        -1 => Ok((true, None)),
        tokens => u64::try_from(tokens)
            .map(|tokens| (true, Some(tokens)))
            .map_err(|_| InvalidBody::wrong(param, "must be at least 0, or -1 for all that fits")),
    }
}

/// Reads an integer written as one: `-?[0-9]+`, within 64 bits.
fn integer(reader: &mut Reader<'_>, param: &'static str) -> Result<i64, InvalidBody> {
    const REASON: &str = "must be an integer, written without quotes, point or exponent";
    if reader.kind()? != ValueKind::Number {
        return Err(InvalidBody::wrong(param, REASON));
    }
    let digits = std::str::from_utf8(reader.number()?).unwrap_or_default();
    digits.parse().map_err(|_| InvalidBody::wrong(param, REASON))
}

/// Reads `true`, `false` or null (which is false), and where it stands.
fn flag(reader: &mut Reader<'_>, param: &'static str) -> Result<(bool, Range<usize>), InvalidBody> {
    let kind = reader.kind()?;
    let start = reader.offset();
    let value = match kind {
        ValueKind::Bool => reader.bool()?,
        ValueKind::Null => {
            reader.literal()?;
            false
        }
        _ => return Err(InvalidBody::wrong(param, "must be true, false or null")),
    };
    Ok((value, start..reader.offset()))
}

fn absent(reader: &mut Reader<'_>, param: &'static str) -> Result<(), InvalidBody> {
    match reader.kind()? {
        ValueKind::Null => Ok(reader.literal()?),
        ValueKind::Bool if !reader.bool()? => Ok(()),
        _ => Err(InvalidBody::wrong(param, "is not allowed here")),
    }
}

/// Reads an object that must not hold what must not stand beside it either.
fn arguments(reader: &mut Reader<'_>, param: &'static str) -> Result<(), InvalidBody> {
    if reader.kind()? == ValueKind::Null {
        return Ok(reader.literal()?);
    }
    if reader.kind()? != ValueKind::Object {
        return Err(InvalidBody::wrong(param, "must be an object or null"));
    }
    let mut arguments = reader.object()?;
    while let Some(key) = arguments.next(reader)? {
        if matches!(governed_field(&key), Some((_, _, FieldKind::Forbidden))) {
            return Err(InvalidBody::wrong(param, "must not hold what is not allowed by itself"));
        }
        reader.skip()?;
    }
    Ok(())
}

fn priority(reader: &mut Reader<'_>, param: &'static str) -> Result<(), InvalidBody> {
    match reader.kind()? {
        ValueKind::Null => Ok(reader.literal()?),
        ValueKind::Number if integer(reader, param)? == 0 => Ok(()),
        _ => Err(InvalidBody::wrong(param, "is not the client's to choose: leave it out, or send 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn parse(body: &str) -> Result<Request, InvalidBody> {
        Request::parse(body.as_bytes(), Operation::Chat)
    }

    fn chat(members: &str) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{members}}}"#)
    }

    #[test]
    fn what_is_governed_is_read() {
        let request =
            parse(&chat(r#""max_tokens":5,"n":3,"stream":true,"stream_options":{"include_usage":true,"x":1},"top_p":0.5"#))
                .unwrap();
        assert_eq!((request.model.as_str(), request.limit, request.choices, request.sequences), ("m", Some(5), 3, 3));
        assert_eq!((request.stream, request.include_usage, request.continuous_usage), (true, true, false));
        assert_eq!(request.prompt, PromptSize { text_bytes: 6, messages: 1, ..PromptSize::default() });
    }

    #[test]
    fn lax_values_are_refused_and_the_field_is_named() {
        for (members, param) in [
            (r#""max_tokens":"5""#, "max_tokens"),
            (r#""max_tokens":5.0"#, "max_tokens"),
            (r#""max_tokens":1e1"#, "max_tokens"),
            (r#""max_tokens":true"#, "max_tokens"),
            (r#""max_tokens":0"#, "max_tokens"),
            (r#""max_tokens":-0"#, "max_tokens"),
            (r#""max_tokens":-5"#, "max_tokens"),
            (r#""max_tokens":9223372036854775808"#, "max_tokens"),
            (r#""max_tokens":[5]"#, "max_tokens"),
            (r#""max_completion_tokens":"5""#, "max_completion_tokens"),
            (r#""min_tokens":-1"#, "min_tokens"),
            (r#""min_tokens":"1""#, "min_tokens"),
            (r#""n":0"#, "n"),
            (r#""n":"2""#, "n"),
            (r#""best_of":1.0"#, "best_of"),
            (r#""stream":"true""#, "stream"),
            (r#""stream":1"#, "stream"),
            (r#""stream_options":[]"#, "stream_options"),
            (r#""stream_options":{"include_usage":"true"}"#, "stream_options"),
            (r#""stream_options":{"include_usage":true,"include_usage":false}"#, "stream_options"),
            (r#""kv_transfer_params":{}"#, "kv_transfer_params"),
            (r#""ec_transfer_params":{"a":1}"#, "ec_transfer_params"),
            (r#""use_beam_search":true"#, "use_beam_search"),
            (r#""use_beam_search":"false""#, "use_beam_search"),
            (r#""prompt_embeds":"AAAA""#, "prompt_embeds"),
            (r#""vllm_xargs":{"a":1,"kv_transfer_param\u0073":{}}"#, "vllm_xargs"),
            (r#""vllm_xargs":"x""#, "vllm_xargs"),
            (r#""chat_template":"{{ x }}""#, "chat_template"),
            (r#""chat_template_kwargs":{"chat_template":"{{ x }}"}"#, "chat_template_kwargs"),
            (r#""priority":-1"#, "priority"),
            (r#""priority":0.0"#, "priority"),
            (r#""priority":false"#, "priority"),
            (r#""model":"other""#, "model"),
            (r#""mod\u0065l":"other""#, "model"),
            (r#""max_tokens":1,"max_toke\u006es":2"#, "max_tokens"),
            (r#""stream":true,"stream":true"#, "stream"),
        ] {
            let invalid = parse(&chat(members)).unwrap_err();
            assert_eq!(invalid.param(), Some(param), "{members}: {invalid}");
        }
    }

    #[test]
    fn what_is_absent_may_be_null_or_false() {
        let members = r#""max_tokens":null,"n":null,"stream":null,"stream_options":null,"kv_transfer_params":null,"use_beam_search":false,"priority":0,"prompt_embeds":null"#;
        let request = parse(&chat(members)).unwrap();
        assert_eq!((request.limit, request.sequences, request.stream), (None, 1, false));
    }

    #[test]
    fn the_limit_is_the_one_that_the_server_obeys() {
        for (members, limit) in [
            (r#""max_tokens":5,"max_completion_tokens":3"#, Some(3)),
            (r#""max_tokens":3,"max_completion_tokens":5"#, Some(5)),
            (r#""max_tokens":5,"max_completion_tokens":null"#, Some(5)),
            (r#""max_tokens":null,"max_completion_tokens":5"#, Some(5)),
            (r#""temperature":1"#, None),
        ] {
            assert_eq!(parse(&chat(members)).unwrap().limit, limit, "{members}");
        }
        let body = br#"{"model":"m","prompt":["a","b"],"n":2,"best_of":3,"max_completion_tokens":9}"#;
        let request = Request::parse(body, Operation::TextCompletion).unwrap();
        assert_eq!((request.limit, request.choices, request.prompts, request.sequences), (None, 2, 2, 6));
    }

    #[test]
    fn models_are_visible_ascii_and_nothing_else() {
        let long = format!("\"{}\"", "x".repeat(257));
        for model in [r#""""#, "null", "5", "[]", r#""a b""#, r#""a\r\nx: y""#, r#""é""#, r#""\ud800""#, "\"\\u0000\"", &long] {
            let body = format!(r#"{{"model":{model},"messages":[]}}"#);
            assert_eq!(parse(&body).unwrap_err().param(), Some("model"), "{model}");
        }
        assert_eq!(parse(r#"{"model":"a\/b\u0041\"","messages":[]}"#).unwrap().model, "a/bA\"");
        assert_eq!(parse(r#"{"Model":"m","messages":[]}"#).unwrap_err(), InvalidBody::Missing("model"));
    }

    #[test]
    fn a_body_is_one_object_with_its_subject() {
        assert_eq!(parse("").unwrap_err(), InvalidBody::Empty);
        for body in ["[]", "null", "\"x\"", "5"] {
            assert_eq!(parse(body).unwrap_err(), InvalidBody::NotObject, "{body}");
        }
        for body in ["{", "{} {}", "\u{feff}{}", "{\"model\":NaN}"] {
            assert!(matches!(parse(body).unwrap_err(), InvalidBody::Json(_)), "{body}");
        }
        assert_eq!(parse(r#"{"model":"m"}"#).unwrap_err(), InvalidBody::Missing("messages"));
        assert_eq!(Request::parse(br#"{"model":"m"}"#, Operation::TextCompletion).unwrap_err(), InvalidBody::Missing("prompt"));
        assert_eq!(Request::parse(br#"{"model":"m"}"#, Operation::Embeddings).unwrap_err(), InvalidBody::Missing("input"));
    }

    #[test]
    fn prompts_are_measured_by_what_reaches_them() {
        let size =
            |text_bytes, messages, token_ids, parts| PromptSize { text_bytes, messages, token_ids, parts, ..PromptSize::default() };
        for (operation, body, expected, sequences) in [
            (Operation::TextCompletion, r#""prompt":"abcd""#, size(4, 0, 0, 0), 1),
            (Operation::TextCompletion, r#""prompt":["ab","\u00e9"]"#, size(4, 0, 0, 0), 2),
            (Operation::TextCompletion, r#""prompt":[1,2,3]"#, size(0, 0, 3, 0), 1),
            (Operation::TextCompletion, r#""prompt":[[1,2],[3]]"#, size(0, 0, 3, 0), 2),
            (Operation::TextCompletion, r#""prompt":[]"#, size(0, 0, 0, 0), 1),
            (Operation::TextCompletion, r#""prompt":["a","b"],"input":"c""#, size(3, 0, 0, 0), 2),
            (Operation::Embeddings, r#""input":["abc","d"]"#, size(4, 0, 0, 0), 0),
            (
                Operation::Chat,
                r#""messages":[{"role":"u","content":[{"type":"text","text":"abc"},"de",{"type":"image_url","image_url":{"url":"data:AAAAAAAAAAAAA"}}]}]"#,
                size(6, 1, 0, 1),
                1,
            ),
            (Operation::Chat, r#""messages":[],"tools":[{"a":1}]"#, size(9, 0, 0, 0), 1),
        ] {
            let body = format!(r#"{{"model":"m",{body}}}"#);
            let request = Request::parse(body.as_bytes(), operation).unwrap();
            assert_eq!((request.prompt, request.sequences), (expected, sequences), "{body}");
        }
        for prompt in ["null", "5", "{}", "[null]", "[1,\"a\"]", "[\"a\",1]", "[1.5]", "[[\"a\"]]", "[-1]"] {
            let body = format!(r#"{{"model":"m","prompt":{prompt}}}"#);
            assert_eq!(Request::parse(body.as_bytes(), Operation::TextCompletion).unwrap_err().param(), Some("prompt"), "{prompt}");
        }
        for part in
            [r#"{"type":"prompt_embeds","data":"AA"}"#, r#"{"prompt_embeds":"AA"}"#, r#"{"data":"AA","type":"prompt\u005fembeds"}"#]
        {
            let body = format!(r#"{{"model":"m","messages":[{{"content":[{part}]}}]}}"#);
            assert_eq!(parse(&body).unwrap_err().param(), Some("messages"), "{part}");
        }
    }
}
