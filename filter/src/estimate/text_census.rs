//! The characters of a text by kind, counted at sixteen bytes a step, and the number of tokens that follows from the counts.

use std::ops::Range;

use super::ratio_histogram::Factor;
use super::token_weights::{self, BY_LEAD_BYTE, TokenWeight, UNIT};
use crate::json::StringVisitor;
use crate::simd::{U8x16, Vector};

/// The number of characters of each kind in a text.
///
/// The counts wrap around while a string is read, because an escape is counted before the string that contains it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextCensus {
    /// Bytes, as decoded, except escaped control characters. Those of no other kind are punctuation.
    bytes: u64,
    /// ASCII letters.
    lower: u64,
    upper: u64,
    /// ASCII digits.
    digits: u64,
    /// ASCII digits after another character, or at the start of a string.
    digit_starts: u64,
    spaces: u64,
    /// Spaces after another character, or at the start of a string.
    space_starts: u64,
    /// Control characters that are escaped. They are not in `bytes`.
    controls: u64,
    /// Bytes of characters beyond ASCII.
    beyond_ascii: u64,
    /// The sum of the weights of all characters beyond ASCII.
    other: TextTokens,
    /// The previous character of the current string.
    previous: Previous,
}

/// A kind of character of which the first one in a row counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Previous {
    Digit,
    Space,
    #[default]
    Other,
}

/// The number of tokens that a text has by its characters alone. Sums of them are rounded only once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextTokens {
    /// The number for the median of the tokenizers, in units of 1/[`UNIT`].
    typical: u64,
    /// The number for the densest of them.
    high: u64,
}

/// The kinds of some bytes, as comparisons return them.
struct Kinds {
    lower: U8x16,
    upper: U8x16,
    digits: U8x16,
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
    /// Starts another string.
    pub fn start_string(&mut self) {
        self.previous = Previous::Other;
    }

    /// Counts the bytes of `range`, which are a part of the current string. Bytes of `document` beyond it may be read, but do not
    /// count.
    pub fn count_run(&mut self, document: &[u8], range: Range<usize>) {
        let run = document.get(range.clone()).unwrap_or_default();
        self.count_kinds(document, range);
        if has_beyond_ascii(run) {
            let leads = run.iter().filter(|&&byte| byte >= 0xc0);
            leads.for_each(|&byte| self.other.weigh(weight_of_lead_byte(byte)));
            let bytes = run.iter().filter(|byte| !byte.is_ascii()).count();
            self.beyond_ascii = self.beyond_ascii.wrapping_add(bytes as u64);
        }
    }

    /// Counts a UTF-16 code unit, which is the next character of the current string.
    pub fn count_unit(&mut self, unit: u16) {
        let previous = std::mem::take(&mut self.previous);
        let Some(byte) = u8::try_from(unit).ok().filter(u8::is_ascii) else {
            // A surrogate is half of a character of four bytes.
            let length = if matches!(unit, 0x800..0xd800 | 0xe000..) { 3 } else { 2 };
            self.bytes = self.bytes.wrapping_add(length);
            self.beyond_ascii = self.beyond_ascii.wrapping_add(length);
            return self.other.weigh(weight_of_unit(unit));
        };
        if byte < b' ' {
            self.controls += 1;
            return;
        }
        self.bytes = self.bytes.wrapping_add(1);
        match byte {
            b'a'..=b'z' => self.lower = self.lower.wrapping_add(1),
            b'A'..=b'Z' => self.upper = self.upper.wrapping_add(1),
            b'0'..=b'9' => {
                self.digits = self.digits.wrapping_add(1);
                self.digit_starts = self.digit_starts.wrapping_add((previous != Previous::Digit).into());
                self.previous = Previous::Digit;
            }
            b' ' => {
                self.spaces = self.spaces.wrapping_add(1);
                self.space_starts = self.space_starts.wrapping_add((previous != Previous::Space).into());
                self.previous = Previous::Space;
            }
            _ => {}
        }
    }

    /// Returns the number of bytes, as decoded.
    pub fn len(&self) -> u64 {
        self.bytes.wrapping_add(self.controls)
    }

