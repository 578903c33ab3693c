//! The prefilter: which bodies may contain an attack at all.
//!
//! It reads the raw bytes of the document, 64 at a time, and rules out nearly every text without decoding it. A finding needs an
//! *anchor*: a word of at least five letters that few texts contain, or hidden or foreign characters. The prefilter searches for
//! words that begin like an anchor, and for everything that folding may turn into one: characters beyond ASCII, escapes,
//! references, letters spelled out, digits within words, and runs that may be encoded. It may suspect a text without a finding,
//! but never rules out one with a finding; a property test checks this.

use std::sync::OnceLock;

use super::lexicon::Lexicon;
use super::tokens;
use super::words::{ANCHOR, ANCHOR_LETTERS, is_anchor};
use crate::guard::decode::{BACKWARDS, ROTATED};
use crate::guard::fold;
use crate::simd::{U8x16, Vector};

/// The longest word with accents that is checked, in bytes; a longer one is suspect.
const LONG_WORD: usize = 48;
/// The key of the messages array.
const MESSAGES: &[u8] = b"\"messages\"";
/// The size of the bitmap: one bit for each value of the hash.
const BITS: usize = 1 << 15;

/// A bitmap of the hashes of the first letters of all anchors.
pub struct Scan {
    bits: Vec<u64>,
}

/// The classes of 64 bytes: in each mask, one bit for each byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Masks {
    letters: u64,
    digits: u64,
    /// Bytes beyond ASCII.
    foreign: u64,
    backslashes: u64,
    /// `&`, `!`, `@`, `$`, and opening brackets.
    signs: u64,
}

/// The encoding of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A whole request body: JSON. One with more structure than an array of flat messages is suspect too, because it may contain
    /// content other than text, and texts that are concatenated.
    Body,
    /// A JSON string, still escaped.
    Raw,
    /// A decoded string.
    Decoded,
}

/// The state that is carried from one block of 64 bytes to the next.
#[derive(Default)]
struct Carry {
    /// The last byte was a backslash that begins an escape.
    escape: bool,
    alnum: u64,
    letters: u64,
    digits: u64,
    starts: u64,
    singles: u64,
}

/// A block that needs a closer check.
struct Look<'s> {
    scan: &'s Scan,
    bytes: &'s [u8],
    form: Form,
    at: usize,
    masks: &'s Masks,
    escaped: u64,
    /// Boundaries between digits and letters.
    mixed: u64,
    before: &'s Carry,
    now: &'s Carry,
}

// === impl Scan ===

