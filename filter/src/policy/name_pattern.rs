//! Patterns of model ids and identities, as configured.

/// A model id or an identity: exact, or a prefix, which is written with a trailing `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// This name only.
    Exact(Box<str>),
    /// Every name with this prefix; the `*` is not part of it.
    Prefix(Box<str>),
}

// === impl NamePattern ===

impl NamePattern {
    /// Parses a pattern. Only a trailing `*` is special.
    pub fn new(written: &str) -> Self {
        match written.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(written.into()),
        }
    }

    /// Returns whether `text` matches the pattern.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
        }
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(id) => f.write_str(id),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}
