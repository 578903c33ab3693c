//! A request that was let through: one attempt after another, until one is answered or none is left.
//!
//! ```text
//! Unsent ──attempt begins──> Sent ──answered──> (the answer passes)
//!   ▲                          │
//!   └── another candidate, or ─┤ failed
//!       the same unasked       └── none left ──> Over
//! ```
//!
//! Where the request has one candidate the gate dresses it, and no attempt filter has to be there.

use std::rc::Rc;

use crate::exchange::access_log::AccessLogEntry;
use crate::exchange::access_log::{DecisionLog, SkipReason};
use crate::exchange::attempt::{Attempt, is_failure, is_gone};
use crate::exchange::environment::Environment;
use crate::exchange::evaluation::Evaluation;
use crate::exchange::gate::Gate;
use crate::exchange::inbound::{self, InboundRequest};
use crate::exchange::selection::Selected;
use crate::exchange::step::{AttemptEdits, AttemptStep, BodyStep, Forward, ResponseStep};
use crate::exchange::worker::Retries;
use crate::http::headers::{HeaderEdit, Headers};
use crate::http::refusal::Refusal;
use crate::identity::model_access::ModelAccess;
use crate::openai::Splice;

/// Tells Envoy to try again: the route's `retriable_headers` name it.
const RETRY: &str = "x-pai-retry";
/// Tells Envoy not to, whatever the route says.
const NO_RETRY: &str = "x-envoy-ratelimited";

/// An admitted request.
#[derive(Debug)]
pub struct Admitted {
    gate: Rc<Gate>,
    inbound: InboundRequest,
    attempt: Attempt,
    /// The attempt before, until this one begins: it may turn out to be the last.
    before: Option<Attempt>,
    stage: Stage,
    rewriter: Rewriter,
    /// Attempts that have begun.
    started: u32,
    /// Candidates that were asked, this one included.
    tried: u32,
    /// Who may follow, by their places in the list of the caller's agent; the next is the last.
    remaining: Vec<usize>,
    /// The path as it stands in the request's headers, where attempts change it.
    path: String,
    /// Charged for attempts that failed.
    failed_tokens: u64,
}

/// Where the current attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The attempt filter has not seen it yet.
    Unsent,
    /// On its way, or answered.
    Sent,
    /// Failed, and nobody is left.
    Over,
}

/// Who makes the request its provider's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rewriter {
    /// The gate, for the only candidate.
    Gate,
    /// The attempt filter of each provider.
    Attempts,
}

// === impl Admitted ===

impl Admitted {
    /// A request that somebody takes.
    pub fn new(gate: Rc<Gate>, inbound: InboundRequest, selected: Selected) -> Self {
        let Selected { attempt, mut remaining } = selected;
        remaining.reverse();
        let (rewriter, stage) =
            if remaining.is_empty() { (Rewriter::Gate, Stage::Sent) } else { (Rewriter::Attempts, Stage::Unsent) };
        let named = attempt.provider().filter(|_| rewriter == Rewriter::Attempts);
        let path = named.map_or_else(String::new, |provider| inbound::path(provider, inbound.operation));
        Self { gate, inbound, attempt, before: None, stage, rewriter, started: 0, tried: 1, remaining, path, failed_tokens: 0 }
    }

    /// The gate's changes to the request, whose target is `target`, after `edits`.
    pub fn forward(&self, mut edits: Vec<HeaderEdit>, target: &[u8], body: &[u8]) -> Forward {
        let Some(provider) = self.attempt.provider() else { return Forward::default() };
        edits.push(route_to(&provider.name));
        match self.rewriter {
            Rewriter::Gate => {
                self.inbound.rewrite(&mut edits, provider, target, self.attempt.changes());
                Forward { headers: edits, body: self.attempt.changes().splice(body) }
            }
            Rewriter::Attempts => {
                // Routes may look at the path.
                inbound::rewrite_path(&mut edits, self.path.clone(), target);
                Forward { headers: edits, body: None }
            }
        }
    }

