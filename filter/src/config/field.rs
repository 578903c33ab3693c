//! Values with their paths, and how they are read into types.
//!
//! A [`Field`] has its path and reports what is wrong with it. Null is the same as absent. A reader of several fields reads
//! all of them before it returns an error, so that each bad field is reported.

use std::num::NonZeroU64;

use super::invalid::{Errors, Reason, Reported};
use super::node::{Map, Node};
use super::path::Path;
use super::quote::quoted;
use super::suggestion::closest;

/// Integers above this are not exact in JSON readers that use floats.
const MAX_EXACT: u64 = 1 << 53;

/// A value and its path (`spec.allowedModels[2]`).
#[derive(Debug)]
pub(super) struct Field<'a> {
    errors: &'a Errors,
    path: Path,
    node: Node,
}

/// The fields of a map, each to be read by its name. Unknown ones were reported.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    errors: &'a Errors,
    path: Path,
    map: Map,
    /// Known fields of which a misspelling was reported.
    misspelled: Vec<(&'static str, Reported)>,
}

/// Returns `; did you mean …?` if `written` is close to one of the `known` words.
pub(super) fn did_you_mean<'w>(written: &str, known: impl Iterator<Item = &'w str>) -> String {
    closest(written, known).map_or_else(String::new, |word| format!("; did you mean `{word}`?"))
}

/// Collects `results`, all of them, before it returns the last error.
fn all<T>(results: impl Iterator<Item = Result<T, Reported>>) -> Result<Vec<T>, Reported> {
    let mut failed = None;
    let mut values = Vec::with_capacity(results.size_hint().0);
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(reported) => failed = Some(reported),
        }
    }
    failed.map_or(Ok(values), Err)
}

// === impl Field ===

impl<'a> Field<'a> {
    /// Returns the field of a whole document, which errors call `place`.
    pub(super) fn root(errors: &'a Errors, place: &str, node: Node) -> Self {
        Self { errors, path: Path::root(place), node }
    }

    /// Returns the same value under another path.
    pub(super) fn at(self, path: Path) -> Self {
        Self { path, ..self }
    }

    /// Returns the value as JSON.
    pub(super) fn into_json(self) -> serde_json::Value {
        self.node.into()
    }

