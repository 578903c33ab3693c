//! Byte searches, sixteen bytes at a time: the loops that take most of the time of a long body.

use crate::simd::{U8x16, Vector};

/// Returns the index at or after `from` of the first byte that ends a run of ASCII text in a string: a quote, a backslash, a
/// control character, or a byte of a multi-byte character; the length if there is none.
#[inline]
pub fn ascii_end(bytes: &[u8], from: usize) -> usize {
    // As signed numbers, the bytes beyond ASCII are less than the control characters.
    find(bytes, from, |block| block.signed_less(U8x16::splat(0x20)).or(is_quote_or_escape(block)))
}

/// Returns the index at or after `from` of the first quote or backslash, or the length.
pub fn quote_or_escape(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, is_quote_or_escape)
}

/// Returns the index at or after `from` of the first quote or bracket of any kind, or the length: these delimit strings and
/// nested values.
pub fn structure(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, |block| {
        // `[` and `{`, `]` and `}` differ in one bit only.
        let folded = block.or(U8x16::splat(0x20));
        let brackets = folded.equals(U8x16::splat(b'{')).or(folded.equals(U8x16::splat(b'}')));
        brackets.or(block.equals(U8x16::splat(b'"')))
    })
}

/// Compares the bytes with a quote and with a backslash.
#[inline]
fn is_quote_or_escape(block: U8x16) -> U8x16 {
    block.equals(U8x16::splat(b'"')).or(block.equals(U8x16::splat(b'\\')))
}

/// The blocks that are searched one by one, because most searches end there. Those after them are searched four at a time.
const FIRST_BLOCKS: usize = 4;

/// Returns the index at or after `from` of the first byte that `matches` marks, or the length.
#[inline]
fn find(bytes: &[u8], from: usize, matches: impl Fn(U8x16) -> U8x16) -> usize {
    let mut at = from;
    let mut rest = bytes.get(from..).unwrap_or_default();
    let mut blocks = 0;
    while let Some((block, tail)) = rest.split_first_chunk() {
        let mask = matches(U8x16::load(block)).bitmask();
        if mask != 0 {
            return at + mask.trailing_zeros() as usize;
        }
        at += block.len();
        rest = tail;
        blocks += 1;
        if blocks == FIRST_BLOCKS {
            let passed = pass(rest, &matches);
            at += passed;
            rest = rest.get(passed..).unwrap_or_default();
        }
    }
    // A blank matches no search.
    let mut last = [b' '; 16];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    match matches(U8x16::load(&last)).bitmask() {
        0 => bytes.len(),
        mask => at + mask.trailing_zeros() as usize,
    }
}

/// Returns how many bytes at the start of `bytes`, a multiple of 64, have none that `matches` marks.
#[inline]
fn pass(bytes: &[u8], matches: impl Fn(U8x16) -> U8x16) -> usize {
    let (batches, _) = bytes.as_chunks::<64>();
    let marked = |batch: &&[u8; 64]| {
        let (blocks, _) = batch.as_chunks();
        let any = blocks.iter().fold(U8x16::splat(0), |any, block| any.or(matches(U8x16::load(block))));
        any.bitmask() != 0
    };
    64 * batches.iter().position(|batch| marked(&batch)).unwrap_or(batches.len())
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn every_byte_is_found_or_passed_at_every_place() {
        for byte in 0..=u8::MAX {
            for length in (0..40).chain([63, 64, 65, 127, 128, 143, 160, 200, 300]) {
                let mut bytes = vec![b'a'; length];
                bytes.push(byte);
                let past = length + 1;
                let expect = |stops: bool| if stops { length } else { past };
                let ends_text = !(0x20..0x80).contains(&byte) || b"\"\\".contains(&byte);
                assert_eq!(ascii_end(&bytes, 0), expect(ends_text), "{byte:#x} after {length}");
                assert_eq!(quote_or_escape(&bytes, 0), expect(b"\"\\".contains(&byte)), "{byte:#x} after {length}");
                assert_eq!(structure(&bytes, 0), expect(b"\"[]{}".contains(&byte)), "{byte:#x} after {length}");
            }
        }
        assert_eq!(structure(b"abc", 3), 3);
        assert_eq!(structure(b"abc", 7), 3);
        assert_eq!(quote_or_escape(b"\"bc\"", 1), 3);
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        /// Bytes of which about half end a search, or are next to one that does.
        fn bytes() -> impl Strategy<Value = Vec<u8>> {
            let ends = proptest::sample::select(b"\"\\[]{}!#Z^|~\x00\x1f\x20\x7f\x80\xff".to_vec());
            let runs = (prop_oneof![any::<u8>(), ends], prop_oneof![4 => 0..40_usize, 1 => 40..300_usize])
                .prop_map(|(byte, length)| [vec![b'a'; length], vec![byte]].concat());
            proptest::collection::vec(runs, 0..8).prop_map(|runs| runs.concat())
        }

        proptest! {
            #[test]
            fn a_search_finds_what_a_byte_by_byte_search_finds(bytes in bytes(), from in 0..64_usize) {
                let first = |ends: fn(u8) -> bool| (from..bytes.len()).find(|&at| ends(bytes[at])).unwrap_or(bytes.len());
                prop_assert_eq!(ascii_end(&bytes, from), first(|b| !(0x20..0x80).contains(&b) || b == b'"' || b == b'\\'));
                prop_assert_eq!(quote_or_escape(&bytes, from), first(|b| b == b'"' || b == b'\\'));
                prop_assert_eq!(structure(&bytes, from), first(|b| b"\"[]{}".contains(&b)));
            }
        }
    }
}
