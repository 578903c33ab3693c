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

/// All manifests of a configuration, in their order.
pub(super) fn split(text: &[u8]) -> Result<Vec<Document>, InvalidConfig> {
    let documents = stream(checked(text)?)?;
    let alone = documents.len() == 1;
    let mut manifests = Vec::new();
    for document in documents {
        match document.node {
            Node::Map(ref map) if !map.contains_key("items") || map.contains_key("kind") => manifests.push(document),
            Node::Map(_) if alone => manifests.extend(items(document)?),
            Node::Map(_) => {
                return Err(InvalidConfig::new(document.place, "an object with `items` must stand alone"));
            }
            _ => manifests.push(document),
        }
    }
    Ok(manifests)
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

fn stream(text: &str) -> Result<Vec<Document>, InvalidConfig> {
    let mut documents = Vec::new();
    let allowance = Allowance::for_text_of(text.len());
    for (index, yaml) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let place = format!("document {}", index.saturating_add(1));
        match ReadNode(&allowance).deserialize(yaml) {
            Ok(Node::Null) => {}
            Ok(node) => documents.push(Document { place, node }),
            Err(error) => return Err(InvalidConfig::new(place, foreign(&error.to_string()))),
        }
    }
    if documents.is_empty() {
        let reason = "is empty; write manifests (`apiVersion: pai.io/v1`, `kind: ModelProvider`, …) or `{\"items\": […]}`";
        return Err(InvalidConfig::new("configuration", reason));
    }
    Ok(documents)
}

fn items(document: Document) -> Result<Vec<Document>, InvalidConfig> {
    let manifests = Field::root(document.node)
        .fields(FIELDS)
        .and_then(|mut fields| fields.required("items", |items| items.list(|item| Ok(item.into_document()))));
    manifests.map_err(|error| error.within(&document.place))
}
