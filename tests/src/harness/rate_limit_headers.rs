//! The rate limit headers of responses: `x-ratelimit-*` and `retry-after`.

use std::time::{SystemTime, UNIX_EPOCH};

use super::client::Reply;

/// One family of `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// `x-ratelimit-limit-…`
    pub limit: u64,
    /// `x-ratelimit-remaining-…`
    pub remaining: u64,
    /// `x-ratelimit-reset-…`, in seconds.
    pub reset: f64,
}

// === impl Reply ===

impl Reply {
    /// Returns the headers of `tokens` or `requests`; `None` if all three are absent. Fails if only some are present.
    #[track_caller]
    pub fn rate_limit(&self, of: &str) -> Option<RateLimit> {
        let header = |part: &str| self.header(&format!("x-ratelimit-{part}-{of}"));
        match (header("limit"), header("remaining"), header("reset")) {
            (None, None, None) => None,
            (Some(limit), Some(remaining), Some(reset)) => Some(RateLimit {
                limit: limit.parse().expect("a number"),
                remaining: remaining.parse().expect("a number"),
                reset: go_seconds(reset),
            }),
            _ => panic!("some of x-ratelimit-*-{of} are missing:\n{}", self.describe()),
        }
    }

    /// Returns `retry-after` in whole seconds.
    #[track_caller]
    pub fn retry_after(&self) -> u64 {
        let written = self.header("retry-after").unwrap_or_else(|| panic!("no retry-after:\n{}", self.describe()));
        written.parse().expect("whole seconds")
    }

    /// Fails unless this is the error for a budget that is exhausted until midnight UTC.
    #[track_caller]
    pub fn quota_exhausted(&self) -> &Self {
        self.refused(429, "insufficient_quota", "insufficient_quota");
        assert_eq!(self.header("x-should-retry"), Some("false"), "{}", self.describe());
        assert_eq!(self.header("retry-after"), None, "hours put clients to sleep: {}", self.describe());
        self
    }

    /// Fails unless this is the retryable error for a rate (`tokens` or `requests`) or for a budget held by reservations.
    #[track_caller]
    pub fn rate_limited(&self, of: &str) -> &Self {
        self.refused(429, of, "rate_limit_exceeded");
        assert_ne!(self.header("x-should-retry"), Some("false"), "{}", self.describe());
        assert!(self.retry_after() >= 1, "{}", self.describe());
        self
    }
}

/// Returns the seconds until 00:00 UTC.
pub fn seconds_to_midnight() -> u64 {
    86_400 - SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() % 86_400
}

/// Parses a Go duration such as `6m0s` or `250ms` into seconds.
#[track_caller]
pub fn go_seconds(written: &str) -> f64 {
    let (mut total, mut rest) = (0.0, written);
    assert!(!rest.is_empty(), "an empty duration");
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or_else(|| panic!("`{written}` is no Go duration"));
        let number: f64 = rest[..end].parse().unwrap_or_else(|_| panic!("`{written}` is no Go duration"));
        let units = [("ms", 0.001), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let unit = units.into_iter().find(|(unit, _)| rest[end..].starts_with(unit));
        let (unit, scale) = unit.unwrap_or_else(|| panic!("`{written}` is no Go duration"));
        total += number * scale;
        rest = &rest[end + unit.len()..];
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (written, seconds) in [("0s", 0.0), ("6m0s", 360.0), ("1h0m0.5s", 3600.5), ("250ms", 0.25), ("1m30s", 90.0)] {
            assert!((go_seconds(written) - seconds).abs() < 1e-9, "{written}");
        }
    }
}