    /// Returns whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> TextTokens {
        use token_weights::{CONTROL, DIGIT, DIGIT_START, LOWER, PUNCTUATION, SPACE, SPACE_START, UPPER};
        let weighted = [
            (self.lower, LOWER),
            (self.upper, UPPER),
            (self.digits, DIGIT),
            (self.digit_starts, DIGIT_START),
            (self.spaces, SPACE),
            (self.space_starts, SPACE_START),
            (self.controls, CONTROL),
            (self.punctuation(), PUNCTUATION),
        ];
        let most = self.len().saturating_mul(UNIT);
        let mut tokens = self.other;
        for (count, weight) in weighted {
            tokens.typical = tokens.typical.saturating_add(count.saturating_mul(weight.typical.into()));
            tokens.high = tokens.high.saturating_add(count.saturating_mul(weight.high.into()));
        }
        TextTokens { typical: tokens.typical.min(most), high: tokens.high.min(most) }
    }

    fn punctuation(&self) -> u64 {
        [self.lower, self.upper, self.digits, self.spaces, self.beyond_ascii].into_iter().fold(self.bytes, u64::wrapping_sub)
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
        let before = |kind: Previous| if self.previous == kind { U8x16::splat(0xff) } else { none };
        let (mut digits_before, mut spaces_before) = (before(Previous::Digit), before(Previous::Space));
        let (blocks, rest) = run.as_chunks::<BLOCK>();
        for blocks in blocks.chunks(FLUSH) {
            let [mut lower, mut upper, mut digits, mut more_digits, mut spaces, mut more_spaces] = [none; 6];
            for block in blocks {
                let kinds = Kinds::new(U8x16::load(block));
                // A comparison that holds is -1.
                lower = lower.minus(kinds.lower);
                upper = upper.minus(kinds.upper);
                digits = digits.minus(kinds.digits);
                more_digits = more_digits.minus(kinds.digits.and(kinds.digits.shifted_after(digits_before)));
                spaces = spaces.minus(kinds.spaces);
                more_spaces = more_spaces.minus(kinds.spaces.and(kinds.spaces.shifted_after(spaces_before)));
                (digits_before, spaces_before) = (kinds.digits, kinds.spaces);
            }
            let [lower, upper, digits, more_digits, spaces, more_spaces] =
                [lower, upper, digits, more_digits, spaces, more_spaces].map(|counts| u64::from(counts.sum()));
            self.lower = self.lower.wrapping_add(lower);
            self.upper = self.upper.wrapping_add(upper);
            self.digits = self.digits.wrapping_add(digits);
            self.digit_starts = self.digit_starts.wrapping_add(digits - more_digits);
            self.spaces = self.spaces.wrapping_add(spaces);
            self.space_starts = self.space_starts.wrapping_add(spaces - more_spaces);
        }
        self.previous = Previous::of(run.len().checked_sub(rest.len() + 1).and_then(|last| run.get(last)));
        rest
    }

    /// Counts the first bytes of a block: `length` of them, at least 1.
    #[inline]
    fn count_block(&mut self, block: U8x16, length: usize) {
        let first = u16::MAX >> (BLOCK - length);
        let Kinds { lower, upper, digits, spaces } = Kinds::new(block);
        let [lower, upper, digits, spaces] = [lower, upper, digits, spaces].map(|kind| kind.bitmask() & first);
        let starts = |kinds: u16, previous: Previous| kinds & !(kinds << 1 | u16::from(self.previous == previous));
        let (digit_starts, space_starts) = (starts(digits, Previous::Digit), starts(spaces, Previous::Space));
        let [lower, upper, digit_count, digit_starts, space_count, space_starts] =
            [lower, upper, digits, digit_starts, spaces, space_starts].map(|kind| u64::from(kind.count_ones()));
        self.lower = self.lower.wrapping_add(lower);
        self.upper = self.upper.wrapping_add(upper);
        self.digits = self.digits.wrapping_add(digit_count);
        self.digit_starts = self.digit_starts.wrapping_add(digit_starts);
        self.spaces = self.spaces.wrapping_add(space_count);
        self.space_starts = self.space_starts.wrapping_add(space_starts);
        self.previous = match (digits >> (length - 1), spaces >> (length - 1)) {
            (1, _) => Previous::Digit,
            (_, 1) => Previous::Space,
            _ => Previous::Other,
        };
    }
}