impl Scan {
    /// Returns the shared scan, which the first call builds.
    pub fn get() -> &'static Self {
        static SCAN: OnceLock<Scan> = OnceLock::new();
        SCAN.get_or_init(Self::new)
    }

    fn new() -> Self {
        let mut scan = Self { bits: vec![0; BITS / 64] };
        for (stem, _) in Lexicon::get().stems().filter(|(stem, classes)| is_anchor(stem, *classes)) {
            scan.set(start_of(stem.as_bytes()));
        }
        for turned in BACKWARDS.iter().chain(&ROTATED) {
            scan.set(start_of(*turned));
        }
        scan
    }

    fn set(&mut self, start: u64) {
        let bit = hash(start);
        if let Some(word) = self.bits.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    fn has(&self, start: u64) -> bool {
        let bit = hash(start);
        self.bits.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// Returns whether `bytes` may contain a finding.
    pub fn suspects(&self, bytes: &[u8], form: Form) -> bool {
        let mut carry = Carry::default();
        let mut at = 0;
        let mut rest = bytes;
        while let Some((block, tail)) = rest.split_first_chunk::<64>() {
            if self.block(bytes, form, at, &masks(block), &mut carry) {
                return true;
            }
            at += 64;
            rest = tail;
        }
        let mut last = [b' '; 64];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.block(bytes, form, at, &masks(&last), &mut carry)
    }

    #[inline]
    fn block(&self, bytes: &[u8], form: Form, at: usize, masks: &Masks, carry: &mut Carry) -> bool {
        let escaped = if form == Form::Decoded { 0 } else { escaped(masks.backslashes, carry) };
        let letters = masks.letters & !escaped;
        let digits = masks.digits & !escaped;
        let alnum = letters | digits;
        let before = alnum << 1 | carry.alnum >> 63;
        let starts = alnum & !before;
        // Words of one character are marked where they end, so that the next block is not needed.
        let singles = before & !alnum & !(alnum << 2 | carry.alnum >> 62);
        let last_digit = digits << 1 | carry.digits >> 63;
        let mixed = letters & last_digit | digits & (letters << 1 | carry.letters >> 63);
        let mut odd = mixed != 0 || has_full_lane(alnum);
        odd |= singles.count_ones() + carry.singles.count_ones() >= 3;
        odd |= pairs(alnum, before, carry) >= 8;
        odd |= masks.foreign | masks.signs | masks.backslashes | escaped != 0;
        let now = Carry { escape: carry.escape, alnum, letters, digits, starts, singles };
        let look = Look { scan: self, bytes, form, at, masks, escaped, mixed, before: carry, now: &now };
        let suspect = odd && look.closely() || self.anchors(bytes, form, at, long(letters) & !(letters << 1 | carry.letters >> 63));
        *carry = now;
        suspect
    }

    /// Returns whether a word at one of `starts` begins like an anchor.
    #[inline]
    fn anchors(&self, bytes: &[u8], form: Form, at: usize, mut starts: u64) -> bool {
        while starts != 0 {
            let start = at + starts.trailing_zeros() as usize;
            starts &= starts - 1;
            let letters = match bytes.get(start..).and_then(<[u8]>::first_chunk::<8>) {
                Some(&eight) => (u64::from_le_bytes(eight) | 0x20_2020_2020) & 0xff_ffff_ffff,
                None => start_of(bytes.get(start..).unwrap_or_default()),
            };
            if self.has(letters) && is_anchor_word(bytes, start) && !(form == Form::Body && is_name(bytes, start)) {
                return true;
            }
        }
        false
    }

    /// Returns whether the character at `at`, which is beyond ASCII, is suspect: neither plain punctuation nor an accented letter
    /// in a word that is not an anchor.
    fn foreign(&self, bytes: &[u8], at: usize) -> bool {
        let byte = |offset: usize| bytes.get(at + offset).copied().unwrap_or_default();
        match (byte(0), byte(1)) {
            (0x80..0xc0, _) => false,
            (0xc2, second) => matches!(second, 0x85 | 0xaa | 0xad | 0xb2 | 0xb3 | 0xb9 | 0xba),
            (0xc3..=0xc5, _) => self.accented(bytes, at),
            (0xe2, 0x80) => !matches!(byte(2), 0x80..=0x8a | 0x90..=0xa7 | 0xaf..=0xbf),
            (0xe2, 0x82) => byte(2) != 0xac,
            (0xe2, 0x84) => byte(2) != 0xa2,
            (0xe2, 0x86..=0x91 | 0x94..=0x9e) => false,
            (0xf0, 0x9f) => !matches!(byte(2), 0x8c..=0x9b | 0xa4..=0xab),
            _ => true,
        }
    }

    /// Returns whether the word around an accented letter begins like an anchor after folding.
    fn accented(&self, bytes: &[u8], at: usize) -> bool {
        let back = latin(bytes.get(..at).unwrap_or_default().iter().rev().copied());
        // The end of a quotation mark looks like the end of a letter.
        let begin = (at - back..at).find(|&at| !matches!(bytes.get(at), Some(0x80..=0xbf))).unwrap_or(at);
        // A letter may be the end of an escape.
        let escape = begin > 0 && bytes.get(begin - 1) == Some(&b'\\');
        let sign = begin > 0 && is_inner_sign(bytes, begin - 1);
        back > LONG_WORD || sign || self.folded(bytes, begin) || escape && self.folded(bytes, begin + 1)
    }

    fn folded(&self, bytes: &[u8], begin: usize) -> bool {
        let (mut start, mut count, mut at) = (0_u64, 0, begin);
        while count < ANCHOR_LETTERS {
            let byte = bytes.get(at).copied().unwrap_or_default();
            let (letters, length): (&[u8], usize) = match byte {
                // Digits of an escaped letter, or digits in place of letters.
                b'0'..=b'9' => return true,
                b'a'..=b'z' | b'A'..=b'Z' => (&[byte | 0x20], 1),
                0xc3..=0xc5 => {
                    let code = u32::from(byte & 0x1f) << 6 | u32::from(bytes.get(at + 1).copied().unwrap_or_default() & 0x3f);
                    match (code, char::from_u32(code).and_then(fold::base)) {
                        (0xc6 | 0xe6, _) => (b"ae", 2),
                        (0x152 | 0x153, _) => (b"oe", 2),
                        (0xdf, _) => (b"ss", 2),
                        (_, Some(base)) => (&[base], 2),
                        _ => return true,
                    }
                }
                b'\'' => (b"", 1),
                _ if is_inner_sign(bytes, at) => return true,
                0x80.. => return false,
                _ => break,
            };
            for letter in letters.iter().take(ANCHOR_LETTERS - count) {
                start |= u64::from(*letter) << (8 * count);
                count += 1;
            }
            at += length;
        }
        count == ANCHOR_LETTERS && self.has(start) && is_folded_anchor(bytes.get(begin..).unwrap_or_default())
    }
}

// === impl Look ===

impl Look<'_> {
    #[cold]
    fn closely(&self) -> bool {
        ones(self.mixed).any(|bit| is_leet(self.bytes, self.at + bit))
            || has_full_lane(self.now.alnum)
            || pairs(self.now.alnum, self.now.alnum << 1 | self.before.alnum >> 63, self.before) >= 8
            || self.escapes()
            || ones(self.masks.signs).any(|bit| self.sign(self.at + bit))
            || self.before.singles.count_ones() + self.now.singles.count_ones() >= 3 && spelled(self.before, self.now)
            || ones(self.masks.foreign)
                .any(|bit| self.byte(self.at + bit) >= Some(0xc0) && self.scan.foreign(self.bytes, self.at + bit))
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// Returns whether the block contains an escape such as `\u0041`, of JSON or in the text itself.
    fn escapes(&self) -> bool {
        let code = |at: usize| matches!(self.byte(at), Some(b'u' | b'x'));
        match self.form {
            Form::Decoded => ones(self.masks.backslashes).any(|bit| code(self.at + bit + 1)),
            Form::Body | Form::Raw => ones(self.escaped).any(|bit| match self.byte(self.at + bit) {
                Some(b'u') => true,
                Some(b'\\') => code(self.at + bit + 1),
                _ => false,
            }),
        }
    }

    fn sign(&self, at: usize) -> bool {
        match self.byte(at) {
            Some(b'&') => is_reference(self.bytes, at),
            Some(b'!') if self.byte(at + 1) == Some(b'[') => true,
            // At the end of a word, a sign does not replace a letter.
            Some(b'!' | b'@' | b'$') => is_inner_sign(self.bytes, at) && is_leet(self.bytes, at),
            Some(b'[' | b'{') => self.form == Form::Body && self.is_structure(at),
            _ => false,
        }
    }

    /// Returns whether the bracket at `at` may open a value other than the messages array. A second messages array is content of
    /// a message.
    fn is_structure(&self, at: usize) -> bool {
        let before = self.bytes.get(..at).unwrap_or_default().trim_ascii_end();
        match (before.last(), self.byte(at)) {
            (Some(b':'), Some(b'[')) => {
                let key = before.strip_suffix(b":").unwrap_or_default().trim_ascii_end();
                key.strip_suffix(MESSAGES).is_none_or(|before| memchr::memmem::find(before, MESSAGES).is_some())
            }
            (Some(b':'), _) | (Some(b',' | b'['), Some(b'[')) => true,
            _ => false,
        }
    }
}

/// Returns how many bytes may be letters of one word: ASCII letters and digits, and two-byte Latin letters.
fn latin(bytes: impl Iterator<Item = u8>) -> usize {
    bytes.take(LONG_WORD + 1).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, 0x80..=0xbf | 0xc3..=0xc5)).count()
}

