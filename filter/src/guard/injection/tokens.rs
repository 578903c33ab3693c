//! Splits a folded text into tokens: the classes of each word, and of a few signs.

use super::lexicon::Lexicon;
use super::words::{ANCHOR, Classes};
use crate::guard::fold::{may_be_latin, to_cyrillic, to_latin};

/// A quotation mark precedes the word.
pub const OPENS: Classes = 1 << 48;
/// A quotation mark follows the word.
pub const CLOSES: Classes = 1 << 49;
/// The word is the first of a sentence.
pub const BREAK: Classes = 1 << 50;
/// The word is the first of a line.
pub const LINE: Classes = 1 << 51;
/// A bracket precedes the word: `[`, `<`, `{`, or one with a slash.
pub const BRACKET: Classes = 1 << 52;
/// A colon follows the word.
pub const COLON: Classes = 1 << 53;
/// A row of `#`, `=`, `-` or `*` precedes the word.
pub const HEAD: Classes = 1 << 54;
/// An address: `https://…` or `name@host`.
pub const ADDRESS: Classes = 1 << 55;
/// `![`, or an `img` tag.
pub const IMAGE: Classes = 1 << 56;
/// A marker of a chat template: `<|…`, `[INST]`, `<<SYS>>`.
pub const TEMPLATE: Classes = 1 << 57;
/// The word was hidden: spelled out, in leet, or with letters of another script.
pub const HIDDEN: Classes = 1 << 58;

/// The minimum number of single letters that are joined to a word.
const SPELLED: usize = 4;
/// Words that are longer and not in the vocabulary are searched for words within them.
pub const LONG_WORD: usize = 13;
/// The maximum length of a word, in bytes.
const LONGEST_WORD: usize = 4096;

/// A word of a folded text.
#[derive(Debug, Clone, Copy)]
struct Word<'t> {
    text: &'t str,
    /// The bytes between this word and the previous one.
    gap: &'t str,
    marks: Classes,
}

/// Appends the tokens of the folded `text` to `tokens`.
pub fn read(text: &str, tokens: &mut Vec<Classes>) {
    let words = words(text);
    let spelled = spelled(&words);
    let lexicon = Lexicon::get();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let spelled = spelled.get(at).copied().unwrap_or_default();
        if spelled >= SPELLED {
            spell(lexicon, words.get(at..at + spelled).unwrap_or_default(), tokens);
            at += spelled;
            continue;
        }
        let next = |n: usize| words.get(at + 1 + n).map(|word| word.text);
        mean(lexicon, word, next, tokens);
        at += 1;
    }
}

fn mean<'t>(lexicon: &Lexicon, word: &Word<'t>, next: impl Fn(usize) -> Option<&'t str>, tokens: &mut Vec<Classes>) {
    let classes = lexicon.meaning(word.text, next);
    if classes != 0 || word.text.is_empty() {
        return tokens.push(classes | word.marks);
    }
    let ascii = word.text.is_ascii();
    if ascii && word.text.len() < 16 && word.text.contains('\'') {
        return tokens.push(lexicon.meaning(&word.text.replace('\'', ""), |_| None) & !ANCHOR | word.marks);
    }
    if let Some(classes) = if ascii { plain(lexicon, word.text) } else { disguised(lexicon, word.text) } {
        let hidden = if !ascii || has_inner_digit(word.text) { HIDDEN } else { 0 };
        return tokens.push(classes | hidden | word.marks);
    }
    if word.text.len() > LONG_WORD && ascii || word.text.chars().any(is_unspaced) {
        let first = tokens.len();
        segment(lexicon, word.text, false, tokens);
        if let Some(token) = tokens.get_mut(first) {
            *token |= word.marks & !CLOSES & !COLON;
        }
        if let Some(token) = tokens.get_mut(first..).and_then(<[Classes]>::last_mut) {
            *token |= word.marks & (CLOSES | COLON);
            return;
        }
    }
    tokens.push(word.marks);
}

