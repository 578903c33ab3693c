//! From text to documents: a YAML stream, or one object with `items`.
//!
//! Limits are checked first: the size of the text, its encoding, and what takes the YAML parser quadratic time.

use serde::Deserialize as _;
use serde::de::{DeserializeSeed as _, IgnoredAny};

use super::field::Field;
use super::invalid::{Errors, Reason, Reported};
use super::node::{Limits, Node, ReadNode};
use super::path::Path;
use super::quote::parser_message;

/// The longest configuration, in bytes.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The YAML parser visits every open bracket for every token. The limit prevents accidents, not attacks: the author of a
/// configuration can hide brackets from the count.
const MAX_BRACKETS: usize = 256;

/// The fields of the object form of a configuration.
pub(super) const FIELDS: &[&str] = &["items"];

/// Receives the manifests of a configuration, one after the other, so that no more than one document is in memory as a tree. An
/// error stands for manifests that could not be parsed.
pub(super) type Receive<'r, 'a> = dyn FnMut(Result<Field<'a>, Reported>) + 'r;

/// Parses a configuration and passes each of its manifests to `receive`. An error means that it has none.
pub(super) fn read<'a>(text: &[u8], errors: &'a Errors, receive: &mut Receive<'_, 'a>) -> Result<(), Reported> {
    let whole = Path::root("configuration");
    let text = checked(text).map_err(|reason| errors.report(&whole, reason))?;
    let mut form = Form::Empty;
    if let Some(node) = json(text) {
        form.add(Field::root(errors, "document 1", node), errors, receive);
        return Ok(());
    }
    let limits = Limits::for_text_of(text.len());
    let mut well_formed = None;
    for (index, yaml) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let place = format!("document {}", index.saturating_add(1));
        match ReadNode(&limits).deserialize(yaml) {
            Ok(Node::Null) => {}
            Ok(node) => form.add(Field::root(errors, &place, node), errors, receive),
            Err(error) => {
                form.add_unreadable();
                receive(Err(match character_error(&error, text) {
                    Some(reason) => errors.report(&whole, reason),
                    None => errors.report(&Path::root(place.as_str()), yaml_reason(&error)),
                }));
                // After a syntax error, which may follow a broken rule in the same document, the parser has no next document.
                if !limits.take_violation() || !*well_formed.get_or_insert_with(|| is_well_formed(text)) {
                    break;
                }
            }
        }
    }
    match form {
        Form::Empty => {
            let reason = "is empty; write manifests (`apiVersion: pai.io/v1`, `kind: ModelProvider`, …) or `{\"items\": […]}`";
            Err(errors.report(&whole, reason))
        }
        Form::Stream | Form::Items(_) | Form::Mixed => Ok(()),
    }
}

/// The form of a configuration, as far as it was read.
enum Form {
    Empty,
    /// One manifest per document.
    Stream,
    /// One object with `items`, at this path.
    Items(Path),
    /// Both, which was reported.
    Mixed,
}

// === impl Form ===

impl Form {
    fn add<'a>(&mut self, document: Field<'a>, errors: &Errors, receive: &mut Receive<'_, 'a>) {
        let has_items = document.get("items").is_some() && document.get("kind").is_none();
        let only_document = |path| {
            errors.report(path, "an object with `items` must be the only document");
            Self::Mixed
        };
        *self = match (&*self, has_items) {
            (Self::Empty, true) => Self::Items(document.path().clone()),
            (Self::Empty | Self::Stream, false) => Self::Stream,
            (Self::Stream, true) => only_document(document.path()),
            (Self::Items(path), _) => only_document(path),
            (Self::Mixed, _) => Self::Mixed,
        };
        if has_items { items(document, receive) } else { receive(Ok(document)) }
    }

    fn add_unreadable(&mut self) {
        if let Self::Empty = self {
            *self = Self::Stream;
        }
    }
}

fn items<'a>(document: Field<'a>, receive: &mut Receive<'_, 'a>) {
    let each = |item: Field<'a>| {
        let path = item.path().item();
        receive(Ok(item.at(path)));
        Ok(())
    };
    let read = document.fields(FIELDS).and_then(|mut fields| fields.required("items", |items| items.list(each)));
    if let Err(reported) = read {
        receive(Err(reported));
    }
}

/// Parses one JSON document by `serde_json`, which is several times as fast. Anything else is left to the YAML parser, whose
/// errors have the line.
fn json(text: &str) -> Option<Node> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let limits = Limits::for_text_of(text.len());
    let mut parser = serde_json::Deserializer::from_str(text);
    let node = ReadNode(&limits).deserialize(&mut parser).ok()?;
    parser.end().ok().map(|()| node)
}

/// Returns whether a text has no syntax error in any document.
fn is_well_formed(text: &str) -> bool {
    serde_yaml::Deserializer::from_str(text).all(|document| IgnoredAny::deserialize(document).is_ok())
}

/// Returns what an error of the YAML parser says, with the line.
fn yaml_reason(error: &serde_yaml::Error) -> Reason {
    let message = error.to_string();
    let position = error.location().map(|at| format!(" at line {} column {}", at.line(), at.column())).unwrap_or_default();
    match parser_message(&message) {
        Some(shown) if message.contains(&position) => shown.into(),
        Some(shown) => format!("{shown}{position}").into(),
        None => format!("cannot be parsed{position}; it may contain an access key in the wrong place").into(),
    }
}

/// Returns what an error about a character of the text says. The parser reads characters far ahead, so that the document is
/// unknown, and gives their position in bytes.
fn character_error(error: &serde_yaml::Error, text: &str) -> Option<Reason> {
    let message = error.to_string();
    let (reason, position) = message.rsplit_once(" at position ")?;
    let before = text.as_bytes().get(..position.parse().ok()?)?;
    let line = before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
    Some(format!("{} at line {line}", parser_message(reason)?).into())
}

fn checked(text: &[u8]) -> Result<&str, Reason> {
    if text.len() > MAX_BYTES {
        return Err("is longer than 8 MiB".into());
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return Err("must be UTF-8".into());
    };
    if max_open_brackets(text) > MAX_BRACKETS {
        return Err("brackets are nested too deeply".into());
    }
    // The parser compares each directive with all before it, and no configuration needs one.
    if text.lines().any(|line| line.starts_with('%')) {
        return Err("YAML directives (lines that begin with `%`) are not accepted".into());
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Returns the most brackets that are open at once. Those in strings and comments count too: the limit is far above what a
/// configuration needs.
fn max_open_brackets(text: &str) -> usize {
    let (mut open, mut max) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open = open.saturating_add(1),
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        max = max.max(open);
    }
    max
}
