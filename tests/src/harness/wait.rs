//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long anything may take that should happen at once.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Asks again until `look` finds something; fails the test, naming `what`, when that takes longer than ten seconds.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(DEADLINE, what, look).await
}

/// The contract's word for "after the answer has ended": 100 ms, plus what a busy machine may add.
pub async fn settled<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_millis(1000), what, look).await
}

/// [`until`], with a deadline of the caller's.
pub async fn within<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < limit, "gave up after {limit:?} waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
