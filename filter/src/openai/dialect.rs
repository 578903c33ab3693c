//! A body written for one dialect, made fit for another.
//!
//! [`Peculiarities`] are the members that not every dialect takes, found once in the body. For each other dialect they say what has
//! to change, at ranges of the original body, or that the request cannot be said there. What only hints at how to sample is dropped;
//! what bounds how much is made, or what the answer is to look like, is said or the candidate is passed over.

mod fields;

use std::ops::Range;

use self::fields::{Field, Idle, Rule};
use super::edit::Change;
use super::{Operation, Request};
use crate::json::{InvalidJson, Kind, Reader};
use crate::policy::Dialect;

/// More members than this are not a client's doing.
const MAX_MEMBERS: usize = 128;

/// Names and words longer than this are none that matter.
const MAX_WORD: usize = 64;

/// Below this, vLLM takes a temperature for 0 (`_SAMPLING_EPS`).
const GREEDY: f64 = 1e-5;

/// The members of one request that not every dialect takes, found once in the original body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peculiarities {
    /// `None` where nothing was read, or too many were found.
    operation: Option<Operation>,
    /// In the order of the body.
    members: Vec<Member>,
    /// Members of the body, peculiar or not.
    count: usize,
}

/// What makes a body fit for another dialect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translation {
    /// Ranges of the original body and what stands in their place, sorted by start; none overlap. A removal may begin where an
    /// insertion after the opening brace stands, which then has to come first.
    pub changes: Vec<(Range<usize>, Vec<u8>)>,
    /// The whole value of `stream_options` was rewritten, and asks for usage.
    pub stream_options: bool,
}

/// Why a request has no equivalent in another dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsayable {
    /// The dialect has no such path.
    #[error("it has no such operation")]
    Operation,
    /// A member asks for something that the dialect cannot say.
    #[error("`{0}` asks for what it cannot do")]
    Field(&'static str),
    /// A prompt given as token ids is one for one tokenizer only.
    #[error("token ids mean something else to another model")]
    TokenIds,
    /// The body was not read, or has more than 128 members that dialects differ in.
    #[error("the request is not understood well enough")]
    Unread,
}

/// A peculiar member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    field: &'static Field,
    /// Its place among all members.
    ordinal: usize,
    /// Where the member before it ends.
    before: usize,
    /// With its quotes.
    key: Range<usize>,
    value: Range<usize>,
    /// Where the next member begins.
    next: usize,
    said: Said,
}

/// What a value says, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Null,
    Bool(bool),
    /// The bits of an `f64`.
    Number(u64),
    /// An empty string, array or object.
    Empty,
    /// A string, or an object with a string as its `type`: the word if it is one that a rule names.
    Word(Option<&'static str>),
    /// How many, and whether one of them is a string of white space.
    Items {
        count: u32,
        blank: bool,
    },
    Object,
    /// The options of a stream: a bit for each of [`OPTIONS`].
    Options(u8),
}

/// The options of a stream that some dialect knows; the last bit of [`Said::Options`] is any other.
const OPTIONS: [&str; 2] = ["include_usage", "include_obfuscation"];
const OTHER_OPTION: u8 = 1 << OPTIONS.len();

/// The words that rules name.
const WORDS: [&str; 8] = ["text", "json_object", "json_schema", "float", "base64", "float32", "native", "little"];

// === impl Peculiarities ===

impl Peculiarities {
    /// Reads a body that [`Request::parse`] has taken.
    pub fn read(body: &[u8], operation: Operation) -> Self {
        Self::find(body, operation).ok().flatten().unwrap_or_default()
    }

    fn find(body: &[u8], operation: Operation) -> Result<Option<Self>, InvalidJson> {
        let mut reader = Reader::new(body);
        let mut object = reader.object()?;
        let mut found = Self { operation: Some(operation), ..Self::default() };
        let mut before = reader.offset();
        while let Some(name) = object.next(&mut reader)? {
            let start = key_start(body, before);
            found.close(start);
            let field = if name.len() > MAX_WORD { None } else { Field::find(&name.decode(), operation) };
            if let Some(field) = field {
                if found.members.len() == MAX_MEMBERS {
                    return Ok(None);
                }
                let key = start..start + name.raw().len() + 2;
                let (said, value) = said(&mut reader, field.name)?;
                let ordinal = found.count;
                found.members.push(Member { field, ordinal, before, key, next: value.end, value, said });
            } else {
                reader.skip()?;
            }
            found.count += 1;
            before = reader.offset();
        }
        Ok(Some(found))
    }