/// Returns whether the byte at `at` is a sign that may replace a letter, followed by more of a word.
fn is_inner_sign(bytes: &[u8], at: usize) -> bool {
    let next = bytes.get(at + 1).is_some_and(|b| b.is_ascii_alphanumeric() || !b.is_ascii());
    next && matches!(bytes.get(at), Some(b'$' | b'@' | b'!'))
}

/// Returns whether the first word of `rest`, which begins like an anchor after folding, is an anchor. If in doubt, it is.
#[cold]
fn is_folded_anchor(rest: &[u8]) -> bool {
    let length = latin(rest.iter().copied());
    let word = rest.get(..length).and_then(|word| std::str::from_utf8(word).ok());
    let (Some(word), true) = (word, length < LONG_WORD && !is_inner_sign(rest, length)) else { return true };
    let mut folded = String::new();
    fold::fold(word, &mut folded);
    folded.len() > tokens::LONG_WORD
        || folded.bytes().any(|b| b.is_ascii_digit())
        || Lexicon::get().meaning(&folded, |_| None) & ANCHOR != 0
}

/// Returns whether the word around `at` has a digit between two letters, or is an anchor if its digits and signs are read as
/// letters. The word may begin after an escape. If in doubt, the answer is yes.
#[cold]
fn is_leet(bytes: &[u8], at: usize) -> bool {
    let part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'$' | b'!' | b'\'');
    let back = bytes.get(..at).unwrap_or_default().iter().rev().take(LONG_WORD).take_while(|b| part(b)).count();
    let rest = bytes.get(at - back..).unwrap_or_default();
    let length = rest.iter().take(LONG_WORD * 2).take_while(|b| part(b)).count();
    let Some(word) = rest.get(..length).and_then(|word| std::str::from_utf8(word).ok()) else { return true };
    let word = word.to_ascii_lowercase();
    let anchors = |start: usize| {
        let rest = word.get(start..).unwrap_or_default();
        let word = rest.get(..tokens::word_length(rest)).unwrap_or_default();
        tokens::leet(Lexicon::get(), word) & ANCHOR != 0
    };
    let signs = word.bytes().enumerate().filter(|(_, b)| !b.is_ascii_alphanumeric()).map(|(at, _)| at);
    length >= LONG_WORD || tokens::has_inner_digit(&word) || (0..3).chain(signs).any(anchors)
}

