//! The time at which the ledger was created. Usage before that time is lost.

use crate::clock::Time;
use crate::store::Store;

/// The key of that time, which is stored in seconds since 1970.
const KEY: &str = "pai/1/since";

/// Records `now` as the time at which the ledger was created, unless a time is recorded.
pub fn record(store: &dyn Store, now: Time) {
    if store.get(KEY).0.is_none() {
        // If the write fails, another worker has recorded its time.
        let _ = store.set(KEY, &now.seconds().to_le_bytes(), 0);
    }
}

/// Returns the time at which the ledger was created, in seconds since 1970; 0 if none is recorded.
pub fn seconds(store: &dyn Store) -> u64 {
    store.get(KEY).0.unwrap_or_default().try_into().map_or(0, u64::from_le_bytes)
}