    /// Returns where the value is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the value of the field `name` of this map, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        match &self.node {
            Node::Map(map) => map.get(name),
            _ => None,
        }
    }

    /// Returns the fields of a map and reports those that are not in `known`.
    pub(super) fn fields(self, known: &'static [&'static str]) -> Result<Fields<'a>, Reported> {
        let Self { errors, path, node } = self;
        let map = match node {
            Node::Map(map) => map,
            other => return Err(errors.report(&path, not_a_map(&other))),
        };
        let mut misspelled = Vec::new();
        for unknown in map.names().filter(|name| !known.contains(name)) {
            // A search for each of a million unknown fields would take a second.
            let meant = if errors.is_full() { None } else { closest(unknown, known.iter().copied()) };
            let known = known.join(", ");
            let reason = match meant {
                Some(meant) => format!("unknown field; did you mean `{meant}`? Known here: {known}"),
                None => format!("unknown field; known here: {known}"),
            };
            let reported = errors.report(&path.key(unknown), reason);
            misspelled.extend(meant.map(|meant| (meant, reported)));
        }
        Ok(Fields { errors, path, map, misspelled })
    }

    /// Reads a map whose keys are the operator's to choose, each entry by `read`.
    pub(super) fn map<T>(self, mut read: impl FnMut(&str, Self) -> Result<T, Reported>) -> Result<Vec<T>, Reported> {
        let Self { errors, path, node } = self;
        let map = match node {
            Node::Map(map) => map,
            other => return Err(errors.report(&path, not_a_map(&other))),
        };
        let entry = |(key, node): (String, Node)| read(&key, Self { errors, path: path.key(&key), node });
        all(map.into_fields().map(entry))
    }

    /// Reads a list, each element by `read`.
    pub(super) fn list<T>(self, read: impl FnMut(Self) -> Result<T, Reported>) -> Result<Vec<T>, Reported> {
        let Self { errors, path, node } = self;
        let list = match node {
            Node::List(list) => list,
            other => return Err(errors.report(&path, format!("must be a list, got {}", other.shape()))),
        };
        let element = |(index, node)| Self { errors, path: path.index(index), node };
        all(list.into_iter().enumerate().map(element).map(read))
    }

    /// Reads a list that is not empty.
    pub(super) fn non_empty_list<T>(self, read: impl FnMut(Self) -> Result<T, Reported>) -> Result<Vec<T>, Reported> {
        if self.len() == Some(0) {
            return Err(self.refuse("must not be empty"));
        }
        self.list(read)
    }

    /// Returns the length of a list.
    pub(super) fn len(&self) -> Option<usize> {
        match &self.node {
            Node::List(list) => Some(list.len()),
            _ => None,
        }
    }

    /// Reads a string by `read`.
    pub(super) fn text<T>(self, read: impl FnOnce(&str) -> Result<T, Reason>) -> Result<T, Reported> {
        match &self.node {
            Node::Text(text) => read(text).map_err(|reason| self.refuse(reason)),
            Node::Bool(_) | Node::Int(_) | Node::Float(_) => {
                Err(self.refuse(format!("must be a string, got {}; put it in quotes", self.node.value())))
            }
            other => Err(self.refuse(format!("must be a string, got {}", other.shape()))),
        }
    }

    /// Reads one of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Reported> {
        let text = if let Node::Text(text) = &self.node { text.as_str() } else { "" };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let words = || words.iter().map(|(word, _)| *word);
        let list = words().collect::<Vec<_>>().join(", ");
        Err(self.refuse(format!("must be one of {list}, got {}{}", self.node.value(), did_you_mean(text, words()))))
    }

    /// Reads `true` or `false`.
    pub(super) fn flag(self) -> Result<bool, Reported> {
        match self.node {
            Node::Bool(flag) => Ok(flag),
            ref other => Err(self.refuse(format!("must be true or false, got {}", other.value()))),
        }
    }

    /// Reads a number of tokens.
    pub(super) fn tokens(self) -> Result<NonZeroU64, Reported> {
        self.count(MAX_EXACT)
    }

    /// Reads a whole number from 1 to `max`. It may be a float, as written (`5e7`) or from a protobuf Struct.
    pub(super) fn count(self, max: u64) -> Result<NonZeroU64, Reported> {
        let number = match self.node {
            Node::Int(number) => number,
            // The cast saturates, far above any `max`.
            Node::Float(number) if number.fract() == 0.0 => number as i128,
            ref other => {
                return Err(self.refuse(format!("must be a whole number, got {}", other.value())));
            }
        };
        if number > i128::from(max) {
            return Err(self.refuse(format!("must be at most {max}, got {}", self.node.value())));
        }
        let count = u64::try_from(number).ok().and_then(NonZeroU64::new);
        count.ok_or_else(|| self.refuse(format!("must be at least 1, got {number}")))
    }

    /// Reads a duration of at most `max` seconds: a whole number of seconds, or a text such as `30s`, `10m` or `1h`.
    pub(super) fn seconds(self, max: u64) -> Result<u64, Reported> {
        if !matches!(self.node, Node::Text(_)) {
            return self.count(max).map(u64::from);
        }
        self.text(|text| {
            let seconds = duration(text).filter(|seconds| (1..=max).contains(seconds));
            seconds
                .ok_or_else(|| format!("must be a duration from 1s to {max}s, such as 30s, 10m or 1h, got {}", quoted(text)).into())
        })
    }

    /// Reports an error of this field.
    pub(super) fn refuse(&self, reason: impl Into<Reason>) -> Reported {
        self.errors.report(&self.path, reason)
    }

    /// Reports an error of an element of this list.
    pub(super) fn refuse_element(&self, index: usize, reason: impl Into<Reason>) -> Reported {
        self.errors.report(&self.path.index(index), reason)
    }

    /// Reports an error of the field `name` of this map.
    pub(super) fn refuse_field(&self, name: &str, reason: impl Into<Reason>) -> Reported {
        self.errors.report(&self.path.key(name), reason)
    }
}

/// Parses a whole number with the unit `s`, `m` or `h`, in seconds.
fn duration(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        _ => return None,
    };
    number.parse::<u32>().ok().filter(|_| !number.starts_with('+')).map(|number| u64::from(number) * unit)
}

fn not_a_map(node: &Node) -> String {
    format!("must be a map, got {}", node.shape())
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Reads the field `name` by `read`, if it is there.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Field<'a>) -> Result<T, Reported>,
    ) -> Result<Option<T>, Reported> {
        match self.map.remove(name) {
            None | Some(Node::Null) => Ok(None),
            Some(node) => read(Field { errors: self.errors, path: self.path.key(name), node }).map(Some),
        }
    }

    /// Reads the field `name` by `read`. If it is absent, that is an error, unless a misspelling of it was reported.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Field<'a>) -> Result<T, Reported>,
    ) -> Result<T, Reported> {
        self.optional(name, read)?.ok_or_else(|| {
            let misspelled = self.misspelled.iter().find(|(meant, _)| *meant == name);
            misspelled.map_or_else(|| self.errors.report(&self.path.key(name), "is missing"), |(_, reported)| *reported)
        })
    }

    /// Reports an error of the map as a whole.
    pub(super) fn refuse(&self, reason: impl Into<Reason>) -> Reported {
        self.errors.report(&self.path, reason)
    }
}
