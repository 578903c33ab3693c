//! A strict reader of one complete document.

use std::ops::Range;

use super::string::{JsonString, StringVisitor};
use super::{scan, string, utf8};

/// The maximum depth of arrays and objects: one bit of a `u128` each.
const MAX_DEPTH: usize = 128;

/// A cursor over one JSON document. Every method leaves it after the value it has read.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

/// Why a document is not strict JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJson {
    /// The document is truncated.
    #[error("it is truncated")]
    Truncated,
    /// A byte that the grammar does not allow at this offset.
    #[error("unexpected byte at offset {0}")]
    Unexpected(usize),
    /// Bytes after the end of the document, at this offset.
    #[error("unexpected data after the document, at offset {0}")]
    Trailing(usize),
    /// A string at this offset is not UTF-8.
    #[error("a string at offset {0} is not UTF-8")]
    NotUtf8(usize),
    /// Arrays and objects are nested deeper than 128 levels.
    #[error("nested deeper than 128 levels")]
    TooDeep,
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// Digits, or a minus sign.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
}

/// Iterates over the members of an object.
pub struct ObjectReader {
    first: bool,
}

/// Iterates over the items of an array.
pub struct ArrayReader {
    first: bool,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Creates a reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// Returns the whole document.
    pub fn document(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the offset of the next byte.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Skips white space and returns the kind of the next value, without reading it.
    pub fn kind(&mut self) -> Result<ValueKind, InvalidJson> {
        match self.next_token()? {
            b'{' => Ok(ValueKind::Object),
            b'[' => Ok(ValueKind::Array),
            b'"' => Ok(ValueKind::String),
            b'-' | b'0'..=b'9' => Ok(ValueKind::Number),
            b't' | b'f' => Ok(ValueKind::Bool),
            b'n' => Ok(ValueKind::Null),
            _ => Err(InvalidJson::Unexpected(self.at)),
        }
    }

    /// Reads any value. Returns its byte range.
    pub fn skip(&mut self) -> Result<Range<usize>, InvalidJson> {
        let kind = self.kind()?;
        let start = self.at;
        match kind {
            ValueKind::Object | ValueKind::Array => self.skip_nested()?,
            ValueKind::String => drop(self.text()?),
            ValueKind::Number => drop(self.number()?),
            ValueKind::Bool | ValueKind::Null => self.literal()?,
        }
        Ok(start..self.at)
    }

    /// Enters an object.
    pub fn object(&mut self) -> Result<ObjectReader, InvalidJson> {
        self.expect(b'{')?;
        self.descend()?;
        Ok(ObjectReader { first: true })
    }

    /// Enters an array.
    pub fn array(&mut self) -> Result<ArrayReader, InvalidJson> {
        self.expect(b'[')?;
        self.descend()?;
        Ok(ArrayReader { first: true })
    }

    /// Reads a string.
    pub fn text(&mut self) -> Result<JsonString<'a>, InvalidJson> {
        self.visit_text(&mut ())
    }

