//! Locates the members of an object that arrives in chunks.

use super::scan;

/// Follows one JSON object across chunk boundaries, and marks where its outermost members are.
///
/// The state is a few words; no bytes of the document are kept. The document is not validated: input that is not a JSON object
/// yields no marks or meaningless ones, never a panic.
#[derive(Debug, Clone, Copy)]
pub struct MemberScanner {
    phase: ScanPhase,
    key: KeyBuffer,
    /// The number of open brackets within the current value.
    nested: u32,
}

/// A mark at an offset of the current chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A comma between members, or the opening brace; a key follows.
    Before(usize),
    /// The first byte of a member's value. [`MemberScanner::key`] returns its key.
    Value(usize),
    /// The offset after the last byte of a member's value.
    End(usize),
    /// The offset after the closing brace.
    Close(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanPhase {
    /// Before the opening brace.
    Start,
    /// Before a key.
    BeforeKey,
    /// In a key; `true` after a backslash.
    InKey(bool),
    /// Between a key and its value.
    BeforeValue,
    /// In a number or a literal.
    Word,
    /// In an array or object, outside strings.
    Structure,
    /// In a string.
    String,
    /// In a string, after a backslash.
    Escape,
    /// After a value.
    AfterValue,
    /// After the object, or where the input is not an object.
    Over,
}

/// The start of a key, as spelled in the document.
#[derive(Debug, Clone, Copy)]
struct KeyBuffer {
    bytes: [u8; KeyBuffer::CAPACITY],
    length: usize,
}

// === impl MemberScanner ===

impl MemberScanner {
    /// Creates a scanner at the start of a document.
    pub const fn new() -> Self {
        Self { phase: ScanPhase::Start, key: KeyBuffer::EMPTY, nested: 0 }
    }

    /// Creates a scanner in an object, after the value of a member.
    pub const fn after_member() -> Self {
        Self { phase: ScanPhase::AfterValue, ..Self::new() }
    }

    /// Returns the key of the current member; empty if it is longer than [`KeyBuffer::CAPACITY`].
    pub fn key(&self) -> &[u8] {
        self.key.get()
    }

    /// Advances `*at` to the next mark, or to the end of `bytes`.
    pub fn next(&mut self, bytes: &[u8], at: &mut usize) -> Option<Mark> {
        while let Some(&byte) = bytes.get(*at) {
            let here = *at;
            match self.phase {
                ScanPhase::Over => {
                    *at = bytes.len();
                    return None;
                }
                ScanPhase::String => self.in_string(bytes, at),
                ScanPhase::Structure => self.in_structure(bytes, at),
                ScanPhase::Escape => {
                    *at += 1;
                    self.phase = ScanPhase::String;
                }
                ScanPhase::InKey(escaped) => {
                    *at += 1;
                    self.in_key(byte, escaped);
                }
                ScanPhase::Word if byte == b',' || byte == b'}' => self.phase = ScanPhase::AfterValue,
                ScanPhase::Word => *at += 1,
                _ if byte.is_ascii_whitespace() => {
                    *at += 1;
                    continue;
                }
                ScanPhase::BeforeValue if byte != b':' => {
                    self.begin_value(byte);
                    *at += usize::from(self.phase == ScanPhase::String);
                    return Some(Mark::Value(here));
                }
                ScanPhase::BeforeValue => *at += 1,
                ScanPhase::Start | ScanPhase::BeforeKey | ScanPhase::AfterValue => {
                    *at += 1;
                    if let Some(mark) = self.between(byte, here) {
                        return Some(mark);
                    }
                    continue;
                }
            }
            if self.phase == ScanPhase::AfterValue {
                return Some(Mark::End(*at));
            }
        }
        None
    }

    /// Reads `byte` at offset `here`, where a brace, a comma or a key is expected.
    fn between(&mut self, byte: u8, here: usize) -> Option<Mark> {
        let (phase, mark) = match (self.phase, byte) {
            (ScanPhase::Start, b'{') | (ScanPhase::AfterValue, b',') => (ScanPhase::BeforeKey, Some(Mark::Before(here))),
            (ScanPhase::BeforeKey | ScanPhase::AfterValue, b'}') => (ScanPhase::Over, Some(Mark::Close(here + 1))),
            (ScanPhase::BeforeKey, b'"') => (ScanPhase::InKey(false), None),
            _ => (ScanPhase::Over, None),
        };
        self.phase = phase;
        self.key = KeyBuffer::EMPTY;
        mark
    }

    fn in_key(&mut self, byte: u8, escaped: bool) {
        if byte == b'"' && !escaped {
            self.phase = ScanPhase::BeforeValue;
        } else {
            self.key.push(byte);
            self.phase = ScanPhase::InKey(!escaped && byte == b'\\');
        }
    }

    fn begin_value(&mut self, byte: u8) {
        self.nested = 0;
        self.phase = match byte {
            b'"' => ScanPhase::String,
            b'{' | b'[' => ScanPhase::Structure,
            _ => ScanPhase::Word,
        };
    }

    fn in_string(&mut self, bytes: &[u8], at: &mut usize) {
        *at = scan::quote_or_escape(bytes, *at);
        let Some(&byte) = bytes.get(*at) else { return };
        *at += 1;
        self.phase = match (byte, self.nested) {
            (b'\\', _) => ScanPhase::Escape,
            (_, 0) => ScanPhase::AfterValue,
            _ => ScanPhase::Structure,
        };
    }

    fn in_structure(&mut self, bytes: &[u8], at: &mut usize) {
        *at = scan::structure(bytes, *at);
        let Some(&byte) = bytes.get(*at) else { return };
        *at += 1;
        match byte {
            b'"' => self.phase = ScanPhase::String,
            b'{' | b'[' => self.nested = self.nested.saturating_add(1),
            _ if self.nested > 1 => self.nested -= 1,
            _ => self.phase = ScanPhase::AfterValue,
        }
    }
}

impl Default for MemberScanner {
    fn default() -> Self {
        Self::new()
    }
}

// === impl KeyBuffer ===

impl KeyBuffer {
    /// One byte more than the longest key that callers compare with, so that longer keys differ from it.
    const CAPACITY: usize = 16;
    const EMPTY: Self = Self { bytes: [0; Self::CAPACITY], length: 0 };

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
        }
        self.length = self.length.saturating_add(1);
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Returns the keys and values of an object that is split after every `step` bytes.
    fn members(text: &str, step: usize) -> Vec<(String, String)> {
        let (mut cursor, mut seen, mut base) = (MemberScanner::new(), Vec::new(), 0);
        let mut start = 0;
        for piece in text.as_bytes().chunks(step) {
            let mut at = 0;
            while let Some(mark) = cursor.next(piece, &mut at) {
                match mark {
                    Mark::Value(at) => start = base + at,
                    Mark::End(at) => {
                        let key = String::from_utf8(cursor.key().to_vec()).unwrap();
                        seen.push((key, text[start..base + at].to_owned()));
                    }
                    Mark::Before(_) | Mark::Close(_) => {}
                }
            }
            base += piece.len();
        }
        seen
    }

    #[test]
    fn members_are_found_through_any_cut() {
        let text = r#" { "a" : [1, {"b":"]}\"\\"}] , "c":"x,y\\" ,"a_key_longer_than_sixteen":{},"d": -1.5e3 ,"e":null}"#;
        let expected = [("a", r#"[1, {"b":"]}\"\\"}]"#), ("c", r#""x,y\\""#), ("", "{}"), ("d", "-1.5e3 "), ("e", "null")];
        for step in 1..=text.len() {
            let found = members(text, step);
            let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "cut every {step}");
        }
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in ["", "[]", "null", "[DONE]", "{", "{}", "}{", "{]", "{\"a\"", "\"{\"", "{,,}"] {
            assert!(members(text, 1).is_empty(), "{text}");
        }
    }
}
