//! Why a configuration was refused.
//!
//! Everything that a configuration says passes [`quoted`] before it is repeated: an error is one line, short, and shows
//! nothing of a value whose place a secret might have taken by mistake.

/// The longest piece of a configuration that an error repeats, in characters.
const LONGEST_ECHO: usize = 60;

/// A configuration that was refused: `ModelProvider vllm-local: spec.endpoint: must begin with http:// or https://`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct InvalidConfig {
    place: String,
    reason: String,
}

/// What is wrong with a value, wherever it stands.
#[derive(Debug)]
pub(super) struct Reason(String);

/// The longest message of the YAML reader that an error repeats, in characters.
const LONGEST_MESSAGE: usize = 200;

/// What every access key begins with; see [`crate::identity::access_key::PREFIX`].
const KEY_PREFIX: &str = "pak_";

/// Whether `text` may hold an access key.
pub(super) fn may_be_key(text: &str) -> bool {
    text.contains(KEY_PREFIX)
}

/// `text` in quotes, cut to a readable length, all but visible ASCII escaped. What may be an access key in the wrong place is not
/// shown.
pub(super) fn quoted(text: &str) -> String {
    if may_be_key(text) {
        return format!("\"{KEY_PREFIX}…\"");
    }
    let start: String = text.chars().take(LONGEST_ECHO).flat_map(char::escape_default).collect();
    let more = if text.chars().nth(LONGEST_ECHO).is_some() { "…" } else { "" };
    format!("\"{start}{more}\"")
}

/// A message of the YAML reader. It begins with a path of the operator's own keys, so a long one loses its start.
pub(super) fn foreign(message: &str) -> String {
    if may_be_key(message) {
        return "cannot be read, and may hold an access key in the wrong place".to_owned();
    }
    let surplus = message.chars().count().saturating_sub(LONGEST_MESSAGE);
    let mut shown = String::from(if surplus == 0 { "" } else { "…" });
    for c in message.chars().skip(surplus) {
        match c {
            ' '..='~' => shown.push(c),
            other => shown.extend(other.escape_default()),
        }
    }
    shown
}

// === impl InvalidConfig ===

impl InvalidConfig {
    /// `place` may be empty where [`InvalidConfig::within`] is going to name it.
    pub(super) fn new(place: impl Into<String>, reason: impl Into<Reason>) -> Self {
        let Reason(reason) = reason.into();
        Self { place: place.into(), reason }
    }

    /// Puts the manifest in front of the field.
    pub(super) fn within(mut self, subject: &str) -> Self {
        self.place = match self.place.as_str() {
            "" => subject.to_owned(),
            field => format!("{subject}: {field}"),
        };
        self
    }
}

// === impl Reason ===

impl From<&str> for Reason {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<String> for Reason {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}
