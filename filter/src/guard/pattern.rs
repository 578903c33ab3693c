//! The guard of patterns: what an operator does not want in a prompt, as regular expressions.
//!
//! One search is linear in the text whatever the pattern says, and what a pattern may cost is bounded where it is read. Only where
//! exceptions have to be weighed is there more than one search for a pattern, one for each match.

mod prefilter;
mod syntax;
#[cfg(test)]
mod tests;

use regex_lite::{Regex, RegexBuilder};

use super::{decode, fold};
use prefilter::Prefilter;

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// The most patterns of one guard.
pub const MAX_PATTERNS: usize = 64;
/// The largest pattern once compiled, in bytes.
const MAX_COMPILED_BYTES: usize = 32 * 1024;
/// The deepest groups of a pattern.
const MAX_NESTING: u32 = 32;

/// PatternCheck that refuse a text, and the exceptions from them.
#[derive(Debug)]
pub struct PatternCheck {
    deny: Vec<RegexPattern>,
    allow: Vec<RegexPattern>,
    /// Which of `deny` may match at all.
    plain: Box<Prefilter>,
    /// The same for folded texts. `None` where it would be the same.
    folded: Option<Box<Prefilter>>,
}

/// What the patterns of a guard say of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternOutcome {
    /// No pattern matches, or exceptions cover it.
    NoMatch,
    /// A pattern matches.
    Match,
    /// It would take too long to find out.
    WorkExhausted,
}

/// One regular expression, for texts as they are and for folded ones.
#[derive(Debug)]
pub struct RegexPattern {
    plain: Regex,
    /// `None` where it would be the same.
    folded: Option<Regex>,
}

/// What `allow` matches in a text: where each match begins, in order, and how far it or one before it reaches. A text may hold as
/// many as it has words, and as many matches of `deny`.
struct Exceptions(Vec<(usize, usize)>);

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It matches wherever it is looked for.
    #[error("matches the empty text, and so any text")]
    MatchesEmpty,
    /// It is longer than [`MAX_PATTERN_BYTES`].
    #[error("is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// It does not compile.
    #[error("is no pattern, or too large a one: {0}")]
    Syntax(String),
}

// === impl PatternCheck ===

impl PatternCheck {
    /// What `deny` refuses, unless it lies within something that `allow` matches.
    pub fn new(deny: Vec<RegexPattern>, allow: Vec<RegexPattern>) -> Self {
        let prefilter = |folded| Box::new(Prefilter::new(deny.iter().map(|deny| deny.regex(folded).as_str())));
        let plain = prefilter(false);
        let folded = deny.iter().any(|deny| deny.folded.is_some()).then(|| prefilter(true));
        Self { deny, allow, plain, folded }
    }

    /// Looks through `text` and what is hidden in it. Each pattern that may match takes the length of what it is tried on off `work`.
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
        // The first that matches has the exceptions looked for, too.
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

    /// Whether one of them holds all from `start` to `end`.
    fn hold(&self, start: usize, end: usize) -> bool {
        let begun = self.0.partition_point(|(begin, _)| *begin <= start);
        begun.checked_sub(1).and_then(|last| self.0.get(last)).is_some_and(|(_, reached)| end <= *reached)
    }
}

// === impl RegexPattern ===

impl RegexPattern {
    /// Compiles `pattern`, which ignores the case of letters unless it says `(?-i)`.
    pub fn new(pattern: &str) -> Result<Self, InvalidPattern> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(InvalidPattern::TooLong);
        }
        let plain = compile(pattern)?;
        if plain.is_match("") {
            return Err(InvalidPattern::MatchesEmpty);
        }
        // Characters beyond ASCII stand for themselves wherever they are in a pattern.
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
