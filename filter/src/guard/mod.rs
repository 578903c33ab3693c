//! Prompt guards: what a provider does not want to be asked.
//!
//! A *guard* judges every text of a request that can reach the prompt. [`evaluate`] runs a provider's guards over a body and says
//! which one refuses it, and which ones only report. It never says what the text was.

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
    /// A DNS-1123 label, unique in its provider.
    pub name: Box<str>,
    /// What follows from a matched.
    pub action: Action,
    /// Whose texts are judged. `None`: everyone's.
    pub roles: Option<Vec<Box<str>>>,
    /// Whether what is no text passes.
    pub unreadable: Unreadable,
    /// What is looked for.
    pub check: Check,
}

/// What follows from a matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// The request is refused.
    #[default]
    Reject,
    /// The request passes, and the matched is reported.
    Audit,
}

/// Images, audio, files, token ids: what a guard of texts cannot evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreadable {
    /// It counts as a matched.
    #[default]
    Reject,
    /// It passes unseen.
    Allow,
}

/// What a guard looks for.
#[derive(Debug)]
pub enum Check {
    /// Attempts to take a model over.
    Injection(Sensitivity),
    /// What an operator has listed.
    Pattern(PatternCheck),
}

/// What a provider's guards say about a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GuardVerdict {
    /// The first guard, in the order of the configuration, that refuses it.
    pub rejection: Option<GuardMatch>,
    /// The guards that let it pass and report it, in the order of the configuration.
    pub audits: Vec<GuardMatch>,
}

/// What a guard has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardMatch {
    /// The guard's place in the list.
    pub guard: usize,
    /// What it found.
    pub reason: MatchReason,
}

/// Why a guard has matched. It holds nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchReason {
    /// An attempt to take the model over, of this kind.
    Injection(&'static str),
    /// A listed pattern.
    Pattern,
    /// Something that is no text.
    Unreadable,
    /// A text that would take too long to evaluate.
    TooLong,
    /// The body could not be read to its end.
    Malformed,
}

/// Bytes of text × patterns that may match them, for which patterns are tried in one request. It takes some two seconds; a worker
/// that is busy for a minute is taken for dead.
const MAX_PATTERN_WORK: usize = 16 * 1024 * 1024;

/// Well-known roles. Any other is a template's own, and nobody knows whose words such a text is taken for.
pub const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Judges `body`, which [`crate::openai::Request::parse`] has accepted.
pub fn evaluate(guards: &[Guard], body: &[u8], operation: Operation) -> GuardVerdict {
    if guards.is_empty() {
        return GuardVerdict::default();
    }
    // Nothing is suspect in most bodies, and nothing but texts is in them. Embeddings and completions may hold token ids.
    let quick = operation == Operation::Chat && guards.iter().all(|guard| matches!(guard.check, Check::Injection(_)));
    if quick && !injection::suspects(body, Form::Body) {
        return GuardVerdict::default();
    }
    let mut evaluation = Evaluation { guards, matches: vec![None; guards.len()], parts: Parts::default(), work: MAX_PATTERN_WORK };
    let roles = guards.iter().any(|guard| guard.roles.is_some());
    if prompt_text::visit_segments(body, roles, &mut |role, piece| evaluation.segment(role, piece)).is_err() {
        evaluation.match_all(MatchReason::Malformed);
    }
    evaluation.verdict()
}

/// The guards while they listen.
struct Evaluation<'g, 'a> {
    guards: &'g [Guard],
    /// What each guard has found.
    matches: Vec<Option<MatchReason>>,
    /// The parts of the message at hand.
    parts: Parts<'a>,
    /// What may still be done with patterns.
    work: usize,
}

/// Parts of one message, kept as small as they are: there may be as many as the body has bytes to write them.
#[derive(Default)]
struct Parts<'a> {
    /// The first, as long as it is the only one.
    first: Option<JsonString<'a>>,
    /// All of them, one behind the other, once there are more.
    joined: String,
    /// Where each but the last ends.
    ends: Vec<u32>,
}

/// A text on its way to the guards.
enum SegmentText<'a> {
    Raw(JsonString<'a>),
    Joined(&'a str),
}

// === impl Guard ===

impl Guard {
    /// Whether it judges what `role` says. A text without a role, or with one that nobody knows, is judged by all.
    fn applies_to(&self, role: &Role<'_>) -> bool {
        match (&self.roles, role) {
            (Some(roles), Some(role)) => roles.iter().any(|known| **known == **role) || !ROLES.contains(&&**role),
            _ => true,
        }
    }
}

// === impl Evaluation ===

impl<'a> Evaluation<'_, 'a> {
    /// Takes one piece, and says whether more is of interest.
    fn segment(&mut self, role: &Role<'a>, piece: PromptSegment<'a>) -> bool {
        match piece {
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

    /// The parts of a message as the server joins them, and as a model reads words that were cut.
    fn message(&mut self, role: &Role<'a>) {
        let parts = std::mem::take(&mut self.parts);
        if !parts.ends.is_empty() {
            self.text(role, SegmentText::Joined(&parts.lines()));
            self.text(role, SegmentText::Joined(&parts.joined));
        }
    }

    fn text(&mut self, role: &Role<'_>, words: SegmentText<'_>) {
        let mut decoded: Option<Cow<'_, str>> = None;
        let mut detection: Option<Option<Detection>> = None;
        for (guard, matched) in self.guards.iter().zip(&mut self.matches) {
            if matched.is_some() || !guard.applies_to(role) {
                continue;
            }
            *matched = match &guard.check {
                Check::Pattern(patterns) => {
                    let text = decoded.get_or_insert_with(|| words.decode());
                    match patterns.check(text, &mut self.work) {
                        PatternOutcome::NoMatch => None,
                        PatternOutcome::Match => Some(MatchReason::Pattern),
                        PatternOutcome::WorkExhausted => Some(MatchReason::TooLong),
                    }
                }
                Check::Injection(most) => {
                    let found = detection.get_or_insert_with(|| {
                        let text = if words.may_match() { decoded.get_or_insert_with(|| words.decode()) } else { return None };
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

    /// Whether another text could change the verdict.
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

    /// The parts with line breaks between them.
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
