//! Byte searches, sixteen bytes at a time: the loops a long body spends its time in.

use block::Block;

/// The index at or after `from` of the first byte that ends a run of ASCII text inside a string: a quote, a backslash, a control
/// character, or a byte of a multi-byte character.
#[inline]
pub fn ascii_end(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, block::ends_ascii)
}

/// Like [`ascii_end`], but passes over multi-byte characters.
#[inline]
pub fn text_end(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, block::ends_text)
}

/// The index at or after `from` of the first quote or backslash.
pub fn quote_or_escape(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, block::quote_or_escape)
}

/// The index at or after `from` of the first quote or bracket of any kind: what structure is made of between the members
/// that matter.
pub fn structure(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, block::structure)
}

/// The index at or after `from` of the first byte for which `hits` sets a bit, or the length.
#[inline]
fn find(bytes: &[u8], from: usize, hits: impl Fn(&Block) -> u16) -> usize {
    let mut at = from;
    let mut rest = bytes.get(from..).unwrap_or_default();
    while let Some((block, tail)) = rest.split_first_chunk() {
        let hits = hits(block);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        at += block.len();
        rest = tail;
    }
    // A blank is none of what is searched for.
    let mut last = [b' '; 16];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    match hits(&last) {
        0 => bytes.len(),
        hits => at + hits.trailing_zeros() as usize,
    }
}

/// Sixteen bytes at once, as WebAssembly's vectors do it.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod block {
    use core::arch::wasm32::{i8x16_lt, i8x16_splat, u8x16, u8x16_bitmask, u8x16_eq, u8x16_lt, u8x16_splat, v128, v128_or};

    pub type Block = [u8; 16];

    pub fn ends_text(block: &Block) -> u16 {
        let block = load(block);
        u8x16_bitmask(v128_or(u8x16_lt(block, u8x16_splat(0x20)), is_quote_or_escape(block)))
    }

    pub fn ends_ascii(block: &Block) -> u16 {
        let block = load(block);
        // As signed numbers, the bytes beyond ASCII are the smallest.
        u8x16_bitmask(v128_or(i8x16_lt(block, i8x16_splat(0x20)), is_quote_or_escape(block)))
    }

    pub fn quote_or_escape(block: &Block) -> u16 {
        u8x16_bitmask(is_quote_or_escape(load(block)))
    }

    pub fn structure(block: &Block) -> u16 {
        let block = load(block);
        // `[` and `{`, `]` and `}` differ in one bit only.
        let folded = v128_or(block, u8x16_splat(0x20));
        let brackets = v128_or(u8x16_eq(folded, u8x16_splat(b'{')), u8x16_eq(folded, u8x16_splat(b'}')));
        u8x16_bitmask(v128_or(brackets, u8x16_eq(block, u8x16_splat(b'"'))))
    }

    fn is_quote_or_escape(block: v128) -> v128 {
        v128_or(u8x16_eq(block, u8x16_splat(b'"')), u8x16_eq(block, u8x16_splat(b'\\')))
    }

    fn load(block: &Block) -> v128 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *block;
        u8x16(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
    }
}

/// Sixteen bytes one by one, for hosts on which nobody waits.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod block {
    pub type Block = [u8; 16];

    pub fn ends_text(block: &Block) -> u16 {
        mask(block, |b| b < 0x20 || b == b'"' || b == b'\\')
    }

    pub fn ends_ascii(block: &Block) -> u16 {
        mask(block, |b| !(0x20..0x80).contains(&b) || b == b'"' || b == b'\\')
    }

    pub fn quote_or_escape(block: &Block) -> u16 {
        mask(block, |b| b == b'"' || b == b'\\')
    }

    pub fn structure(block: &Block) -> u16 {
        mask(block, |b| b == b'"' || b | 0x20 == b'{' || b | 0x20 == b'}')
    }

    fn mask(block: &Block, hit: impl Fn(u8) -> bool) -> u16 {
        block.iter().rev().fold(0, |mask, &b| mask << 1 | u16::from(hit(b)))
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn every_byte_is_found_or_passed_at_every_place() {
        for byte in 0..=u8::MAX {
            for length in 0..40 {
                let mut bytes = vec![b'a'; length];
                bytes.push(byte);
                let past = length + 1;
                let expect = |stops: bool| if stops { length } else { past };
                let ends_text = byte < 0x20 || b"\"\\".contains(&byte);
                assert_eq!(text_end(&bytes, 0), expect(ends_text), "{byte:#x} after {length}");
                assert_eq!(ascii_end(&bytes, 0), expect(ends_text || byte >= 0x80), "{byte:#x} after {length}");
                assert_eq!(quote_or_escape(&bytes, 0), expect(b"\"\\".contains(&byte)), "{byte:#x} after {length}");
                assert_eq!(structure(&bytes, 0), expect(b"\"[]{}".contains(&byte)), "{byte:#x} after {length}");
            }
        }
        assert_eq!(structure(b"abc", 3), 3);
        assert_eq!(structure(b"abc", 7), 3);
        assert_eq!(quote_or_escape(b"\"bc\"", 1), 3);
    }
}
