//! The pattern guard: regular expressions that prompts must not match.
//!
//! One search takes time linear in the text, whatever the pattern; the size of a pattern is limited when it is compiled. Only
//! exceptions make more than one search for a pattern necessary, one for each match.

mod prefilter;
mod syntax;
#[cfg(test)]
mod tests;

use regex_lite::{Regex, RegexBuilder};

use super::{decode, fold};
use prefilter::Prefilter;

/// The maximum length of a pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// The maximum number of patterns of one guard.
pub const MAX_PATTERNS: usize = 64;
/// The maximum size of a compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 32 * 1024;
/// The maximum depth of groups in a pattern.
const MAX_NESTING: u32 = 32;

/// The patterns of one guard: those that reject a text, and exceptions from them.
#[derive(Debug)]
pub struct PatternCheck {
    deny: Vec<RegexPattern>,
    allow: Vec<RegexPattern>,
    /// Determines which of `deny` can match a text.
    plain: Box<Prefilter>,
    /// The same for folded texts; `None` if it is equal to `plain`.
    folded: Option<Box<Prefilter>>,
}

/// The result of checking a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternOutcome {
    /// No pattern matches, or exceptions cover every match.
    NoMatch,
    /// A pattern matches.
    Match,
    /// The work limit is exhausted.
    WorkExhausted,
}

/// A regular expression, for texts as written and for folded texts.
#[derive(Debug)]
pub struct RegexPattern {
    plain: Regex,
    /// `None` if it is equal to `plain`.
    folded: Option<Regex>,
}

/// The matches of `allow` in a text, sorted: the start of each, and the largest end up to it. A text may hold as many exceptions as
/// words, and as many matches of `deny`, so that comparing each with each would take too long.
struct Exceptions(Vec<(usize, usize)>);

/// Why a pattern is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It matches the empty text.
    #[error("matches the empty text, and so any text")]
    MatchesEmpty,
    /// It is longer than [`MAX_PATTERN_BYTES`].
    #[error("is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// It does not compile, or is too large.
    #[error("is not a valid pattern, or is too large: {0}")]
    Syntax(String),
}

// === impl PatternCheck ===

impl PatternCheck {
    /// Creates a check that rejects what `deny` matches, unless it lies within a match of `allow`.
    pub fn new(deny: Vec<RegexPattern>, allow: Vec<RegexPattern>) -> Self {
        let prefilter = |folded| Box::new(Prefilter::new(deny.iter().map(|deny| deny.regex(folded).as_str())));
        let plain = prefilter(false);
        let folded = deny.iter().any(|deny| deny.folded.is_some()).then(|| prefilter(true));
        Self { deny, allow, plain, folded }
    }

    /// Checks `text` and what is encoded in it. Every search takes the length of its text off `work`.
    pub fn check(&self, text: &str, work: &mut usize) -> PatternOutcome {
        let mut found = PatternOutcome::NoMatch;
        let mut folded = String::new();
        decode::views(text, &mut |view| {
            found = self.check_view(&view, false, work);
            if found == PatternOutcome::NoMatch && !view.is_ascii() {
                folded.clear();
                fold::fold(&view, &mut folded);
                found = self.check_view(&folded, true, work);
            }
            found == PatternOutcome::NoMatch
        });
        found
    }

    fn check_view(&self, text: &str, folded: bool, work: &mut usize) -> PatternOutcome {
        let prefilter = self.folded.as_ref().filter(|_| folded).unwrap_or(&self.plain);
        let candidates = prefilter.candidates(text);
        let mut exceptions: Option<Exceptions> = None;
        // The first search that matches also needs the exceptions.
        let mut tried = 1 + self.allow.len();
        for (_, deny) in self.deny.iter().enumerate().filter(|(number, _)| prefilter::has(candidates, *number)) {
            let Some(left) = work.checked_sub(text.len().saturating_mul(tried)) else { return PatternOutcome::WorkExhausted };
            (*work, tried) = (left, 1);
            let matches = deny.regex(folded).find_iter(text).any(|found| {
                let exceptions = exceptions.get_or_insert_with(|| self.exceptions(text, folded));
                !exceptions.hold(found.start(), found.end())
            });
            if matches {
                return PatternOutcome::Match;
            }
        }
        PatternOutcome::NoMatch
    }

    fn exceptions(&self, text: &str, folded: bool) -> Exceptions {
        let found = self.allow.iter().flat_map(|allow| allow.regex(folded).find_iter(text));
        Exceptions::new(found.map(|found| (found.start(), found.end())).collect())
    }
}

// === impl Exceptions ===

impl Exceptions {
    fn new(mut ranges: Vec<(usize, usize)>) -> Self {
        ranges.sort_unstable();
        let mut reached = 0;
        for (_, end) in &mut ranges {
            reached = reached.max(*end);
            *end = reached;
        }
        Self(ranges)
    }

    /// Returns whether one exception covers all from `start` to `end`.
    fn hold(&self, start: usize, end: usize) -> bool {
        let begun = self.0.partition_point(|(begin, _)| *begin <= start);
        begun.checked_sub(1).and_then(|last| self.0.get(last)).is_some_and(|(_, reached)| end <= *reached)
    }
}

// === impl RegexPattern ===

impl RegexPattern {
    /// Compiles `pattern`. It ignores the case of letters unless it contains `(?-i)`.
    pub fn new(pattern: &str) -> Result<Self, InvalidPattern> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(InvalidPattern::TooLong);
        }
        let plain = compile(pattern)?;
        if plain.is_match("") {
            return Err(InvalidPattern::MatchesEmpty);
        }
        // Characters beyond ASCII are always literals in a pattern.
        let folded = (!pattern.is_ascii()).then(|| {
            let mut folded = String::new();
            let parts = pattern.split_inclusive(|c: char| c.is_ascii());
            for part in parts {
                let end = part.trim_end_matches(|c: char| c.is_ascii()).len();
                let (foreign, ascii) = part.split_at(end);
                fold::fold(foreign, &mut folded);
                folded.push_str(ascii);
            }
            compile(&folded).ok()
        });
        Ok(Self { plain, folded: folded.flatten() })
    }

    fn regex(&self, folded: bool) -> &Regex {
        self.folded.as_ref().filter(|_| folded).unwrap_or(&self.plain)
    }
}

fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    let mut builder = RegexBuilder::new(pattern);
    builder.case_insensitive(true).size_limit(MAX_COMPILED_BYTES).nest_limit(MAX_NESTING);
    builder.build().map_err(|error| InvalidPattern::Syntax(error.to_string()))
}
