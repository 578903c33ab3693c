//! Identifiers: text without spaces, fit for header values, metric labels and ledger keys.

use crate::openai::MAX_MODEL_BYTES;

use super::invalid::Reason;
use super::quote::quoted;

/// The longest DNS-1123 label, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// Accepts 1 to `max` characters of visible ASCII.
pub(super) fn visible_ascii(text: &str, max: usize) -> Result<&str, Reason> {
    if (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(format!("must be 1 to {max} visible ASCII characters, got {}", quoted(text)).into())
}

/// Accepts the name of a header of at most `max` characters.
pub(super) fn header_name(text: &str, max: usize) -> Result<(), Reason> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=max).contains(&text.len()) && text.bytes().all(token) {
        return Ok(());
    }
    Err(format!("must be a header name, got {}", quoted(text)).into())
}

/// Accepts a name, or a prefix of names with a `*` at its end.
pub(super) fn name_pattern(text: &str, max: usize) -> Result<&str, Reason> {
    let text = visible_ascii(text, max)?;
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        return Err(format!("may have `*` at its end only, got {}", quoted(text)).into());
    }
    Ok(text)
}

/// Accepts what has the length and the characters of a reference to a model (`<provider>/<model-id>`), or of a pattern of such.
pub(super) fn reference_pattern(text: &str) -> Result<&str, Reason> {
    name_pattern(text, MAX_LABEL_BYTES + 1 + MAX_MODEL_BYTES)
}

/// Accepts a DNS-1123 label.
pub(super) fn dns_label(text: &str) -> Result<Box<str>, Reason> {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let fits = (1..=MAX_LABEL_BYTES).contains(&text.len()) && text.bytes().all(inner);
    if fits && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.into());
    }
    Err(format!("must be 1 to 63 lower case letters, digits and inner hyphens, got {}", quoted(text)).into())
}
