//! A document as a tree of plain values.
//!
//! The tree is built within [`Limits`]: aliases may not expand a document far beyond its text. Keys are unique within a map and
//! tags are refused, so that a tree has one meaning only.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use super::quote::quoted;

/// One value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// The fields of a map, sorted by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Map(Vec<(String, Node)>);

/// The most fields of one map.
const MAX_FIELDS: usize = 4096;

/// What the documents of one text may still contain, and whether one of them broke a rule of this module.
pub(super) struct Limits {
    /// Nodes and bytes of text.
    size: Cell<usize>,
    violated: Cell<bool>,
}

/// Reads a [`Node`] within limits.
#[derive(Clone, Copy)]
pub(super) struct ReadNode<'a>(pub(super) &'a Limits);

/// Reads the key of a map entry within limits.
#[derive(Clone, Copy)]
struct ReadKey<'a>(&'a Limits);

// === impl Node ===

impl Node {
    /// Returns the text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns what an error calls the value where a number, a word or a flag is expected.
    pub(super) fn value(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            // `Display` writes 1e300 as 301 digits.
            Self::Float(value) if value.abs() >= 1e16 => format!("{value:e}"),
            Self::Float(value) => value.to_string(),
            Self::Text(value) => quoted(value),
            Self::Null | Self::List(_) | Self::Map(_) => self.shape().to_owned(),
        }
    }

    /// Returns what an error calls the value where it must not be repeated.
    pub(super) fn shape(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

// === impl Map ===

impl Map {
    /// Returns the value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(self.find(name).ok()?).map(|(_, node)| node)
    }

    /// Removes a field and returns its value.
    pub(super) fn remove(&mut self, name: &str) -> Option<Node> {
        self.find(name).ok().map(|index| self.0.remove(index).1)
    }

    /// Returns the names of the fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the fields.
    pub(super) fn into_fields(self) -> impl Iterator<Item = (String, Node)> {
        self.0.into_iter()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

// === impl Limits ===

impl Limits {
    /// Allows everything that can be written in `bytes` of text, and as much again by aliases.
    pub(super) fn for_text_of(bytes: usize) -> Self {
        Self { size: Cell::new(bytes.saturating_mul(4).saturating_add(64)), violated: Cell::new(false) }
    }

    /// Returns whether a document broke a rule since the last call. If so the parser can read the next document.
    pub(super) fn take_violation(&self) -> bool {
        self.violated.take()
    }

    fn charge<E: Error>(&self, text: usize) -> Result<(), E> {
        let left = self.size.get().checked_sub(text.saturating_add(1));
        self.size.set(left.ok_or_else(|| E::custom("aliases repeat too much; write the values out"))?);
        Ok(())
    }

    fn violation<E: Error>(&self, reason: impl fmt::Display) -> E {
        self.violated.set(true);
        E::custom(reason)
    }
}

// === impl serde_json::Value ===

impl From<Node> for serde_json::Value {
    /// A number that JSON does not have (`.nan`, `.inf`) becomes a string, so that it is still refused.
    fn from(node: Node) -> Self {
        match node {
            Node::Null => Self::Null,
            Node::Bool(value) => value.into(),
            Node::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                (Err(_), Err(_)) => (value as f64).into(),
            },
            Node::Float(value) if value.is_finite() => value.into(),
            Node::Float(value) => value.to_string().into(),
            Node::Text(value) => value.into(),
            Node::List(values) => values.into_iter().map(Self::from).collect(),
            Node::Map(map) => Self::Object(map.into_fields().map(|(name, value)| (name, value.into())).collect()),
        }
    }
}

// === impl ReadNode ===

impl<'de> DeserializeSeed<'de> for ReadNode<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.0.charge(0)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ReadNode<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    /// A document without content.
    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        Ok(i128::try_from(value).map_or(Node::Float(value as f64), Node::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.0.charge(value.len())?;
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element_seed(self)? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Map::default();
        while let Some(name) = entries.next_key_seed(ReadKey(self.0))? {
            let Err(index) = map.find(&name) else {
                return Err(self.0.violation(format_args!("field {} is given twice", quoted(&name))));
            };
            if map.0.len() == MAX_FIELDS {
                return Err(self.0.violation(format_args!("a map has at most {MAX_FIELDS} fields")));
            }
            map.0.insert(index, (name, entries.next_value_seed(self)?));
        }
        map.0.shrink_to_fit();
        Ok(Node::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(self.0.violation("tags (`!name`) are not accepted"))
    }
}

// === impl ReadKey ===

impl<'de> DeserializeSeed<'de> for ReadKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ReadKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        self.0.charge(key.len())?;
        Ok(key.to_owned())
    }
}
