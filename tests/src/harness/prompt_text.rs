//! Texts of several densities, and the number of tokens that a dense tokenizer makes of them.

use super::rng::Rng;

/// A kind of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextKind {
    /// English prose.
    English,
    /// JSON with spaces, on one line.
    Json,
    /// Random digits.
    Digits,
    /// Chinese prose.
    Chinese,
    /// Random base64.
    Base64,
    /// Spaces, tabs and line feeds, mixed.
    Whitespace,
    /// Two rare letters in turns.
    Letters,
    /// Random characters of a script that most vocabularies lack.
    RareScript,
}

// === impl TextKind ===

impl TextKind {
    /// All kinds.
    pub const ALL: [Self; 8] =
        [Self::English, Self::Json, Self::Digits, Self::Chinese, Self::Base64, Self::Whitespace, Self::Letters, Self::RareScript];

    /// Returns a random text of this kind: of at most this number of bytes, and at most a character shorter.
    pub fn text(self, bytes: usize, rng: &mut Rng) -> String {
        let mut text = String::with_capacity(bytes + 128);
        while text.len() < bytes {
            match self {
                Self::English => {
                    text += "The quick brown fox jumps over the lazy dog, and then it sleeps for a while in the shade. ";
                }
                Self::Json => {
                    text += &format!(
                        "{{\"id\": {}, \"name\": \"item-{}\", \"tags\": [\"new\", \"sale\"], \"price\": {}.{}, \"stock\": true}}, ",
                        rng.below(1_000_000),
                        rng.below(1000),
                        rng.below(1000),
                        rng.below(100)
                    );
                }
                Self::Digits => text.push(one_of(b"0123456789", rng)),
                Self::Chinese => text += "人工智能正在改变我们的生活方式，许多人每天都在使用它来学习和工作。",
                Self::Base64 => {
                    text.push(one_of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", rng));
                }
                Self::Whitespace => text.push(one_of(b" \n\t", rng)),
                Self::Letters => text += "zx",
                Self::RareScript => text.extend(char::from_u32(0x12000 + rng.below(0x300) as u32)),
            }
        }
        text.truncate(text.floor_char_boundary(bytes));
        text
    }

    /// Returns the number of tokens of a text of this kind: by the density that the tokenizer Mistral v1, the densest of those in
    /// `tests/tokenizers`, has for such a text.
    pub fn tokens(self, text: &str) -> u64 {
        let per_thousand_bytes: u64 = match self {
            Self::English => 267,
            Self::Json => 504,
            Self::Chinese => 334,
            Self::Base64 => 811,
            Self::Whitespace => 888,
            Self::Digits | Self::Letters | Self::RareScript => 1000,
        };
        (text.len() as u64 * per_thousand_bytes).div_ceil(1000)
    }
}

fn one_of(bytes: &[u8], rng: &mut Rng) -> char {
    char::from(bytes[rng.below(bytes.len() as u64) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_length_that_was_requested() {
        for kind in TextKind::ALL {
            for bytes in [0, 20, 1001] {
                let text = kind.text(bytes, &mut Rng::new(1));
                assert!((bytes.saturating_sub(3)..=bytes).contains(&text.len()), "{kind:?}: {} of {bytes}", text.len());
                assert_eq!(text, kind.text(bytes, &mut Rng::new(1)));
                assert!(kind.tokens(&text) <= text.len() as u64, "no text has more tokens than bytes");
            }
        }
    }
}
