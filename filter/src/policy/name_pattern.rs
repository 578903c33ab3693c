//! Words as configured: exact, or the beginning of many.

/// A model id or an identity as configured: exact, or a prefix (written with a trailing `*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// This one and no other.
    Exact(Box<str>),
    /// Every one that begins so; the `*` is not part of it.
    Prefix(Box<str>),
}

// === impl NamePattern ===

impl NamePattern {
    /// Reads a pattern as configured; only a trailing `*` is special.
    pub fn new(written: &str) -> Self {
        match written.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(written.into()),
        }
    }

    /// Whether `text` is one of those meant.
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
