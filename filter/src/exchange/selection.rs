//! Who serves a request: the candidate that it names, or the first behind it that may and can (design 3.2).
//!
//! What the named candidate refuses for its size, its guards or its lists is refused. Another that would refuse it is no candidate.
//! Budgets decide among those that are left; a model that fails everybody is asked only where no other can serve.

use std::rc::Rc;

use crate::exchange::access_log::{DecisionLog, SkipReason};
use crate::exchange::attempt::Attempt;
use crate::exchange::environment::Environment;
use crate::exchange::evaluation::{Evaluation, Fit, Oversize};
use crate::exchange::gate::Gate;
use crate::exchange::inbound::InboundRequest;
use crate::exchange::worker::Retries;
use crate::http::refusal::{Case, Refusal};
use crate::policy::Candidate;

/// A candidate behind the named one, and its place in the list of the caller's agent.
pub type Other<'a> = (usize, Candidate<'a>);

/// One request in search of its provider.
pub struct Selection<'a, 'h> {
    gate: &'a Rc<Gate>,
    inbound: &'a InboundRequest,
    body: &'a [u8],
    env: &'a Environment<'h>,
    /// Refusals of those that have no room.
    short: Vec<Refusal>,
    /// Those that have failed everybody of late.
    cooling_down: Vec<Candidate<'a>>,
    notes: &'a mut DecisionLog,
}

/// Who takes the request.
#[derive(Debug)]
pub struct Selected {
    /// The attempt to begin with.
    pub attempt: Attempt,
    /// Who may follow if it fails, by their places.
    pub remaining: Vec<usize>,
}

/// A candidate whose lists, guards and cap let the request through, and whether it has the size for any of its budgets.
type Eligible<'a> = (Evaluation<'a>, Result<Fit, Oversize>);

// === impl Selection ===

impl<'a, 'h> Selection<'a, 'h> {
    /// For a request with this body.
    pub fn new(
        gate: &'a Rc<Gate>,
        inbound: &'a InboundRequest,
        body: &'a [u8],
        notes: &'a mut DecisionLog,
        env: &'a Environment<'h>,
    ) -> Self {
        Self { gate, inbound, body, env, short: Vec::new(), cooling_down: Vec::new(), notes }
    }

    /// Finds who serves, beginning with `named`, and who may follow as far as `retries` go.
    pub fn select(mut self, named: Evaluation<'a>, others: Vec<Other<'a>>, retries: Retries) -> Result<Selected, Refusal> {
        let mut found = self.try_named(named, others.is_empty())?;
        let mut others = others.into_iter();
        while found.is_none()
            && let Some((_, other)) = others.next()
        {
            found = self.eligible(other).and_then(|eligible| self.try_candidate(eligible));
        }
        let mut remaining = Vec::new();
        if let Some(first) = found.as_ref().map(|attempt| attempt.candidate().provider) {
            let others = others.filter(|(_, other)| retries.lead(first, other.provider) && self.eligible(*other).is_some());
            remaining.extend(others.map(|(place, _)| place));
        }
        // Better one that may fail than none.
        let mut cooling_down = std::mem::take(&mut self.cooling_down).into_iter();
        while found.is_none()
            && let Some(candidate) = cooling_down.next()
        {
            let evaluation = Evaluation::new(self.gate, candidate, self.inbound);
            found = evaluation.and_then(|evaluation| self.reserve(&evaluation, evaluation.fit(self.env)));
        }
        found.map(|attempt| Selected { attempt, remaining }).ok_or_else(|| most_recoverable(self.short))
    }

    /// Asks the candidate that the request names, whose own refusals are final.
    fn try_named(&mut self, named: Evaluation<'a>, alone: bool) -> Result<Option<Attempt>, Refusal> {
        let fitting = match named.fit(self.env) {
            Err(oversize) if oversize.of_request || alone => return Err(oversize.refusal),
            fitting => fitting,
        };
        named.guard(self.body, &mut self.notes.matched_guards, self.env)?;
        match fitting {
            Ok(fitting) if alone => self.grant(&named, &fitting).map(Some),
            fitting => Ok(self.try_candidate((named, fitting))),
        }
    }

    /// Whether another candidate would not refuse the request by itself.
    fn eligible(&mut self, other: Candidate<'a>) -> Option<Eligible<'a>> {
        let evaluation =
            Evaluation::new(self.gate, other, self.inbound).filter(|evaluation| evaluation.can_translate(self.body))?;
        match evaluation.fit(self.env) {
            Err(oversize) if oversize.of_request => None,
            fitting => {
                evaluation.guard(self.body, &mut self.notes.matched_guards, self.env).is_ok().then_some((evaluation, fitting))
            }
        }
    }

    fn try_candidate(&mut self, (evaluation, fitting): Eligible<'a>) -> Option<Attempt> {
        if !evaluation.is_available(self.env) {
            self.notes.skip(self.gate, evaluation.candidate(), SkipReason::Resting, self.env);
            self.cooling_down.push(evaluation.candidate());
            return None;
        }
        let attempt = self.reserve(&evaluation, fitting)?;
        evaluation.record_start(self.env);
        Some(attempt)
    }

    fn reserve(&mut self, evaluation: &Evaluation<'_>, fitting: Result<Fit, Oversize>) -> Option<Attempt> {
        match fitting.map_err(|oversize| oversize.refusal).and_then(|fitting| self.grant(evaluation, &fitting)) {
            Ok(attempt) => Some(attempt),
            Err(refusal) => {
                self.notes.skip(self.gate, evaluation.candidate(), SkipReason::Budget(refusal.case), self.env);
                self.short.push(refusal);
                None
            }
        }
    }

    fn grant(&self, evaluation: &Evaluation<'_>, fitting: &Fit) -> Result<Attempt, Refusal> {
        let (grant, changes) = evaluation.reserve(fitting, self.env)?;
        Ok(Attempt::new(Rc::clone(self.gate), evaluation.candidate(), grant, changes))
    }
}

/// What is told of several refusals: the first of the most hopeful kind, and the shortest wait.
fn most_recoverable(short: Vec<Refusal>) -> Refusal {
    const HOPE: [Case; 4] = [Case::BudgetReserved, Case::LedgerUnavailable, Case::BudgetExhausted, Case::ContextLengthExceeded];
    let several = short.len() > 1;
    let hope = |refusal: &Refusal| HOPE.iter().position(|case| *case == refusal.case).unwrap_or(HOPE.len());
    let wait = short.iter().filter(|refusal| refusal.case == Case::BudgetReserved).filter_map(|refusal| refusal.retry_after).min();
    let Some(mut refusal) = short.into_iter().min_by_key(hope) else { return Refusal::ledger_unavailable() };
    if several {
        refusal.message.push_str(" No other model of this agent can take it either.");
    }
    if refusal.case == Case::BudgetReserved {
        refusal.retry_after = wait;
    }
    refusal
}
