//! The characters of a text by kind, counted at sixteen bytes a step, and the number of tokens that follows from the counts.

use std::ops::Range;

use super::token_weights::{self, BY_LEAD_BYTE, TokenWeight, UNIT};
use crate::json::StringVisitor;
use crate::simd::{U8x16, Vector};

/// The number of characters of each kind in a text.
///
/// The counts wrap around while a string is read, because an escape is counted before the string that contains it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextCensus {
    /// Bytes of ASCII characters, and of others that are not escaped. Those of no other kind are punctuation.
    bytes: u64,
    /// ASCII letters.
    letters: u64,
    /// ASCII uppercase letters, which are in `letters` too.
    upper: u64,
    /// ASCII letters after another character, or at the start of a string.
    word_starts: u64,
    /// ASCII digits.
    digits: u64,
    /// Spaces, control characters that are not escaped, and the bytes in `beyond_ascii`.
    spaces: u64,
    /// Control characters that are escaped. They are not in `bytes`.
    controls: u64,
    /// Bytes of characters beyond ASCII that are not escaped.
    beyond_ascii: u64,
    /// The sum of the weights of all characters beyond ASCII.
    other: WeightSum,
    /// Whether the previous character of the current string is an ASCII letter.
    after_letter: bool,
}

/// The number of tokens that a text has by its characters alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextTokens {
    /// The median of the tokenizers.
    pub typical: u64,
    /// The densest of the tokenizers.
    pub high: u64,
}

/// A sum of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct WeightSum {
    typical: u64,
    high: u64,
}

/// The kinds of some bytes, as comparisons return them.
struct Kinds {
    letters: U8x16,
    lower: U8x16,
    digits: U8x16,
    /// Spaces, control characters, and the bytes of characters beyond ASCII.
    spaces: U8x16,
}

/// The number of bytes of a vector.
const BLOCK: usize = 16;
/// The length from which a run is counted in vectors: their sums take as long as a few blocks.
const LONG: usize = 4 * BLOCK;
/// The number of blocks that a place of a vector counts before it may overflow.
const FLUSH: usize = 255;

// === impl TextCensus ===

impl TextCensus {
    /// Starts another string. Its first letter begins a word.
    pub fn start_string(&mut self) {
        self.after_letter = false;
    }

    /// Counts the bytes of `range`, which are a part of the current string. Bytes of `document` beyond it may be read, but do not
    /// count.
    pub fn count_run(&mut self, document: &[u8], range: Range<usize>) {
        let run = document.get(range.clone()).unwrap_or_default();
        self.count_kinds(document, range);
        if !run.is_ascii() {
            let leads = run.iter().filter(|&&byte| byte >= 0xc0);
            leads.for_each(|&byte| self.other.add(weight_of_lead_byte(byte)));
            let bytes = run.iter().filter(|byte| !byte.is_ascii()).count();
            self.beyond_ascii = self.beyond_ascii.wrapping_add(bytes as u64);
        }
    }

