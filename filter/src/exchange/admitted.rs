//! An admitted request: its attempts, one after another, until one gets a response or no candidate remains.
//!
//! ```text
//! Unsent ──attempt starts──> Sent ──response──> (the response is forwarded)
//!   ▲                          │
//!   └── next candidate, or ────┤ failed
//!       the same, not reached  └── none remains ──> Over
//! ```
//!
//! If the request has one candidate, the gate rewrites it and no attempt filter is needed.

use std::rc::Rc;

use crate::exchange::access_log::AccessLogEntry;
use crate::exchange::access_log::{DecisionLog, SkipReason};
use crate::exchange::attempt::{Attempt, is_failure, is_gone};
use crate::exchange::credential;
use crate::exchange::environment::Environment;
use crate::exchange::evaluation::{Declined, Evaluation, Short};
use crate::exchange::gate::Gate;
use crate::exchange::inbound::{self, InboundRequest};
use crate::exchange::selection::Selected;
use crate::exchange::step::{AttemptEdits, AttemptStep, BodyStep, Forward, ResponseStep};
use crate::exchange::worker::Retries;
use crate::http::headers::{HeaderEdit, Headers};
use crate::http::refusal::Refusal;
use crate::identity::model_access::ModelAccess;
use crate::openai::Splice;
use crate::policy::Credentials;

/// The response header that makes Envoy retry: it is in the route's `retriable_headers`.
const RETRY: &str = "x-pai-retry";
/// The response header that prevents a retry, whatever the route's retry policy.
const NO_RETRY: &str = "x-envoy-ratelimited";

/// An admitted request.
#[derive(Debug)]
pub struct Admitted {
    gate: Rc<Gate>,
    inbound: InboundRequest,
    attempt: Attempt,
    /// The previous attempt, until the current one starts. If Envoy does not retry, it is the last attempt.
    previous: Option<Attempt>,
    stage: Stage,
    rewriter: Rewriter,
    /// The number of attempts that have started.
    started: u32,
    /// The number of candidates that were tried, including the current one.
    tried: u32,
    /// The remaining candidates, by their indices in the list of the caller's agent, in reverse order.
    remaining: Vec<usize>,
    /// The current path in the request's headers, if attempts change it.
    path: String,
    /// The tokens charged for attempts that failed.
    failed_tokens: u64,
}

/// The stage of the current attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The attempt has not reached the attempt filter.
    Unsent,
    /// The attempt was sent, and may have a response.
    Sent,
    /// The attempt has failed, and no candidate remains.
    Over,
}

/// Which filter rewrites the request for its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rewriter {
    /// The gate filter, for the only candidate.
    Gate,
    /// The attempt filter in each provider's cluster.
    Attempts,
}

// === impl Admitted ===

impl Admitted {
    /// Creates an admitted request from the selected candidate.
    pub fn new(gate: Rc<Gate>, inbound: InboundRequest, selected: Selected) -> Self {
        let Selected { attempt, mut remaining } = selected;
        remaining.reverse();
        let (rewriter, stage) =
            if remaining.is_empty() { (Rewriter::Gate, Stage::Sent) } else { (Rewriter::Attempts, Stage::Unsent) };
        let named = attempt.provider().filter(|_| rewriter == Rewriter::Attempts);
        let path = named.map_or_else(String::new, |provider| inbound::path(provider, inbound.operation));
        Self { gate, inbound, attempt, previous: None, stage, rewriter, started: 0, tried: 1, remaining, path, failed_tokens: 0 }
    }

    /// Returns the gate's changes to the request with the path `target`, after `edits`.
    pub fn forward(&self, mut edits: Vec<HeaderEdit>, target: &[u8], body: &[u8]) -> Forward {
        let Some(provider) = self.attempt.provider() else { return Forward::default() };
        edits.push(route_to(&provider.name));
        match self.rewriter {
            Rewriter::Gate => {
                self.inbound.rewrite(&mut edits, provider, target, self.attempt.changes());
                Forward { headers: edits, body: self.attempt.changes().splice(body) }
            }
            Rewriter::Attempts => {
                // Routes may match the path.
                inbound::rewrite_path(&mut edits, self.path.clone(), target);
                Forward { headers: edits, body: None }
            }
        }
    }