    /// Reads a string and passes its characters to `visitor`.
    pub fn visit_text(&mut self, visitor: &mut impl StringVisitor) -> Result<JsonString<'a>, InvalidJson> {
        self.expect(b'"')?;
        let start = self.at;
        let mut overhead = 0;
        loop {
            self.at = scan::ascii_end(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => loop {
                    overhead += self.escape(visitor)?;
                    // Escapes often follow each other.
                    if self.peek() != Some(b'\\') {
                        break;
                    }
                },
                Some(0x80..) => self.beyond_ascii(visitor)?,
                found => return Err(self.unexpected(found)),
            }
        }
        visitor.string(self.bytes, start..self.at);
        let raw = self.bytes.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(JsonString { raw, overhead })
    }

    /// Reads a number. Returns it as written.
    pub fn number(&mut self) -> Result<&'a [u8], InvalidJson> {
        self.next_token()?;
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            found => return Err(self.unexpected(found)),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(self.bytes.get(start..self.at).unwrap_or_default())
    }

    /// Reads `true` or `false`.
    pub fn bool(&mut self) -> Result<bool, InvalidJson> {
        let value = self.next_token()? == b't';
        self.literal()?;
        Ok(value)
    }

    /// Reads `true`, `false` or `null`.
    pub fn literal(&mut self) -> Result<(), InvalidJson> {
        let word: &[u8] = match self.next_token()? {
            b't' => b"true",
            b'f' => b"false",
            b'n' => b"null",
            _ => return Err(InvalidJson::Unexpected(self.at)),
        };
        for &byte in word {
            match self.peek() {
                Some(found) if found == byte => self.at += 1,
                found => return Err(self.unexpected(found)),
            }
        }
        Ok(())
    }

    /// Checks that nothing but white space follows the document.
    pub fn finish(mut self) -> Result<(), InvalidJson> {
        match self.next_token() {
            Err(_) => Ok(()),
            Ok(_) => Err(InvalidJson::Trailing(self.at)),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next_token(&mut self) -> Result<u8, InvalidJson> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Ok(byte),
                None => return Err(InvalidJson::Truncated),
            }
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), InvalidJson> {
        if self.next_token()? != byte {
            return Err(InvalidJson::Unexpected(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn unexpected(&self, found: Option<u8>) -> InvalidJson {
        found.map_or(InvalidJson::Truncated, |_| InvalidJson::Unexpected(self.at))
    }

    fn descend(&mut self) -> Result<(), InvalidJson> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(InvalidJson::TooDeep) } else { Ok(()) }
    }

    fn digits(&mut self) -> Result<(), InvalidJson> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected(self.peek())) } else { Ok(()) }
    }

    /// Reads characters beyond ASCII.
    fn beyond_ascii(&mut self, visitor: &mut impl StringVisitor) -> Result<(), InvalidJson> {
        while let Some(first @ 0x80..) = self.peek() {
            let character = self.bytes.get(self.at..).unwrap_or_default();
            let length = utf8::character_length(character).ok_or(InvalidJson::NotUtf8(self.at))?;
            visitor.beyond_ascii(first, length);
            self.at += length;
        }
        Ok(())
    }

    /// Reads one escape. Returns by how many bytes it is longer than the character it encodes.
    #[inline]
    fn escape(&mut self, visitor: &mut impl StringVisitor) -> Result<usize, InvalidJson> {
        self.at += 1;
        let control = match self.peek() {
            Some(b'"' | b'\\' | b'/') => false,
            Some(b'b' | b'f' | b'n' | b'r' | b't') => true,
            Some(b'u') => return self.unicode_escape(visitor),
            found => return Err(self.unexpected(found)),
        };
        self.at += 1;
        visitor.short_escape(control);
        Ok(1)
    }

    /// Reads the `u` of an escape and its digits. Returns the same as [`Reader::escape`].
    fn unicode_escape(&mut self, visitor: &mut impl StringVisitor) -> Result<usize, InvalidJson> {
        self.at += 1;
        let Some((digits, unit)) = self.hex4() else {
            while self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                self.at += 1;
            }
            return Err(self.unexpected(self.peek()));
        };
        self.at += digits.len();
        visitor.unicode_escape(digits, unit, self.peek());
        // A surrogate is half of a character of four bytes. The pair of escapes has twelve.
        Ok(match unit {
            0..0x80 => 5,
            0x80..0x800 | 0xd800..0xe000 => 4,
            _ => 3,
        })
    }

    /// Returns the next four hexadecimal digits, and the code unit with these digits.
    fn hex4(&self) -> Option<([u8; 4], u16)> {
        let digits = *self.bytes.get(self.at..)?.first_chunk()?;
        Some((digits, string::code_unit(digits)?))
    }

    /// Skips an array or object without recursion. One bit per level records which of the two it is.
    fn skip_nested(&mut self) -> Result<(), InvalidJson> {
        let outer = self.depth;
        let mut objects: u128 = 0;
        loop {
            // A value starts here.
            let mut opened = false;
            match self.kind()? {
                kind @ (ValueKind::Object | ValueKind::Array) => {
                    self.at += 1;
                    self.descend()?;
                    objects = objects << 1 | u128::from(kind == ValueKind::Object);
                    opened = true;
                }
                ValueKind::String => drop(self.text()?),
                ValueKind::Number => drop(self.number()?),
                ValueKind::Bool | ValueKind::Null => self.literal()?,
            }
            // A value has ended or a container has just started: close all containers that end here.
            loop {
                let object = objects & 1 == 1;
                let close = if object { b'}' } else { b']' };
                let byte = self.next_token()?;
                if byte == close {
                    self.at += 1;
                    self.depth -= 1;
                    objects >>= 1;
                    if self.depth == outer {
                        return Ok(());
                    }
                    opened = false;
                    continue;
                }
                if !opened {
                    self.expect(b',')?;
                }
                if object {
                    self.text()?;
                    self.expect(b':')?;
                }
                break;
            }
        }
    }
}

