//! A model that fails everybody is left alone for a while.
//!
//! After a few failures in a row it rests, and whoever has another candidate goes there. When the rest is over one request tries
//! it: if that fails too, the next rest is twice as long. Each worker has its own count. Envoy's outlier detection cannot take this
//! over: a cluster whose last host is ejected answers "no healthy upstream" at once, which Envoy does not retry.

use std::cell::Cell;

use crate::clock::Time;

/// Failures in a row before the first rest: Envoy's default of `consecutive_5xx`.
const FAILURES: u32 = 5;
/// The first rest, and the longest, in nanoseconds: 5 seconds and 5 minutes.
const SHORTEST: u64 = 5_000_000_000;
const LONGEST: u64 = 300_000_000_000;

/// Failures of one model of one provider.
#[derive(Debug, Default)]
pub struct Cooldown {
    /// In a row.
    failures: Cell<u32>,
    /// When the next request may try it.
    until: Cell<Time>,
    /// How long it rests, in nanoseconds.
    duration: Cell<u64>,
    /// Somebody is trying it after a rest.
    probing: Cell<bool>,
}

// === impl Cooldown ===

impl Cooldown {
    /// Whether a request that could go elsewhere may come.
    pub fn allows(&self, now: Time) -> bool {
        !self.is_cooling_down() || now >= self.until.get()
    }

    /// Returns until when no request may try it that could go elsewhere, if that is after `now`.
    pub fn until(&self, now: Time) -> Option<Time> {
        (!self.allows(now)).then(|| self.until.get())
    }

    /// Such a request comes. After a rest it is the one that tries, and no other may.
    pub fn record_start(&self, now: Time) {
        if self.is_cooling_down() && self.allows(now) {
            self.probing.set(true);
            // Should the one that tries never hear an answer, another may try later.
            self.start(now);
        }
    }

    /// Nothing is there that could answer.
    pub fn record_no_host(&self, now: Time) {
        // The next failure is one too many, unless it rests already.
        self.failures.set(self.failures.get().max(FAILURES - 1));
        self.record_failure(now);
    }

    /// It has failed.
    pub fn record_failure(&self, now: Time) {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        if failures == FAILURES {
            self.duration.set(SHORTEST);
            self.start(now);
        } else if self.probing.replace(false) {
            // Others that were on their way when the rest began tell nothing new.
            self.duration.set(self.duration.get().saturating_mul(2).min(LONGEST));
            self.start(now);
        }
    }

    /// It has answered.
    pub fn record_success(&self) {
        self.failures.set(0);
        self.probing.set(false);
    }

    fn is_cooling_down(&self) -> bool {
        self.failures.get() >= FAILURES
    }

    fn start(&self, now: Time) {
        self.until.set(Time(now.0.saturating_add(self.duration.get())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SECOND: u64 = 1_000_000_000;

    /// A request comes if it may.
    fn asks(cooldown: &Cooldown, now: u64) -> bool {
        let may = cooldown.allows(Time(now));
        if may {
            cooldown.record_start(Time(now));
        }
        may
    }

    fn failing(times: u32) -> Cooldown {
        let cooldown = Cooldown::default();
        (0..times).for_each(|_| cooldown.record_failure(Time(0)));
        cooldown
    }

    #[test]
    fn it_rests_after_five_failures_in_a_row() {
        assert!(failing(4).allows(Time(0)));
        assert!(!failing(5).allows(Time(5 * SECOND - 1)));
        let cooldown = failing(4);
        cooldown.record_success();
        cooldown.record_failure(Time(0));
        assert!(asks(&cooldown, 0), "not in a row");
    }

    #[test]
    fn it_rests_at_once_where_nothing_is_there() {
        let cooldown = Cooldown::default();
        cooldown.record_no_host(Time(0));
        assert!(!asks(&cooldown, 5 * SECOND - 1) && asks(&cooldown, 5 * SECOND));
        cooldown.record_no_host(Time(5 * SECOND));
        assert!(!asks(&cooldown, 15 * SECOND - 1) && asks(&cooldown, 15 * SECOND));
    }

    #[test]
    fn those_on_their_way_do_not_make_it_longer() {
        let cooldown = failing(100);
        assert!(!asks(&cooldown, 5 * SECOND - 1));
        assert!(asks(&cooldown, 5 * SECOND));
    }

    #[test]
    fn one_request_tries_it_and_the_next_rest_is_twice_as_long() {
        let cooldown = failing(5);
        let mut now = 5 * SECOND;
        for duration in [10, 20, 40, 80, 160, 300, 300] {
            assert!(asks(&cooldown, now), "{duration}");
            assert!(!asks(&cooldown, now), "one only");
            cooldown.record_failure(Time(now));
            assert!(!asks(&cooldown, now + duration * SECOND - 1), "{duration}");
            now += duration * SECOND;
        }
        assert!(asks(&cooldown, now));
        cooldown.record_success();
        assert!(asks(&cooldown, now) && asks(&cooldown, now), "all may come again");
    }

    #[test]
    fn a_trial_that_hears_nothing_is_followed_by_another() {
        let cooldown = failing(5);
        assert!(asks(&cooldown, 5 * SECOND));
        assert!(!asks(&cooldown, 10 * SECOND - 1));
        assert!(asks(&cooldown, 10 * SECOND));
    }
}
