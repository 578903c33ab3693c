//! The guard of patterns: what an operator does not want in a prompt, as regular expressions.
//!
//! The engine is linear in the text whatever the pattern says, and what a pattern may cost is bounded where it is read.

use regex_lite::{Regex, RegexBuilder};

use super::{decode, fold};

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// The most patterns of one guard.
pub const MAX_PATTERNS: usize = 64;
/// The largest pattern once compiled, in bytes.
const MAX_COMPILED_BYTES: usize = 32 * 1024;
/// The deepest groups of a pattern.
const MAX_NESTING: u32 = 32;

/// Patterns that refuse a text, and the exceptions from them.
#[derive(Debug)]
pub struct Patterns {
    deny: Vec<Pattern>,
    allow: Vec<Pattern>,
}

/// One regular expression, for texts as they are and for folded ones.
#[derive(Debug)]
pub struct Pattern {
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
    MatchesNothing,
    /// It is longer than [`MAX_PATTERN_BYTES`].
    #[error("is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// It does not compile.
    #[error("is no pattern, or too large a one: {0}")]
    Syntax(String),
}

// === impl Patterns ===

impl Patterns {
    /// What `deny` refuses, unless it lies within something that `allow` matches.
    pub fn new(deny: Vec<Pattern>, allow: Vec<Pattern>) -> Self {
        Self { deny, allow }
    }

    /// Whether `text`, or what is hidden in it, is refused.
    pub fn refuse(&self, text: &str) -> bool {
        let mut refused = false;
        let mut folded = String::new();
        decode::views(text, &mut |view| {
            refused = self.refuse_view(&view, false);
            if !refused && !view.is_ascii() {
                folded.clear();
                fold::fold(&view, &mut folded);
                refused = self.refuse_view(&folded, true);
            }
            !refused
        });
        refused
    }

    fn refuse_view(&self, text: &str, folded: bool) -> bool {
        let mut exceptions: Option<Exceptions> = None;
        self.deny.iter().any(|deny| {
            deny.regex(folded).find_iter(text).any(|found| {
                let exceptions = exceptions.get_or_insert_with(|| self.exceptions(text, folded));
                !exceptions.hold(found.start(), found.end())
            })
        })
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

// === impl Pattern ===

impl Pattern {
    /// Compiles `pattern`, which ignores the case of letters unless it says `(?-i)`.
    pub fn new(pattern: &str) -> Result<Self, InvalidPattern> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(InvalidPattern::TooLong);
        }
        let plain = compile(pattern)?;
        if plain.is_match("") {
            return Err(InvalidPattern::MatchesNothing);
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

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn patterns(deny: &[&str], allow: &[&str]) -> Patterns {
        let all = |patterns: &[&str]| patterns.iter().map(|pattern| Pattern::new(pattern).unwrap()).collect();
        Patterns::new(all(deny), all(allow))
    }

    #[test]
    fn texts_are_refused_and_excepted() {
        let titan = patterns(&[r"project\s+titan", r"\b\d{4}-\d{4}-\d{4}\b"], &[r"project titan \(public\)", "0000-0000-0000"]);
        for (text, refused) in [
            ("about Project  Titan", true),
            ("project tita", false),
            ("project titan (public)", false),
            ("project titan (public), project titan", true),
            ("card 1234-5678-9012", true),
            ("card 0000-0000-0000", false),
            ("card 0000-0000-0000 or 1234-5678-9012", true),
            ("ｐｒｏｊｅｃｔ\u{3000}ｔｉｔａｎ", true),
            ("pro\u{200b}ject tit\u{ad}an", true),
            ("𝐩𝐫𝐨𝐣𝐞𝐜𝐭 𝐭𝐢𝐭𝐚𝐧", true),
            ("project&nbsp;t&#105;tan", true),
            ("cHJvamVjdCB0aXRhbiBpcyBnbyBmb3IgbGF1bmNo", true),
            ("70726f6a65637420746974616e20676f6573", true),
            ("", false),
        ] {
            assert_eq!(titan.refuse(text), refused, "{text}");
        }
        let case = patterns(&["(?-i)Titan", "ПРОЕКТ", "größe"], &[]);
        for (text, refused) in [("Titan", true), ("titan", false), ("проект", true), ("GRÖSSE", true), ("grösse", true)] {
            assert_eq!(case.refuse(text), refused, "{text}");
        }
    }

    #[test]
    fn patterns_are_bounded() {
        assert_eq!(Pattern::new(&"a".repeat(1025)).unwrap_err(), InvalidPattern::TooLong);
        assert_eq!(Pattern::new("a*").unwrap_err(), InvalidPattern::MatchesNothing);
        for pattern in
            ["(", "a{1000}{1000}", &format!("{}a{}", "(".repeat(100), ")".repeat(100)), r"\w{900}\w{900}\w{900}", r"(a)\1"]
        {
            assert!(matches!(Pattern::new(pattern), Err(InvalidPattern::Syntax(_))), "{pattern}");
        }
    }
}
