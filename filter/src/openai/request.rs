//! Request bodies: the fields that the filter governs, read strictly.
//!
//! A governed field may occur once, in any JSON spelling of its name, and only with the type that OpenAI's API documents. vLLM also
//! accepts `"5"` and `"yes"`, and the last of two equal keys; a gateway that reads such a body differently than the server can
//! be bypassed. Numbers are whole, and may be written as floats.

mod forbidden_fields;
mod governed_fields;
mod invalid;
mod values;

use std::ops::Range;

use self::governed_fields::{FieldKind, GovernedField};
use super::prompt_size::PromptMeter;
use super::{Operation, PromptSize};
use crate::json::{Reader, ValueKind};

pub use self::invalid::InvalidBody;

/// The maximum length of a model id or reference, in bytes.
pub const MAX_MODEL_BYTES: usize = 256;

/// U+FEFF in UTF-8, which some editors and libraries write at the start of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The governed part of a request body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The model id or reference: 1 to 256 visible ASCII characters.
    pub model: String,
    /// `stream`: whether the client wants an event stream.
    pub stream: bool,
    /// `stream_options.include_usage`: whether the client wants the chunk that reports usage.
    pub include_usage: bool,
    /// `stream_options.continuous_usage_stats`: whether the client wants usage on every chunk. vLLM ignores it without `include_usage`.
    pub continuous_usage: bool,
    /// The limit of completion tokens that vLLM applies; `None` if the request sets none.
    pub limit: Option<u64>,
    /// The larger of `max_tokens` and `max_completion_tokens`: servers differ in which of the two they apply to chat.
    pub largest_limit: Option<u64>,
    /// `min_tokens`. vLLM rejects a limit below it.
    pub min_tokens: u64,
    /// `n`: completions returned for each prompt.
    pub choices: u64,
    /// Number of prompts; 1 for chat, 0 for embeddings.
    pub prompts: u64,
    /// Completions generated in all: the larger of `n` and `best_of`, times prompts.
    pub sequences: u64,
    /// The size of what reaches the prompt.
    pub prompt: PromptSize,
    pub(super) ranges: FieldRanges,
}

/// Byte ranges of the fields that [`super::BodyEdit`] changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldRanges {
    /// The offset after the opening brace.
    pub start: usize,
    pub model: Range<usize>,
    /// The value of `max_tokens`, and whether it is other than null.
    pub max_tokens: Option<(Range<usize>, bool)>,
    /// The value of `max_completion_tokens`, and whether it is other than null.
    pub max_completion_tokens: Option<(Range<usize>, bool)>,
    pub stream_options: Option<StreamOptionsRanges>,
    /// The values of numbers that are not written in digits only: servers differ in which of these they accept.
    pub respelled: Vec<(Range<usize>, i64)>,
}

/// Byte ranges within `stream_options`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamOptionsRanges {
    /// `stream_options` is null.
    Null(Range<usize>),
    Object {
        /// The offset after the opening brace.
        start: usize,
        empty: bool,
        include_usage: Option<Range<usize>>,
        continuous_usage: Option<Range<usize>>,
    },
}

