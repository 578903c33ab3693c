//! The boundary: what the core asks of its host, and what it tells it to do.

#[cfg(target_os = "wasi")]
mod envoy;
pub mod worker;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::budget::account::Ask;
use crate::budget::ledger::{Ledger, Permit, Refused, Rejected, Store, SubjectBudgets};
use crate::clock::{Clock, Time};
use crate::host::worker::Worker;
use crate::http::headers::HeaderEdit;
use crate::http::refusal::Reply;
use crate::metrics::{self, Meter};
use crate::openai::Splice;

/// The world outside an exchange, for as long as one callback lasts.
pub struct Host<'a> {
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

/// What the host is to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Let it go on.
    Continue,
    /// Hold it until more has come.
    Hold,
    /// Change it and let it go on.
    Forward(Forward),
    /// Answer it.
    Reply(Reply),
}

/// Changes to a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Changes to the headers.
    pub headers: Vec<HeaderEdit>,
    /// What stands in place of the beginning of the body.
    pub body: Option<Splice>,
}

/// What the host is to do with an answer's headers.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponseStep {
    /// Let them go on.
    Continue,
    /// Change them.
    Edit(Vec<HeaderEdit>),
    /// Change them, and hold them until the body has been seen.
    Hold(Vec<HeaderEdit>),
    /// Answer this in their place.
    Reply(Reply),
}

/// What the host is to do with a piece of an answer's body.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// Let it go on.
    Continue,
    /// Send this in its place.
    Replace(Vec<u8>),
    /// Hold it until more has come.
    Hold,
    /// Answer this in place of the whole.
    Reply(Reply),
}

/// What the host is to do with an attempt that begins.
#[derive(Debug, PartialEq, Eq)]
pub enum AttemptStep {
    /// Change the request's headers and let it go on.
    Forward(Vec<HeaderEdit>),
    /// Answer this: the request is not, or no longer, for anybody to see.
    Refuse(Reply),
    /// Answer this: the request is not for this provider, which the operator should know.
    Misrouted(Reply),
}

/// Changes to the headers of both messages once an attempt has been answered, or has ended without an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AttemptEdits {
    /// Of the request, for the next attempt.
    pub request: Vec<HeaderEdit>,
    /// Of the answer, for Envoy's decision about a next attempt.
    pub response: Vec<HeaderEdit>,
}

/// What access logs say of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessLogEntry {
    /// Name of the provider; empty where the request got to none.
    pub provider: String,
    /// Model id; empty likewise.
    pub model: String,
    /// Who asked.
    pub subject: String,
    /// `allowed`, or the code of the refusal.
    pub decision: &'static str,
    /// The guards that have found something, with commas between them; empty for none.
    pub guard: String,
    /// Candidates that were passed over, and why; empty for none.
    pub attempts: String,
    /// Tokens charged, `None` where no provider was asked.
    pub tokens: Option<(u64, u64)>,
}

// === impl Host ===

impl<'a> Host<'a> {
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