    /// Starts the attempt in the cluster of this provider. Rejects it if no attempt is due there. `injected` returns the credential that
    /// the proxy has added there.
    pub fn start(&mut self, provider: Option<&[u8]>, injected: &dyn Fn() -> Option<Vec<u8>>, env: &Environment<'_>) -> AttemptStep {
        let due = match self.stage {
            Stage::Unsent => true,
            // The attempt that the gate has rewritten reaches an attempt filter for the first time.
            Stage::Sent => self.rewriter == Rewriter::Gate && self.started == 0,
            Stage::Over => false,
        };
        let ours = self.attempt.provider().filter(|known| provider == Some(known.name.as_bytes()));
        let Some(ours) = ours.filter(|_| due && !self.is_answered()) else { return self.reject(provider, env) };
        let Ok(mut edits) = credential::edits(&self.gate.policy, ours, self.inbound.operation, injected) else {
            return AttemptStep::MissingCredential(Refusal::missing_credential(&ours.name).reply());
        };
        edits.push(HeaderEdit::Remove("x-pai-provider".into()));
        if self.rewriter == Rewriter::Attempts {
            if self.started > 0 && self.gate.policy.gateway.credentials == Credentials::Environment {
                // The credential was removed when the previous attempt failed. A value that is present is not this provider's.
                edits.push(HeaderEdit::Remove("authorization".into()));
            }
            self.inbound.rewrite(&mut edits, ours, self.path.as_bytes(), self.attempt.changes());
            self.path = inbound::path(ours, self.inbound.operation);
        }
        self.started += 1;
        self.stage = Stage::Sent;
        self.previous = None;
        AttemptStep::Forward(edits)
    }

    /// Rejects an attempt in the cluster of this provider, and records whether Envoy retried in the wrong cluster.
    fn reject(&mut self, provider: Option<&[u8]>, env: &Environment<'_>) -> AttemptStep {
        let is = |attempt: &Attempt| provider == Some(attempt.provider_name().as_bytes());
        let misrouted = !is(&self.attempt);
        if misrouted && self.stage == Stage::Unsent && self.previous.as_ref().is_some_and(is) {
            // Envoy retried in the same cluster: it is too old to select another one, or its route is not configured to.
            env.worker.borrow_mut().retries = Retries::SameProvider;
        }
        if self.started == 0 {
            self.stage = Stage::Unsent;
        }
        let reply = Refusal::from_local_reply(503, Some(self.attempt.provider_name())).reply();
        if misrouted { AttemptStep::Misrouted(reply) } else { AttemptStep::Refuse(reply) }
    }

    /// Returns the tokens reserved for the current attempt, until they are settled.
    #[cfg(feature = "test-hooks")]
    pub fn reserved(&self) -> Option<u64> {
        self.attempt.reserved()
    }

    /// Returns the number of the attempt that started last; 0 before the first.
    pub fn ordinal(&self) -> u32 {
        self.started
    }

    /// Returns the number of bytes of the body that the current attempt needs to rewrite it; 0 if it is sent unchanged.
    pub fn reach(&self) -> usize {
        if self.rewriter == Rewriter::Attempts { self.attempt.changes().required_prefix() } else { 0 }
    }

    /// Returns the replacement of the body's beginning.
    pub fn splice(&self, body: &[u8]) -> Option<Splice> {
        self.attempt.changes().splice(body)
    }

    /// Handles the response headers of the attempt with this ordinal. Returns the edits to the request for a retry, and to the
    /// response.
    pub fn answered(
        &mut self,
        ordinal: u32,
        status: u16,
        headers: &Headers<'_>,
        notes: &mut DecisionLog,
        env: &Environment<'_>,
    ) -> AttemptEdits {
        // The provider must not control Envoy's retries.
        let controls = [RETRY, NO_RETRY].into_iter().filter(|name| headers.get(name).is_some());
        let mut response: Vec<HeaderEdit> = controls.map(|name| HeaderEdit::Remove(name.into())).collect();
        if !is_failure(status) || !self.is_current(ordinal) {
            return AttemptEdits { request: Vec::new(), response };
        }
        let request = self.try_next(SkipReason::Status(status), notes, env);
        response.push(HeaderEdit::Set(if request.is_empty() { NO_RETRY } else { RETRY }, "true".into()));
        AttemptEdits { request, response }
    }

