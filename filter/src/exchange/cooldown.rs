//! The cooldown of a model that fails repeatedly: a circuit breaker.
//!
//! After several consecutive failures the model cools down, and requests with other candidates skip it. After the cooldown, one
//! request probes the model. If that fails, the next cooldown is twice as long. Each worker counts for itself. Envoy's outlier
//! detection cannot replace this: if the last host of a cluster is ejected, Envoy responds "no healthy upstream" and does not retry.

use std::cell::Cell;

use crate::clock::Time;

/// The number of consecutive failures before a cooldown: Envoy's default of `consecutive_5xx`.
const FAILURES: u32 = 5;
/// The first cooldown and the longest, in nanoseconds: 5 seconds and 5 minutes.
const SHORTEST: u64 = 5_000_000_000;
const LONGEST: u64 = 300_000_000_000;

/// The circuit breaker of one model of one provider.
#[derive(Debug, Default)]
pub struct Cooldown {
    /// The number of consecutive failures.
    failures: Cell<u32>,
    /// The end of the cooldown, when the next request may probe the model.
    until: Cell<Time>,
    /// The duration of the cooldown, in nanoseconds.
    duration: Cell<u64>,
    /// Whether a request is probing the model after a cooldown.
    probing: Cell<bool>,
}

// === impl Cooldown ===

impl Cooldown {
    /// Returns whether a request with other candidates may use the model.
    pub fn allows(&self, now: Time) -> bool {
        !self.is_cooling_down() || now >= self.until.get()
    }

    /// Returns the end of the cooldown, if it is after `now`.
    pub fn until(&self, now: Time) -> Option<Time> {
        (!self.allows(now)).then(|| self.until.get())
    }

    /// Records that such a request is sent. After a cooldown this request probes the model, and others skip it.
    pub fn record_start(&self, now: Time) {
        if self.is_cooling_down() && self.allows(now) {
            self.probing.set(true);
            // If the probe gets no response, another request may probe the model later.
            self.start(now);
        }
    }

    /// Records that the cluster has no host. The model cools down at once.
    pub fn record_no_host(&self, now: Time) {
        // The next failure is the one that starts a cooldown, unless the model is cooling down.
        self.failures.set(self.failures.get().max(FAILURES - 1));
        self.record_failure(now);
    }

    /// Records a failure.
    pub fn record_failure(&self, now: Time) {
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        if failures == FAILURES {
            self.duration.set(SHORTEST);
            self.start(now);
        } else if self.probing.replace(false) {
            // Failures of requests that were sent before the cooldown do not extend it.
            self.duration.set(self.duration.get().saturating_mul(2).min(LONGEST));
            self.start(now);
        }
    }

    /// Records a success.
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

    /// Sends a request if the cooldown allows it. Returns whether it does.
    fn admits(cooldown: &Cooldown, now: u64) -> bool {
        let allowed = cooldown.allows(Time(now));
        if allowed {
            cooldown.record_start(Time(now));
        }
        allowed
    }

    fn failing(times: u32) -> Cooldown {
        let cooldown = Cooldown::default();
        (0..times).for_each(|_| cooldown.record_failure(Time(0)));
        cooldown
    }

    #[test]
    fn a_model_cools_down_after_five_consecutive_failures() {
        assert!(failing(4).allows(Time(0)));
        assert!(!failing(5).allows(Time(5 * SECOND - 1)));
        let cooldown = failing(4);
        cooldown.record_success();
        cooldown.record_failure(Time(0));
        assert!(admits(&cooldown, 0), "not consecutive");
    }

    #[test]
    fn a_model_without_a_host_cools_down_at_once() {
        let cooldown = Cooldown::default();
        cooldown.record_no_host(Time(0));
        assert!(!admits(&cooldown, 5 * SECOND - 1) && admits(&cooldown, 5 * SECOND));
        cooldown.record_no_host(Time(5 * SECOND));
        assert!(!admits(&cooldown, 15 * SECOND - 1) && admits(&cooldown, 15 * SECOND));
    }

    #[test]
    fn failures_of_earlier_requests_do_not_extend_the_cooldown() {
        let cooldown = failing(100);
        assert!(!admits(&cooldown, 5 * SECOND - 1));
        assert!(admits(&cooldown, 5 * SECOND));
    }

    #[test]
    fn one_request_probes_and_the_next_cooldown_is_twice_as_long() {
        let cooldown = failing(5);
        let mut now = 5 * SECOND;
        for duration in [10, 20, 40, 80, 160, 300, 300] {
            assert!(admits(&cooldown, now), "{duration}");
            assert!(!admits(&cooldown, now), "only one probe");
            cooldown.record_failure(Time(now));
            assert!(!admits(&cooldown, now + duration * SECOND - 1), "{duration}");
            now += duration * SECOND;
        }
        assert!(admits(&cooldown, now));
        cooldown.record_success();
        assert!(admits(&cooldown, now) && admits(&cooldown, now), "all requests are allowed again");
    }

    #[test]
    fn a_probe_without_a_response_is_followed_by_another() {
        let cooldown = failing(5);
        assert!(admits(&cooldown, 5 * SECOND));
        assert!(!admits(&cooldown, 10 * SECOND - 1));
        assert!(admits(&cooldown, 10 * SECOND));
    }
}
