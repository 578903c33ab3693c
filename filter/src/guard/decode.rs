//! Views of a text: the text itself, and what is encoded in it, one level deep.

use std::borrow::Cow;

/// The minimum length of Base64 that is decoded, in characters.
const LEAST_BASE64: usize = 32;
/// The minimum length of hexadecimal that is decoded, in digits.
const LEAST_HEX: usize = 32;

/// Calls `visit` with every view of `text` until it returns false: with character references and escapes decoded, reversed or
/// rotated by 13 if words indicate it, and the decoded Base64 and hexadecimal runs in it.
pub fn views(text: &str, visit: &mut dyn FnMut(Cow<'_, str>) -> bool) {
    let plain = references(text);
    let turns = turns(&plain);
    let turned = turns.backwards.then(|| plain.chars().rev().collect::<String>());
    let rotated = turns.rotated.then(|| plain.chars().map(rotate).collect::<String>());
    if !visit(plain) || turned.is_some_and(|view| !visit(view.into())) || rotated.is_some_and(|view| !visit(view.into())) {
        return;
    }
    let mut rest = text;
    while let Some((run, tail)) = next_run(rest) {
        if let Some(decoded) = hex(run).or_else(|| base64(run))
            && !visit(decoded.into())
        {
            return;
        }
        rest = tail;
    }
    if let Some(decoded) = spaced_hex(text) {
        visit(decoded.into());
    }
}

/// Decodes HTML character references, and escapes such as `\u0041`, `\x41` and `%2f`.
pub fn references(text: &str) -> Cow<'_, str> {
    if memchr::memchr3(b'&', b'\\', b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '\\', '%']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match reference(from) {
            Some((c, length)) => {
                out.extend(c);
                rest = from.get(length..).unwrap_or_default();
            }
            None => {
                out.push_str(from.get(..1).unwrap_or_default());
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Decodes the reference at the start of `text`. Returns its character, if it is valid, and its length.
fn reference(text: &str) -> Option<(Option<char>, usize)> {
    let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().map(char::from_u32);
    if let Some(rest) = text.strip_prefix("&#") {
        let (radix, skip) = if rest.starts_with(['x', 'X']) { (16, 1) } else { (10, 0) };
        let rest = rest.get(skip..)?;
        let length = rest.bytes().take(8).take_while(u8::is_ascii_hexdigit).count();
        let digits = rest.get(..length).filter(|digits| !digits.is_empty())?;
        let semicolon = usize::from(rest.as_bytes().get(length) == Some(&b';'));
        return number(digits, radix).map(|c| (c, 2 + skip + length + semicolon));
    }
    if text.starts_with('&') {
        let length = text.bytes().skip(1).take(LONGEST_NAME + 1).position(|b| b == b';')?;
        let name = text.get(1..=length)?;
        let c = NAMED.iter().find(|(known, _)| *known == name)?.1;
        return Some((Some(c), name.len() + 2));
    }
    if text.starts_with('%') {
        // Only punctuation: percent-encoded letters are not read as words by models.
        let c = number(text.get(1..3)?, 16)?.filter(|c| c.is_ascii() && !c.is_ascii_alphanumeric())?;
        return Some((Some(c), 3));
    }
    let (skip, digits) = match text.as_bytes().get(1)? {
        b'x' => (2, 2),
        b'u' => (2, 4),
        _ => return None,
    };
    number(text.get(skip..skip + digits)?, 16).map(|c| (c, skip + digits))
}

/// The maximum length of a named reference.
const LONGEST_NAME: usize = 7;

/// Named references that hide words or markup.
const NAMED: [(&str, char); 14] = [
    ("lt", '<'),
    ("gt", '>'),
    ("amp", '&'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("shy", '\u{ad}'),
    ("zwsp", '\u{200b}'),
    ("zwnj", '\u{200c}'),
    ("zwj", '\u{200d}'),
    ("ensp", ' '),
    ("emsp", ' '),
    ("Tab", '\t'),
    ("NewLine", '\n'),
];

/// Returns the next run of Base64 characters and the text after it.
fn next_run(text: &str) -> Option<(&str, &str)> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    let at = stretch(text.as_bytes(), LEAST_BASE64.min(LEAST_HEX), letter)?;
    let rest = text.get(at..)?;
    rest.split_at_checked(rest.bytes().take_while(|&b| letter(b)).count())
}

/// Returns the offset of the first `least` consecutive bytes that all are `such`. Most bytes are skipped unread.
fn stretch(bytes: &[u8], least: usize, such: impl Fn(u8) -> bool) -> Option<usize> {
    let mut at = 0;
    while let Some(last) = bytes.get(at..at + least)?.iter().rposition(|&b| !such(b)) {
        at += last + 1;
    }
    Some(at)
}

fn base64(run: &str) -> Option<String> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    if run.len() < LEAST_BASE64 {
        return None;
    }
    let mut out = Vec::with_capacity(run.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for b in run.bytes() {
        bits = bits << 6 | u32::from(value(b)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    readable(out)
}

fn hex(run: &str) -> Option<String> {
    let digits = run.strip_prefix("0x").unwrap_or(run);
    if digits.len() < LEAST_HEX || digits.len() % 2 == 1 {
        return None;
    }
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    readable(digits.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | nibble(*digit))).collect())
}

fn nibble(digit: u8) -> u8 {
    char::from(digit).to_digit(16).unwrap_or_default() as u8
}

/// Decodes pairs of hexadecimal digits with separators between them, such as `69 67 6e …`.
fn spaced_hex(text: &str) -> Option<String> {
    let such = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'x' | b' ' | b',' | b':' | b'\n' | b'-');
    stretch(text.as_bytes(), LEAST_HEX / 2 * 3 - 1, such)?;
    let mut longest: Vec<u8> = Vec::new();
    let mut current: Vec<u8> = Vec::new();
    for word in text.as_bytes().split(|b| matches!(b, b' ' | b',' | b':' | b'\n' | b'-')) {
        let word = word.strip_prefix(b"0x").unwrap_or(word);
        match *word {
            [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => current.push(nibble(a) << 4 | nibble(b)),
            [] => {}
            _ if current.is_empty() => {}
            _ => {
                if current.len() > longest.len() {
                    longest = std::mem::take(&mut current);
                }
                current.clear();
            }
        }
    }
    let longest = if current.len() > longest.len() { current } else { longest };
    if longest.len() * 2 < LEAST_HEX { None } else { readable(longest) }
}

/// Returns `bytes` as text if they are readable text.
fn readable(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let odd = text.chars().filter(|c| c.is_control() && !c.is_whitespace()).count();
    (odd == 0 && text.contains(|c: char| c.is_alphabetic())).then_some(text)
}

/// The first letters of reversed words that indicate a reversed text.
pub const BACKWARDS: [&[u8; 5]; 8] = [b"suoiv", b"snoit", b"noitc", b"tpmor", b"erong", b"selur", b"drage", b"metsy"];
/// The first letters of words rotated by 13 that indicate a rotated text.
pub const ROTATED: [&[u8; 5]; 9] = [b"erfge", b"ceriv", b"erirn", b"vafge", b"cebzc", b"vtabe", b"ehyrf", b"qvfer", b"flfgr"];

/// Which transformations the words of a text indicate.
#[derive(Default)]
struct Turns {
    backwards: bool,
    rotated: bool,
}

fn turns(text: &str) -> Turns {
    let mut turns = Turns::default();
    for (at, &[first, second]) in text.as_bytes().array_windows().enumerate() {
        if PAIRS.get(usize::from(first & 31)).is_some_and(|seconds| seconds >> (second & 31) & 1 == 1) {
            turns.backwards |= is_word(text.as_bytes(), at, &BACKWARDS);
            turns.rotated |= is_word(text.as_bytes(), at, &ROTATED);
        }
    }
    turns
}

/// For each first letter of these words, a bit set of second letters.
#[expect(clippy::indexing_slicing, reason = "a constant")]
const PAIRS: [u32; 32] = {
    let mut pairs = [0; 32];
    let mut letter = 0;
    while letter < 32 {
        pairs[letter] = seconds(&BACKWARDS, letter) | seconds(&ROTATED, letter);
        letter += 1;
    }
    pairs
};

const fn seconds(mut starts: &[&[u8; 5]], letter: usize) -> u32 {
    let mut seconds = 0;
    while let [start, rest @ ..] = starts {
        if (start[0] & 31) as usize == letter {
            seconds |= 1 << (start[1] & 31);
        }
        starts = rest;
    }
    seconds
}

/// Returns whether a word starts at `at`, with one of `starts`.
fn is_word(text: &[u8], at: usize, starts: &[&[u8; 5]]) -> bool {
    let before = at.checked_sub(1).and_then(|before| text.get(before));
    let word = text.get(at..at + 5).unwrap_or_default();
    !before.is_some_and(u8::is_ascii_alphabetic) && starts.iter().any(|start| word.eq_ignore_ascii_case(*start))
}

fn rotate(c: char) -> char {
    match c {
        'a'..='m' | 'A'..='M' => char::from(c as u8 + 13),
        'n'..='z' | 'N'..='Z' => char::from(c as u8 - 13),
        c => c,
    }
}
