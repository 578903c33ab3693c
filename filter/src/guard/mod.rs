//! Prompt guards: what a provider does not want to be asked.
//!
//! A *guard* judges every text of a request that can reach the prompt. [`judge`] runs a provider's guards over a body and says
//! which one refuses it, and which ones only report. It never says what the text was.

mod decode;
mod fold;
pub mod injection;
pub mod pattern;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::json::Text;
use crate::openai::Operation;
use crate::openai::texts::{self, Piece, Role};

use injection::{Finding, Form, Sensitivity};
use pattern::{Found, Patterns};

/// One entry of `spec.guards`, compiled.
#[derive(Debug)]
pub struct Guard {
    /// A DNS-1123 label, unique in its provider.
    pub name: Box<str>,
    /// What follows from a hit.
    pub action: Action,
    /// Whose texts are judged. `None`: everyone's.
    pub roles: Option<Vec<Box<str>>>,
    /// Whether what is no text passes.
    pub unreadable: Unreadable,
    /// What is looked for.
    pub check: Check,
}

/// What follows from a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// The request is refused.
    #[default]
    Reject,
    /// The request passes, and the hit is reported.
    Audit,
}

/// Images, audio, files, token ids: what a guard of texts cannot judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unreadable {
    /// It counts as a hit.
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
    Pattern(Patterns),
}

/// What a provider's guards say about a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The first guard, in the order of the configuration, that refuses it.
    pub rejection: Option<Hit>,
    /// The guards that let it pass and report it, in the order of the configuration.
    pub audits: Vec<Hit>,
}

/// What a guard has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The guard's place in the list.
    pub guard: usize,
    /// What it found.
    pub reason: Reason,
}

/// Why a guard has hit. It holds nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An attempt to take the model over, of this kind.
    Injection(&'static str),
    /// A listed pattern.
    Pattern,
    /// Something that is no text.
    Unreadable,
    /// A text that would take too long to judge.
    TooLong,
    /// The body could not be read to its end.
    Malformed,
}

/// Bytes of text × patterns that may match them, for which patterns are tried in one request. It takes some two seconds; a worker
/// that is busy for a minute is taken for dead.
const MOST_WORK: usize = 16 * 1024 * 1024;

/// Well-known roles. Any other is a template's own, and nobody knows whose words such a text is taken for.
pub const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Judges `body`, which [`crate::openai::Request::parse`] has accepted.
pub fn judge(guards: &[Guard], body: &[u8], operation: Operation) -> Judgement {
    if guards.is_empty() {
        return Judgement::default();
    }
    // Nothing is suspect in most bodies, and nothing but texts is in them. Embeddings and completions may hold token ids.
    let quick = operation == Operation::Chat && guards.iter().all(|guard| matches!(guard.check, Check::Injection(_)));
    if quick && !injection::suspects(body, Form::Body) {
        return Judgement::default();
    }
    let mut bench = Bench { guards, hits: vec![None; guards.len()], parts: Parts::default(), work: MOST_WORK };
    let roles = guards.iter().any(|guard| guard.roles.is_some());
    if texts::read(body, roles, &mut |role, piece| bench.hear(role, piece)).is_err() {
        bench.hit_all(Reason::Malformed);
    }
    bench.rule()
}

/// The guards while they listen.
struct Bench<'g, 'a> {
    guards: &'g [Guard],
    /// What each guard has found.
    hits: Vec<Option<Reason>>,
    /// The parts of the message at hand.
    parts: Parts<'a>,
    /// What may still be done with patterns.
    work: usize,
}

/// Parts of one message, kept as small as they are: there may be as many as the body has bytes to write them.
#[derive(Default)]
struct Parts<'a> {
    /// The first, as long as it is the only one.
    first: Option<Text<'a>>,
    /// All of them, one behind the other, once there are more.
    joined: String,
    /// Where each but the last ends.
    ends: Vec<u32>,
}

