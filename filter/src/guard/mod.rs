//! Prompt guards: what prompts a provider does not accept.
//!
//! A *guard* checks every text of a request that can reach the prompt. [`evaluate`] runs a provider's guards over a body. It
//! returns the guard that rejects the request and the guards that only audit it, and never any of the text.

mod decode;
mod fold;
pub mod injection;
pub mod pattern;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::json::JsonString;
use crate::openai::Operation;
use crate::openai::prompt_text::{self, PromptSegment, Role};

use injection::{Detection, Form, Sensitivity};
use pattern::{PatternCheck, PatternOutcome};

/// One entry of `spec.guards`, compiled.
#[derive(Debug)]
pub struct Guard {
    /// A DNS-1123 label, unique among the guards of its provider.
    pub name: Box<str>,
    /// What is done with a request that the guard matches.
    pub action: Action,
    /// The roles whose texts are checked; `None` for all.
    pub roles: Option<Vec<Box<str>>>,
    /// How parts that are not text are treated.
    pub unreadable: Unreadable,
    /// What the guard looks for.
    pub check: Check,
}

/// What is done with a request that a guard matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// The request is rejected.
    #[default]
    Reject,
    /// The request passes, and the match is reported.
    Audit,
}

/// How images, audio, files and token ids, which a guard cannot read, are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreadable {
    /// They count as a match.
    #[default]
    Reject,
    /// They pass unread.
    Allow,
}

/// What a guard looks for.
#[derive(Debug)]
pub enum Check {
    /// Prompt injection.
    Injection(Sensitivity),
    /// Patterns that the operator lists.
    Pattern(PatternCheck),
}

/// The result of a provider's guards for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GuardVerdict {
    /// The first guard, in the order of the configuration, that rejects the request.
    pub rejection: Option<GuardMatch>,
    /// The guards that audit the request, in the order of the configuration.
    pub audits: Vec<GuardMatch>,
}

/// A match of one guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardMatch {
    /// The index of the guard.
    pub guard: usize,
    /// Why it matched.
    pub reason: MatchReason,
}

/// Why a guard matched. It contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchReason {
    /// Prompt injection of this family.
    Injection(&'static str),
    /// A listed pattern.
    Pattern,
    /// A part that is not text.
    Unreadable,
    /// A text that would take too long to check.
    TooLong,
    /// The body could not be read to its end.
    Malformed,
}

/// The work limit of one request: bytes of text, times the patterns that are searched in them. It takes about two seconds; Envoy's
/// watchdog considers a worker that is busy for a minute dead.
const MAX_PATTERN_WORK: usize = 16 * 1024 * 1024;

/// Well-known roles. A text with any other role is checked by every guard: which role a template gives it is not known.
pub const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Evaluates guards for `body`, which [`crate::openai::Request::parse`] has accepted.
pub fn evaluate(guards: &[Guard], body: &[u8], operation: Operation) -> GuardVerdict {
    if guards.is_empty() {
        return GuardVerdict::default();
    }
    // Most bodies hold only texts, none of them suspicious. Embeddings and completions may hold token ids.
    let quick = operation == Operation::Chat && guards.iter().all(|guard| matches!(guard.check, Check::Injection(_)));
    if quick && !injection::suspects(body, Form::Body) {
        return GuardVerdict::default();
    }
    let mut evaluation =
        GuardEvaluation { guards, matches: vec![None; guards.len()], parts: Parts::default(), work: MAX_PATTERN_WORK };
    let roles = guards.iter().any(|guard| guard.roles.is_some());
    if prompt_text::visit_segments(body, roles, &mut |role, segment| evaluation.segment(role, segment)).is_err() {
        evaluation.match_all(MatchReason::Malformed);
    }
    evaluation.verdict()
}

/// An evaluation in progress.
struct GuardEvaluation<'g, 'a> {
    guards: &'g [Guard],
    /// The match of each guard so far.
    matches: Vec<Option<MatchReason>>,
    /// The parts of the current message.
    parts: Parts<'a>,
    /// The work that patterns may still do.
    work: usize,
}

/// The parts of one message, stored compactly: a body may consist of little else.
#[derive(Default)]
struct Parts<'a> {
    /// The first part, while it is the only one.
    first: Option<JsonString<'a>>,
    /// All parts concatenated, once there is more than one.
    joined: String,
    /// The end of each part but the last.
    ends: Vec<u32>,
}