    /// Counts a UTF-16 code unit, which is the next character of the current string.
    pub fn count_unit(&mut self, unit: u16) {
        let byte = u8::try_from(unit).ok().filter(u8::is_ascii);
        self.bytes = self.bytes.wrapping_add(byte.filter(|&byte| byte >= b' ').is_some().into());
        let after_letter = std::mem::take(&mut self.after_letter);
        match byte {
            Some(0..b' ') => self.controls += 1,
            Some(b' ') => self.spaces = self.spaces.wrapping_add(1),
            Some(b'0'..=b'9') => self.digits = self.digits.wrapping_add(1),
            Some(byte @ (b'A'..=b'Z' | b'a'..=b'z')) => {
                self.letters = self.letters.wrapping_add(1);
                self.upper = self.upper.wrapping_add(byte.is_ascii_uppercase().into());
                self.word_starts = self.word_starts.wrapping_add((!after_letter).into());
                self.after_letter = true;
            }
            Some(_) => {}
            None => self.other.add(weight_of_unit(unit)),
        }
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        let Self { bytes, letters, upper, word_starts, digits, spaces, controls, beyond_ascii, other: weights, after_letter: _ } =
            other;
        self.bytes = self.bytes.wrapping_add(*bytes);
        self.letters = self.letters.wrapping_add(*letters);
        self.upper = self.upper.wrapping_add(*upper);
        self.word_starts = self.word_starts.wrapping_add(*word_starts);
        self.digits = self.digits.wrapping_add(*digits);
        self.spaces = self.spaces.wrapping_add(*spaces);
        self.controls += controls;
        self.beyond_ascii = self.beyond_ascii.wrapping_add(*beyond_ascii);
        self.other.typical += weights.typical;
        self.other.high += weights.high;
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> TextTokens {
        use token_weights::{CONTROL, DIGIT, LOWER, PUNCTUATION, SPACE, UPPER, WORD_START};
        let Self { bytes, letters, upper, word_starts, digits, spaces, controls, beyond_ascii, other, after_letter: _ } = *self;
        let punctuation = bytes.wrapping_sub(letters).wrapping_sub(digits).wrapping_sub(spaces);
        let spaces = spaces.wrapping_sub(beyond_ascii);
        let weighted = [
            (letters.wrapping_sub(upper), LOWER),
            (upper, UPPER),
            (word_starts, WORD_START),
            (digits, DIGIT),
            (spaces, SPACE),
            (controls, CONTROL),
            (punctuation, PUNCTUATION),
        ];
        let sum = |start: u64, of: fn(TokenWeight) -> u16| {
            let add = |sum: u64, &(count, weight): &(u64, TokenWeight)| sum.saturating_add(count.saturating_mul(of(weight).into()));
            weighted.iter().fold(start, add).div_ceil(UNIT)
        };
        TextTokens { typical: sum(other.typical, |weight| weight.typical), high: sum(other.high, |weight| weight.high) }
    }

    /// Counts the kinds of the bytes of `range`.
    #[inline]
    fn count_kinds(&mut self, document: &[u8], range: Range<usize>) {
        let mut run = document.get(range.clone()).unwrap_or_default();
        self.bytes = self.bytes.wrapping_add(run.len() as u64);
        if run.len() >= LONG {
            run = self.count_blocks(run);
        }
        while let Some((block, tail)) = run.split_first_chunk() {
            self.count_block(U8x16::load(block), BLOCK);
            run = tail;
        }
        if !run.is_empty() {
            self.count_block(last_block(document, range.end - run.len(), run), run.len());
        }
    }

    /// Counts the whole blocks of a long run. Returns the rest.
    fn count_blocks<'a>(&mut self, run: &'a [u8]) -> &'a [u8] {
        let none = U8x16::splat(0);
        let mut before = if self.after_letter { U8x16::splat(0xff) } else { none };
        let (blocks, rest) = run.as_chunks::<BLOCK>();
        for blocks in blocks.chunks(FLUSH) {
            let [mut letters, mut lower, mut in_words, mut digits, mut spaces] = [none; 5];
            for block in blocks {
                let kinds = Kinds::new(U8x16::load(block));
                // A comparison that holds is -1.
                letters = letters.minus(kinds.letters);
                lower = lower.minus(kinds.lower);
                in_words = in_words.minus(kinds.letters.and(kinds.letters.shifted_after(before)));
                digits = digits.minus(kinds.digits);
                spaces = spaces.minus(kinds.spaces);
                before = kinds.letters;
            }
            let sum = |counts: U8x16| u64::from(counts.sum());
            let letter_count = sum(letters);
            self.letters = self.letters.wrapping_add(letter_count);
            self.upper = self.upper.wrapping_add(letter_count - sum(lower));
            self.word_starts = self.word_starts.wrapping_add(letter_count - sum(in_words));
            self.digits = self.digits.wrapping_add(sum(digits));
            self.spaces = self.spaces.wrapping_add(sum(spaces));
        }
        self.after_letter = before.bitmask() >> (BLOCK - 1) == 1;
        rest
    }

    /// Counts the first bytes of a block: `length` of them, at least 1.
    #[inline]
    fn count_block(&mut self, block: U8x16, length: usize) {
        let first = u16::MAX >> (BLOCK - length);
        let Kinds { letters, lower, digits, spaces } = Kinds::new(block);
        let [letters, lower, digits, spaces] = [letters, lower, digits, spaces].map(|kind| kind.bitmask() & first);
        let word_starts = letters & !(letters << 1 | u16::from(self.after_letter));
        self.letters = self.letters.wrapping_add(letters.count_ones().into());
        self.upper = self.upper.wrapping_add((letters ^ lower).count_ones().into());
        self.word_starts = self.word_starts.wrapping_add(word_starts.count_ones().into());
        self.digits = self.digits.wrapping_add(digits.count_ones().into());
        self.spaces = self.spaces.wrapping_add(spaces.count_ones().into());
        self.after_letter = letters >> (length - 1) == 1;
    }
}

