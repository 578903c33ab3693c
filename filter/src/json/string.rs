//! Strings of a document, decoded on demand.

use std::borrow::Cow;
use std::ops::Range;

/// A string of the document, with its escapes.
#[derive(Debug, Clone, Copy)]
pub struct JsonString<'a> {
    /// The bytes between the quotes; valid UTF-8.
    pub(super) raw: &'a [u8],
    /// By how many bytes the string is shorter when decoded; 0 if it has no escapes.
    pub(super) overhead: usize,
}

/// The value of what is no hexadecimal digit. All bits are set.
const NOT_HEX: u8 = 0xff;

/// The values of hexadecimal digits.
#[expect(clippy::indexing_slicing, reason = "a constant")]
const HEX_VALUES: [u8; 256] = {
    let mut values = [NOT_HEX; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        values[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Receives the characters of a string while it is read.
pub trait StringVisitor {
    /// Receives the first byte of a character beyond ASCII, and its length in bytes.
    fn beyond_ascii(&mut self, first: u8, length: usize);

    /// Receives an escape of two bytes. It encodes a control character, and is then written with a letter, or the character that it
    /// is written with.
    fn short_escape(&mut self, control: bool);

    /// Receives an escape with these digits, the UTF-16 code unit that it encodes, and the byte after it.
    fn unicode_escape(&mut self, digits: [u8; 4], unit: u16, next: Option<u8>);

    /// Receives the place of the string in `document`, without its quotes, after all its escapes and characters beyond ASCII.
    fn string(&mut self, document: &[u8], range: Range<usize>);
}

// === impl JsonString ===

impl<'a> JsonString<'a> {
    /// Returns whether the decoded string equals `word`.
    pub fn is(&self, word: &str) -> bool {
        if self.overhead == 0 { self.raw == word.as_bytes() } else { self.decode() == word }
    }

    /// Returns the string as in the document, without the quotes.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Returns the length of the decoded string, in bytes.
    pub fn len(&self) -> usize {
        self.raw.len() - self.overhead
    }

    /// Returns whether the string is empty.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Decodes the string. A lone surrogate, which UTF-8 cannot represent, becomes U+FFFD.
    pub fn decode(&self) -> Cow<'a, str> {
        // It was checked to be UTF-8, so the default is not used.
        let raw = std::str::from_utf8(self.raw).unwrap_or_default();
        if self.overhead == 0 {
            return Cow::Borrowed(raw);
        }
        let mut decoded = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(slash) = rest.find('\\') {
            let (plain, escape) = rest.split_at(slash);
            decoded.push_str(plain);
            let (c, length) = unescape(escape);
            decoded.push(c);
            rest = escape.get(length..).unwrap_or_default();
        }
        decoded.push_str(rest);
        Cow::Owned(decoded)
    }
}

/// Discards them.
impl StringVisitor for () {
    fn beyond_ascii(&mut self, _first: u8, _length: usize) {}

    fn short_escape(&mut self, _control: bool) {}

    fn unicode_escape(&mut self, _digits: [u8; 4], _unit: u16, _next: Option<u8>) {}

    fn string(&mut self, _document: &[u8], _range: Range<usize>) {}
}

/// Returns the code unit with these hexadecimal digits.
#[inline]
pub(super) fn code_unit(digits: [u8; 4]) -> Option<u16> {
    let [a, b, c, d] = digits.map(|digit| HEX_VALUES.get(usize::from(digit)).copied().unwrap_or(NOT_HEX));
    let value = |digit: u8| u16::from(digit);
    (a | b | c | d != NOT_HEX).then(|| value(a) << 12 | value(b) << 8 | value(c) << 4 | value(d))
}

/// Returns the character that a valid escape encodes, and the length of the escape in bytes.
fn unescape(escape: &str) -> (char, usize) {
    match escape.as_bytes().get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => unescape_unit(escape),
        Some(&byte) => (char::from(byte), 2),
        None => ('\\', 1),
    }
}

fn unescape_unit(escape: &str) -> (char, usize) {
    let unit = |at: usize| escape.get(at..at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let Some(high) = unit(2) else { return (char::REPLACEMENT_CHARACTER, 2) };
    let low = if escape.get(6..8) == Some("\\u") { unit(8) } else { None };
    match (char::decode_utf16([high]).next(), low) {
        (Some(Ok(c)), _) => (c, 6),
        (_, Some(low)) => match char::decode_utf16([high, low]).next() {
            Some(Ok(c)) => (c, 12),
            _ => (char::REPLACEMENT_CHARACTER, 6),
        },
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

#[cfg(test)]
mod tests {
    use crate::json::Reader;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn strings_are_compared_and_measured_as_decoded() {
        for (raw, decoded) in [
            (r#""model""#, "model"),
            (r#""mod\u0065l""#, "model"),
            (r#""a\/b\"\\\b\f\n\r\t""#, "a/b\"\\\u{8}\u{c}\n\r\t"),
            (r#""\ud83d\ude00é""#, "😀é"),
        ] {
            let text = Reader::new(raw.as_bytes()).text().unwrap();
            assert_eq!(text.decode(), decoded);
            assert!(text.is(decoded));
            assert_eq!(text.len(), decoded.len(), "{raw}");
        }
        let lone = Reader::new(br#""\ud83dx\ude00""#).text().unwrap();
        assert_eq!(lone.decode(), "\u{fffd}x\u{fffd}");
    }
}