/// A text to be checked.
enum SegmentText<'a> {
    Raw(JsonString<'a>),
    Joined(&'a str),
}

// === impl Guard ===

impl Guard {
    /// Returns whether the guard checks texts of `role`. Texts without a role, or with an unknown one, are checked by all guards.
    fn applies_to(&self, role: &Role<'_>) -> bool {
        match (&self.roles, role) {
            (Some(roles), Some(role)) => roles.iter().any(|known| **known == **role) || !ROLES.contains(&&**role),
            _ => true,
        }
    }
}

// === impl GuardEvaluation ===

impl<'a> GuardEvaluation<'_, 'a> {
    /// Processes one segment. Returns whether further segments could change the verdict.
    fn segment(&mut self, role: &Role<'a>, segment: PromptSegment<'a>) -> bool {
        match segment {
            PromptSegment::Text(text) => self.text(role, SegmentText::Raw(text)),
            PromptSegment::Part(text) => {
                self.parts.add(text);
                self.text(role, SegmentText::Raw(text));
            }
            PromptSegment::Unreadable => self.unreadable(role),
            PromptSegment::MessageEnd => self.message(role),
        }
        self.is_undecided()
    }

    /// Checks the parts of a message joined by line breaks, as servers join them, and without, for words that are split between
    /// parts.
    fn message(&mut self, role: &Role<'a>) {
        let parts = std::mem::take(&mut self.parts);
        if !parts.ends.is_empty() {
            self.text(role, SegmentText::Joined(&parts.lines()));
            self.text(role, SegmentText::Joined(&parts.joined));
        }
    }

    fn text(&mut self, role: &Role<'_>, segment: SegmentText<'_>) {
        let mut decoded: Option<Cow<'_, str>> = None;
        let mut detection: Option<Option<Detection>> = None;
        for (guard, matched) in self.guards.iter().zip(&mut self.matches) {
            if matched.is_some() || !guard.applies_to(role) {
                continue;
            }
            *matched = match &guard.check {
                Check::Pattern(patterns) => {
                    let text = decoded.get_or_insert_with(|| segment.decode());
                    match patterns.check(text, &mut self.work) {
                        PatternOutcome::NoMatch => None,
                        PatternOutcome::Match => Some(MatchReason::Pattern),
                        PatternOutcome::WorkExhausted => Some(MatchReason::TooLong),
                    }
                }
                Check::Injection(most) => {
                    let found = detection.get_or_insert_with(|| {
                        let text = if segment.may_match() { decoded.get_or_insert_with(|| segment.decode()) } else { return None };
                        injection::detect(text, Sensitivity::High)
                    });
                    found.filter(|found| found.level <= *most).map(|found| MatchReason::Injection(found.family))
                }
            };
        }
    }

    fn unreadable(&mut self, role: &Role<'_>) {
        for (guard, matched) in self.guards.iter().zip(&mut self.matches) {
            if matched.is_none() && guard.unreadable == Unreadable::Reject && guard.applies_to(role) {
                *matched = Some(MatchReason::Unreadable);
            }
        }
    }

    fn match_all(&mut self, reason: MatchReason) {
        self.matches.iter_mut().for_each(|matched| _ = matched.get_or_insert(reason));
    }

    /// Returns whether another text could change the verdict.
    fn is_undecided(&self) -> bool {
        let mut rejected = false;
        self.guards.iter().zip(&self.matches).any(|(guard, matched)| {
            let audits = guard.action == Action::Audit;
            let open = matched.is_none() && (audits || !rejected);
            rejected |= matched.is_some() && !audits;
            open
        })
    }

    fn verdict(self) -> GuardVerdict {
        let matches =
            self.matches.iter().enumerate().filter_map(|(guard, matched)| matched.map(|reason| GuardMatch { guard, reason }));
        let (audits, rejections): (Vec<GuardMatch>, Vec<GuardMatch>) =
            matches.partition(|matched| self.guards.get(matched.guard).is_some_and(|guard| guard.action == Action::Audit));
        GuardVerdict { rejection: rejections.first().copied(), audits }
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    fn add(&mut self, text: JsonString<'a>) {
        match self.first.take() {
            None if self.ends.is_empty() => {
                self.first = Some(text);
                return;
            }
            None => {}
            Some(first) => self.joined.push_str(&first.decode()),
        }
        self.ends.push(u32::try_from(self.joined.len()).unwrap_or(u32::MAX));
        self.joined.push_str(&text.decode());
    }

    /// Returns the parts joined by line breaks.
    fn lines(&self) -> String {
        let mut lines = String::with_capacity(self.joined.len() + self.ends.len());
        let mut start = 0;
        for end in self.ends.iter().map(|end| *end as usize) {
            lines.push_str(self.joined.get(start..end).unwrap_or_default());
            lines.push('\n');
            start = end;
        }
        lines.push_str(self.joined.get(start..).unwrap_or_default());
        lines
    }
}

// === impl SegmentText ===

impl<'a> SegmentText<'a> {
    fn decode(&self) -> Cow<'a, str> {
        match self {
            Self::Raw(text) => text.decode(),
            Self::Joined(text) => Cow::Borrowed(text),
        }
    }

    fn may_match(&self) -> bool {
        match self {
            Self::Raw(text) => injection::suspects(text.raw(), Form::Raw),
            Self::Joined(text) => injection::suspects(text.as_bytes(), Form::Decoded),
        }
    }
}
