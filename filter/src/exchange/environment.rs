//! The boundary: what the core asks of its host, and what it tells it to do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::budget::account::Ask;
use crate::budget::ledger::{Ledger, Permit, Refused, Rejected};
use crate::budget::subject::SubjectBudgets;
use crate::clock::{Clock, Time};
use crate::exchange::worker::Worker;
use crate::metrics::{self, Meter};
use crate::store::Store;

/// The world outside an exchange, for as long as one callback lasts.
pub struct Environment<'a> {
    clock: &'a dyn Clock,
    /// When the callback first asked: time stands still in it.
    now: Cell<Option<Time>>,
    /// The shared data.
    pub store: &'a dyn Store,
    /// The metrics.
    pub meter: &'a dyn Meter,
    /// This instance of the filter.
    pub worker: &'a RefCell<Worker>,
}

// === impl Environment ===

impl<'a> Environment<'a> {
    /// For one callback of the instance that `worker` is.
    pub fn new(clock: &'a dyn Clock, store: &'a dyn Store, meter: &'a dyn Meter, worker: &'a RefCell<Worker>) -> Self {
        Self { clock, now: Cell::new(None), store, meter, worker }
    }

    /// What time it is.
    pub fn now(&self) -> Time {
        let now = self.now.get().unwrap_or_else(|| self.clock.now());
        self.now.set(Some(now));
        now
    }

    /// The ledger as this instance sees it now.
    pub fn ledger(&self) -> Ledger<'_> {
        let worker = self.worker.borrow();
        Ledger { store: self.store, recent: Rc::clone(&worker.recent), instance: worker.heartbeat.instance(), now: self.now() }
    }

    /// Reserves `ask` in all budgets of `claims`, or in none.
    pub fn reserve(&self, claims: &[SubjectBudgets<'_>], ask: Ask) -> Result<Permit, Refused> {
        self.worker.borrow_mut().heartbeat.enlist(self.store);
        self.ledger().reserve(claims, ask).map_err(|Rejected { refused, left }| {
            if let Some(left) = left {
                self.worker.borrow_mut().keep(left, 0);
            }
            refused
        })
    }

    /// Settles a permit, now or as soon as the ledger can be changed again.
    pub fn settle(&self, permit: Permit, charge: u64) {
        if let Some(permit) = self.ledger().settle(permit, charge) {
            metrics::filter_error(self.meter, "settle");
            self.worker.borrow_mut().keep(permit, charge);
        }
    }

    /// Settles what the ledger could not take before.
    pub fn settle_again(&self) {
        let unsettled = self.worker.borrow_mut().take_unsettled();
        for (permit, charge) in unsettled {
            self.settle(permit, charge);
        }
    }
}