// === impl ObjectReader ===

impl ObjectReader {
    /// Returns the next key, and leaves the reader before its value. Returns `None` after the closing brace.
    pub fn next<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Option<JsonString<'a>>, InvalidJson> {
        if !more(reader, &mut self.first, b'}')? {
            return Ok(None);
        }
        let key = reader.text()?;
        reader.expect(b':')?;
        Ok(Some(key))
    }
}

// === impl ArrayReader ===

impl ArrayReader {
    /// Returns whether another item follows, and leaves the reader before it.
    pub fn next(&mut self, reader: &mut Reader<'_>) -> Result<bool, InvalidJson> {
        // `[1,]` is rejected when the caller reads the value that must follow the comma.
        more(reader, &mut self.first, b']')
    }
}

fn more(reader: &mut Reader<'_>, first: &mut bool, close: u8) -> Result<bool, InvalidJson> {
    if reader.next_token()? == close {
        reader.at += 1;
        reader.depth -= 1;
        return Ok(false);
    }
    if !std::mem::take(first) {
        reader.expect(b',')?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn check(text: &[u8]) -> Result<(), InvalidJson> {
        let mut reader = Reader::new(text);
        reader.skip()?;
        reader.finish()
    }

    #[test]
    fn strict_documents_are_accepted() {
        let deep = format!("{}1{}", "[".repeat(128), "]".repeat(128));
        let long = format!(r#"{{"text":"{}"}}"#, "a\\n é".repeat(500));
        for text in [
            "{}",
            " [ ] ",
            "null",
            "-0",
            "1.5e-7",
            r#"{"a":[1,{"b":[[],{}]},"\u00e9\\\""],"":false}"#,
            "[1 , 2\t,\r\n3]",
            "\"\u{7f}é😀\"",
            &deep,
            &long,
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn anything_lax_is_refused() {
        let deep = "[".repeat(129);
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "[,1]",
            "[1 2]",
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{"a"}"#,
            "{1:2}",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "0x10",
            "NaN",
            "Infinity",
            "-",
            "tru",
            "nulL",
            "True",
            "'a'",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\"\0\"",
            "{}{}",
            "{} x",
            "[1]]",
            "// c\n1",
            "\u{feff}{}",
            &deep,
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check(b"\"\xff\"").is_err());
        assert!(check(b"\"\xed\xa0\x80\"").is_err(), "an encoded surrogate");
        assert!(check(b"{\0\"\0").is_err(), "UTF-16");
    }

    #[test]
    fn every_prefix_is_truncated_or_refused() {
        let text = r#"{"a":[1,{"b":"é\u00e9\n"},null,true],"c":-1.5e+3}"#.as_bytes();
        for cut in 0..text.len() {
            assert!(check(&text[..cut]).is_err(), "cut at {cut}");
        }
    }
}
