//! Waits for conditions instead of fixed times.

use std::time::{Duration, Instant};

/// How long an immediate effect may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Polls `look` until it returns a value. Fails the test with `what` after ten seconds.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(DEADLINE, what, look).await
}

/// Like [`until`], with the documented deadline for settling after a response ends: 100 ms, plus a margin for a busy machine.
pub async fn settled<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_millis(1000), what, look).await
}

/// Like [`until`], with this deadline.
pub async fn within<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < limit, "timed out after {limit:?} waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
