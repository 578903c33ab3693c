//! The text of completions, counted as it passes: the best that is known of a response whose usage is not reported.

use super::usage_extractor::Sink;
use crate::estimate::text_census::{TextCensus, TextTokens};

/// The keys of the strings that a model has generated, in messages, deltas and text completions.
const GENERATED: [&[u8]; 7] = [b"content", b"text", b"reasoning", b"reasoning_content", b"refusal", b"arguments", b"input"];

/// The number of bytes of a key that are kept: more than the longest of [`GENERATED`] has, so that longer keys differ from it.
const MAX_KEY_BYTES: usize = 18;

/// The number of bytes at the start of a document that are not counted before the text is needed. Most responses report their usage
/// at the end, and most are shorter.
const MAX_HELD_BYTES: usize = 4096;

/// Counts the text of the completions in a JSON document that arrives in chunks. The document is not validated.
#[derive(Debug, Default)]
pub(super) struct AnswerText {
    /// The start of the document, while it is short and not counted.
    held: Vec<u8>,
    is_long: bool,
    text: TextCensus,
    place: Place,
    /// The latest string that may be a key, as written.
    key: Vec<u8>,
}

/// The place of the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Outside strings, and whether a colon was the previous byte other than white space.
    Outside(bool),
    Inside(StringKind),
    /// After a backslash.
    Escape(StringKind),
    /// In the digits of a `\u` escape: how many are missing, and their value so far.
    Digits(StringKind, u8, u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringKind {
    /// No colon is before it: it is a key, or in an array.
    Key,
    /// It is a value that a model has generated.
    Generated,
    /// It is another value.
    Other,
}

// === impl AnswerText ===

impl AnswerText {
    /// Prepares for another document. Its text is counted anew.
    pub fn reset(&mut self) {
        self.held.clear();
        self.is_long = false;
        self.text = TextCensus::default();
        self.place = Place::default();
    }

    /// Returns the tokens of the completions so far, by their characters.
    pub fn tokens(&mut self) -> TextTokens {
        self.count_held();
        self.text.tokens()
    }

    /// Reads the next chunk of the document, now or when the text is needed.
    pub fn feed(&mut self, chunk: &[u8]) {
        if !self.is_long && self.held.len() + chunk.len() <= MAX_HELD_BYTES {
            return self.held.extend_from_slice(chunk);
        }
        self.count_held();
        self.count(chunk);
    }

    fn count_held(&mut self) {
        self.is_long = true;
        let held = std::mem::take(&mut self.held);
        self.count(&held);
    }

    /// Counts the next chunk of the document.
    pub fn count(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            match self.place {
                Place::Outside(after_colon) => at = self.outside(chunk, at, after_colon),
                Place::Inside(kind) => at = self.inside(chunk, at, kind),
                Place::Escape(kind) => {
                    at += 1;
                    self.escape(byte, kind);
                }
                Place::Digits(kind, missing, unit) => {
                    at += 1;
                    self.digit(byte, kind, missing, unit);
                }
            }
        }
    }

    /// Reads up to the next string. Returns the offset after its quote.
    fn outside(&mut self, chunk: &[u8], at: usize, after_colon: bool) -> usize {
        let rest = chunk.get(at..).unwrap_or_default();
        let length = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        let before = rest.get(..length).unwrap_or_default().trim_ascii_end().last();
        let after_colon = before.map_or(after_colon, |&byte| byte == b':');
        self.place = Place::Outside(after_colon);
        if length < rest.len() {
            self.start_string(after_colon);
        }
        at + length + 1
    }

    fn start_string(&mut self, after_colon: bool) {
        let kind = match after_colon {
            false => StringKind::Key,
            true if GENERATED.contains(&&*self.key) => StringKind::Generated,
            true => StringKind::Other,
        };
        match kind {
            StringKind::Key => self.key.clear(),
            StringKind::Generated => self.text.start_string(),
            StringKind::Other => {}
        }
        self.place = Place::Inside(kind);
    }

    /// Reads up to the end of a string, or to its next escape. Returns the offset after it.
    fn inside(&mut self, chunk: &[u8], at: usize, kind: StringKind) -> usize {
        let rest = chunk.get(at..).unwrap_or_default();
        let length = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        match kind {
            StringKind::Generated => self.text.count_run(chunk, at..at + length),
            StringKind::Key => {
                let room = MAX_KEY_BYTES.saturating_sub(self.key.len()).min(length);
                self.key.extend_from_slice(rest.get(..room).unwrap_or_default());
            }
            StringKind::Other => {}
        }
        match rest.get(length) {
            Some(b'"') => self.place = Place::Outside(false),
            Some(_) => self.place = Place::Escape(kind),
            None => {}
        }
        at + length + 1
    }

    fn escape(&mut self, byte: u8, kind: StringKind) {
        let character = match byte {
            b'u' => return self.place = Place::Digits(kind, 4, 0),
            b'b' | b'f' | b'n' | b'r' | b't' => b'\n',
            other => other,
        };
        self.unit(character.into(), kind);
    }

    fn digit(&mut self, byte: u8, kind: StringKind, missing: u8, unit: u16) {
        let digit = char::from(byte).to_digit(16).unwrap_or_default();
        let unit = unit << 4 | digit as u16;
        if missing > 1 {
            self.place = Place::Digits(kind, missing - 1, unit);
        } else {
            self.unit(unit, kind);
        }
    }

    /// Counts the code unit of an escape, after which the string continues.
    fn unit(&mut self, unit: u16, kind: StringKind) {
        self.place = Place::Inside(kind);
        match kind {
            StringKind::Generated => self.text.count_unit(unit),
            // A key with an escape is none of those that count.
            StringKind::Key => self.key.resize(MAX_KEY_BYTES, b'\\'),
            StringKind::Other => {}
        }
    }
}