    /// Another member begins at `start`.
    fn close(&mut self, start: usize) {
        let count = self.count;
        if let Some(last) = self.members.last_mut().filter(|last| last.ordinal + 1 == count) {
            last.next = start;
        }
    }

    /// What has to change so that a body written for `from` is taken by `to`. `request` is what the body was parsed to.
    pub fn translate(&self, request: &Request, from: Dialect, to: Dialect) -> Result<Translation, Unsayable> {
        if from == to {
            return Ok(Translation::default());
        }
        let operation = self.operation.ok_or(Unsayable::Unread)?;
        if to == Dialect::Anthropic && operation != Operation::Chat {
            return Err(Unsayable::Operation);
        }
        if request.prompt.token_ids > 0 {
            return Err(Unsayable::TokenIds);
        }
        if to == Dialect::Vllm && request.choices > 1 && self.is_greedy() {
            return Err(Unsayable::Field("n"));
        }
        let mut translation = Translation::default();
        let mut removed = Vec::new();
        for member in &self.members {
            match self.fate(member, request, to)? {
                Fate::Stays => {}
                Fate::Goes => removed.push(member),
                Fate::Renamed(key) => translation.changes.push((member.key.clone(), key.into())),
                Fate::Becomes(value) => translation.changes.push((member.value.clone(), value.into())),
                Fate::AsksForUsage => {
                    translation.changes.push((member.value.clone(), br#"{"include_usage":true}"#.to_vec()));
                    translation.stream_options = true;
                }
            }
        }
        self.remove(&removed, &mut translation.changes);
        translation.changes.sort_by_key(|(range, _)| range.start);
        Ok(translation)
    }

    /// A member goes with the comma after it; those after which nothing stays go with the comma before them.
    fn remove(&self, removed: &[&Member], changes: &mut Vec<Change>) {
        let mut end = self.count;
        for member in removed.iter().rev() {
            let range = if member.ordinal + 1 == end {
                end = member.ordinal;
                member.before..member.value.end
            } else {
                member.key.start..member.next
            };
            changes.push((range, Vec::new()));
        }
    }

    fn is_greedy(&self) -> bool {
        self.members.iter().any(|member| member.field.name == "temperature" && member.said.number().is_some_and(|t| t < GREEDY))
    }

    fn says(&self, rule: Rule, to: Dialect) -> bool {
        self.members.iter().any(|member| member.field.rule(to) == rule && member.said != Said::Null)
    }

    fn fate(&self, member: &Member, request: &Request, to: Dialect) -> Result<Fate, Unsayable> {
        let said = member.said;
        let sayable = match member.field.rule(to) {
            Rule::Pass => true,
            Rule::Drop => return Ok(Fate::Goes),
            Rule::DropIdle(idle) if idle.holds(said) => return Ok(Fate::Goes),
            Rule::DropIdle(_) => false,
            Rule::PassIdle(idle) => idle.holds(said),
            Rule::Within(least, most) => said.number().is_none_or(|n| (f64::from(least)..=f64::from(most)).contains(&n)),
            Rule::Positive => said.number().is_none_or(|n| n > 0.0),
            Rule::Cap(most) if said.number().is_some_and(|n| n > f64::from(most)) => return Ok(Fate::Becomes(most.to_string())),
            Rule::Cap(_) => true,
            // OpenAI refuses an empty list with some requests.
            Rule::Stops(_) if said == Said::Empty => return Ok(Fate::Goes),
            Rule::Items(most) | Rule::Stops(most) => !matches!(said, Said::Items { count, .. } if count > most),
            Rule::NotBlank => !matches!(said, Said::Items { blank: true, .. }),
            Rule::OlderLimit if said == Said::Null || self.says(Rule::NewerLimit, to) => return Ok(Fate::Goes),
            Rule::OlderLimit => return Ok(Fate::Renamed(r#""max_completion_tokens""#)),
            Rule::NewerLimit if said == Said::Null && self.says(Rule::OlderLimit, to) => return Ok(Fate::Goes),
            Rule::NewerLimit => true,
            Rule::UsageOnly(known) if request.stream && said.has_other_options(known) => return Ok(Fate::AsksForUsage),
            Rule::UsageOnly(_) => true,
        };
        if sayable { Ok(Fate::Stays) } else { Err(Unsayable::Field(member.field.name)) }
    }
}

/// What becomes of one member.
enum Fate {
    Stays,
    Goes,
    /// Another key, with its quotes.
    Renamed(&'static str),
    Becomes(String),
    AsksForUsage,
}

// === impl Idle ===

impl Idle {
    /// Whether a member that says `said` asks for nothing.
    fn holds(self, said: Said) -> bool {
        if said == Said::Null {
            return true;
        }
        match self {
            Self::Null => false,
            Self::Off => matches!(said, Said::Bool(false) | Said::Empty) || said.number() == Some(0.0),
            Self::True => said == Said::Bool(true),
            Self::Words(words) => matches!(said, Said::Word(Some(word)) if words.contains(&word)),
        }
    }
}

// === impl Said ===

impl Said {
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

/// The first quote after `from`: between members stand white space and commas only.
fn key_start(body: &[u8], from: usize) -> usize {
    let rest = body.get(from..).unwrap_or_default();
    from + memchr::memchr(b'"', rest).unwrap_or(rest.len())
}

/// Reads the value of the member `name`, and where it stands.
fn said(reader: &mut Reader<'_>, name: &str) -> Result<(Said, Range<usize>), InvalidJson> {
    let kind = reader.kind()?;
    let start = reader.offset();
    let said = match kind {
        Kind::Null => {
            reader.literal()?;
            Said::Null
        }
        Kind::Bool => Said::Bool(reader.bool()?),
        Kind::Number => number(reader)?,
        Kind::String => string(reader, name)?,
        Kind::Array => items(reader, name)?,
        Kind::Object if name == "stream_options" => options(reader)?,
        Kind::Object => typed(reader)?,
    };
    Ok((said, start..reader.offset()))
}

fn number(reader: &mut Reader<'_>) -> Result<Said, InvalidJson> {
    let digits = std::str::from_utf8(reader.number()?).unwrap_or_default();
    Ok(Said::Number(digits.parse::<f64>().unwrap_or_default().to_bits()))
}

fn string(reader: &mut Reader<'_>, name: &str) -> Result<Said, InvalidJson> {
    let text = reader.text()?;
    Ok(match name {
        "stop" => Said::Items { count: 1, blank: text.decode().trim().is_empty() },
        _ if text.is_empty() => Said::Empty,
        _ => Said::Word(WORDS.into_iter().find(|word| text.is(word))),
    })
}

fn items(reader: &mut Reader<'_>, name: &str) -> Result<Said, InvalidJson> {
    let mut items = reader.array()?;
    let (mut count, mut blank) = (0_u32, false);
    while items.next(reader)? {
        count = count.saturating_add(1);
        if name == "stop" && reader.kind()? == Kind::String {
            blank |= reader.text()?.decode().trim().is_empty();
        } else {
            reader.skip()?;
        }
    }
    Ok(if count == 0 { Said::Empty } else { Said::Items { count, blank } })
}

/// An object, by its `type` if it has exactly one that is a word.
fn typed(reader: &mut Reader<'_>) -> Result<Said, InvalidJson> {
    let mut object = reader.object()?;
    let (mut empty, mut types, mut word) = (true, 0_u32, None);
    while let Some(key) = object.next(reader)? {
        empty = false;
        let is_type = key.is("type");
        types = types.saturating_add(is_type.into());
        if is_type && reader.kind()? == Kind::String {
            let text = reader.text()?;
            word = WORDS.into_iter().find(|word| text.is(word));
        } else {
            reader.skip()?;
        }
    }
    Ok(match (empty, types, word) {
        (true, ..) => Said::Empty,
        (_, 1, Some(word)) => Said::Word(Some(word)),
        _ => Said::Object,
    })
}

fn options(reader: &mut Reader<'_>) -> Result<Said, InvalidJson> {
    let mut object = reader.object()?;
    let mut options = 0;
    while let Some(key) = object.next(reader)? {
        options |= OPTIONS.iter().position(|name| key.is(name)).map_or(OTHER_OPTION, |bit| 1 << bit);
        reader.skip()?;
    }
    Ok(Said::Options(options))
}

#[cfg(test)]
mod tests;
