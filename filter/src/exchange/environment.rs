//! The environment of an exchange during one callback: the time, the shared data, the metrics and the state of its worker.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::budget::account::Ask;
use crate::budget::ledger::{Ledger, Permit, Refused, Rejected};
use crate::budget::subject::SubjectBudgets;
use crate::clock::{Clock, Time};
use crate::exchange::live_workers;
use crate::exchange::worker::Worker;
use crate::metrics::{self, Meter, Seconds, Series};
use crate::store::Store;

/// The environment of an exchange during one callback.
pub struct Environment<'a> {
    clock: &'a dyn Clock,
    /// The time when the callback first read the clock. It does not change until the callback ends.
    now: Cell<Option<Time>>,
    /// The shared data.
    pub store: &'a dyn Store,
    /// The metrics.
    pub meter: &'a dyn Meter,
    /// The state of this instance of the filter.
    pub worker: &'a RefCell<Worker>,
}

// === impl Environment ===

impl<'a> Environment<'a> {
    /// Creates the environment of one callback in the instance of `worker`.
    pub fn new(clock: &'a dyn Clock, store: &'a dyn Store, meter: &'a dyn Meter, worker: &'a RefCell<Worker>) -> Self {
        Self { clock, now: Cell::new(None), store, meter, worker }
    }

    /// Returns the current time. The clock is read at most once in a callback.
    pub fn now(&self) -> Time {
        self.now.get().unwrap_or_else(|| {
            let now = self.clock.now();
            self.now.set(Some(now));
            self.worker.borrow().last_time.set(now);
            now
        })
    }

    /// Returns a time that is at most a tick (one second) old, without reading the clock. Use it for reports, not for charges.
    pub fn recent_time(&self) -> Time {
        let last = self.worker.borrow().last_time.get();
        if last == Time::default() { self.now() } else { last }
    }

    /// Returns the ledger at the current time.
    pub fn ledger(&self) -> Ledger<'_> {
        self.ledger_at(self.now())
    }

    /// Returns the ledger for reports: at a time at most one second ago.
    pub fn recent_ledger(&self) -> Ledger<'_> {
        self.ledger_at(self.recent_time())
    }

    fn ledger_at(&self, now: Time) -> Ledger<'_> {
        let worker = self.worker.borrow();
        Ledger { store: self.store, recent: Rc::clone(&worker.recent), instance: worker.heartbeat.instance(), now }
    }

    /// Renews this worker's entry in the table of live workers.
    pub fn renew_liveness(&self) {
        let (instance, version) = {
            let worker = self.worker.borrow();
            (worker.heartbeat.instance(), worker.configuration)
        };
        live_workers::renew(self.store, instance, version, self.now());
    }

    /// Adds to a counter. The sum is sent to the host at the next tick.
    pub fn count(&self, counter: &Rc<Series>, by: u64) {
        self.worker.borrow().counts.add(counter, by);
    }

    /// Adds a duration in nanoseconds to a distribution. It is sent to the host at the next tick.
    pub fn observe(&self, seconds: &Rc<Seconds>, nanos: u64) {
        self.worker.borrow().counts.observe(seconds, nanos);
    }

    /// Sends the counts of this worker to the host.
    pub fn send_counts(&self) {
        self.worker.borrow().counts.send(self.meter);
    }

    /// Reserves `ask` in all of these budgets, or in none. Reservations that cannot be released after a refusal are settled later.
    pub fn reserve(&self, budgets: &[SubjectBudgets<'_>], ask: Ask) -> Result<Permit, Refused> {
        self.worker.borrow_mut().heartbeat.enlist(self.store);
        self.ledger().reserve(budgets, ask).map_err(|Rejected { refused, left }| {
            if let Some(left) = left {
                self.worker.borrow_mut().keep(left, 0);
            }
            refused
        })
    }

    /// Settles a permit with a charge in tokens, now or as soon as the ledger can be changed again.
    pub fn settle(&self, permit: Permit, charge: u64) {
        if let Some(permit) = self.ledger().settle(permit, charge) {
            metrics::filter_error(self.meter, "settle");
            self.worker.borrow_mut().keep(permit, charge);
        }
    }

    /// Settles the permits that could not be settled before.
    pub fn settle_again(&self) {
        let unsettled = self.worker.borrow_mut().take_unsettled();
        for (permit, charge) in unsettled {
            self.settle(permit, charge);
        }
    }
}
