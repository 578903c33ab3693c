//! The members that every event of a stream starts with.

use memchr::memmem;

/// The members before `choices` (id, time, model), which a server repeats in every chunk. They are parsed once and compared from
/// then on.
#[derive(Debug, Default)]
pub(super) struct ChunkPrefix {
    state: PrefixState,
}

#[derive(Debug, Default)]
enum PrefixState {
    #[default]
    Unknown,
    /// From the opening brace to before the comma.
    Known(Vec<u8>),
    /// The first chunk has no prefix that a comparison alone identifies.
    None,
}

// === impl ChunkPrefix ===

impl ChunkPrefix {
    /// Returns how many bytes at the start of a chunk need no parsing. A comma and another member follow them.
    pub fn skip(&mut self, chunk: &[u8]) -> usize {
        if let PrefixState::Unknown = self.state {
            self.learn(chunk);
            return 0;
        }
        match &self.state {
            PrefixState::Known(prefix) if chunk.starts_with(prefix) && chunk.get(prefix.len()) == Some(&b',') => prefix.len(),
            _ => 0,
        }
    }

    fn learn(&mut self, chunk: &[u8]) {
        let Some(comma) = memmem::find(chunk, b",\"choices\":") else { return };
        let prefix = chunk.get(..comma).unwrap_or_default();
        self.state = if is_flat(prefix) { PrefixState::Known(prefix.to_vec()) } else { PrefixState::None };
    }
}

/// Returns whether the text is an opening brace and whole members, none of them nested, escaped or named `usage`.
fn is_flat(prefix: &[u8]) -> bool {
    let Some((b'{', members)) = prefix.split_first() else { return false };
    let quotes = members.iter().filter(|&&b| b == b'"').count();
    quotes % 2 == 0 && !members.iter().any(|b| b"{}[]\\".contains(b)) && memmem::find(members, b"\"usage\"").is_none()
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn only_what_can_be_told_by_looking_is_skipped() {
        for (first, then, expected) in [
            (r#"{"id":"a","model":"m","choices":[]}"#, r#"{"id":"a","model":"m","choices":[{}]}"#, 21),
            (r#"{"id":"a","model":"m","choices":[]}"#, r#"{"id":"a","model":"m","usage":{}}"#, 21),
            (r#"{"id":"a","model":"m","choices":[]}"#, r#"{"id":"a","model":"mm","choices":[]}"#, 0),
            (r#"{"id":"a","model":"m","choices":[]}"#, r#"{"id":"a","model":"m"}"#, 0),
            (r#"{"a":{"b":1,"choices":[]}}"#, r#"{"a":{"b":1,"choices":[]}}"#, 0),
            (r#"{"a":"\",\"choices\":","choices":[]}"#, r#"{"a":"\",\"choices\":","choices":[]}"#, 0),
            (r#"{"usage":1,"choices":[]}"#, r#"{"usage":1,"choices":[]}"#, 0),
            ("[DONE]", "[DONE]", 0),
        ] {
            let mut prefix = ChunkPrefix::default();
            assert_eq!(prefix.skip(first.as_bytes()), 0);
            assert_eq!(prefix.skip(then.as_bytes()), expected, "{first} {then}");
        }
    }
}
