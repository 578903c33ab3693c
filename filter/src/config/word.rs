//! Words: text without spaces, fit for header values, metric labels and ledger keys.

use crate::openai::MAX_MODEL_BYTES;

use super::invalid::{Reason, quoted};

/// `text`, if it is 1 to `most` characters of visible ASCII.
pub(super) fn visible(text: &str, most: usize) -> Result<&str, Reason> {
    if (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(format!("must be 1 to {most} visible ASCII characters, got {}", quoted(text)).into())
}

/// A visible word that is exact, or a prefix with a `*` at its end.
pub(super) fn pattern(text: &str, most: usize) -> Result<&str, Reason> {
    let text = visible(text, most)?;
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        return Err(format!("may have `*` at its end only, got {}", quoted(text)).into());
    }
    Ok(text)
}

/// A reference to a model, or a pattern over references: a provider's name, a slash, and a model id.
pub(super) fn reference(text: &str) -> Result<&str, Reason> {
    pattern(text, MAX_LABEL_BYTES + 1 + MAX_MODEL_BYTES)
}

/// The longest DNS-1123 label.
const MAX_LABEL_BYTES: usize = 63;

/// A DNS-1123 label.
pub(super) fn label(text: &str) -> Result<Box<str>, Reason> {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let fits = (1..=MAX_LABEL_BYTES).contains(&text.len()) && text.bytes().all(inner);
    if fits && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.into());
    }
    Err(format!("must be 1 to 63 lower case letters, digits and inner hyphens, got {}", quoted(text)).into())
}
