//! What only tests do to the module, which they build with the feature `test-hooks`: they set its clock and make its VM trap. What is
//! shipped has none of this.

use std::time::Duration;

use super::Envoy;
use crate::headers::Headers;
use crate::ledger::Store as _;

/// Where all workers find how many seconds their clock is ahead: an `i64` in little endian.
const AHEAD: &str = "pai/test/clock";

/// Does what a request asks for in `x-test-clock: <seconds ahead>` and `x-test-trap`.
#[expect(clippy::panic, reason = "the test wants it")]
pub(super) fn obey(headers: &Headers<'_>) {
    let ahead = headers.get("x-test-clock").and_then(|value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
    if let Some(ahead) = ahead {
        while !Envoy.set(AHEAD, &ahead.to_le_bytes(), Envoy.get(AHEAD).1) {}
    }
    if headers.get("x-test-trap").is_some() {
        panic!("as a test has asked");
    }
}

/// The time as tests have set it.
pub(super) fn shift(now: Duration) -> Duration {
    let ahead = Envoy.get(AHEAD).0.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?))).unwrap_or(0);
    let by = Duration::from_secs(ahead.unsigned_abs());
    if ahead < 0 { now.saturating_sub(by) } else { now.saturating_add(by) }
}
