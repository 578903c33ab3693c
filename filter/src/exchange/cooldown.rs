//! A model that fails everybody is left alone for a while.
//!
//! After a few failures in a row it rests, and whoever has another candidate goes there. When the rest is over one request tries
//! it: if that fails too, the next rest is twice as long. Each worker has its own count. Envoy's outlier detection cannot take this
//! over: a cluster whose last host is ejected answers "no healthy upstream" at once, which Envoy does not retry.

use std::cell::Cell;

use crate::clock::Time;

/// Failures in a row before the first rest: Envoy's default of `consecutive_5xx`.
const PATIENCE: u32 = 5;
/// The first rest, and the longest, in nanoseconds: 5 seconds and 5 minutes.
const FIRST: u64 = 5_000_000_000;
const LONGEST: u64 = 300_000_000_000;

/// Failures of one model of one provider.
#[derive(Debug, Default)]
pub struct Rest {
    /// In a row.
    failures: Cell<u32>,
    /// When the next request may try it.
    until: Cell<Time>,
    /// How long it rests, in nanoseconds.
    length: Cell<u64>,
    /// Somebody is trying it after a rest.
    tried: Cell<bool>,
}

// === impl Rest ===

impl Rest {
    /// Whether a request that could go elsewhere may come.
    pub fn admits(&self, now: Time) -> bool {
        !self.rests() || now >= self.until.get()
    }

    /// Such a request comes. After a rest it is the one that tries, and no other may.
    pub fn comes(&self, now: Time) {
        if self.rests() && self.admits(now) {
            self.tried.set(true);
            // Should the one that tries never hear an answer, another may try later.
            self.begin(now);
        }
    }

    /// Nothing is there that could answer.
    pub fn gone(&self, now: Time) {
        // The next failure is one too many, unless it rests already.
        self.failures.set(self.failures.get().max(PATIENCE - 1));
        self.failed(now);
    }

    /// It has failed.
    pub fn failed(&self, now: Time) {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        if failures == PATIENCE {
            self.length.set(FIRST);
            self.begin(now);
        } else if self.tried.replace(false) {
            // Others that were on their way when the rest began tell nothing new.
            self.length.set(self.length.get().saturating_mul(2).min(LONGEST));
            self.begin(now);
        }
    }

    /// It has answered.
    pub fn answered(&self) {
        self.failures.set(0);
        self.tried.set(false);
    }

    fn rests(&self) -> bool {
        self.failures.get() >= PATIENCE
    }

    fn begin(&self, now: Time) {
        self.until.set(Time(now.0.saturating_add(self.length.get())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;

    /// A request comes if it may.
    fn asks(rest: &Rest, now: u64) -> bool {
        let may = rest.admits(Time(now));
        if may {
            rest.comes(Time(now));
        }
        may
    }

    fn failing(times: u32) -> Rest {
        let rest = Rest::default();
        (0..times).for_each(|_| rest.failed(Time(0)));
        rest
    }

    #[test]
    fn it_rests_after_five_failures_in_a_row() {
        assert!(failing(4).admits(Time(0)));
        assert!(!failing(5).admits(Time(5 * SECOND - 1)));
        let rest = failing(4);
        rest.answered();
        rest.failed(Time(0));
        assert!(asks(&rest, 0), "not in a row");
    }

    #[test]
    fn it_rests_at_once_where_nothing_is_there() {
        let rest = Rest::default();
        rest.gone(Time(0));
        assert!(!asks(&rest, 5 * SECOND - 1) && asks(&rest, 5 * SECOND));
        rest.gone(Time(5 * SECOND));
        assert!(!asks(&rest, 15 * SECOND - 1) && asks(&rest, 15 * SECOND));
    }

    #[test]
    fn those_on_their_way_do_not_make_it_longer() {
        let rest = failing(100);
        assert!(!asks(&rest, 5 * SECOND - 1));
        assert!(asks(&rest, 5 * SECOND));
    }

    #[test]
    fn one_request_tries_it_and_the_next_rest_is_twice_as_long() {
        let rest = failing(5);
        let mut now = 5 * SECOND;
        for length in [10, 20, 40, 80, 160, 300, 300] {
            assert!(asks(&rest, now), "{length}");
            assert!(!asks(&rest, now), "one only");
            rest.failed(Time(now));
            assert!(!asks(&rest, now + length * SECOND - 1), "{length}");
            now += length * SECOND;
        }
        assert!(asks(&rest, now));
        rest.answered();
        assert!(asks(&rest, now) && asks(&rest, now), "all may come again");
    }

    #[test]
    fn a_trial_that_hears_nothing_is_followed_by_another() {
        let rest = failing(5);
        assert!(asks(&rest, 5 * SECOND));
        assert!(!asks(&rest, 10 * SECOND - 1));
        assert!(asks(&rest, 10 * SECOND));
    }
}
