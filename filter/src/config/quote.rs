//! What an error repeats of a configuration: short, on one line, and never an access key.
//!
//! Every text of a configuration passes through [`quoted`] before an error repeats it.

/// The longest part of a text that an error repeats, in characters.
const MAX_QUOTED: usize = 60;

/// The longest message of the YAML parser that an error repeats, in characters.
const MAX_MESSAGE: usize = 200;

/// The prefix of every access key; see [`crate::identity::access_key::KEY_PREFIX`].
const KEY_PREFIX: &str = "pak_";

/// Returns whether `text` may contain an access key.
pub(super) fn may_be_key(text: &str) -> bool {
    text.contains(KEY_PREFIX)
}

/// Returns `text` in quotes: cut to [`MAX_QUOTED`] characters, and everything but visible ASCII escaped. A text that may
/// contain an access key is not shown.
pub(super) fn quoted(text: &str) -> String {
    if may_be_key(text) {
        return format!("\"{KEY_PREFIX}…\"");
    }
    let mut shown = String::new();
    for c in text.chars() {
        let escaped = c.escape_default();
        if shown.len() + escaped.len() > MAX_QUOTED {
            return format!("\"{shown}…\"");
        }
        shown.extend(escaped);
    }
    format!("\"{shown}\"")
}

/// Returns a message of the YAML parser in visible ASCII. The message begins with a path of the operator's own keys, so a long
/// one is cut at its start. `None` if it may contain an access key.
pub(super) fn parser_message(message: &str) -> Option<String> {
    if may_be_key(message) {
        return None;
    }
    let mut shown = String::new();
    for c in message.chars() {
        match c {
            ' '..='~' => shown.push(c),
            other => shown.extend(other.escape_default()),
        }
    }
    let surplus = shown.len().saturating_sub(MAX_MESSAGE);
    match shown.get(surplus..) {
        Some(end) if surplus > 0 => Some(format!("…{end}")),
        _ => Some(shown),
    }
}
