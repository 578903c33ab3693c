//! Selection of the candidate that serves a request: the one that the request names, or the first eligible one after it.
//!
//! If the named candidate rejects the request for its size, its guards or its model lists, the request is rejected. Other candidates
//! that would reject it are not eligible. Of the eligible candidates, the first with enough budget is selected. If none has enough for the
//! limit that the request names, but one has enough for a useful answer, the limit is lowered. A candidate that is cooling down is selected
//! only if no other can serve the request.

use std::rc::Rc;

use crate::exchange::access_log::{DecisionLog, SkipReason};
use crate::exchange::attempt::{Admission, Attempt};
use crate::exchange::environment::Environment;
use crate::exchange::evaluation::{Declined, Evaluation, Fit, Oversize, Short};
use crate::exchange::gate::Gate;
use crate::exchange::inbound::InboundRequest;
use crate::exchange::worker::Retries;
use crate::http::refusal::{Case, Refusal};
use crate::openai::BodyChanges;
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
    /// The candidates whose budgets lack tokens only because of used ones.
    spent: Vec<(Evaluation<'a>, Fit)>,
    /// Whether the budgets of a candidate lack tokens because of reservations.
    is_reserved: bool,
    /// The candidates that are cooling down.
    cooling_down: Vec<Candidate<'a>>,
    /// The candidates that were skipped for others, with the reasons.
    skipped: Vec<(Candidate<'a>, SkipReason)>,
    /// Whether the named candidate is the only one.
    alone: bool,
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

/// Why no candidate is selected.
#[derive(Debug)]
pub enum Stop {
    /// The request is refused.
    Refused(Refusal),
    /// The number of the prompt's tokens at a candidate decides, and its server can be requested to count them.
    Count {
        /// The index of the provider.
        provider: usize,
        /// The model id at the provider.
        model: String,
    },
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
        let (short, spent, cooling_down, skipped) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { gate, inbound, body, env, short, spent, is_reserved: false, cooling_down, skipped, alone: false, notes }
    }

    /// Selects a candidate, starting with `named`, and the candidates to try after it as far as `retries` allow. Stops with the most
    /// recoverable refusal.
    pub fn select(mut self, named: Evaluation<'a>, others: Vec<Other<'a>>, retries: Retries) -> Result<Selected, Stop> {
        self.alone = others.is_empty();
        let mut found = self.try_named(named)?;
        let mut others = others.into_iter();
        while found.is_none()
            && let Some((_, other)) = others.next()
        {
            if let Some(eligible) = self.eligible(other) {
                found = self.try_candidate(eligible)?;
            }
        }
        let mut remaining = Vec::new();
        if let Some(first) = found.as_ref().map(|attempt| attempt.candidate().provider) {
            let others = others.filter(|(_, other)| retries.lead(first, other.provider) && self.eligible(*other).is_some());
            remaining.extend(others.map(|(index, _)| index));
        }
        if found.is_none() {
            found = self.try_lowered();
        }
        // If no other candidate can serve the request, those that are cooling down are tried.
        let mut cooling_down = std::mem::take(&mut self.cooling_down).into_iter();
        while found.is_none()
            && let Some(candidate) = cooling_down.next()
        {
            if let Some(evaluation) = Evaluation::new(self.gate, candidate, self.inbound) {
                let fit = evaluation.fit(self.env);
                found = self.reserve(evaluation, fit)?;
            }
        }
        if found.is_none() {
            found = self.try_lowered();
        }
        let several = self.skipped.iter().filter(|(_, why)| matches!(why, SkipReason::Budget(_))).count() > 1;
        for (candidate, why) in self.skipped {
            self.notes.skip(self.gate, candidate, why, self.env);
        }
        found.map(|attempt| Selected { attempt, remaining }).ok_or_else(|| Stop::Refused(most_recoverable(self.short, several)))
    }

    /// Evaluates the candidate that the request names. Its refusals are final, except for its budgets.
    fn try_named(&mut self, named: Evaluation<'a>) -> Result<Option<Attempt>, Stop> {
        let fit = match named.fit(self.env) {
            Err(oversize) if oversize.of_request || self.alone => return Err(Stop::Refused(oversize.refusal)),
            fit => fit,
        };
        named.guard(self.body, self.notes, self.env).map_err(Stop::Refused)?;
        // The only candidate is tried whether or not it is cooling down.
        if self.alone { self.reserve(named, fit) } else { self.try_candidate((named, fit)) }
    }

    /// Returns the evaluation of another candidate if the candidate would not reject the request.
    fn eligible(&mut self, other: Candidate<'a>) -> Option<Eligible<'a>> {
        let evaluation =
            Evaluation::new(self.gate, other, self.inbound).filter(|evaluation| evaluation.can_translate(self.body))?;
        match evaluation.fit(self.env) {
            Err(oversize) if oversize.of_request => None,
            fit => evaluation.guard(self.body, self.notes, self.env).is_ok().then_some((evaluation, fit)),
        }
    }

    fn try_candidate(&mut self, (evaluation, fit): Eligible<'a>) -> Result<Option<Attempt>, Stop> {
        if !evaluation.is_available(self.env) {
            self.skipped.push((evaluation.candidate(), SkipReason::Cooldown));
            self.cooling_down.push(evaluation.candidate());
            return Ok(None);
        }
        self.reserve(evaluation, fit)
    }

    fn start(&self, evaluation: &Evaluation<'a>, admission: Admission, changes: BodyChanges) -> Attempt {
        if !self.alone {
            evaluation.record_start(self.env);
        }
        Attempt::new(Rc::clone(self.gate), evaluation.candidate(), admission, changes)
    }

    fn reserve(&mut self, evaluation: Evaluation<'a>, fit: Result<Fit, Oversize>) -> Result<Option<Attempt>, Stop> {
        let candidate = evaluation.candidate();
        let fit = match fit {
            Ok(fit) => fit,
            Err(oversize) => {
                self.skip(candidate, oversize.refusal);
                return Ok(None);
            }
        };
        match evaluation.reserve(&fit, self.env) {
            Ok((admission, changes)) => Ok(Some(self.start(&evaluation, admission, changes))),
            Err(Declined::Uncounted) => Err(Stop::Count { provider: candidate.provider, model: candidate.model.to_owned() }),
            Err(Declined::Short(Short { refusal, only_used })) => {
                if only_used {
                    self.spent.push((evaluation, fit));
                } else {
                    self.is_reserved = true;
                }
                self.skip(candidate, refusal);
                Ok(None)
            }
        }
    }

    /// Tries the candidates whose budgets lack tokens only because of used ones, with a lower limit.
    fn try_lowered(&mut self) -> Option<Attempt> {
        for (evaluation, fit) in std::mem::take(&mut self.spent) {
            if self.is_reserved {
                // What is reserved may soon be free: the request then gets the limit that it names.
                return None;
            }
            let candidate = evaluation.candidate();
            match evaluation.reserve_lowered(&fit, self.env) {
                Some(Ok((admission, changes))) => {
                    self.skipped.retain(|(skipped, _)| *skipped != candidate);
                    return Some(self.start(&evaluation, admission, changes));
                }
                Some(Err(short)) => {
                    // With the reservations of others settled, the lowered limit may fit.
                    self.is_reserved |= !short.only_used;
                    self.short.push(short.refusal);
                }
                None => {}
            }
        }
        None
    }

    fn skip(&mut self, candidate: Candidate<'a>, refusal: Refusal) {
        if !self.alone {
            self.skipped.push((candidate, SkipReason::Budget(refusal.case)));
        }
        self.short.push(refusal);
    }
}

/// Returns the refusal after which a retry is most likely to succeed, with the shortest wait of all.
fn most_recoverable(short: Vec<Refusal>, several: bool) -> Refusal {
    const ORDER: [Case; 4] = [Case::BudgetReserved, Case::LedgerUnavailable, Case::BudgetExhausted, Case::ContextLengthExceeded];
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
