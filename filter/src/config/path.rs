//! Paths: the manifest and the field that an error is about.

use std::fmt;
use std::rc::Rc;

use super::quote::{may_be_key, quoted};

/// The longest key that is written into a path without quotes, in bytes.
const MAX_PLAIN_KEY_BYTES: usize = 63;

/// A manifest and a field within it: `ModelProvider vllm-local: spec.allowedModels[2]`.
#[derive(Debug, Clone)]
pub(super) struct Path {
    /// `Agent researcher`, or `document 2` where kind and name are unknown.
    manifest: Rc<str>,
    /// Empty for the whole manifest.
    field: String,
}

// === impl Path ===

impl Path {
    /// Returns the path of a whole manifest.
    pub(super) fn root(manifest: impl Into<Rc<str>>) -> Self {
        Self { manifest: manifest.into(), field: String::new() }
    }

    /// Returns the path of the field `key` of this map: `a.b`, or `a["b c"]` where the key is not a plain word.
    pub(super) fn key(&self, key: &str) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_plain = (1..=MAX_PLAIN_KEY_BYTES).contains(&key.len()) && key.bytes().all(plain) && !may_be_key(key);
        let field = match self.field.as_str() {
            parent if !is_plain => format!("{parent}[{}]", quoted(key)),
            "" => key.to_owned(),
            parent => format!("{parent}.{key}"),
        };
        self.with_field(field)
    }

    /// Returns the path of an element of this list.
    pub(super) fn index(&self, index: usize) -> Self {
        self.with_field(format!("{}[{index}]", self.field))
    }

    /// Returns the path of a manifest that is an element of `items`: the element is named instead of the document.
    pub(super) fn item(&self) -> Self {
        Self::root(self.field.as_str())
    }

    /// Returns the manifest and the field.
    pub(super) fn into_parts(self) -> (String, String) {
        (self.manifest.to_string(), self.field)
    }

    fn with_field(&self, field: String) -> Self {
        Self { manifest: Rc::clone(&self.manifest), field }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.manifest),
            field => write!(f, "{}: {field}", self.manifest),
        }
    }
}
