//! Random texts in several scripts.

use e2e::harness::Rng;

/// Parts of texts: words, letters, emoji of several code points, characters that JSON escapes.
const SCRIPTS: [&[&str]; 8] = [
    &["the ", "model ", "gateway ", "of ", "Tokens", ", ", ". ", "A ", "quick ", "answer "],
    &["fn ", "main() ", "{\n", "    ", "let x = 0x1f;", "\"\\n\"", "\t", "}\n", "// ", "<|im_end|>"],
    &["你", "好", "世", "界", "，", "令", "牌", "預", "算", "。"],
    &["при", "вет ", "мир", "ж", "щ", "ё", " — ", "«", "»", "ы"],
    &["مرحبا", " ", "رمز", "ع", "‏", "ال", "١٢٣", "،", "ה", "א"],
    &["🙂", "🚀", "👩‍👩‍👧", "🏳️‍🌈", "e\u{301}", "🇩🇪", " ", "𝔘", "\u{200b}", "☃"],
    &["0", "1", "23", "9", "7", "44", "5", "68", "000", "3"],
    &["\u{1}", "\u{1f}", "\\", "\"", "/", "\u{7f}", "\u{2028}", "\u{fffd}", "\r\n", "  "],
];

/// Returns a text of this number of parts, of one script or of all.
pub fn text(rng: &mut Rng, pieces: u64) -> String {
    let mixed = rng.below(4) == 0;
    let script = rng.below(SCRIPTS.len() as u64);
    (0..pieces)
        .map(|_| {
            let script = if mixed { rng.below(SCRIPTS.len() as u64) } else { script };
            *one_of(rng, SCRIPTS[usize::try_from(script).expect("small")])
        })
        .collect()
}

/// Returns a random element.
pub fn one_of<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[usize::try_from(rng.below(choices.len() as u64)).expect("small")]
}

/// Returns true with this probability in percent.
pub fn percent(rng: &mut Rng, often: u64) -> bool {
    rng.below(100) < often
}