impl Sink for AnswerText {
    fn put(&mut self, bytes: &[u8]) {
        self.feed(bytes);
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::Outside(false)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Returns the text that is counted, with the document divided into chunks of `step` bytes.
    fn counted(document: &str, step: usize) -> TextCensus {
        let mut answer = AnswerText::default();
        document.as_bytes().chunks(step).for_each(|chunk| answer.feed(chunk));
        let tokens = answer.tokens();
        let held = answer.text;
        answer.reset();
        document.as_bytes().chunks(step).for_each(|chunk| answer.count(chunk));
        assert_eq!((answer.tokens(), answer.text), (tokens, held));
        held
    }

    /// Returns the census of these strings.
    fn census(strings: &[&str]) -> TextCensus {
        let mut text = TextCensus::default();
        for string in strings {
            text.start_string();
            for unit in string.encode_utf16() {
                text.count_unit(unit);
            }
        }
        text
    }

    #[test]
    fn generated_text_is_counted_and_nothing_else() {
        for (document, strings) in [
            (
                r#"[{"index":0,"message":{"role":"assistant","content":"Hello, world"},"finish_reason":"stop"}]"#,
                &["Hello, world"][..],
            ),
            (r#"[{"index" : 0, "text" : "one"}, {"text":"two"}]"#, &["one", "two"]),
            (r#"[{"delta":{"reasoning":"hm","reasoning_content":"so","refusal":"no","content":""}}]"#, &["hm", "so", "no"]),
            (
                r#"[{"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}}]"#,
                &["{\"a\":1}"],
            ),
            (r#"[{"message":{"content":[{"type":"text","text":"part"}]}}]"#, &["part"]),
            (
                r#"[{"logprobs":{"content":[{"token":"Hi","bytes":[72,105],"top_logprobs":[]}]},"message":{"content":"Hi"}}]"#,
                &["Hi"],
            ),
            (r#"[{"logprobs":{"tokens":["a","b"],"text_offset":[0,1]},"text":"ab"}]"#, &["ab"]),
            (r#"[{"text":"a\n\t\"b\\\u0041\u0031\/ \u0000"}]"#, &["a\n\t\"b\\A1/ \u{0}"]),
            (r#"[{"text":null,"content":5,"arguments":{"x":"y"}}]"#, &[]),
            (r#"[{"content_filter_results":"x","t\u0065xt":"x","contents":"x"}]"#, &[]),
            ("\"text\":\"cut", &["cut"]),
            ("rubbish } ] \\ \" \" :", &[]),
        ] {
            for step in 1..=document.len() {
                assert_eq!(counted(document, step).tokens(), census(strings).tokens(), "{document} by {step}");
            }
        }
    }
    #[test]
    fn a_long_document_is_counted_as_it_passes() {
        let document = format!(r#"[{{"text":"{}"}},{{"text":"b"}}]"#, "a ".repeat(10_000));
        for step in [1, 100, 4096, 5000, 100_000] {
            assert_eq!(counted(&document, step).len(), 20_001, "by {step}");
        }
        let mut answer = AnswerText::default();
        answer.feed(document.as_bytes());
        assert_eq!(answer.held.capacity(), 0);
    }
}