    /// An attempt begins at a provider of this name.
    pub fn start(&mut self, provider: Option<&[u8]>, env: &Environment<'_>) -> AttemptStep {
        let due = match self.stage {
            Stage::Unsent => true,
            // Nobody has told that the one which the gate has dressed is on its way.
            Stage::Sent => self.rewriter == Rewriter::Gate && self.started == 0,
            Stage::Over => false,
        };
        let ours = self.attempt.provider().filter(|known| provider == Some(known.name.as_bytes()));
        let Some(ours) = ours.filter(|_| due && !self.is_answered()) else { return self.reject(provider, env) };
        let mut edits = vec![HeaderEdit::Remove("x-pai-provider".into())];
        if self.rewriter == Rewriter::Attempts {
            if self.started > 0 {
                // It went when the attempt before failed. Should it still be there, it is somebody else's.
                edits.push(HeaderEdit::Remove("authorization".into()));
            }
            self.inbound.rewrite(&mut edits, ours, self.path.as_bytes(), self.attempt.changes());
            self.path = inbound::path(ours, self.inbound.operation);
        }
        self.started += 1;
        self.stage = Stage::Sent;
        self.before = None;
        AttemptStep::Forward(edits)
    }

    /// Keeps an attempt from a provider, which may be another one than it is for.
    fn reject(&mut self, provider: Option<&[u8]>, env: &Environment<'_>) -> AttemptStep {
        let is = |attempt: &Attempt| provider == Some(attempt.provider_name().as_bytes());
        let astray = !is(&self.attempt);
        if astray && self.stage == Stage::Unsent && self.before.as_ref().is_some_and(is) {
            // Envoy did not follow: too old to, or its route does not say so. No use in trying that again.
            env.worker.borrow_mut().retries = Retries::SameProvider;
        }
        if self.started == 0 {
            self.stage = Stage::Unsent;
        }
        let reply = Refusal::from_local_reply(503, Some(self.attempt.provider_name())).reply();
        if astray { AttemptStep::Misrouted(reply) } else { AttemptStep::Refuse(reply) }
    }

    /// Which attempt it is that has begun last.
    pub fn ordinal(&self) -> u32 {
        self.started
    }

    /// How much of the body the current attempt wants to see; 0 where it goes on as it is.
    pub fn reach(&self) -> usize {
        if self.rewriter == Rewriter::Attempts { self.attempt.changes().required_prefix() } else { 0 }
    }

    /// What stands in place of the beginning of the body.
    pub fn splice(&self, body: &[u8]) -> Option<Splice> {
        self.attempt.changes().splice(body)
    }

    /// The attempt of this ordinal was answered with this status.
    pub fn answered(
        &mut self,
        ordinal: u32,
        status: u16,
        headers: &Headers<'_>,
        notes: &mut DecisionLog,
        env: &Environment<'_>,
    ) -> AttemptEdits {
        // Whether Envoy tries again is not the provider's to say.
        let orders = [RETRY, NO_RETRY].into_iter().filter(|name| headers.get(name).is_some());
        let mut response: Vec<HeaderEdit> = orders.map(|name| HeaderEdit::Remove(name.into())).collect();
        if !is_failure(status) || !self.is_current(ordinal) {
            return AttemptEdits { request: Vec::new(), response };
        }
        let request = self.try_next(SkipReason::Status(status), notes, env);
        response.push(HeaderEdit::Set(if request.is_empty() { NO_RETRY } else { RETRY }, "true".into()));
        AttemptEdits { request, response }
    }

    /// The attempt of this ordinal has ended without an answer. `connected`: its provider was reached.
    pub fn ended_unanswered(
        &mut self,
        ordinal: u32,
        connected: impl FnOnce() -> bool,
        notes: &mut DecisionLog,
        env: &Environment<'_>,
    ) -> Vec<HeaderEdit> {
        if !self.is_current(ordinal) {
            return Vec::new();
        }
        let connected = connected();
        let why = if connected { SkipReason::Reset } else { SkipReason::Connect };
        let next = self.try_next(why, notes, env);
        if !next.is_empty() {
            return next;
        }
        if connected && !self.attempt.is_settled() {
            self.failed_tokens += self.attempt.fail(self.inbound.caller, why, env);
        }
        if self.attempt.is_settled() {
            self.stage = Stage::Over;
            return Vec::new();
        }
        // Nobody has seen it, so that the same provider, at another address as it may be, can be asked.
        self.stage = Stage::Unsent;
        vec![route_to(self.attempt.provider_name())]
    }

    fn is_current(&self, ordinal: u32) -> bool {
        ordinal == self.started && self.stage == Stage::Sent && !self.attempt.is_answered()
    }