/// Returns whether the word at `start`, which begins like an anchor, is an anchor. If in doubt, it is.
#[cold]
fn is_anchor_word(bytes: &[u8], start: usize) -> bool {
    let rest = bytes.get(start..).unwrap_or_default();
    let length = rest.iter().take(32).take_while(|b| b.is_ascii_alphanumeric()).count();
    let word: String = rest.iter().take(length).map(|b| char::from(b.to_ascii_lowercase())).collect();
    let plain = length < 14 && word.bytes().all(|b| b.is_ascii_lowercase()) && rest.get(length) != Some(&b'\'');
    let turned = BACKWARDS.iter().chain(&ROTATED).any(|turned| word.as_bytes().starts_with(*turned));
    !plain || turned || Lexicon::get().meaning(&word, |_| None) & ANCHOR != 0
}

/// Returns whether the word at `start` of a body is a whole string (`"role":"system"`), or part of the model's name. A longer word
/// may be several words without spaces.
///
/// The key `model` counts as the request's own only if it is the first key, or follows an array. A body that passes has only one
/// array, the messages, and the content of a string cannot look like a key, because quotes in strings are escaped.
#[cold]
fn is_name(bytes: &[u8], start: usize) -> bool {
    let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':');
    let (before, rest) = bytes.split_at(start.min(bytes.len()));
    let back = before.iter().rev().take(256).take_while(|b| name(b)).count();
    let ahead = rest.iter().take(256).take_while(|b| name(b)).count();
    let before = before.get(..before.len() - back).unwrap_or_default();
    let (Some(before), Some(b'"')) = (before.strip_suffix(b"\""), rest.get(ahead)) else { return false };
    if before.ends_with(b"\\") {
        return false;
    }
    let alone = back == 0 && ahead <= tokens::LONG_WORD && rest.iter().take(ahead).all(u8::is_ascii_alphabetic);
    let key = before.trim_ascii_end().strip_suffix(b":").unwrap_or_default().trim_ascii_end();
    let owner = key.strip_suffix(b"\"model\"").map(<[u8]>::trim_ascii_end);
    alone
        || owner.is_some_and(|owner| {
            owner.strip_suffix(b"{").is_some_and(|o| o.trim_ascii_end().is_empty())
                || owner.strip_suffix(b",").is_some_and(|o| o.trim_ascii_end().ends_with(b"]"))
        })
}

/// Returns the first letters of a word, in lower case.
fn start_of(word: &[u8]) -> u64 {
    word.iter().take(ANCHOR_LETTERS).enumerate().fold(0, |start, (n, b)| start | u64::from(b | 0x20) << (8 * n))
}

fn hash(start: u64) -> usize {
    (start.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) as usize
}

/// Returns the letters that are followed by at least four more. Letters that the next block may contain count.
#[inline]
fn long(letters: u64) -> u64 {
    let next = |n: u32| letters >> n | !0 << (64 - n);
    letters & next(1) & next(2) & next(3) & next(4)
}

/// Returns the bytes that follow a backslash that begins an escape.
#[inline]
fn escaped(backslashes: u64, carry: &mut Carry) -> u64 {
    if backslashes == 0 {
        return u64::from(std::mem::take(&mut carry.escape));
    }
    let mut escaped = 0;
    let mut open = carry.escape;
    let mut left = backslashes;
    if open {
        escaped |= 1;
        left &= !1;
        open = false;
    }
    while left != 0 {
        let bit = left.trailing_zeros();
        left &= left - 1;
        if bit == 63 {
            open = true;
        } else {
            escaped |= 1 << (bit + 1);
            left &= !(1 << (bit + 1));
        }
    }
    carry.escape = open;
    escaped
}

