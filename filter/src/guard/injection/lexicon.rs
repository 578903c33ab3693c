//! The vocabulary, indexed by the first letters of words.

use std::sync::OnceLock;

use super::words::{ANCHOR, Classes, VOCABULARY, is_anchor};
use crate::guard::fold::fold;

/// The number of buckets: a power of two.
const BUCKETS: usize = 4096;
/// The maximum length of a phrase, in words.
const MAX_PHRASE_WORDS: usize = 6;

/// Words and phrases with their classes.
pub struct Lexicon {
    /// The start of each bucket in `entries`, and the end of the last one.
    starts: Vec<u32>,
    entries: Vec<LexiconEntry>,
}

struct LexiconEntry {
    stem: Box<str>,
    /// Whether the entry matches longer words with this stem.
    open: bool,
    /// The words that must follow, for a phrase.
    rest: Box<[Box<str>]>,
    classes: Classes,
    /// [`ANCHOR`] or 0.
    anchor: Classes,
}

// === impl Lexicon ===

impl Lexicon {
    /// Returns the lexicon, which is built on first use.
    pub fn get() -> &'static Self {
        static LEXICON: OnceLock<Lexicon> = OnceLock::new();
        LEXICON.get_or_init(Self::new)
    }

    fn new() -> Self {
        let mut buckets: Vec<Vec<LexiconEntry>> = Vec::new();
        buckets.resize_with(BUCKETS, Vec::new);
        for (classes, words) in VOCABULARY {
            for word in words.split_ascii_whitespace() {
                let entry = LexiconEntry::new(word, *classes);
                let Some(bucket) = buckets.get_mut(bucket(entry.stem.as_bytes())) else { continue };
                match bucket.iter_mut().find(|known| known.has_same_words(&entry)) {
                    Some(known) => {
                        known.classes |= entry.classes;
                        known.anchor |= entry.anchor;
                    }
                    None => bucket.push(entry),
                }
            }
        }
        let mut starts = vec![0];
        let mut entries = Vec::new();
        for bucket in buckets {
            entries.extend(bucket);
            starts.push(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        }
        Self { starts, entries }
    }

    /// Returns the classes of `word`. `next` returns the words that follow it.
    pub fn meaning<'w>(&self, word: &str, next: impl Fn(usize) -> Option<&'w str>) -> Classes {
        let mut classes = 0;
        for entry in self.bucket(word.as_bytes()) {
            let fits = if entry.open { word.starts_with(&*entry.stem) } else { *entry.stem == *word };
            if fits && entry.rest.iter().enumerate().all(|(n, rest)| next(n).is_some_and(|word| fits_rest(rest, word))) {
                classes |= entry.classes | entry.anchor;
            }
        }
        classes
    }

    /// Returns the longest single word at the start of `text`: its length and classes.
    pub fn longest(&self, text: &str) -> Option<(usize, Classes)> {
        let mut longest = 0;
        // A stem is at least as long as its first character.
        let least = if text.as_bytes().first() >= Some(&0xe0) { 3 } else { 1 };
        for length in least..=3 {
            let Some(start) = text.as_bytes().get(..length) else { break };
            for entry in self.bucket(start) {
                let fits = entry.rest.is_empty() && (length == 3 || entry.stem.len() == length) && text.starts_with(&*entry.stem);
                longest = if fits { longest.max(entry.stem.len()) } else { longest };
            }
        }
        let word = text.get(..longest).filter(|word| !word.is_empty())?;
        Some((longest, self.meaning(word, |_| None)))
    }

    /// Returns every stem of a single word with its classes.
    pub fn stems(&self) -> impl Iterator<Item = (&str, Classes)> {
        self.entries.iter().filter(|entry| entry.rest.is_empty()).map(|entry| (&*entry.stem, entry.classes))
    }

    fn bucket(&self, start: &[u8]) -> &[LexiconEntry] {
        let bucket = bucket(start);
        let at = |index: usize| self.starts.get(index).map_or(0, |&start| start as usize);
        self.entries.get(at(bucket)..at(bucket + 1)).unwrap_or_default()
    }
}

// === impl LexiconEntry ===

impl LexiconEntry {
    fn new(word: &str, classes: Classes) -> Self {
        let mut folded = String::new();
        fold(word, &mut folded);
        let mut words = folded.split('_').filter(|word| !word.is_empty()).take(MAX_PHRASE_WORDS);
        let first = words.next().unwrap_or_default();
        let rest: Box<[Box<str>]> = words.map(Box::from).collect();
        // Buckets are chosen by three bytes, so a shorter stem matches whole words only.
        let (stem, open) = match first.strip_suffix('*') {
            Some(stem) => (stem, stem.len() >= 3 + usize::from(is_paired(stem.as_bytes()))),
            None => (first, false),
        };
        let anchor = if rest.is_empty() && is_anchor(stem, classes) || !first.is_ascii() { ANCHOR } else { 0 };
        Self { stem: stem.into(), open, rest, classes, anchor }
    }

    fn has_same_words(&self, other: &Self) -> bool {
        self.stem == other.stem && self.open == other.open && self.rest == other.rest
    }
}

fn fits_rest(rest: &str, word: &str) -> bool {
    match rest.strip_suffix('*') {
        Some(stem) => word.starts_with(stem),
        None => rest == word,
    }
}

fn bucket(word: &[u8]) -> usize {
    let byte = |at: usize| u32::from(word.get(at).copied().unwrap_or_default());
    let key = byte(0) | byte(1) << 8 | byte(2) << 16 | if is_paired(word) { byte(3) << 24 } else { 0 };
    (key.wrapping_mul(0x9e37_79b1) >> 20) as usize % BUCKETS
}

/// Returns whether the letters of a word have two bytes each (Greek, Cyrillic, Hebrew, Arabic). The first two letters choose its
/// bucket.
fn is_paired(word: &[u8]) -> bool {
    matches!(word, [0xce..=0xdf, ..])
}