/// Counts an escape as the difference to what it is written with, because the string is counted as written.
impl StringVisitor for TextCensus {
    #[inline]
    fn beyond_ascii(&mut self, first: u8, length: usize) {
        self.other.add(weight_of_lead_byte(first));
        self.beyond_ascii = self.beyond_ascii.wrapping_add(length as u64);
    }

    #[inline]
    fn short_escape(&mut self, control: bool, next: Option<u8>) {
        self.bytes = self.bytes.wrapping_sub(1);
        if control {
            // Written with a letter that starts a word. The next letter starts one in its place.
            self.bytes = self.bytes.wrapping_sub(1);
            self.letters = self.letters.wrapping_sub(1);
            self.word_starts = self.word_starts.wrapping_sub(u64::from(!is_letter(next)));
            self.controls += 1;
        }
    }

    fn unicode_escape(&mut self, digits: [u8; 4], unit: u16, next: Option<u8>) {
        // One bit in each byte that is a letter, and in each byte after a letter. The first one is after the `u`.
        let digits = u32::from_le_bytes(digits);
        let letters = digits >> 6 & 0x0101_0101;
        let upper = letters & !(digits >> 5);
        let starts = letters & !(letters << 8 | 1);
        let sum = |bits: u32| u64::from(bits.wrapping_mul(0x0101_0101) >> 24);
        self.bytes = self.bytes.wrapping_sub(6);
        self.letters = self.letters.wrapping_sub(1 + sum(letters));
        self.upper = self.upper.wrapping_sub(sum(upper));
        self.digits = self.digits.wrapping_sub(4 - sum(letters));
        self.word_starts = self.word_starts.wrapping_sub(1 + sum(starts));
        // An escaped letter starts a word, whatever is before it.
        self.after_letter = false;
        self.count_unit(unit);
        // Whether the next letter starts a word depends on the last digit as written, and should depend on the unit.
        let (written, encoded) = (letters >> 24 == 1, std::mem::take(&mut self.after_letter));
        if written != encoded && is_letter(next) {
            self.word_starts = self.word_starts.wrapping_add(if written { 1 } else { u64::MAX });
        }
    }

    fn string(&mut self, document: &[u8], range: Range<usize>) {
        self.start_string();
        self.count_kinds(document, range);
    }
}

// === impl Kinds ===

impl Kinds {
    #[inline]
    fn new(block: U8x16) -> Self {
        let folded = block.or(U8x16::splat(0x20));
        // The letters, and then the digits, are moved to the end of the signed numbers.
        let letters = U8x16::splat(0x65).signed_less(folded.plus(U8x16::splat(0x05)));
        Self {
            letters,
            lower: letters.and(folded.equals(block)),
            digits: U8x16::splat(0x75).signed_less(block.plus(U8x16::splat(0x46))),
            spaces: block.signed_less(U8x16::splat(b' ' + 1)),
        }
    }
}

// === impl WeightSum ===

impl WeightSum {
    fn add(&mut self, weight: TokenWeight) {
        self.typical += u64::from(weight.typical);
        self.high += u64::from(weight.high);
    }
}

/// Returns the block that starts with `rest`, which is at offset `at` of `document`.
#[inline]
fn last_block(document: &[u8], at: usize, rest: &[u8]) -> U8x16 {
    if let Some(block) = document.get(at..).and_then(<[u8]>::first_chunk) {
        return U8x16::load(block);
    }
    let mut block = [0; BLOCK];
    block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    U8x16::load(&block)
}