    /// Handles the end of the attempt with this ordinal without a response. `connected` returns whether the provider was reached.
    /// Returns the edits to the request's headers for a retry.
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
        // No provider received the request, so that it can be retried at the same provider, perhaps at another address.
        self.stage = Stage::Unsent;
        vec![route_to(self.attempt.provider_name())]
    }

    fn is_current(&self, ordinal: u32) -> bool {
        ordinal == self.started && self.stage == Stage::Sent && !self.attempt.is_answered()
    }

    /// Moves to the next candidate that admits the request. Returns the edits to the request's headers; none if no candidate remains.
    fn try_next(&mut self, why: SkipReason, notes: &mut DecisionLog, env: &Environment<'_>) -> Vec<HeaderEdit> {
        if self.remaining.is_empty() || self.tried >= self.gate.policy.gateway.max_attempts {
            return Vec::new();
        }
        // Releases the old reservation first: the caller's own budgets may not have room for both.
        self.failed_tokens += self.attempt.fail(self.inbound.caller, why, env);
        notes.skip(&self.gate, self.attempt.candidate(), why, env);
        let Some(next) = self.next_attempt(notes, env) else { return Vec::new() };
        // The previous provider's headers are removed: a cluster without an attempt filter would forward them.
        let own = credential::HEADERS.into_iter().chain(["content-length"]).map(|name| HeaderEdit::Remove(name.into()));
        let edits = [route_to(next.provider_name())].into_iter().chain(own).collect();
        self.previous = Some(std::mem::replace(&mut self.attempt, next));
        self.stage = Stage::Unsent;
        self.tried += 1;
        edits
    }

    fn next_attempt(&mut self, notes: &mut DecisionLog, env: &Environment<'_>) -> Option<Attempt> {
        let gate = Rc::clone(&self.gate);
        let access = ModelAccess::new(&gate.policy, self.inbound.caller);
        // Those whose budgets lack tokens only because of used ones, unless another lacks them because of reservations.
        let mut spent = Some(Vec::new());
        while let Some(index) = self.remaining.pop() {
            let Some(evaluation) = access.agent_model(index).and_then(|candidate| Evaluation::new(&gate, candidate, &self.inbound))
            else {
                continue;
            };
            let candidate = evaluation.candidate();
            if !evaluation.is_available(env) {
                notes.skip(&gate, candidate, SkipReason::Cooldown, env);
                continue;
            }
            let refusal = match evaluation.fit(env) {
                Err(oversize) => oversize.refusal,
                Ok(fit) => match evaluation.reserve(&fit, env) {
                    Ok((admission, changes)) => {
                        evaluation.record_start(env);
                        return Some(Attempt::new(Rc::clone(&gate), candidate, admission, changes));
                    }
                    Err(Declined::Uncounted) => continue,
                    Err(Declined::Short(Short { refusal, only_used })) => {
                        match &mut spent {
                            Some(spent) if only_used => spent.push((evaluation, fit)),
                            _ => spent = None,
                        }
                        refusal
                    }
                },
            };
            notes.skip(&gate, candidate, SkipReason::Budget(refusal.case), env);
        }
        spent.into_iter().flatten().find_map(|(evaluation, fit)| {
            let (admission, changes) = evaluation.reserve_lowered(&fit, env)?.ok()?;
            evaluation.record_start(env);
            Some(Attempt::new(Rc::clone(&gate), evaluation.candidate(), admission, changes))
        })
    }

    /// Returns the name of the provider of the current attempt.
    pub fn provider_name(&self) -> &str {
        self.attempt.provider_name()
    }

    /// Returns whether a response was received.
    pub fn is_answered(&self) -> bool {
        self.attempt.is_answered()
    }

    /// Returns whether the response's body has to be read, to sample or to hide its usage.
    pub fn reads_answer(&self) -> bool {
        self.attempt.reads_answer()
    }

    /// Returns whether the response is held back.
    pub fn holds_answer(&self) -> bool {
        self.attempt.holds_answer()
    }

    /// Handles a local reply of Envoy's; `details` are its `response.code_details`.
    pub fn on_local_reply(&mut self, status: u16, details: &[u8], env: &Environment<'_>) -> ResponseStep {
        if !is_gone(details) {
            self.step_back(env);
        }
        self.attempt.on_local_reply(status, details, &self.inbound, env)
    }

    /// Handles the local reply to an attempt whose credential is missing. It was not sent to its provider, and Envoy does not retry it.
    pub fn on_missing_credential(&mut self, env: &Environment<'_>) -> ResponseStep {
        self.previous = None;
        self.stage = Stage::Unsent;
        self.attempt.on_missing_credential(&self.inbound, env)
    }

    /// Handles the headers of the response that is forwarded to the client.
    pub fn on_response_headers(
        &mut self,
        status: u16,
        headers: &Headers<'_>,
        end_of_stream: bool,
        env: &Environment<'_>,
    ) -> ResponseStep {
        if self.stage == Stage::Unsent && (headers.get(RETRY).is_none() || !self.step_back(env)) {
            // The response is from a cluster without an attempt filter: the request was not rewritten for its provider.
            crate::metrics::filter_error(env.meter, "attempt");
            return self.attempt.on_local_reply(503, b"", &self.inbound, env);
        }
        self.attempt.on_response_headers(status, headers, end_of_stream, &self.inbound, env)
    }

    /// Restores the previous attempt because Envoy does not retry. Returns whether there is one.
    fn step_back(&mut self, env: &Environment<'_>) -> bool {
        let Some(previous) = self.previous.take() else { return false };
        self.attempt.release(env);
        self.attempt = previous;
        self.stage = Stage::Sent;
        true
    }

    /// Handles a chunk of the response's body; all of the body so far if it is held back.
    pub fn on_response_body(&mut self, chunk: &[u8], end_of_stream: bool, env: &Environment<'_>) -> BodyStep {
        self.attempt.on_response_body(chunk, end_of_stream, &self.inbound, env)
    }

    /// Settles the request and updates the metrics. `connected` returns whether the last attempt reached its provider.
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
