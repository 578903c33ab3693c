//! Translation of a request body from one dialect to another.
//!
//! [`UnsupportedFields`] are the fields that not every dialect supports, found once in the body. For each other dialect they yield
//! the changes to the original body, or the reason why the request cannot be translated. A field that only hints at sampling is
//! dropped. A field that limits how much is generated, or defines the form of the answer, is translated; if it cannot be, the
//! candidate is skipped.

mod fields;

use std::ops::Range;

use self::fields::{DialectField, FieldRule, NoOp};
use super::body_edit::{BodyChange, sort_changes};
use super::{Operation, Request};
use crate::json::{InvalidJson, Reader, ValueKind};
use crate::policy::Dialect;

/// The maximum number of fields that are recorded. No client sends more.
const MAX_FIELDS: usize = 128;

/// The maximum length of a field name that is looked up, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// vLLM treats a temperature below this as 0 (`_SAMPLING_EPS`).
const GREEDY: f64 = 1e-5;

/// The fields of one request that not every dialect supports, found once in the original body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnsupportedFields {
    /// `None` if the body was not read, or has too many such fields.
    operation: Option<Operation>,
    /// In the order of the body.
    members: Vec<FoundField>,
    /// Number of all members of the body.
    count: usize,
}

/// The changes that translate a body to another dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translation {
    /// Ranges of the original body and their replacements, sorted by start; none overlap. A removal may start at the same offset as
    /// an insertion after the opening brace, which must be applied first.
    pub changes: Vec<(Range<usize>, Vec<u8>)>,
    /// Whether the whole value of `stream_options` was replaced by one that requests usage.
    pub stream_options: bool,
}

/// Why a request cannot be translated to a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// The dialect does not support the operation.
    #[error("the operation is not supported")]
    Operation,
    /// The dialect does not support what the field requests.
    #[error("`{0}` cannot be translated")]
    Field(&'static str),
    /// The prompt is given as token ids, which depend on the tokenizer.
    #[error("token ids depend on the tokenizer")]
    TokenIds,
    /// The body was not read, or has more than 128 fields that dialects differ in.
    #[error("the request was not read")]
    Unread,
}

/// A field that dialects differ in, as found in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FoundField {
    definition: &'static DialectField,
    /// Its index among all members of the body.
    ordinal: usize,
    /// The offset after the preceding field.
    before: usize,
    /// With its quotes.
    key: Range<usize>,
    range: Range<usize>,
    /// The offset of the next field.
    next: usize,
    value: FieldValue,
}

/// A value, as far as rules depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldValue {
    Null,
    Bool(bool),
    /// The bits of an `f64`.
    Number(u64),
    /// An empty string, array or object.
    Empty,
    /// A string, or an object with a string as its `type`; `Some` if a rule names that word.
    Word(Option<&'static str>),
    /// The number of items, and whether one of them is a string of white space.
    Items {
        count: u32,
        blank: bool,
    },
    Object,
    /// `stream_options`: one bit for each of [`OPTIONS`].
    Options(u8),
}

/// The options of a stream that some dialect supports. The last bit of [`FieldValue::Options`] is set for any other.
const OPTIONS: [&str; 2] = ["include_usage", "include_obfuscation"];
const OTHER_OPTION: u8 = 1 << OPTIONS.len();

/// The words that rules name.
const WORDS: [&str; 8] = ["text", "json_object", "json_schema", "float", "base64", "float32", "native", "little"];

// === impl UnsupportedFields ===

impl UnsupportedFields {
    /// Finds the fields in a body that [`Request::parse`] has accepted.
    pub fn read(body: &[u8], operation: Operation) -> Self {
        Self::find(body, operation).ok().flatten().unwrap_or_default()
    }

    fn find(body: &[u8], operation: Operation) -> Result<Option<Self>, InvalidJson> {
        let mut reader = Reader::new(body);
        let mut object = reader.object()?;
        let mut fields = Self { operation: Some(operation), ..Self::default() };
        let mut before = reader.offset();
        while let Some(name) = object.next(&mut reader)? {
            let start = key_start(body, before);
            fields.close(start);
            let field = if name.len() > MAX_NAME_BYTES { None } else { DialectField::find(&name.decode(), operation) };
            if let Some(field) = field {
                if fields.members.len() == MAX_FIELDS {
                    return Ok(None);
                }
                let key = start..start + name.raw().len() + 2;
                let (value, range) = read_value(&mut reader, field.name)?;
                let ordinal = fields.count;
                fields.members.push(FoundField { definition: field, ordinal, before, key, next: range.end, range, value });
            } else {
                reader.skip()?;
            }
            fields.count += 1;
            before = reader.offset();
        }
        Ok(Some(fields))
    }