/// Returns whether `name` can be a model id or a reference: `[\x21-\x7e]{1,256}`. Such a name is a valid header value.
pub fn is_model_name(name: &str) -> bool {
    (1..=MAX_MODEL_BYTES).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

/// The fields read so far.
#[derive(Default)]
struct RequestBuilder {
    /// The governed fields seen, one bit each by [`GovernedField::index`].
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
    prompt: PromptMeter,
    ranges: FieldRanges,
}

// === impl Request ===

impl Request {
    /// Parses a complete body.
    pub fn parse(body: &[u8], operation: Operation) -> Result<Self, InvalidBody> {
        if body.is_empty() {
            return Err(InvalidBody::Empty);
        }
        if body.starts_with(BYTE_ORDER_MARK) {
            return Err(InvalidBody::ByteOrderMark);
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
            match governed_fields::find(&name) {
                Some(field) => builder.field(field, &mut reader)?,
                None => {
                    reader.skip()?;
                }
            }
        }
        reader.finish()?;
        builder.build(operation)
    }
}

// === impl RequestBuilder ===

impl RequestBuilder {
    /// Reads the value of a governed field.
    fn field(&mut self, field: GovernedField, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        let GovernedField { index, name, kind } = field;
        if self.seen & 1 << index != 0 {
            return Err(InvalidBody::Duplicate(name));
        }
        self.seen |= 1 << index;
        match kind {
            FieldKind::Model => self.model(reader),
            FieldKind::MaxTokens => {
                let (value, range) = self.number(0, reader, name)?;
                (self.max_tokens, self.ranges.max_tokens) = (value, Some((range, value.is_some())));
                Ok(())
            }
            FieldKind::MaxCompletionTokens => {
                let (value, range) = self.number(1, reader, name)?;
                (self.max_completion_tokens, self.ranges.max_completion_tokens) = (value, Some((range, value.is_some())));
                Ok(())
            }
            FieldKind::MinTokens => {
                self.min_tokens = self.number(0, reader, name)?.0.unwrap_or(0);
                Ok(())
            }
            FieldKind::N => {
                (self.n, _) = self.number(1, reader, name)?;
                Ok(())
            }
            FieldKind::BestOf => {
                (self.best_of, _) = self.number(1, reader, name)?;
                Ok(())
            }
            FieldKind::Stream => {
                self.stream = values::flag(reader, name)?.0;
                Ok(())
            }
            FieldKind::StreamOptions => self.stream_options(reader),
            FieldKind::Messages => self.messages(reader),
            FieldKind::Prompts => self.prompts(reader, name),
            FieldKind::PromptText => Ok(self.prompt.verbatim(reader)?),
            FieldKind::Forbidden => forbidden_fields::reject(reader, name),
            FieldKind::Priority => forbidden_fields::reject_priority(reader, name),
            FieldKind::ExtraArguments => forbidden_fields::reject_within(reader, name),
            FieldKind::TemplateArguments => {
                let start = reader.offset();
                forbidden_fields::reject_within(reader, name)?;
                self.prompt.written(reader, start..reader.offset());
                Ok(())
            }
            FieldKind::TruncatePrompt => {
                let number = self.whole_number(-1, reader, name)?.0;
                // -1 is the context length.
                (self.prompt.size.truncated, self.prompt.size.cut) =
                    (number.is_some(), number.and_then(|number| u64::try_from(number).ok()));
                Ok(())
            }
        }
    }

    /// Reads a whole number of at least `least`, which is not negative, or null. Returns it with its byte range.
    fn number(
        &mut self,
        least: i64,
        reader: &mut Reader<'_>,
        name: &'static str,
    ) -> Result<(Option<u64>, Range<usize>), InvalidBody> {
        let (number, range) = self.whole_number(least, reader, name)?;
        Ok((number.and_then(|number| u64::try_from(number).ok()), range))
    }

    fn whole_number(
        &mut self,
        least: i64,
        reader: &mut Reader<'_>,
        name: &'static str,
    ) -> Result<(Option<i64>, Range<usize>), InvalidBody> {
        let (number, range) = values::at_least(least, reader, name)?;
        if let Some(number) = number.filter(|number| !number.is_plain) {
            self.ranges.respelled.push((range.clone(), number.value));
        }
        Ok((number.map(|number| number.value), range))
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
        // An `input` gets no completion.
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
            let (value, range) = if key.is("include_usage") {
                (&mut self.include_usage, &mut include_usage)
            } else if key.is("continuous_usage_stats") {
                (&mut self.continuous_usage, &mut continuous_usage)
            } else {
                reader.skip()?;
                continue;
            };
            if range.is_some() {
                return Err(InvalidBody::Duplicate(NAME));
            }
            let (flag, read) = values::flag(reader, NAME)?;
            (*value, *range) = (flag, Some(read));
        }
        self.ranges.stream_options = Some(StreamOptionsRanges::Object { start, empty, include_usage, continuous_usage });
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        governed_fields::index(name).is_some_and(|index| self.seen & 1 << index != 0)
    }

    /// Checks that the required fields are present, and computes what follows from several fields together.
    fn build(mut self, operation: Operation) -> Result<Request, InvalidBody> {
        let model = self.model.take().ok_or(InvalidBody::Missing("model"))?;
        let (required, present) = match operation {
            Operation::Chat => ("messages", self.has("messages")),
            Operation::TextCompletion => ("prompt", self.has("prompt")),
            Operation::Embeddings => ("input", self.has("input") || self.has("messages")),
        };
        if !present {
            return Err(InvalidBody::Missing(required));
        }
        if operation != Operation::TextCompletion && self.max_tokens == Some(0) {
            return Err(InvalidBody::wrong("max_tokens", "must be at least 1"));
        }
        if operation != Operation::Chat {
            // Servers ignore it there.
            self.ranges.max_completion_tokens = None;
        }
        // The server truncates each prompt separately.
        self.prompt.size.cut = self.prompt.size.cut.map(|cut| cut.saturating_mul(self.prompts.unwrap_or(1).max(1)));
        let choices = self.n.unwrap_or(1);
        let (limit, largest_limit, prompts) = match operation {
            Operation::Chat => (self.max_completion_tokens.or(self.max_tokens), self.max_completion_tokens.max(self.max_tokens), 1),
            // vLLM ignores `max_completion_tokens` here, and generates one token where the limit is 0.
            Operation::TextCompletion => {
                let limit = self.max_tokens.map(|limit| limit.max(1));
                (limit, limit, self.prompts.unwrap_or(1).max(1))
            }
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
            prompt: self.prompt.size(),
            ranges: self.ranges,
        })
    }
}

#[cfg(test)]
mod tests;