    /// Goes on to the next candidate that takes the request. Returns the edits to its headers, none where nobody is left.
    fn try_next(&mut self, why: SkipReason, notes: &mut DecisionLog, env: &Environment<'_>) -> Vec<HeaderEdit> {
        if self.remaining.is_empty() || self.tried >= self.gate.policy.gateway.max_attempts {
            return Vec::new();
        }
        // First give back, then take: the caller's own budgets may not hold both.
        self.failed_tokens += self.attempt.fail(self.inbound.caller, why, env);
        notes.skip(&self.gate, self.attempt.candidate(), why, env);
        let Some(next) = self.next_attempt(notes, env) else { return Vec::new() };
        // What was the last one's own: a cluster without an attempt filter would send it.
        let own = ["authorization", "content-length"].map(|name| HeaderEdit::Remove(name.into()));
        let edits = [route_to(next.provider_name())].into_iter().chain(own).collect();
        self.before = Some(std::mem::replace(&mut self.attempt, next));
        self.stage = Stage::Unsent;
        self.tried += 1;
        edits
    }

    fn next_attempt(&mut self, notes: &mut DecisionLog, env: &Environment<'_>) -> Option<Attempt> {
        let gate = Rc::clone(&self.gate);
        let access = ModelAccess::new(&gate.policy, self.inbound.caller);
        while let Some(place) = self.remaining.pop() {
            let Some(evaluation) = access.agent_model(place).and_then(|candidate| Evaluation::new(&gate, candidate, &self.inbound))
            else {
                continue;
            };
            let candidate = evaluation.candidate();
            if !evaluation.is_available(env) {
                notes.skip(&gate, candidate, SkipReason::Resting, env);
                continue;
            }
            match evaluation.fit(env).map_err(|oversize| oversize.refusal).and_then(|fitting| evaluation.reserve(&fitting, env)) {
                Ok((grant, changes)) => {
                    evaluation.record_start(env);
                    return Some(Attempt::new(Rc::clone(&gate), candidate, grant, changes));
                }
                Err(refusal) => notes.skip(&gate, candidate, SkipReason::Budget(refusal.case), env),
            }
        }
        None
    }

    /// Returns the name of the provider that is asked.
    pub fn provider_name(&self) -> &str {
        self.attempt.provider_name()
    }

    /// Whether an answer has come.
    pub fn is_answered(&self) -> bool {
        self.attempt.is_answered()
    }

    /// Whether anything is to be learned or hidden from the answer's body.
    pub fn reads_answer(&self) -> bool {
        self.attempt.reads_answer()
    }

    /// Whether the answer is held.
    pub fn holds_answer(&self) -> bool {
        self.attempt.holds_answer()
    }

    /// Envoy answers in place of the provider; `details` are its `response.code_details`.
    pub fn on_local_reply(&mut self, status: u16, details: &[u8], env: &Environment<'_>) -> ResponseStep {
        if !is_gone(details) {
            self.step_back(env);
        }
        self.attempt.on_local_reply(status, details, &self.inbound, env)
    }

    /// The headers of the answer that is passed on have come.
    pub fn on_response_headers(
        &mut self,
        status: u16,
        headers: &Headers<'_>,
        end_of_stream: bool,
        env: &Environment<'_>,
    ) -> ResponseStep {
        if self.stage == Stage::Unsent && (headers.get(RETRY).is_none() || !self.step_back(env)) {
            // Whoever answers was sent a request that nobody has made its own.
            crate::metrics::filter_error(env.meter, "attempt");
            return self.attempt.on_local_reply(503, b"", &self.inbound, env);
        }
        self.attempt.on_response_headers(status, headers, end_of_stream, &self.inbound, env)
    }

    /// Envoy does not try again, as it was asked to: the attempt before is the last. Says whether there is one.
    fn step_back(&mut self, env: &Environment<'_>) -> bool {
        let Some(before) = self.before.take() else { return false };
        self.attempt.release(env);
        self.attempt = before;
        self.stage = Stage::Sent;
        true
    }

    /// A piece of the answer has come; all there is of it so far, if it is held.
    pub fn on_response_body(&mut self, chunk: &[u8], end_of_stream: bool, env: &Environment<'_>) -> BodyStep {
        self.attempt.on_response_body(chunk, end_of_stream, &self.inbound, env)
    }

    /// All is over: settles and counts. `connected` tells whether the last attempt ever reached its provider.
    pub fn close(mut self, connected: impl FnOnce() -> bool, env: &Environment<'_>) -> AccessLogEntry {
        if !self.is_answered() {
            self.step_back(env);
        }
        let unsent = self.stage == Stage::Unsent;
        let mut entry = self.attempt.close(&self.inbound, || !unsent && connected(), env);
        if let Some((prompt, _)) = &mut entry.tokens {
            *prompt = prompt.saturating_add(self.failed_tokens);
        }
        entry
    }
}

fn route_to(provider: &str) -> HeaderEdit {
    HeaderEdit::Set("x-pai-provider", provider.to_owned().into())
}
