//! Who serves a request: the candidate that it names, or the first behind it that may and can (design 3.2).
//!
//! What the named candidate refuses for its size, its guards or its lists is refused. Another that would refuse it is no candidate.
//! Budgets decide among those that are left; a model that fails everybody is asked only where no other can serve.

use std::rc::Rc;

use crate::exchange::access_log::{Notes, Why};
use crate::exchange::attempt::Attempt;
use crate::exchange::evaluation::{Fitting, Oversize, Trial};
use crate::exchange::gate::Gate;
use crate::exchange::inbound::Asked;
use crate::host::Host;
use crate::host::worker::Retries;
use crate::http::refusal::{Case, Refusal};
use crate::policy::Candidate;

/// A candidate behind the named one, and its place in the list of the caller's agent.
pub type Other<'a> = (usize, Candidate<'a>);

/// One request in search of its provider.
pub struct Selection<'a, 'h> {
    gate: &'a Rc<Gate>,
    asked: &'a Asked,
    body: &'a [u8],
    host: &'a Host<'h>,
    /// Refusals of those that have no room.
    short: Vec<Refusal>,
    /// Those that have failed everybody of late.
    resting: Vec<Candidate<'a>>,
    notes: &'a mut Notes,
}

/// Who takes the request.
#[derive(Debug)]
pub struct Selected {
    /// The attempt to begin with.
    pub attempt: Attempt,
    /// Who may follow if it fails, by their places.
    pub left: Vec<usize>,
}

/// A candidate whose lists, guards and cap let the request through, and whether it has the size for any of its budgets.
type Taker<'a> = (Trial<'a>, Result<Fitting, Oversize>);

// === impl Selection ===

impl<'a, 'h> Selection<'a, 'h> {
    /// For a request with this body.
    pub fn new(gate: &'a Rc<Gate>, asked: &'a Asked, body: &'a [u8], notes: &'a mut Notes, host: &'a Host<'h>) -> Self {
        Self { gate, asked, body, host, short: Vec::new(), resting: Vec::new(), notes }
    }

    /// Finds who serves, beginning with `named`, and who may follow as far as `retries` go.
    pub fn run(mut self, named: Trial<'a>, others: Vec<Other<'a>>, retries: Retries) -> Result<Selected, Refusal> {
        let mut found = self.begin(named, others.is_empty())?;
        let mut others = others.into_iter();
        while found.is_none()
            && let Some((_, other)) = others.next()
        {
            found = self.takes(other).and_then(|taker| self.ask(taker));
        }
        let mut left = Vec::new();
        if let Some(first) = found.as_ref().map(|attempt| attempt.candidate().provider) {
            let others = others.filter(|(_, other)| retries.lead(first, other.provider) && self.takes(*other).is_some());
            left.extend(others.map(|(place, _)| place));
        }
        // Better one that may fail than none.
        let mut resting = std::mem::take(&mut self.resting).into_iter();
        while found.is_none()
            && let Some(candidate) = resting.next()
        {
            let trial = Trial::new(self.gate, candidate, self.asked);
            found = trial.and_then(|trial| self.reserve(&trial, trial.fit(self.host)));
        }
        found.map(|attempt| Selected { attempt, left }).ok_or_else(|| worst(self.short))
    }

    /// Asks the candidate that the request names, whose own refusals are final.
    fn begin(&mut self, named: Trial<'a>, alone: bool) -> Result<Option<Attempt>, Refusal> {
        let fitting = match named.fit(self.host) {
            Err(oversize) if oversize.of_request || alone => return Err(oversize.refusal),
            fitting => fitting,
        };
        named.guard(self.body, &mut self.notes.found_by, self.host)?;
        match fitting {
            Ok(fitting) if alone => self.grant(&named, &fitting).map(Some),
            fitting => Ok(self.ask((named, fitting))),
        }
    }

    /// Whether another candidate would not refuse the request by itself.
    fn takes(&mut self, other: Candidate<'a>) -> Option<Taker<'a>> {
        let trial = Trial::new(self.gate, other, self.asked).filter(|trial| trial.speaks(self.body))?;
        match trial.fit(self.host) {
            Err(oversize) if oversize.of_request => None,
            fitting => trial.guard(self.body, &mut self.notes.found_by, self.host).is_ok().then_some((trial, fitting)),
        }
    }

    fn ask(&mut self, (trial, fitting): Taker<'a>) -> Option<Attempt> {
        if !trial.is_awake(self.host) {
            self.notes.passed_over(self.gate, trial.candidate(), Why::Resting, self.host);
            self.resting.push(trial.candidate());
            return None;
        }
        let attempt = self.reserve(&trial, fitting)?;
        trial.comes(self.host);
        Some(attempt)
    }

    fn reserve(&mut self, trial: &Trial<'_>, fitting: Result<Fitting, Oversize>) -> Option<Attempt> {
        match fitting.map_err(|oversize| oversize.refusal).and_then(|fitting| self.grant(trial, &fitting)) {
            Ok(attempt) => Some(attempt),
            Err(refusal) => {
                self.notes.passed_over(self.gate, trial.candidate(), Why::Budget(refusal.case), self.host);
                self.short.push(refusal);
                None
            }
        }
    }

    fn grant(&self, trial: &Trial<'_>, fitting: &Fitting) -> Result<Attempt, Refusal> {
        let (grant, changes) = trial.reserve(fitting, self.host)?;
        Ok(Attempt::new(Rc::clone(self.gate), trial.candidate(), grant, changes))
    }
}

/// What is told of several refusals: the first of the most hopeful kind, and the shortest wait.
fn worst(short: Vec<Refusal>) -> Refusal {
    const HOPE: [Case; 4] = [Case::Reserved, Case::LedgerUnavailable, Case::Spent, Case::ContextLengthExceeded];
    let several = short.len() > 1;
    let hope = |refusal: &Refusal| HOPE.iter().position(|case| *case == refusal.case).unwrap_or(HOPE.len());
    let wait = short.iter().filter(|refusal| refusal.case == Case::Reserved).filter_map(|refusal| refusal.retry_after).min();
    let Some(mut refusal) = short.into_iter().min_by_key(hope) else { return Refusal::ledger_unavailable() };
    if several {
        refusal.message.push_str(" No other model of this agent can take it either.");
    }
    if refusal.case == Case::Reserved {
        refusal.retry_after = wait;
    }
    refusal
}