/// Returns the weight of the characters that start with this byte.
fn weight_of_lead_byte(byte: u8) -> TokenWeight {
    BY_LEAD_BYTE.get(usize::from(byte & 0x3f)).copied().unwrap_or_default()
}

fn is_letter(byte: Option<u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphabetic())
}

/// Returns the weight of a code unit beyond ASCII.
fn weight_of_unit(unit: u16) -> TokenWeight {
    match unit {
        ..0x800 => weight_of_lead_byte((unit >> 6) as u8),
        0xd800..0xe000 => token_weights::SURROGATE,
        _ => weight_of_lead_byte(0x20 | (unit >> 12) as u8),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::json::Reader;

    impl TextCensus {
        /// Returns the counts that do not depend on how a text is written.
        fn counts(&self) -> [u64; 7] {
            let Self { bytes, letters, upper, word_starts, digits, spaces, controls, beyond_ascii, .. } = *self;
            [letters, upper, word_starts, digits, spaces - beyond_ascii, controls, bytes - letters - digits - spaces]
        }
    }

    /// Counts the characters of a string that is written as JSON.
    fn census(json: &str) -> TextCensus {
        let mut census = TextCensus::default();
        Reader::new(json.as_bytes()).visit_text(&mut census).unwrap();
        census
    }

    /// Counts the characters of a text one by one.
    fn reference(text: &str) -> ([u64; 7], WeightSum) {
        let (mut counts, mut other, mut after_letter) = ([0; 7], WeightSum::default(), false);
        for c in text.chars() {
            let kind = match c {
                'a'..='z' | 'A'..='Z' => 0,
                '0'..='9' => 3,
                ' ' => 4,
                '\0'..' ' => 5,
                '\0'..='\x7f' => 6,
                _ => {
                    other.add(BY_LEAD_BYTE[usize::from(c.encode_utf8(&mut [0; 4]).as_bytes()[0] - 0xc0)]);
                    after_letter = false;
                    continue;
                }
            };
            counts[kind] += 1;
            counts[1] += u64::from(c.is_ascii_uppercase());
            counts[2] += u64::from(kind == 0 && !after_letter);
            after_letter = kind == 0;
        }
        (counts, other)
    }

    #[test]
    fn characters_are_counted_as_decoded() {
        for (json, text) in [
            (r#""""#, ""),
            (r#""Hello, World 42!""#, "Hello, World 42!"),
            (r#""a\nb\tc\"d\\e\/f \u0041\u0020\u000a""#, "a\nb\tc\"d\\e/f A \n"),
            (r#""\u0061b\u0031c""#, "ab1c"),
            (r#""x\u00e9y\u00E9\u4e2d\u6587z""#, "xéyé中文z"),
            (r#""\ud83d\ude00a😀b""#, "😀a😀b"),
            (r#""\u00abc\u00eae\uABCDe\uabc1e""#, "\u{ab}c\u{ea}e\u{abcd}e\u{abc1}e"),
            (r#""中文，English。日本語 テスト""#, "中文，English。日本語 テスト"),
            ("\"\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\"", "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}"),
        ] {
            let census = census(json);
            assert_eq!((census.counts(), census.other), reference(text), "{json}");
        }
    }

    #[test]
    fn every_byte_is_of_one_kind_at_every_place() {
        for byte in 0x20..0x80_u8 {
            for length in [0, 1, 14, 15, 16, 17, 31, 47, 62, 63, 64, 65, 127, 128, 5000] {
                for (filler, next) in [('a', 'b'), (' ', 'c'), ('7', '.')] {
                    let text = format!("{}{}{next}", String::from(filler).repeat(length), char::from(byte));
                    let mut census = TextCensus::default();
                    census.count_run(text.as_bytes(), 0..text.len());
                    assert_eq!(census.counts(), reference(&text).0, "{byte:#x} after {length} times {filler}");
                    // Bytes beyond the run do not count.
                    let mut within = TextCensus::default();
                    within.count_run(format!("x{text}aA1 é.{text}").as_bytes(), 1..1 + text.len());
                    assert_eq!(within, census, "{byte:#x} after {length} times {filler}");
                }
            }
        }
    }

    #[test]
    fn a_text_has_tokens_by_its_characters() {
        let english = "The quick brown fox jumps over the lazy dog, and nothing else happens on this page. ".repeat(100);
        let json = r#"{"name":"value","count":12,"list":[1,2,3]},"#.repeat(100);
        let digits = "3141592653".repeat(100);
        let spaces = " ".repeat(1000);
        let han = "她说先数一数承诺了什么再数一数用掉了什么".repeat(50);
        let per_byte = |text: &str| {
            let mut census = TextCensus::default();
            census.count_run(text.as_bytes(), 0..text.len());
            let TextTokens { typical, high } = census.tokens();
            [typical, high].map(|tokens| tokens * 100 / text.len() as u64)
        };
        let table = [
            ("English", per_byte(&english), [20..30, 30..50]),
            ("JSON", per_byte(&json), [40..65, 60..95]),
            ("digits", per_byte(&digits), [30..100, 90..101]),
            ("spaces", per_byte(&spaces), [1..15, 12..25]),
            ("Han", per_byte(&han), [20..35, 35..60]),
        ];
        for (kind, [typical, high], [typical_range, high_range]) in table {
            assert!(typical_range.contains(&typical) && high_range.contains(&high), "{kind}: {typical} and {high} per 100 bytes");
        }
    }

    #[test]
    fn every_ascii_character_has_an_eighth_of_a_token_in_the_high_number() {
        for byte in 0..0x80_u8 {
            let text = String::from(char::from(byte)).repeat(1000);
            let mut census = TextCensus::default();
            text.encode_utf16().for_each(|unit| census.count_unit(unit));
            assert!(census.tokens().high >= 125, "{byte:#x}");
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        /// A character, and how it is written: as it is, or one of its escapes.
        fn character() -> impl Strategy<Value = (char, u8)> {
            let any = prop_oneof![
                8 => proptest::char::range(' ', '\x7f'),
                2 => proptest::char::range('\0', '\x1f'),
                2 => proptest::char::range('\u{80}', '\u{3ffff}'),
                2 => proptest::char::range('\u{4e00}', '\u{9fff}'),
            ];
            (any, 0..6_u8)
        }

        fn written(c: char, how: u8) -> String {
            let short = match c {
                '"' | '\\' | '/' => Some(format!("\\{c}")),
                '\u{8}' => Some("\\b".to_owned()),
                '\u{c}' => Some("\\f".to_owned()),
                '\n' => Some("\\n".to_owned()),
                '\r' => Some("\\r".to_owned()),
                '\t' => Some("\\t".to_owned()),
                _ => None,
            };
            let hex = |upper: bool| {
                let escape = |unit: &u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
                c.encode_utf16(&mut [0; 2]).iter().map(escape).collect()
            };
            match (how, short) {
                // An escaped letter always starts a word. No encoder escapes letters.
                _ if c.is_ascii_alphabetic() => c.to_string(),
                (0, _) => hex(false),
                (1, _) => hex(true),
                (2.., Some(short)) => short,
                _ if c < ' ' => hex(false),
                _ => c.to_string(),
            }
        }

        proptest! {
            #[test]
            fn a_text_has_the_same_counts_however_it_is_written(
                characters in proptest::collection::vec(character(), 0..200),
            ) {
                let text: String = characters.iter().map(|(c, _)| c).collect();
                let json: String = characters.iter().map(|&(c, how)| written(c, how)).collect();
                let found = census(&format!("\"{json}\""));
                prop_assert_eq!((found.counts(), found.other), reference(&text), "{}", json);
                let mut units = TextCensus::default();
                text.encode_utf16().for_each(|unit| units.count_unit(unit));
                prop_assert_eq!((units.counts(), units.other), reference(&text));
            }

            #[test]
            fn a_text_has_the_same_counts_in_runs(text in "[a-cX1 .é中]{0,300}", cuts in proptest::collection::vec(0..300_usize, 0..4)) {
                let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
                cuts.sort_unstable();
                let mut census = TextCensus::default();
                cuts.windows(2).for_each(|cut| census.count_run(text.as_bytes(), cut[0]..cut[1]));
                prop_assert_eq!((census.counts(), census.other), reference(&text));
            }
        }
    }
}
