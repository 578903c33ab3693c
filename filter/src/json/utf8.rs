//! Characters of several bytes.

/// Returns the length of the character that `bytes` start with, which is beyond ASCII. Returns `None` if it is not valid UTF-8.
#[inline]
pub fn character_length(bytes: &[u8]) -> Option<usize> {
    let word = match bytes.first_chunk() {
        Some(word) => *word,
        None => {
            let mut word = [0; 4];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            word
        }
    };
    // The bytes that continue a character are 0b10xx_xxxx. A character is written in as few bytes as possible.
    let word = u32::from_le_bytes(word);
    if word & 0x00c0_c0f0 == 0x0080_80e0 {
        // 0xe0 is followed by at least 0xa0; 0xed by less, because there are no surrogates.
        return (!matches!(word & 0x200f, 0x0000 | 0x200d)).then_some(3);
    }
    if word & 0xc0e0 == 0x80c0 {
        return (word & 0x1e != 0).then_some(2);
    }
    let is_four = word & 0xc0c0_c0f8 == 0x8080_80f0;
    // 0xf0 is followed by at least 0x90, 0xf4 by less; there is nothing from 0xf5 on.
    let bits = word & 0x3007;
    (is_four && bits != 0 && (bits & 7 < 4 || bits == 4)).then_some(4)
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Returns the length by the standard library.
    fn reference(bytes: &[u8]) -> Option<usize> {
        (2..=4).find(|&length| bytes.get(..length).is_some_and(|start| std::str::from_utf8(start).is_ok()))
    }

    #[test]
    fn every_start_of_a_character_is_valid_or_not() {
        const NEXT: [u8; 12] = [0, b'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xe0, 0xff];
        for first in 0x80..=u8::MAX {
            for second in 0..=u8::MAX {
                for third in NEXT {
                    for fourth in NEXT {
                        let bytes = [first, second, third, fourth];
                        for length in 1..=4 {
                            let bytes = &bytes[..length];
                            assert_eq!(character_length(bytes), reference(bytes), "{bytes:x?}");
                        }
                    }
                }
            }
        }
    }
}
