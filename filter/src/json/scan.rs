//! Byte searches that the compiler turns into SIMD: the loops a long body spends its time in.

/// Bytes examined at once.
const BLOCK: usize = 32;

/// The index at or after `from` of the first byte that ends a run of plain ASCII inside a string: a quote, a backslash, a
/// control character, or a byte of a multi-byte character.
pub fn plain_text_end(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, |b| b.cast_signed() < 0x20 || b == b'"' || b == b'\\')
}

/// Like [`plain_text_end`], but passes over multi-byte characters too.
pub fn text_end(bytes: &[u8], from: usize) -> usize {
    find(bytes, from, |b| b < 0x20 || b == b'"' || b == b'\\')
}

/// The index at or after `from` of the first quote or backslash.
pub fn quote_or_escape(bytes: &[u8], from: usize) -> usize {
    find_near(bytes, from, |b| b == b'"' || b == b'\\')
}

/// The index at or after `from` of the first quote or bracket of any kind: what structure is made of between the members
/// that matter.
pub fn structure(bytes: &[u8], from: usize) -> usize {
    // `[` and `{`, `]` and `}` differ in one bit only.
    find_near(bytes, from, |b| b == b'"' || b | 0x20 == b'{' || b | 0x20 == b'}')
}

/// [`find`] for what is mostly a few bytes away, as in the events of a stream.
fn find_near(bytes: &[u8], from: usize, stop: impl Fn(u8) -> bool) -> usize {
    let near = from.saturating_add(BLOCK).min(bytes.len());
    match bytes.get(from..near).and_then(|block| block.iter().position(|&b| stop(b))) {
        Some(offset) => from + offset,
        None => find(bytes, near, stop),
    }
}

fn find(bytes: &[u8], from: usize, stop: impl Fn(u8) -> bool) -> usize {
    let Some(rest) = bytes.get(from..) else { return bytes.len() };
    let mut at = from;
    for block in rest.chunks_exact(BLOCK) {
        if block.iter().fold(false, |hit, &b| hit | stop(b)) {
            break;
        }
        at += BLOCK;
    }
    bytes.get(at..).and_then(|tail| tail.iter().position(|&b| stop(b))).map_or(bytes.len(), |offset| at + offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn every_stop_is_found_at_every_place() {
        for stop in [b'"', b'\\', 0, 0x1f, 0x80, 0xff] {
            for length in 0..100 {
                let mut bytes = vec![b'a'; length];
                bytes.push(stop);
                bytes.push(b'"');
                assert_eq!(plain_text_end(&bytes, 0), length, "{stop:#x} after {length}");
            }
        }
        assert_eq!(text_end("é\"".as_bytes(), 0), 2);
        assert_eq!(structure(b"1, 2, 3 ]", 0), 8);
        assert_eq!(structure(b"abc", 7), 3);
    }
}