/// A text on its way to the guards.
enum Words<'a> {
    Raw(Text<'a>),
    Joined(&'a str),
}

// === impl Guard ===

impl Guard {
    /// Whether it judges what `role` says. A text without a role, or with one that nobody knows, is judged by all.
    fn hears(&self, role: &Role<'_>) -> bool {
        match (&self.roles, role) {
            (Some(roles), Some(role)) => roles.iter().any(|known| **known == **role) || !ROLES.contains(&&**role),
            _ => true,
        }
    }
}

// === impl Bench ===

impl<'a> Bench<'_, 'a> {
    /// Takes one piece, and says whether more is of interest.
    fn hear(&mut self, role: &Role<'a>, piece: Piece<'a>) -> bool {
        match piece {
            Piece::Text(text) => self.text(role, Words::Raw(text)),
            Piece::Part(text) => {
                self.parts.add(text);
                self.text(role, Words::Raw(text));
            }
            Piece::Unreadable => self.unreadable(role),
            Piece::MessageEnd => self.message(role),
        }
        self.is_open()
    }

    /// The parts of a message as the server joins them, and as a model reads words that were cut.
    fn message(&mut self, role: &Role<'a>) {
        let parts = std::mem::take(&mut self.parts);
        if !parts.ends.is_empty() {
            self.text(role, Words::Joined(&parts.lines()));
            self.text(role, Words::Joined(&parts.joined));
        }
    }

    fn text(&mut self, role: &Role<'_>, words: Words<'_>) {
        let mut decoded: Option<Cow<'_, str>> = None;
        let mut finding: Option<Option<Finding>> = None;
        for (guard, hit) in self.guards.iter().zip(&mut self.hits) {
            if hit.is_some() || !guard.hears(role) {
                continue;
            }
            *hit = match &guard.check {
                Check::Pattern(patterns) => {
                    let text = decoded.get_or_insert_with(|| words.decode());
                    match patterns.judge(text, &mut self.work) {
                        Found::Nothing => None,
                        Found::Match => Some(Reason::Pattern),
                        Found::TooMuch => Some(Reason::TooLong),
                    }
                }
                Check::Injection(most) => {
                    let found = finding.get_or_insert_with(|| {
                        let text = if words.are_suspect() { decoded.get_or_insert_with(|| words.decode()) } else { return None };
                        injection::judge(text, Sensitivity::High)
                    });
                    found.filter(|found| found.level <= *most).map(|found| Reason::Injection(found.family))
                }
            };
        }
    }

    fn unreadable(&mut self, role: &Role<'_>) {
        for (guard, hit) in self.guards.iter().zip(&mut self.hits) {
            if hit.is_none() && guard.unreadable == Unreadable::Reject && guard.hears(role) {
                *hit = Some(Reason::Unreadable);
            }
        }
    }

    fn hit_all(&mut self, reason: Reason) {
        self.hits.iter_mut().for_each(|hit| _ = hit.get_or_insert(reason));
    }

    /// Whether another text could change the judgement.
    fn is_open(&self) -> bool {
        let mut rejected = false;
        self.guards.iter().zip(&self.hits).any(|(guard, hit)| {
            let audits = guard.action == Action::Audit;
            let open = hit.is_none() && (audits || !rejected);
            rejected |= hit.is_some() && !audits;
            open
        })
    }

    fn rule(self) -> Judgement {
        let hits = self.hits.iter().enumerate().filter_map(|(guard, hit)| hit.map(|reason| Hit { guard, reason }));
        let (audits, rejections): (Vec<Hit>, Vec<Hit>) =
            hits.partition(|hit| self.guards.get(hit.guard).is_some_and(|guard| guard.action == Action::Audit));
        Judgement { rejection: rejections.first().copied(), audits }
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    fn add(&mut self, text: Text<'a>) {
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

// === impl Words ===

impl<'a> Words<'a> {
    fn decode(&self) -> Cow<'a, str> {
        match self {
            Self::Raw(text) => text.decode(),
            Self::Joined(text) => Cow::Borrowed(text),
        }
    }

    fn are_suspect(&self) -> bool {
        match self {
            Self::Raw(text) => injection::suspects(text.raw(), Form::Raw),
            Self::Joined(text) => injection::suspects(text.as_bytes(), Form::Decoded),
        }
    }
}
