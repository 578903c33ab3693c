//! The guard against prompt injection: a versioned set of rules over the meanings of words.
//!
//! A text is folded ([`crate::guard::fold`]), its words become meanings ([`tokens`]), and a rule ([`rules`]) matches where
//! some meanings stand close together. Texts are looked at in several views: as they are, and with what is encoded in them.

mod lexicon;
mod rules;
mod scan;
#[cfg(test)]
mod tests;
mod tokens;
mod words;

use crate::guard::{decode, fold};

pub use rules::VERSION;
use rules::{AttackRule, MENTION, Near, RULES, TITLE};
pub use scan::Form;
use scan::Scan;
use tokens::{CLOSES, HIDDEN, OPENS};
use words::{ABOUT, ANCHOR, Classes, FOLLOW, IGNORE, NOT, REVEAL, SEND, STOP, TOPIC};

/// How readily a text is taken for an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensitivity {
    /// Only what hardly anybody writes without meaning it.
    Low,
    /// What is most likely an attack.
    Medium,
    /// What may be one; texts about attacks too.
    High,
}

/// What was found in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// The least sensitive setting that takes it for an attack.
    pub level: Sensitivity,
    /// The kind of attack.
    pub family: &'static str,
}

/// No rule looks further than so many words.
const REACH: usize = 25;
/// Bytes of folded text that are read at once.
const CHUNK: usize = 32 * 1024;
/// Bytes of it that are read again with what follows.
const OVERLAP: usize = 2 * 1024;

/// Whether `bytes` may hold a finding. It is quick, and says no for nearly all texts.
pub fn suspects(bytes: &[u8], form: Form) -> bool {
    Scan::get().suspects(bytes, form)
}

/// The strongest finding in `text` that `most` does not pass over.
pub fn detect(text: &str, most: Sensitivity) -> Option<Detection> {
    let mut strongest = None;
    let mut folded = String::new();
    decode::views(text, &mut |view| {
        folded.clear();
        fold::fold(&view, &mut folded);
        strongest = strongest_of(strongest, read(&folded, most));
        !matches!(strongest, Some(Detection { level: Sensitivity::Low, .. }))
    });
    strongest
}

fn read(folded: &str, most: Sensitivity) -> Option<Detection> {
    let mut strongest = None;
    let mut tokens = Vec::new();
    let mut start = 0;
    while start < folded.len() {
        let end = boundary(folded, start + CHUNK);
        tokens.clear();
        tokens::read(folded.get(start..end).unwrap_or_default(), &mut tokens);
        negate(&mut tokens);
        strongest = strongest_of(strongest, find(&tokens, most));
        if end == folded.len() || matches!(strongest, Some(Detection { level: Sensitivity::Low, .. })) {
            break;
        }
        start = boundary(folded, end - OVERLAP);
    }
    strongest
}

/// The first place at or after `at` where a character begins.
fn boundary(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

fn strongest_of(one: Option<Detection>, other: Option<Detection>) -> Option<Detection> {
    match (one, other) {
        (Some(one), Some(other)) if other.level < one.level => Some(other),
        (None, other) => other,
        (one, _) => one,
    }
}

/// "Do not ignore" asks for the contrary, and "do not follow" is to ignore.
fn negate(tokens: &mut [Classes]) {
    for at in 0..tokens.len() {
        let Some(&token) = tokens.get(at) else { break };
        if token & (NOT | STOP) == 0 {
            continue;
        }
        for next in tokens.iter_mut().skip(at + 1).take(2) {
            if *next & FOLLOW != 0 {
                *next = *next & !FOLLOW | IGNORE;
            } else if token & NOT != 0 {
                *next &= !(IGNORE | REVEAL | SEND);
            }
        }
    }
}

fn find(tokens: &[Classes], most: Sensitivity) -> Option<Detection> {
    let keys = const { keys() };
    let mut strongest: Option<Detection> = None;
    let present = tokens.iter().fold(0, |present, token| present | token);
    for (at, &token) in tokens.iter().enumerate().filter(|(_, token)| *token & keys != 0) {
        let near = around(tokens, at, REACH, REACH).iter().fold(0, |near, token| near | token);
        let mut mentioned: Option<bool> = None;
        for rule in RULES.iter().filter(|rule| rule.key & token != 0 && rule.level <= most) {
            // What is no strongest_of than what was found changes nothing.
            if strongest.is_some_and(|strongest| strongest.level <= rule.level) {
                continue;
            }
            let may = rule.needs.iter().all(|need| need.0 & near != 0);
            if !may || !rule.matches(tokens, at) || !is_anchored(tokens, at) {
                continue;
            }
            let level =
                if *mentioned.get_or_insert_with(|| is_mentioned(tokens, present, at)) { Sensitivity::High } else { rule.level };
            if level <= most {
                strongest = strongest_of(strongest, Some(Detection { level, family: rule.family }));
            }
        }
        if matches!(strongest, Some(Detection { level: Sensitivity::Low, .. })) {
            break;
        }
    }
    strongest
}

/// All keys of all rules.
const fn keys() -> Classes {
    let (mut keys, mut rules) = (0, RULES);
    while let [rule, rest @ ..] = rules {
        keys |= rule.key;
        rules = rest;
    }
    keys
}

/// Whether something around `at` is what [`Scan`] looks for.
fn is_anchored(tokens: &[Classes], at: usize) -> bool {
    around(tokens, at, MENTION, MENTION).iter().any(|token| token & (ANCHOR | HIDDEN) != 0)
}

/// Whether the words around `at` speak about an attack: they quote it and say so, or name the topic and ask. `present` is what
/// any token says.
fn is_mentioned(tokens: &[Classes], present: Classes, at: usize) -> bool {
    let any = |before, after, classes| around(tokens, at, before, after).iter().any(|token| token & classes != 0);
    let quoted = any(14, 0, OPENS) && any(0, 14, CLOSES);
    present & TOPIC != 0 && any(TITLE, MENTION, TOPIC) || quoted && any(MENTION, MENTION, ABOUT)
}

/// The tokens from `before` words before `at` to `after` words after.
fn around(tokens: &[Classes], at: usize, before: usize, after: usize) -> &[Classes] {
    let end = at.saturating_add(after).saturating_add(1).min(tokens.len());
    tokens.get(at.saturating_sub(before)..end).unwrap_or_default()
}

// === impl AttackRule ===

impl AttackRule {
    fn matches(&self, tokens: &[Classes], at: usize) -> bool {
        let holds = |near: &Near| near.holds(tokens, at, self.key);
        self.needs.iter().all(holds) && !self.unless.iter().any(holds)
    }
}

// === impl Near ===

impl Near {
    /// What makes a word the key does not count once more.
    fn holds(&self, tokens: &[Classes], at: usize, key: Classes) -> bool {
        let Self(classes, before, after) = *self;
        let own = tokens.get(at).copied().unwrap_or_default();
        own & classes & !key != 0
            || around(tokens, at, before, 0).split_last().is_some_and(|(_, rest)| rest.iter().any(|token| token & classes != 0))
            || around(tokens, at, 0, after).iter().skip(1).any(|token| token & classes != 0)
    }
}
