//! When the ledger began: counts before that moment are lost.

use crate::clock::Time;
use crate::store::Store;

/// The key of the moment, in seconds since 1970.
const KEY: &str = "pai/1/since";

/// Records `now` as the beginning, unless one is recorded.
pub fn record(store: &dyn Store, now: Time) {
    if store.get(KEY).0.is_none() {
        // A worker that loses this race finds it recorded.
        let _ = store.set(KEY, &now.seconds().to_le_bytes(), 0);
    }
}

/// Returns the beginning, in seconds since 1970; 0 where none is recorded.
pub fn seconds(store: &dyn Store) -> u64 {
    store.get(KEY).0.unwrap_or_default().try_into().map_or(0, u64::from_le_bytes)
}