/// Returns the classes of an ASCII word with digits and signs read as letters.
fn plain(lexicon: &Lexicon, word: &str) -> Option<Classes> {
    if word.len() > 32 || word.bytes().all(|b| b.is_ascii_alphabetic()) || !word.bytes().any(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    Some(leet(lexicon, word)).filter(|&classes| classes != 0)
}

/// Returns the classes of a word with digits and signs read as letters. `1` is read as `i` or as `l`.
pub fn leet(lexicon: &Lexicon, word: &str) -> Classes {
    ['i', 'l'].into_iter().map(|one| lexicon.meaning(&letters(word, one), |_| None)).find(|&classes| classes != 0).unwrap_or(0)
}

/// Returns whether a digit is between two letters.
pub fn has_inner_digit(word: &str) -> bool {
    let inner =
        |three: &[u8]| matches!(three, [a, b, c] if a.is_ascii_alphabetic() && b.is_ascii_digit() && c.is_ascii_alphabetic());
    word.as_bytes().windows(3).any(inner)
}

/// Returns the classes of a word with letters of several scripts.
fn disguised(lexicon: &Lexicon, word: &str) -> Option<Classes> {
    let candidate = if may_be_latin(word) { to_latin(word) } else { None };
    let latin = candidate.map_or(0, |word| lexicon.meaning(&word, |_| None) | plain(lexicon, &word).unwrap_or(0));
    if latin != 0 {
        return Some(latin);
    }
    let mixed = word.bytes().any(|b| b.is_ascii_alphanumeric());
    let cyrillic = if mixed { lexicon.meaning(&to_cyrillic(word), |_| None) } else { 0 };
    (cyrillic != 0).then_some(cyrillic)
}

fn letters(word: &str, one: char) -> String {
    let letter = |c| match c {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '2' => 'z',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '6' | '9' => 'g',
        '7' => 't',
        '8' => 'b',
        c => c,
    };
    word.chars().map(letter).collect()
}

/// Returns for each word how many words from it on are single letters, close together. It counts from the end, so that a long run
/// of candidates takes linear time.
fn spelled(words: &[Word<'_>]) -> Vec<usize> {
    let mut counts = vec![0; words.len()];
    let (mut count, mut letters) = (0, 0);
    let mut gap = "";
    for (word, spelled) in words.iter().zip(&mut counts).rev() {
        if gap.len() > 6 {
            (count, letters) = (0, 0);
        }
        gap = word.gap;
        if word.text.len() > 4 || word.text.chars().take(2).count() != 1 {
            (count, letters) = (0, 0);
            continue;
        }
        count += 1;
        letters += usize::from(word.text.bytes().all(|b| b.is_ascii_alphabetic()));
        // Otherwise these are numbers, or letters of a script without spaces.
        *spelled = if letters * 2 >= count { count } else { 0 };
    }
    counts
}

/// Joins letters to words. A gap wider than the narrowest one ends a word.
fn spell(lexicon: &Lexicon, words: &[Word<'_>], tokens: &mut Vec<Classes>) {
    let gap = words.iter().skip(1).map(|word| word.gap.len()).min().unwrap_or_default();
    let mut joined = String::new();
    let common = words.get(1).map(|word| word.gap);
    for (n, word) in words.iter().enumerate() {
        let other = word.gap.len() > gap
            || word.gap.len() == gap && Some(word.gap) != common && !word.gap.trim().eq(common.unwrap_or_default().trim());
        if n > 0 && other {
            spelled_word(lexicon, &joined, tokens);
            joined.clear();
        }
        joined.push_str(word.text);
        if joined.len() > LONGEST_WORD {
            spelled_word(lexicon, &joined, tokens);
            joined.clear();
        }
    }
    spelled_word(lexicon, &joined, tokens);
}

fn spelled_word(lexicon: &Lexicon, word: &str, tokens: &mut Vec<Classes>) {
    let classes = lexicon.meaning(word, |_| None);
    let classes = if classes == 0 { plain(lexicon, word).unwrap_or(0) } else { classes };
    if classes != 0 || word.len() < 8 {
        return tokens.push(classes | HIDDEN);
    }
    segment(lexicon, word, true, tokens);
}

/// Appends the classes of the words within a run of letters, longest match first. Letters that belong to no word are skipped; in
/// scripts without spaces they are tokens. The fast scan sees the start of a run and runs that were spelled out, so only words
/// there can be anchors.
fn segment(lexicon: &Lexicon, run: &str, spelled: bool, tokens: &mut Vec<Classes>) {
    let mut rest = run;
    while let Some(c) = rest.chars().next() {
        let unspaced = is_unspaced(c);
        let length = match lexicon.longest(rest) {
            Some((length, classes)) if unspaced || length >= 3 => {
                let seen = unspaced || spelled || rest.len() == run.len();
                tokens.push(if seen { classes } else { classes & !ANCHOR });
                length
            }
            _ => {
                if unspaced {
                    tokens.push(0);
                }
                c.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// Returns whether `c` belongs to a script without spaces, or one that joins particles to words.
fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c), 0xe00..=0xeff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x2e80..=0xd7ff | 0xf900..=0xfaff | 0x20000..=0x3ffff)
}

/// Returns whether `c` is part of a word in any position.
fn is_letter(c: char) -> bool {
    // The most frequent first: ASCII, Cyrillic, then Han and Hangul.
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    if matches!(c, '\u{400}'..='\u{52f}' | '\u{3100}'..='\u{d7ff}') {
        return true;
    }
    !matches!(u32::from(c), 0x80..=0xbf | 0xd7 | 0xf7 | 0x589 | 0x60c | 0x61b | 0x61f | 0x66a..=0x66d | 0x6d4 | 0x964 | 0x965 | 0x2000..=0x2bff
        | 0x3000..=0x3004 | 0x3008..=0x3020 | 0x3030 | 0x30fb | 0xe000..=0xf8ff | 0xfe10..=0xfe6f | 0xff00..=0xff0f | 0xff5f..=0xff65 | 0xfffc..=0xffff
        | 0x1f000..=0x1faff)
}

/// Splits a folded text into words.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    let (mut rest, mut gap_start, mut marks) = (text, 0, LINE | BREAK);
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        let gap = text.get(gap_start..at).unwrap_or_default();
        if is_letter(c) || starts_leet(c, rest) {
            let length = word_length(rest);
            let word = rest.get(..length).unwrap_or_default();
            rest = rest.get(length..).unwrap_or_default();
            let address = is_address(word, rest);
            words.push(Word { text: word, gap, marks: marks | address });
            marks = 0;
            if address != 0 {
                rest = rest.trim_start_matches(|c: char| {
                    !c.is_whitespace() && !matches!(c, ')' | '"' | '>' | '<' | '?' | '=') && c.is_ascii()
                });
            }
            gap_start = text.len() - rest.len();
            continue;
        }
        let (mark, length) = sign(c, rest, gap, &mut words);
        marks |= mark;
        rest = rest.get(length.max(c.len_utf8())..).unwrap_or_default();
    }
    words
}

/// Reads a sign between words. Returns the marks that it adds to the next word, and its length.
fn sign<'t>(c: char, rest: &'t str, gap: &'t str, words: &mut Vec<Word<'t>>) -> (Classes, usize) {
    match c {
        '<' if rest.starts_with("<|")
            || rest.starts_with("<<sys")
            || rest.starts_with("<</sys")
            || rest.starts_with("<start_of_turn")
            || rest.starts_with("<end_of_turn") =>
        {
            words.push(Word { text: "", gap, marks: TEMPLATE });
            (BRACKET, 2)
        }
        '[' if rest.starts_with("[inst]") || rest.starts_with("[/inst]") => {
            words.push(Word { text: "", gap, marks: TEMPLATE });
            (0, 6)
        }
        '!' if rest.starts_with("![") => {
            words.push(Word { text: "", gap, marks: IMAGE | ANCHOR });
            (0, 2)
        }
        '<' if rest.starts_with("<img") => {
            words.push(Word { text: "", gap, marks: IMAGE });
            (0, 4)
        }
        '"' | '`' | '\'' => {
            // It counts as opening for the next word and as closing for the previous one.
            if let Some(word) = words.last_mut() {
                word.marks |= CLOSES;
            }
            (OPENS, 1)
        }
        '.' | '!' | '?' | ';' => (BREAK, 1),
        '\n' => (LINE | BREAK, 1),
        ':' => {
            if let Some(word) = words.last_mut() {
                word.marks |= COLON;
            }
            (0, 1)
        }
        '[' | '<' | '{' | '/' => (BRACKET, 1),
        '#' | '=' | '-' | '*' if rest.get(..2).is_some_and(|two| two.bytes().all(|b| char::from(b) == c)) => (HEAD, 2),
        _ => (0, 1),
    }
}

/// Returns the length of the word at the start of `rest`.
pub fn word_length(rest: &str) -> usize {
    let mut length = 0;
    for c in rest.chars() {
        let inner = |c: char| {
            let tail = || rest.get(length + c.len_utf8()..).and_then(|tail| tail.chars().next());
            matches!(c, '@' | '$' | '!' | '\'') && tail().is_some_and(is_letter)
        };
        if length > LONGEST_WORD || length > 0 && !is_letter(c) && !inner(c) {
            break;
        }
        length += c.len_utf8();
    }
    length
}

/// Returns whether a word starts with a sign that stands for a letter: `!gnore`, `$ystem`, `@ll`.
fn starts_leet(c: char, rest: &str) -> bool {
    matches!(c, '$' | '!' | '@') && rest.as_bytes().get(1).is_some_and(u8::is_ascii_alphabetic)
}

fn is_address(word: &str, rest: &str) -> Classes {
    let url = (word == "http" || word == "https") && rest.starts_with("://");
    let mail = rest.starts_with('.') && word.bytes().skip(1).any(|b| b == b'@');
    if url || mail { ADDRESS } else { 0 }
}