    /// Records that the next field starts at `start`.
    fn close(&mut self, start: usize) {
        let count = self.count;
        if let Some(last) = self.members.last_mut().filter(|last| last.ordinal + 1 == count) {
            last.next = start;
        }
    }

    /// Returns the changes that translate a body from the dialect `from` to `to`. `request` is the parsed body.
    pub fn translate(&self, request: &Request, from: Dialect, to: Dialect) -> Result<Translation, Untranslatable> {
        if from == to {
            return Ok(Translation::default());
        }
        let operation = self.operation.ok_or(Untranslatable::Unread)?;
        if to == Dialect::Anthropic && operation != Operation::Chat {
            return Err(Untranslatable::Operation);
        }
        if request.prompt.token_ids > 0 {
            return Err(Untranslatable::TokenIds);
        }
        if to == Dialect::Vllm && request.choices > 1 && self.is_greedy() {
            return Err(Untranslatable::Field("n"));
        }
        let mut translation = Translation::default();
        let mut removed = Vec::new();
        for field in &self.members {
            match self.action(field, request, to)? {
                FieldAction::Keep => {}
                FieldAction::Remove => removed.push(field),
                FieldAction::Rename(key) => translation.changes.push((field.key.clone(), key.into())),
                FieldAction::Replace(value) => translation.changes.push((field.range.clone(), value.into())),
                FieldAction::RequestUsage => {
                    translation.changes.push((field.range.clone(), br#"{"include_usage":true}"#.to_vec()));
                    translation.stream_options = true;
                }
            }
        }
        self.remove(&removed, &mut translation.changes);
        sort_changes(&mut translation.changes);
        Ok(translation)
    }

    /// Removes each field together with the comma after it. Fields at the end are removed together with the comma before them.
    fn remove(&self, removed: &[&FoundField], changes: &mut Vec<BodyChange>) {
        let mut end = self.count;
        for field in removed.iter().rev() {
            let range = if field.ordinal + 1 == end {
                end = field.ordinal;
                field.before..field.range.end
            } else {
                field.key.start..field.next
            };
            changes.push((range, Vec::new()));
        }
    }

    fn is_greedy(&self) -> bool {
        self.members.iter().any(|field| field.definition.name == "temperature" && field.value.number().is_some_and(|t| t < GREEDY))
    }

    fn is_set(&self, rule: FieldRule, to: Dialect) -> bool {
        self.members.iter().any(|field| field.definition.rule(to) == rule && field.value != FieldValue::Null)
    }

    fn action(&self, field: &FoundField, request: &Request, to: Dialect) -> Result<FieldAction, Untranslatable> {
        let value = field.value;
        let translatable = match field.definition.rule(to) {
            FieldRule::Pass => true,
            FieldRule::Drop => return Ok(FieldAction::Remove),
            FieldRule::DropIfNoOp(no_op) if no_op.holds(value) => return Ok(FieldAction::Remove),
            FieldRule::DropIfNoOp(_) => false,
            FieldRule::PassIfNoOp(no_op) => no_op.holds(value),
            FieldRule::Within(least, most) => value.number().is_none_or(|n| (f64::from(least)..=f64::from(most)).contains(&n)),
            FieldRule::Positive => value.number().is_none_or(|n| n > 0.0),
            FieldRule::Cap(most) if value.number().is_some_and(|n| n > f64::from(most)) => {
                return Ok(FieldAction::Replace(most.to_string()));
            }
            FieldRule::Cap(_) => true,
            // OpenAI rejects an empty list for some models.
            FieldRule::StopItems(_) if value == FieldValue::Empty => return Ok(FieldAction::Remove),
            FieldRule::Items(most) | FieldRule::StopItems(most) => {
                !matches!(value, FieldValue::Items { count, .. } if count > most)
            }
            FieldRule::NotBlank => !matches!(value, FieldValue::Items { blank: true, .. }),
            FieldRule::MaxTokens if value == FieldValue::Null || self.is_set(FieldRule::MaxCompletionTokens, to) => {
                return Ok(FieldAction::Remove);
            }
            FieldRule::MaxTokens => return Ok(FieldAction::Rename(r#""max_completion_tokens""#)),
            FieldRule::MaxCompletionTokens if value == FieldValue::Null && self.is_set(FieldRule::MaxTokens, to) => {
                return Ok(FieldAction::Remove);
            }
            FieldRule::MaxCompletionTokens => true,
            FieldRule::UsageOnly(known) if request.stream && value.has_other_options(known) => {
                return Ok(FieldAction::RequestUsage);
            }
            FieldRule::UsageOnly(_) => true,
        };
        if translatable { Ok(FieldAction::Keep) } else { Err(Untranslatable::Field(field.definition.name)) }
    }
}

/// What is done with one field.
enum FieldAction {
    Keep,
    Remove,
    /// Another key, with its quotes.
    Rename(&'static str),
    Replace(String),
    RequestUsage,
}

// === impl NoOp ===

impl NoOp {
    /// Returns whether a field with this value requests nothing.
    fn holds(self, value: FieldValue) -> bool {
        if value == FieldValue::Null {
            return true;
        }
        match self {
            Self::Null => false,
            Self::Off => matches!(value, FieldValue::Bool(false) | FieldValue::Empty) || value.number() == Some(0.0),
            Self::True => value == FieldValue::Bool(true),
            Self::AnyOf(words) => matches!(value, FieldValue::Word(Some(word)) if words.contains(&word)),
        }
    }
}

// === impl FieldValue ===

impl FieldValue {
    fn number(self) -> Option<f64> {
        match self {
            Self::Number(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    fn has_other_options(self, known: &[&str]) -> bool {
        let Self::Options(options) = self else { return false };
        let unknown = OPTIONS.iter().enumerate().any(|(bit, name)| options & 1 << bit != 0 && !known.contains(name));
        options & OTHER_OPTION != 0 || unknown
    }
}

/// Returns the offset of the first quote after `from`. Only white space and commas are between members.
fn key_start(body: &[u8], from: usize) -> usize {
    let rest = body.get(from..).unwrap_or_default();
    from + memchr::memchr(b'"', rest).unwrap_or(rest.len())
}

/// Reads the value of the field `name`. Returns it with its byte range.
fn read_value(reader: &mut Reader<'_>, name: &str) -> Result<(FieldValue, Range<usize>), InvalidJson> {
    let kind = reader.kind()?;
    let start = reader.offset();
    let value = match kind {
        ValueKind::Null => {
            reader.literal()?;
            FieldValue::Null
        }
        ValueKind::Bool => FieldValue::Bool(reader.bool()?),
        ValueKind::Number => number(reader)?,
        ValueKind::String => string(reader, name)?,
        ValueKind::Array => items(reader, name)?,
        ValueKind::Object if name == "stream_options" => options(reader)?,
        ValueKind::Object => object_value(reader)?,
    };
    Ok((value, start..reader.offset()))
}

fn number(reader: &mut Reader<'_>) -> Result<FieldValue, InvalidJson> {
    let digits = std::str::from_utf8(reader.number()?).unwrap_or_default();
    Ok(FieldValue::Number(digits.parse::<f64>().unwrap_or_default().to_bits()))
}

fn string(reader: &mut Reader<'_>, name: &str) -> Result<FieldValue, InvalidJson> {
    let text = reader.text()?;
    Ok(match name {
        "stop" => FieldValue::Items { count: 1, blank: text.decode().trim().is_empty() },
        _ if text.is_empty() => FieldValue::Empty,
        _ => FieldValue::Word(WORDS.into_iter().find(|word| text.is(word))),
    })
}

fn items(reader: &mut Reader<'_>, name: &str) -> Result<FieldValue, InvalidJson> {
    let mut items = reader.array()?;
    let (mut count, mut blank) = (0_u32, false);
    while items.next(reader)? {
        count = count.saturating_add(1);
        if name == "stop" && reader.kind()? == ValueKind::String {
            blank |= reader.text()?.decode().trim().is_empty();
        } else {
            reader.skip()?;
        }
    }
    Ok(if count == 0 { FieldValue::Empty } else { FieldValue::Items { count, blank } })
}

/// Reads an object by its `type`, if it has exactly one that is a word.
fn object_value(reader: &mut Reader<'_>) -> Result<FieldValue, InvalidJson> {
    let mut object = reader.object()?;
    let (mut empty, mut types, mut word) = (true, 0_u32, None);
    while let Some(key) = object.next(reader)? {
        empty = false;
        let is_type = key.is("type");
        types = types.saturating_add(is_type.into());
        if is_type && reader.kind()? == ValueKind::String {
            let text = reader.text()?;
            word = WORDS.into_iter().find(|word| text.is(word));
        } else {
            reader.skip()?;
        }
    }
    Ok(match (empty, types, word) {
        (true, ..) => FieldValue::Empty,
        (_, 1, Some(word)) => FieldValue::Word(Some(word)),
        _ => FieldValue::Object,
    })
}

fn options(reader: &mut Reader<'_>) -> Result<FieldValue, InvalidJson> {
    let mut object = reader.object()?;
    let mut options = 0;
    while let Some(key) = object.next(reader)? {
        options |= OPTIONS.iter().position(|name| key.is(name)).map_or(OTHER_OPTION, |bit| 1 << bit);
        reader.skip()?;
    }
    Ok(FieldValue::Options(options))
}

#[cfg(test)]
mod tests;
