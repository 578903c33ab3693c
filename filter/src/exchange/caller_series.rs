//! The metrics of agents and access keys. A series is created at a caller's first request: of many keys, most are idle.

use std::cell::{Cell, OnceCell, RefCell};

use crate::budget::subject::BudgetKind;
use crate::exchange::environment::Environment;
use crate::identity::budgets::Budgets;
use crate::identity::caller::Caller;
use crate::metrics::{SubjectSeries, TokenSeries};
use crate::policy::Policy;

/// Pairs of a caller and a model that have counters of their own, per worker. The tokens of others count under the model `other`.
const MAX_PAIRS: usize = 5_000;

/// Callers whose gauges one tick renews. With more, each is renewed in turn.
const PER_TICK: usize = 256;

/// The series of all agents and access keys of a policy.
#[derive(Debug)]
pub struct CallerSeries {
    agents: Vec<OnceCell<Box<SubjectSeries>>>,
    keys: Vec<OnceCell<Box<SubjectSeries>>>,
    /// Callers that have made a request, in the order of their first one.
    active: RefCell<Vec<Caller>>,
    /// Index into `active` of the first caller that the next tick renews.
    next: Cell<usize>,
    /// Pairs of a caller and a model that have counters of their own.
    pairs: Cell<usize>,
}

// === impl CallerSeries ===

impl CallerSeries {
    /// Makes room for the callers of a policy.
    pub fn new(policy: &Policy) -> Self {
        Self {
            agents: policy.agents.iter().map(|_| OnceCell::new()).collect(),
            keys: policy.keys.iter().map(|_| OnceCell::new()).collect(),
            active: RefCell::default(),
            next: Cell::new(0),
            pairs: Cell::new(0),
        }
    }

    /// Returns the series of a caller, `None` for callers who have none.
    pub fn get(&self, caller: Caller, policy: &Policy) -> Option<&SubjectSeries> {
        let series = self.cell(caller)?.get_or_init(|| {
            self.active.borrow_mut().push(caller);
            Box::new(SubjectSeries::new(&caller.subject(policy)))
        });
        Some(series)
    }

    /// Returns the token counters of a caller for a model, by the indices of its provider and of its label there.
    pub fn tokens(&self, caller: Caller, model: (usize, usize), policy: &Policy) -> Option<TokenSeries> {
        let names = || {
            let pairs = self.pairs.get();
            if pairs >= MAX_PAIRS {
                return None;
            }
            self.pairs.set(pairs + 1);
            let provider = policy.providers.get(model.0)?;
            Some((provider.name.to_string(), provider.models.labels().into_iter().nth(model.1)?))
        };
        Some(self.get(caller, policy)?.tokens(model, names))
    }

    /// Renews the gauges of the next callers that have made a request and have a daily budget.
    pub fn show_budgets(&self, budgets: &Budgets, env: &Environment<'_>) {
        let active = self.active.borrow();
        let first = if self.next.get() < active.len() { self.next.get() } else { 0 };
        self.next.set(first + PER_TICK);
        for caller in active.iter().skip(first).take(PER_TICK) {
            self.show_budget(*caller, budgets, env);
        }
    }

    fn show_budget(&self, caller: Caller, budgets: &Budgets, env: &Environment<'_>) {
        let Some(subject) = budgets.caller(caller) else { return };
        let (Some(cap), Some(index)) = (subject.cap(BudgetKind::Daily), subject.index(BudgetKind::Daily)) else { return };
        let (Some(series), Ok(account)) = (self.cell(caller).and_then(OnceCell::get), env.ledger().read(subject)) else { return };
        if let Some(record) = account.record(index) {
            series.budget.show(env.meter, record, Some(cap));
        }
    }

    fn cell(&self, caller: Caller) -> Option<&OnceCell<Box<SubjectSeries>>> {
        match caller {
            Caller::Anonymous | Caller::Operator => None,
            Caller::Agent(index) => self.agents.get(index),
            Caller::Developer(index) => self.keys.get(index),
        }
    }
}
