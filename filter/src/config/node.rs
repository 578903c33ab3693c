//! A document as a tree of plain values.
//!
//! The tree is built under an *allowance*: a document may not grow, by aliases, far beyond what was written. Keys are unique
//! within a map and tags are refused, so a tree has one meaning only.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use super::invalid::quoted;

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

/// Fields of one map at most.
const MAX_FIELDS: usize = 4096;

/// How many nodes and bytes of text a document may still take.
pub(super) struct Allowance(Cell<usize>);

/// Reads a [`Node`] within an allowance.
#[derive(Clone, Copy)]
pub(super) struct ReadNode<'a>(pub(super) &'a Allowance);

/// Reads the key of a map entry within an allowance.
#[derive(Clone, Copy)]
struct ReadKey<'a>(&'a Allowance);

// === impl Node ===

impl Node {
    /// What an error calls the value where a number, a word or a flag was meant.
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

    /// What an error calls the value where it must not be repeated.
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
    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.0.get(self.find(name).ok()?).map(|(_, node)| node)
    }

    /// Takes a field out.
    pub(super) fn remove(&mut self, name: &str) -> Option<Node> {
        self.find(name).ok().map(|place| self.0.remove(place).1)
    }

    /// The names of the fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The fields.
    pub(super) fn into_fields(self) -> impl Iterator<Item = (String, Node)> {
        self.0.into_iter()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

// === impl Allowance ===

impl Allowance {
    /// Enough for anything that is written in `bytes` of text, and for as much again by aliases.
    pub(super) fn for_text_of(bytes: usize) -> Self {
        Self(Cell::new(bytes.saturating_mul(4).saturating_add(64)))
    }

    fn charge<E: Error>(&self, text: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(text.saturating_add(1));
        self.0.set(left.ok_or_else(|| E::custom("aliases repeat too much; write the values out"))?);
        Ok(())
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
            let Err(place) = map.find(&name) else {
                return Err(A::Error::custom(format!("field {} is given twice", quoted(&name))));
            };
            if map.0.len() == MAX_FIELDS {
                return Err(A::Error::custom(format!("a map has at most {MAX_FIELDS} fields")));
            }
            map.0.insert(place, (name, entries.next_value_seed(self)?));
        }
        map.0.shrink_to_fit();
        Ok(Node::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("tags (`!name`) are not accepted"))
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
