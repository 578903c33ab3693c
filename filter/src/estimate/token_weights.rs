//! The weights of characters, in tokens: how many tokens a text has before its server has counted any.
//!
//! They are fitted to real tokenizers. The typical number of tokens of a text is the sum of the typical weights of its characters;
//! the high number is the sum of the high weights, but at most the number of bytes.

/// The weight of one character, in units of 1/[`UNIT`] token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenWeight {
    /// The weight for the median of the tokenizers.
    pub typical: u16,
    /// The weight for the densest of them.
    pub high: u16,
}

/// The unit of the weights: the number of units in one token.
pub const UNIT: u64 = 256;

/// An ASCII lowercase letter.
pub const LOWER: TokenWeight = weight(35, 69);
/// An ASCII uppercase letter.
pub const UPPER: TokenWeight = weight(70, 256);
/// The first letter of a word, in addition to its own weight.
pub const WORD_START: TokenWeight = weight(127, 185);
/// An ASCII digit.
pub const DIGIT: TokenWeight = weight(238, 256);
/// A space.
pub const SPACE: TokenWeight = weight(12, 54);
/// A line feed, a tab, or another control character.
pub const CONTROL: TokenWeight = weight(124, 256);
/// Any other ASCII character.
pub const PUNCTUATION: TokenWeight = weight(136, 256);

/// The characters beyond ASCII, by the first byte of their UTF-8 encoding, from 0xc0.
#[expect(clippy::indexing_slicing, reason = "a constant")]
pub const BY_LEAD_BYTE: [TokenWeight; 64] = {
    let mut weights = [weight(0, 0); 64];
    let mut index = 0;
    while index < weights.len() {
        weights[index] = of_lead_byte(0xc0 + index as u8);
        index += 1;
    }
    weights
};

/// One half of a surrogate pair, which is a character of four bytes.
pub const SURROGATE: TokenWeight = {
    let TokenWeight { typical, high } = of_lead_byte(0xf0);
    weight(typical / 2, high / 2)
};

const fn weight(typical: u16, high: u16) -> TokenWeight {
    TokenWeight { typical, high }
}

const fn of_lead_byte(byte: u8) -> TokenWeight {
    match byte {
        // Symbols, and Latin letters with marks.
        0xc0..=0xc2 => weight(128, 256),
        0xc3 => weight(60, 410),
        0xc4..=0xc9 => weight(470, 512),
        // Phonetic letters, and marks that combine with a letter.
        0xca..=0xcd => weight(159, 512),
        // Greek.
        0xce | 0xcf => weight(124, 300),
        // Cyrillic.
        0xd0..=0xd3 => weight(116, 235),
        // Armenian.
        0xd4 | 0xd5 => weight(240, 512),
        // Hebrew.
        0xd6 | 0xd7 => weight(142, 512),
        // Arabic.
        0xd8..=0xdf => weight(191, 320),
        // The scripts of India and South-East Asia.
        0xe0 => weight(182, 768),
        0xe1 => weight(334, 768),
        // Typographic punctuation and symbols.
        0xe2 => weight(500, 768),
        // Kana.
        0xe3 => weight(163, 380),
        // Han.
        0xe4..=0xe9 => weight(220, 298),
        // Hangul.
        0xea..=0xed => weight(193, 320),
        0xee | 0xef => weight(385, 768),
        // Emoji, and rare characters.
        _ => weight(476, 660),
    }
}