/// Counts an escape as the difference to what it is written with, because the string is counted as written.
impl StringVisitor for TextCensus {
    #[inline]
    fn beyond_ascii(&mut self, first: u8, length: usize) {
        self.other.weigh(weight_of_lead_byte(first));
        self.beyond_ascii = self.beyond_ascii.wrapping_add(length as u64);
    }

    #[inline]
    fn short_escape(&mut self, control: bool) {
        self.bytes = self.bytes.wrapping_sub(1);
        if control {
            // Written with a letter.
            self.bytes = self.bytes.wrapping_sub(1);
            self.lower = self.lower.wrapping_sub(1);
            self.controls += 1;
        }
    }

    fn unicode_escape(&mut self, digits: [u8; 4], unit: u16, next: Option<u8>) {
        const ONES: u32 = 0x0101_0101;
        let sum = |bits: u32| u64::from(bits.wrapping_mul(ONES) >> 24);
        // One bit for each byte of a kind. A `u` is before the first one.
        let hex = u32::from_le_bytes(digits);
        let letters = hex >> 6 & ONES;
        let (lower, digits) = (letters & hex >> 5, !letters & ONES);
        let starts = digits & !(digits << 8);
        self.bytes = self.bytes.wrapping_sub(6);
        self.lower = self.lower.wrapping_sub(1 + sum(lower));
        self.upper = self.upper.wrapping_sub(sum(letters) - sum(lower));
        self.digits = self.digits.wrapping_sub(sum(digits));
        self.digit_starts = self.digit_starts.wrapping_sub(sum(starts));
        // An escaped digit or space starts a row, whatever is before it. No encoder escapes them.
        self.previous = Previous::Other;
        self.count_unit(unit);
        let (written, encoded) = (digits >> 24 == 1, std::mem::take(&mut self.previous));
        match Previous::of(next.as_ref()) {
            // The next character is counted after the last digit as written.
            Previous::Digit => {
                let more = u64::from(written).wrapping_sub(u64::from(encoded == Previous::Digit));
                self.digit_starts = self.digit_starts.wrapping_add(more);
            }
            Previous::Space => self.space_starts = self.space_starts.wrapping_sub(u64::from(encoded == Previous::Space)),
            Previous::Other => {}
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
        // The characters of each kind are moved to the end of the signed numbers.
        Self {
            lower: U8x16::splat(0x65).signed_less(block.plus(U8x16::splat(0x05))),
            upper: U8x16::splat(0x65).signed_less(block.plus(U8x16::splat(0x25))),
            digits: U8x16::splat(0x75).signed_less(block.plus(U8x16::splat(0x46))),
            spaces: block.equals(U8x16::splat(b' ')),
        }
    }
}

// === impl Previous ===

impl Previous {
    fn of(byte: Option<&u8>) -> Self {
        match byte {
            Some(b'0'..=b'9') => Self::Digit,
            Some(b' ') => Self::Space,
            _ => Self::Other,
        }
    }
}

// === impl TextTokens ===

impl TextTokens {
    /// Returns the number of tokens for the median of the tokenizers.
    pub fn typical(self) -> u64 {
        self.typical.div_ceil(UNIT)
    }

    /// Returns the number of tokens for the median of the tokenizers, times this factor.
    pub fn typical_times(self, factor: Factor) -> u64 {
        factor.of(self.typical).div_ceil(UNIT)
    }

    /// Returns the number of tokens for the densest of the tokenizers.
    pub fn high(self) -> u64 {
        self.high.div_ceil(UNIT)
    }

    /// Adds a character.
    #[inline]
    fn weigh(&mut self, weight: TokenWeight) {
        self.typical = self.typical.wrapping_add(weight.typical.into());
        self.high = self.high.wrapping_add(weight.high.into());
    }

