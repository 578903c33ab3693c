//! Values with their paths, and how they are read into types.
//!
//! A [`Field`] knows where it stands, so whatever is wrong with it is reported with its path. Null is the same as absent.

use std::num::NonZeroU64;

use super::document::Document;
use super::invalid::{InvalidConfig, Reason, may_be_key, quoted};
use super::node::{Map, Node};

/// Integers above this are not exact in JSON readers that use floats.
const MAX_EXACT: u64 = 1 << 53;

/// A value and where it stands (`spec.allowedModels[2]`).
#[derive(Debug)]
pub(super) struct Field {
    path: String,
    node: Node,
}

/// The fields of a map, each to be taken by its name. None is left over: unknown ones were refused.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    map: Map,
}

// === impl Field ===

impl Field {
    /// The whole of a document.
    pub(super) fn root(node: Node) -> Self {
        Self { path: String::new(), node }
    }

    /// The fields of a map that takes those in `known` and no other.
    pub(super) fn fields(self, known: &'static [&'static str]) -> Result<Fields, InvalidConfig> {
        let Node::Map(map) = self.node else {
            return Err(self.refuse(format!("must be a map, got {}", self.node.shape())));
        };
        if let Some(unknown) = map.names().find(|name| !known.contains(name)) {
            let reason = format!("unknown field; known here: {}", known.join(", "));
            return Err(InvalidConfig::new(join(&self.path, unknown), reason));
        }
        Ok(Fields { path: self.path, map })
    }

    /// The entries of a map whose keys are the operator's to choose.
    pub(super) fn entries(self) -> Result<Vec<(String, Self)>, InvalidConfig> {
        let Node::Map(map) = self.node else {
            return Err(self.refuse(format!("must be a map, got {}", self.node.shape())));
        };
        let entry = |(key, node): (String, Node)| {
            let path = join(&self.path, &key);
            (key, Self { path, node })
        };
        Ok(map.into_fields().map(entry).collect())
    }

    /// A list, each element read by `each`.
    pub(super) fn list<T>(self, each: impl FnMut(Self) -> Result<T, InvalidConfig>) -> Result<Vec<T>, InvalidConfig> {
        let Node::List(list) = self.node else {
            return Err(self.refuse(format!("must be a list, got {}", self.node.shape())));
        };
        let element = |(index, node)| Self { path: format!("{}[{index}]", self.path), node };
        list.into_iter().enumerate().map(element).map(each).collect()
    }

    /// A list that is not empty.
    pub(super) fn some<T>(self, each: impl FnMut(Self) -> Result<T, InvalidConfig>) -> Result<Vec<T>, InvalidConfig> {
        let empty = self.refuse("must not be empty");
        let list = self.list(each)?;
        if list.is_empty() { Err(empty) } else { Ok(list) }
    }

    /// A string, judged by `read`.
    pub(super) fn text<T>(self, read: impl FnOnce(&str) -> Result<T, Reason>) -> Result<T, InvalidConfig> {
        match &self.node {
            Node::Text(text) => read(text).map_err(|reason| self.refuse(reason)),
            Node::Bool(_) | Node::Int(_) | Node::Float(_) => {
                Err(self.refuse(format!("must be a string, got {}; put it in quotes", self.node.value())))
            }
            other => Err(self.refuse(format!("must be a string, got {}", other.shape()))),
        }
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(self, words: &[(&str, T)]) -> Result<T, InvalidConfig> {
        let chosen = words.iter().find(|(word, _)| matches!(&self.node, Node::Text(text) if text == word));
        chosen.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(format!("must be one of {}, got {}", words.join(", "), self.node.value()))
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(self) -> Result<bool, InvalidConfig> {
        match self.node {
            Node::Bool(flag) => Ok(flag),
            ref other => Err(self.refuse(format!("must be true or false, got {}", other.value()))),
        }
    }

    /// A number of tokens.
    pub(super) fn tokens(self) -> Result<NonZeroU64, InvalidConfig> {
        self.count(MAX_EXACT)
    }

    /// A whole number from 1 to `most`, which may be written (`5e7`) or arrive (protobuf Struct) as a float.
    pub(super) fn count(self, most: u64) -> Result<NonZeroU64, InvalidConfig> {
        let number = match self.node {
            Node::Int(number) => number,
            // The cast saturates, far above any `most`.
            Node::Float(number) if number.fract() == 0.0 => number as i128,
            ref other => {
                return Err(self.refuse(format!("must be a whole number, got {}", other.value())));
            }
        };
        if number > i128::from(most) {
            return Err(self.refuse(format!("must be at most {most}, got {}", self.node.value())));
        }
        let count = u64::try_from(number).ok().and_then(NonZeroU64::new);
        count.ok_or_else(|| self.refuse(format!("must be at least 1, got {number}")))
    }

    /// An element of `items`.
    pub(super) fn into_document(self) -> Document {
        Document { place: self.path, node: self.node }
    }

    pub(super) fn refuse(&self, reason: impl Into<Reason>) -> InvalidConfig {
        InvalidConfig::new(self.path.as_str(), reason)
    }
}

// === impl Fields ===

impl Fields {
    /// The field `name`, read by `read`, if it is there.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Field) -> Result<T, InvalidConfig>,
    ) -> Result<Option<T>, InvalidConfig> {
        match self.map.remove(name) {
            None | Some(Node::Null) => Ok(None),
            Some(node) => read(Field { path: join(&self.path, name), node }).map(Some),
        }
    }

    /// The field `name`, read by `read`.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Field) -> Result<T, InvalidConfig>,
    ) -> Result<T, InvalidConfig> {
        let missing = InvalidConfig::new(join(&self.path, name), "is missing");
        self.optional(name, read)?.ok_or(missing)
    }

    pub(super) fn refuse(&self, reason: impl Into<Reason>) -> InvalidConfig {
        InvalidConfig::new(self.path.as_str(), reason)
    }
}

/// `a.b`, or `a["b c"]` where the key is not a plain word.
fn join(path: &str, key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match path {
        _ if key.is_empty() || key.len() > 63 || !key.bytes().all(plain) || may_be_key(key) => {
            format!("{path}[{}]", quoted(key))
        }
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    }
}