/// Returns whether one of the four lanes of 16 bits is full: any run of 31 fills one.
#[inline]
fn has_full_lane(mask: u64) -> bool {
    let empty = !mask;
    empty.wrapping_sub(0x0001_0001_0001_0001) & mask & 0x8000_8000_8000_8000 != 0
}

/// Counts the words of two characters that end here.
#[inline]
fn pairs(alnum: u64, before: u64, carry: &Carry) -> u32 {
    let second = alnum << 2 | carry.alnum >> 62;
    let third = alnum << 3 | carry.alnum >> 61;
    (!alnum & before & second & !third).count_ones()
}

/// Returns whether about four words of one letter follow each other.
fn spelled(before: &Carry, now: &Carry) -> bool {
    let mut run = 0;
    // A word of one letter is marked one place after its start.
    for block in [before, now] {
        for bit in ones(block.starts) {
            let single = bit == 63 || block.singles >> (bit + 1) & 1 == 1;
            run = if single { run + 1 } else { 0 };
            if run >= 3 {
                return true;
            }
        }
    }
    false
}

fn is_reference(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at + 1) {
        Some(b'#') => true,
        Some(byte) if byte.is_ascii_alphabetic() => bytes.iter().skip(at + 1).take(12).any(|b| *b == b';'),
        _ => false,
    }
}

fn ones(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        bit
    })
}

/// Computes the masks of a block.
#[inline]
fn masks(block: &[u8; 64]) -> Masks {
    let ([a, b, c, d], _) = block.as_chunks::<16>() else { return Masks::default() };
    let parts = [U8x16::load(a), U8x16::load(b), U8x16::load(c), U8x16::load(d)];
    let letters = gather(parts, |v| is_in_range(v.or(U8x16::splat(0x20)), b'z', 26));
    let digits = gather(parts, |v| is_in_range(v, b'9', 10));
    let backslashes = gather(parts, |v| v.equals(U8x16::splat(b'\\')));
    let mut masks = Masks { letters, digits, backslashes, ..Masks::default() };
    let [a, b, c, d] = parts.map(|v| v.or(is_sign(v)));
    if a.or(b).or(c).or(d).bitmask() != 0 {
        masks.foreign = gather(parts, |v| v);
        masks.signs = gather(parts, is_sign);
    }
    masks
}

/// Compares the bytes with the range of `length` values that ends with `last`.
///
/// The sum moves the range to the end of the signed numbers, so that one comparison is enough.
#[inline]
fn is_in_range(v: U8x16, last: u8, length: u8) -> U8x16 {
    U8x16::splat(127 - length).signed_less(v.plus(U8x16::splat(127 - last)))
}

/// Compares the bytes with the signs of [`Masks::signs`].
#[inline]
fn is_sign(v: U8x16) -> U8x16 {
    let is = |sign| v.equals(U8x16::splat(sign));
    let bracket = v.or(U8x16::splat(0x20)).equals(U8x16::splat(b'{'));
    bracket.or(is(b'@').or(is(b'$'))).or(is(b'&').or(is(b'!')))
}

/// Returns one bit for each byte for which `test` sets the highest one.
#[inline]
fn gather(parts: [U8x16; 4], test: impl Fn(U8x16) -> U8x16) -> u64 {
    let [a, b, c, d] = parts.map(|part| u64::from(test(part).bitmask()));
    a | b << 16 | c << 32 | d << 48
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Computes the masks byte by byte.
    fn plain(block: &[u8; 64]) -> Masks {
        let gather = |test: fn(u8) -> bool| block.iter().rev().fold(0, |mask, &b| mask << 1 | u64::from(test(b)));
        Masks {
            letters: gather(|b| b.is_ascii_alphabetic()),
            digits: gather(|b| b.is_ascii_digit()),
            foreign: gather(|b| b >= 0x80),
            backslashes: gather(|b| b == b'\\'),
            signs: gather(|b| matches!(b, b'&' | b'!' | b'@' | b'$' | b'[' | b'{')),
        }
    }

    #[test]
    fn every_byte_has_its_masks_at_every_place() {
        for byte in 0..=u8::MAX {
            for place in 0..64 {
                for filler in *b" a" {
                    let mut block = [filler; 64];
                    block[place] = byte;
                    assert_eq!(masks(&block), plain(&block), "{byte:#x} at {place}");
                }
            }
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest::proptest! {
        #[test]
        fn random_blocks_have_the_masks_of_their_bytes(a: [u8; 32], b: [u8; 32], ascii: bool) {
            let mut block = [0; 64];
            block.iter_mut().zip(a.into_iter().chain(b)).for_each(|(to, byte)| *to = if ascii { byte & 0x7f } else { byte });
            assert_eq!(masks(&block), plain(&block));
        }
    }
}