    /// Adds the tokens of another text.
    pub fn add(&mut self, other: Self) {
        self.typical = self.typical.saturating_add(other.typical);
        self.high = self.high.saturating_add(other.high);
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

/// Returns whether any byte is beyond ASCII.
fn has_beyond_ascii(run: &[u8]) -> bool {
    let (blocks, rest) = run.as_chunks::<BLOCK>();
    let all = blocks.iter().fold(U8x16::splat(0), |all, block| all.or(U8x16::load(block)));
    all.bitmask() != 0 || rest.iter().fold(0, |all, byte| all | byte) >= 0x80
}

/// Returns the weight of the characters that start with this byte.
fn weight_of_lead_byte(byte: u8) -> TokenWeight {
    BY_LEAD_BYTE.get(usize::from(byte & 0x3f)).copied().unwrap_or_default()
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
        fn counts(&self) -> [u64; 8] {
            let Self { lower, upper, digits, digit_starts, spaces, space_starts, controls, .. } = *self;
            [lower, upper, digits, digit_starts, spaces, space_starts, controls, self.punctuation()]
        }
    }

    /// Counts the characters of a string that is written as JSON.
    fn census(json: &str) -> TextCensus {
        let mut census = TextCensus::default();
        Reader::new(json.as_bytes()).visit_text(&mut census).unwrap();
        census
    }

    /// Checks that the counts are those of this text.
    fn check(census: &TextCensus, text: &str, written: &str) {
        let (counts, other) = reference(text);
        assert_eq!(census.len(), text.len() as u64, "{written}");
        assert_eq!(census.counts(), counts, "{written}");
        // Half the weight of a surrogate pair is rounded up.
        let pairs = text.chars().filter(|c| c.len_utf16() == 2).count() as u64;
        let rounded = [census.other.typical - other.typical, census.other.high - other.high];
        assert!(rounded.iter().all(|&rounded| rounded <= pairs), "{written}");
    }

    /// Counts the characters of a text one by one.
    fn reference(text: &str) -> ([u64; 8], TextTokens) {
        let (mut counts, mut other, mut previous) = ([0; 8], TextTokens::default(), 'x');
        for c in text.chars() {
            match c {
                'a'..='z' => counts[0] += 1,
                'A'..='Z' => counts[1] += 1,
                '0'..='9' => {
                    counts[2] += 1;
                    counts[3] += u64::from(!previous.is_ascii_digit());
                }
                ' ' => {
                    counts[4] += 1;
                    counts[5] += u64::from(previous != ' ');
                }
                '\0'..' ' => counts[6] += 1,
                '\0'..='\x7f' => counts[7] += 1,
                _ => other.weigh(BY_LEAD_BYTE[usize::from(c.encode_utf8(&mut [0; 4]).as_bytes()[0] - 0xc0)]),
            }
            previous = c;
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
            (r#""12\n34  \u00e9  5\u00e96\u00eax\u00309y\u0020 x""#, "12\n34  é  5é6êx09y  x"),
            (r#""x\u00e9y\u00E9\u4e2d\u6587z""#, "xéyé中文z"),
            (r#""\ud83d\ude00a😀b""#, "😀a😀b"),
            (r#""\u00abc\u00eae\uABCDe\uabc1e""#, "\u{ab}c\u{ea}e\u{abcd}e\u{abc1}e"),
            (r#""中文，English。日本語 テスト""#, "中文，English。日本語 テスト"),
            ("\"\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\"", "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}"),
        ] {
            check(&census(json), text, json);
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
            let tokens = census.tokens();
            [tokens.typical(), tokens.high()].map(|tokens| tokens * 100 / text.len() as u64)
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
            assert!(census.tokens().high() >= 125, "{byte:#x}");
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
                // An escaped digit or space always starts a row.
                _ if c == ' ' || c.is_ascii_digit() => c.to_string(),
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
                check(&census(&format!("\"{json}\"")), &text, &json);
                let mut units = TextCensus::default();
                text.encode_utf16().for_each(|unit| units.count_unit(unit));
                check(&units, &text, &text);
            }

            #[test]
            fn a_text_has_the_same_counts_in_runs(text in "[aX1 .é中]{0,300}", cuts in proptest::collection::vec(0..300_usize, 0..4)) {
                let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
                cuts.sort_unstable();
                let mut census = TextCensus::default();
                cuts.windows(2).for_each(|cut| census.count_run(text.as_bytes(), cut[0]..cut[1]));
                check(&census, &text, &text);
            }
        }
    }
}
