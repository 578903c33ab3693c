//! Selection of the candidate that serves a request: the one that the request names, or the first eligible one after it.
//!
//! If the named candidate rejects the request for its size, its guards or its model lists, the request is rejected. Other candidates
//! that would reject it are not eligible. Of the eligible candidates, the first with enough budget is selected. A candidate that is
//! cooling down is selected only if no other can serve the request.

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

/// A candidate after the named one, and its index in the list of the caller's agent.
pub type Other<'a> = (usize, Candidate<'a>);

/// The selection of a candidate for one request.
pub struct Selection<'a, 'h> {
    gate: &'a Rc<Gate>,
    inbound: &'a InboundRequest,
    body: &'a [u8],
    env: &'a Environment<'h>,
    /// The refusals of candidates without enough budget.
    short: Vec<Refusal>,
    /// The candidates that are cooling down.
    cooling_down: Vec<Candidate<'a>>,
    notes: &'a mut DecisionLog,
}

/// The result of a selection.
#[derive(Debug)]
pub struct Selected {
    /// The first attempt.
    pub attempt: Attempt,
    /// The candidates to try if it fails, by their indices in the list of the caller's agent.
    pub remaining: Vec<usize>,
}

/// The evaluation of a candidate whose lists, guards and `maxTokensPerRequest` allow the request, and whether the request fits the
/// caps of its budgets.
type Eligible<'a> = (Evaluation<'a>, Result<Fit, Oversize>);

// === impl Selection ===

impl<'a, 'h> Selection<'a, 'h> {
    /// Creates the selection for a request with this body.
    pub fn new(
        gate: &'a Rc<Gate>,
        inbound: &'a InboundRequest,
        body: &'a [u8],
        notes: &'a mut DecisionLog,
        env: &'a Environment<'h>,
    ) -> Self {
        Self { gate, inbound, body, env, short: Vec::new(), cooling_down: Vec::new(), notes }
    }

    /// Selects a candidate, starting with `named`, and the candidates to try after it as far as `retries` allow. Fails with the
    /// most recoverable refusal.
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
            remaining.extend(others.map(|(index, _)| index));
        }
        // If no other candidate can serve the request, those that are cooling down are tried.
        let mut cooling_down = std::mem::take(&mut self.cooling_down).into_iter();
        while found.is_none()
            && let Some(candidate) = cooling_down.next()
        {
            let evaluation = Evaluation::new(self.gate, candidate, self.inbound);
            found = evaluation.and_then(|evaluation| self.reserve(&evaluation, evaluation.fit(self.env)));
        }
        found.map(|attempt| Selected { attempt, remaining }).ok_or_else(|| most_recoverable(self.short))
    }

    /// Evaluates the candidate that the request names. Its refusals are final, except for its budgets.
    fn try_named(&mut self, named: Evaluation<'a>, alone: bool) -> Result<Option<Attempt>, Refusal> {
        let fit = match named.fit(self.env) {
            Err(oversize) if oversize.of_request || alone => return Err(oversize.refusal),
            fit => fit,
        };
        named.guard(self.body, &mut self.notes.matched_guards, self.env)?;
        match fit {
            Ok(fit) if alone => self.admit(&named, &fit).map(Some),
            fit => Ok(self.try_candidate((named, fit))),
        }
    }

    /// Returns the evaluation of another candidate if the candidate would not reject the request.
    fn eligible(&mut self, other: Candidate<'a>) -> Option<Eligible<'a>> {
        let evaluation =
            Evaluation::new(self.gate, other, self.inbound).filter(|evaluation| evaluation.can_translate(self.body))?;
        match evaluation.fit(self.env) {
            Err(oversize) if oversize.of_request => None,
            fit => evaluation.guard(self.body, &mut self.notes.matched_guards, self.env).is_ok().then_some((evaluation, fit)),
        }
    }

    fn try_candidate(&mut self, (evaluation, fit): Eligible<'a>) -> Option<Attempt> {
        if !evaluation.is_available(self.env) {
            self.notes.skip(self.gate, evaluation.candidate(), SkipReason::Cooldown, self.env);
            self.cooling_down.push(evaluation.candidate());
            return None;
        }
        let attempt = self.reserve(&evaluation, fit)?;
        evaluation.record_start(self.env);
        Some(attempt)
    }

    fn reserve(&mut self, evaluation: &Evaluation<'_>, fit: Result<Fit, Oversize>) -> Option<Attempt> {
        match fit.map_err(|oversize| oversize.refusal).and_then(|fit| self.admit(evaluation, &fit)) {
            Ok(attempt) => Some(attempt),
            Err(refusal) => {
                self.notes.skip(self.gate, evaluation.candidate(), SkipReason::Budget(refusal.case), self.env);
                self.short.push(refusal);
                None
            }
        }
    }

    fn admit(&self, evaluation: &Evaluation<'_>, fit: &Fit) -> Result<Attempt, Refusal> {
        let (admission, changes) = evaluation.reserve(fit, self.env)?;
        Ok(Attempt::new(Rc::clone(self.gate), evaluation.candidate(), admission, changes))
    }
}

/// Returns the refusal after which a retry is most likely to succeed, with the shortest wait of all.
fn most_recoverable(short: Vec<Refusal>) -> Refusal {
    const ORDER: [Case; 4] = [Case::BudgetReserved, Case::LedgerUnavailable, Case::BudgetExhausted, Case::ContextLengthExceeded];
    let several = short.len() > 1;
    let rank = |refusal: &Refusal| ORDER.iter().position(|case| *case == refusal.case).unwrap_or(ORDER.len());
    let wait = short.iter().filter(|refusal| refusal.case == Case::BudgetReserved).filter_map(|refusal| refusal.retry_after).min();
    let Some(mut refusal) = short.into_iter().min_by_key(rank) else { return Refusal::ledger_unavailable() };
    if several {
        refusal.message.push_str(" No other model of this agent can serve it.");
    }
    if refusal.case == Case::BudgetReserved {
        refusal.retry_after = wait;
    }
    refusal
}
