//! The weights of characters, in tokens: how many tokens a text has before its server has counted any.
//!
//! They are fitted to real tokenizers. A text has at most as many tokens as bytes; apart from that, the typical number of its tokens is
//! the sum of the typical weights of its characters, and the high number the sum of the high weights.

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
pub const LOWER: TokenWeight = weight(44, 81);
/// An ASCII uppercase letter.
pub const UPPER: TokenWeight = weight(75, 202);
/// An ASCII digit.
pub const DIGIT: TokenWeight = weight(150, 256);
/// The first digit in a row, in addition to [`DIGIT`].
pub const DIGIT_START: TokenWeight = weight(348, 256);
/// A space.
pub const SPACE: TokenWeight = weight(18, 32);
/// The first space in a row, in addition to [`SPACE`].
pub const SPACE_START: TokenWeight = weight(74, 224);
/// A line feed, a tab, or another control character.
pub const CONTROL: TokenWeight = weight(177, 256);
/// Any other ASCII character.
pub const PUNCTUATION: TokenWeight = weight(123, 177);

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
    weight(typical.div_ceil(2), high.div_ceil(2))
};

const fn weight(typical: u16, high: u16) -> TokenWeight {
    TokenWeight { typical, high }
}

const fn of_lead_byte(byte: u8) -> TokenWeight {
    match byte {
        // Symbols, and Latin letters with marks.
        0xc0..=0xc2 => weight(256, 512),
        0xc3 => weight(247, 343),
        0xc4..=0xc9 => weight(512, 512),
        // Phonetic letters, and marks that combine with a letter.
        0xca..=0xcd => weight(171, 384),
        // Greek.
        0xce | 0xcf => weight(108, 272),
        // Cyrillic.
        0xd0..=0xd3 => weight(101, 231),
        // Armenian.
        0xd4 | 0xd5 => weight(233, 512),
        // Hebrew.
        0xd6 | 0xd7 => weight(131, 512),
        // Arabic.
        0xd8..=0xdf => weight(123, 304),
        // The scripts of India and South-East Asia.
        0xe0 => weight(158, 768),
        0xe1 => weight(319, 768),
        // Typographic punctuation and symbols.
        0xe2 => weight(268, 768),
        // Kana.
        0xe3 => weight(158, 301),
        // Han.
        0xe4..=0xe9 => weight(221, 384),
        // Hangul.
        0xea..=0xed => weight(167, 384),
        0xee | 0xef => weight(192, 512),
        // Emoji, and rare characters.
        _ => weight(642, 763),
    }
}
