//! From text to documents: a YAML stream, or one object with `items`.
//!
//! Bounds come first: the size of the text, its encoding, and what the YAML reader takes quadratic time for.

use serde::de::DeserializeSeed as _;

use super::field::Field;
use super::invalid::{InvalidConfig, foreign};
use super::node::{Allowance, Node, ReadNode};

/// The longest configuration, in bytes.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The YAML reader visits every open brace for every token. A guard against accidents: whoever writes the configuration could
/// hide braces from it.
const MAX_BRACKETS: usize = 256;

/// What the object form of a configuration may hold.
pub(super) const FIELDS: &[&str] = &["items"];

/// A manifest that was not looked into yet.
#[derive(Debug)]
pub(super) struct Document {
    /// What errors call it until its kind and name are known.
    pub(super) place: String,
    pub(super) node: Node,
}

/// Hands every manifest of a configuration to `take`, one after the other, so that no more than one document is held as a tree.
pub(super) fn each(text: &[u8], take: &mut dyn FnMut(Document) -> Result<(), InvalidConfig>) -> Result<(), InvalidConfig> {
    let text = checked(text)?;
    let mut form = Form::Empty;
    if let Some(node) = json(text) {
        return form.add(Document { place: "document 1".to_owned(), node }, take);
    }
    let allowance = Allowance::for_text_of(text.len());
    for (index, yaml) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let place = format!("document {}", index.saturating_add(1));
        match ReadNode(&allowance).deserialize(yaml) {
            Ok(Node::Null) => {}
            Ok(node) => form.add(Document { place, node }, take)?,
            Err(error) => return Err(InvalidConfig::new(place, foreign(&error.to_string()))),
        }
    }
    match form {
        Form::Empty => {
            let reason = "is empty; write manifests (`apiVersion: pai.io/v1`, `kind: ModelProvider`, …) or `{\"items\": […]}`";
            Err(InvalidConfig::new("configuration", reason))
        }
        Form::Stream | Form::Items(_) => Ok(()),
    }
}

/// What was seen of a configuration so far.
enum Form {
    Empty,
    /// Manifests, one a document.
    Stream,
    /// An object with `items`, which stands at this place.
    Items(String),
}

// === impl Form ===

impl Form {
    fn add(
        &mut self,
        document: Document,
        take: &mut dyn FnMut(Document) -> Result<(), InvalidConfig>,
    ) -> Result<(), InvalidConfig> {
        let has_items = matches!(&document.node, Node::Map(map) if map.get("items").is_some() && map.get("kind").is_none());
        let alone = |place: &str| Err(InvalidConfig::new(place, "an object with `items` must stand alone"));
        match (&self, has_items) {
            (Self::Items(place), _) => alone(place),
            (Self::Stream, true) => alone(&document.place),
            (Self::Empty, true) => {
                *self = Self::Items(document.place.clone());
                items(document)?.into_iter().try_for_each(take)
            }
            (Self::Empty | Self::Stream, false) => {
                *self = Self::Stream;
                take(document)
            }
        }
    }
}

/// One JSON document, which `serde_json` reads several times as fast. What is none is left to the YAML reader, whose errors say
/// where.
fn json(text: &str) -> Option<Node> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let allowance = Allowance::for_text_of(text.len());
    let mut reader = serde_json::Deserializer::from_str(text);
    let node = ReadNode(&allowance).deserialize(&mut reader).ok()?;
    reader.end().ok().map(|()| node)
}

fn checked(text: &[u8]) -> Result<&str, InvalidConfig> {
    let refuse = |reason: &str| Err(InvalidConfig::new("configuration", reason));
    if text.len() > MAX_BYTES {
        return refuse("is longer than 8 MiB");
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return refuse("must be UTF-8");
    };
    if most_open_brackets(text) > MAX_BRACKETS {
        return refuse("brackets are nested too deeply");
    }
    // A reader of directives compares each with all before it; nothing here needs one.
    if text.lines().any(|line| line.starts_with('%')) {
        return refuse("YAML directives (lines that begin with `%`) are not accepted");
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Brackets in strings and comments count too: the limit is far above what a configuration needs.
fn most_open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open = open.saturating_add(1),
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

fn items(document: Document) -> Result<Vec<Document>, InvalidConfig> {
    let manifests = Field::root(document.node)
        .fields(FIELDS)
        .and_then(|mut fields| fields.required("items", |items| items.list(|item| Ok(item.into_document()))));
    manifests.map_err(|error| error.within(&document.place))
}
