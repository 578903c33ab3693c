//! Who serves a request: the candidate that it names, or the first behind it that may and can (design 3.2).
//!
//! What the named candidate refuses for its size, its guards or its lists is refused. Another that would refuse it is no candidate.
//! Budgets decide among those that are left; a model that fails everybody is asked only where no other can serve.

use std::rc::Rc;

use crate::asked::Asked;
use crate::attempt::Attempt;
use crate::gate::Gate;
use crate::host::Host;
use crate::passed::{PassedOver, Why};
use crate::policy::Candidate;
use crate::refusal::{Case, Refusal};
use crate::trial::{Fitting, Trial};

/// A candidate behind the named one, and its place in the list of the caller's agent.
pub type Other<'a> = (usize, Candidate<'a>);

/// One request in search of its provider.
pub struct Selection<'a> {
    /// The configuration.
    pub gate: &'a Rc<Gate>,
    /// What was asked.
    pub asked: &'a Asked,
    /// Its body.
    pub body: &'a [u8],
    /// The candidates behind the named one, in their order.
    pub others: Vec<Other<'a>>,
    /// Whether an attempt that fails may be followed by another.
    pub followed: bool,
}

/// Who takes the request.
#[derive(Debug)]
pub struct Selected {
    /// The attempt to begin with.
    pub attempt: Attempt,
    /// Who may follow if it fails, by their places.
    pub left: Vec<usize>,
    /// Who was passed over.
    pub passed: PassedOver,
}

/// What was found out on the way.
struct Search<'a, 'h> {
    gate: &'a Rc<Gate>,
    host: &'h Host<'h>,
    short: Vec<Refusal>,
    passed: PassedOver,
}

// === impl Selection ===

impl Selection<'_> {
    /// Finds who serves, beginning with `named`. Names of guards that find something go into `found_by`.
    pub fn run(self, named: &Trial<'_>, found_by: &mut String, host: &Host<'_>) -> Result<Selected, Refusal> {
        let Self { gate, asked, body, others, followed } = self;
        let alone = others.is_empty();
        let mut search = Search { gate, host, short: Vec::new(), passed: PassedOver::default() };
        let mut resting = Vec::new();
        let mut found = None;
        match named.fit(host) {
            Err(oversize) if oversize.of_request || alone => return Err(oversize.refusal),
            fitting => {
                named.guard(body, found_by, host)?;
                match fitting {
                    Err(oversize) => search.short.push(oversize.refusal),
                    Ok(fitting) if alone || named.is_awake(host) => found = search.reserve(named, &fitting),
                    Ok(_) => resting.push(named.candidate()),
                }
            }
        }
        let mut takes = |candidate| {
            let trial = Trial::new(gate, candidate, asked).filter(Trial::speaks)?;
            match trial.fit(host) {
                Err(oversize) if oversize.of_request => None,
                fitting => trial.guard(body, found_by, host).is_ok().then_some((trial, fitting)),
            }
        };
        let mut others = others.into_iter();
        while found.is_none()
            && let Some((_, candidate)) = others.next()
        {
            match takes(candidate) {
                None => {}
                Some((_, Err(oversize))) => search.short.push(oversize.refusal),
                Some((trial, Ok(fitting))) if trial.is_awake(host) => found = search.reserve(&trial, &fitting),
                Some(_) => resting.push(candidate),
            }
        }
        let left =
            others.filter(|(_, candidate)| found.is_some() && followed && takes(*candidate).is_some()).map(|(place, _)| place);
        let left = left.collect();
        resting.iter().for_each(|candidate| search.passed.note(gate, *candidate, Why::Resting, host));
        // Better one that may fail than none.
        let mut resting = resting.into_iter();
        while found.is_none()
            && let Some(candidate) = resting.next()
        {
            let trial = Trial::new(gate, candidate, asked);
            found = trial.and_then(|trial| search.reserve(&trial, &trial.fit(host).ok()?));
        }
        let Search { short, passed, .. } = search;
        found.map(|attempt| Selected { attempt, left, passed }).ok_or_else(|| worst(short))
    }
}

// === impl Search ===

impl Search<'_, '_> {
    fn reserve(&mut self, trial: &Trial<'_>, fitting: &Fitting) -> Option<Attempt> {
        let refusal = match trial.reserve(fitting, self.host) {
            Ok((grant, changes)) => return Some(Attempt::new(Rc::clone(self.gate), trial.candidate(), grant, changes)),
            Err(refusal) => refusal,
        };
        self.passed.note(self.gate, trial.candidate(), Why::Budget(refusal.case), self.host);
        self.short.push(refusal);
        None
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
