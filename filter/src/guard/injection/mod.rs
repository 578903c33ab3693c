//! The guard against prompt injection: a versioned set of rules over word classes.
//!
//! A text is folded ([`crate::guard::fold`]) and split into tokens, each with the classes of one word ([`tokens`]). A rule
//! ([`rules`]) matches where certain classes are close together. Encoded content is checked as well ([`crate::guard::decode`]).

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

/// How readily a text is considered an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensitivity {
    /// Only texts that are hardly ever written without intent.
    Low,
    /// Texts that most likely are an attack.
    Medium,
    /// Texts that may be an attack, including texts about attacks.
    High,
}

/// An attack that was detected in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// The least sensitive setting that detects it.
    pub level: Sensitivity,
    /// The family of the attack.
    pub family: &'static str,
}

/// The maximum distance that a rule looks at, in words.
const REACH: usize = 25;
/// The number of bytes of folded text that are read at once.
const CHUNK: usize = 32 * 1024;
/// The number of bytes of a chunk that are read again with the next one.
const OVERLAP: usize = 2 * 1024;

/// Returns whether `bytes` may hold an attack. It is fast, and returns false for nearly all texts.
pub fn suspects(bytes: &[u8], form: Form) -> bool {
    Scan::get().suspects(bytes, form)
}

/// Returns the attack in `text` with the lowest level, up to `most`.
pub fn detect(text: &str, most: Sensitivity) -> Option<Detection> {
    let mut strongest = None;
    let mut folded = String::new();
    decode::views(text, &mut |view| {
        folded.clear();
        fold::fold(&view, &mut folded);
        strongest = lower_level(strongest, read(&folded, most));
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
        strongest = lower_level(strongest, find(&tokens, most));
        if end == folded.len() || matches!(strongest, Some(Detection { level: Sensitivity::Low, .. })) {
            break;
        }
        start = boundary(folded, end - OVERLAP);
    }
    strongest
}

/// Returns the first character boundary at or after `at`.
fn boundary(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

fn lower_level(one: Option<Detection>, other: Option<Detection>) -> Option<Detection> {
    match (one, other) {
        (Some(one), Some(other)) if other.level < one.level => Some(other),
        (None, other) => other,
        (one, _) => one,
    }
}

/// Negates classes: "do not ignore" is the contrary of ignoring, and "do not follow" is ignoring.
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
            // A rule of the same or a higher level would change nothing.
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
                strongest = lower_level(strongest, Some(Detection { level, family: rule.family }));
            }
        }
        if matches!(strongest, Some(Detection { level: Sensitivity::Low, .. })) {
            break;
        }
    }
    strongest
}

/// Returns the keys of all rules.
const fn keys() -> Classes {
    let (mut keys, mut rules) = (0, RULES);
    while let [rule, rest @ ..] = rules {
        keys |= rule.key;
        rules = rest;
    }
    keys
}

/// Returns whether the words around `at` include an anchor, which [`Scan`] looks for.
fn is_anchored(tokens: &[Classes], at: usize) -> bool {
    around(tokens, at, MENTION, MENTION).iter().any(|token| token & (ANCHOR | HIDDEN) != 0)
}

/// Returns whether the words around `at` are about an attack: they quote it and talk about it, or name the topic. `present` is the
/// union of all tokens.
fn is_mentioned(tokens: &[Classes], present: Classes, at: usize) -> bool {
    let any = |before, after, classes| around(tokens, at, before, after).iter().any(|token| token & classes != 0);
    let quoted = any(14, 0, OPENS) && any(0, 14, CLOSES);
    present & TOPIC != 0 && any(TITLE, MENTION, TOPIC) || quoted && any(MENTION, MENTION, ABOUT)
}

/// Returns the tokens from `before` words before `at` to `after` words after it.
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
    /// Returns whether one of the classes is near the key at `at`. The key itself does not count.
    fn holds(&self, tokens: &[Classes], at: usize, key: Classes) -> bool {
        let Self(classes, before, after) = *self;
        let own = tokens.get(at).copied().unwrap_or_default();
        own & classes & !key != 0
            || around(tokens, at, before, 0).split_last().is_some_and(|(_, rest)| rest.iter().any(|token| token & classes != 0))
            || around(tokens, at, 0, after).iter().skip(1).any(|token| token & classes != 0)
    }
}
