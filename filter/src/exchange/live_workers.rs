//! The live workers of this process and the configuration that each serves: a table in shared data, in which each renews its entry at
//! every tick.

use crate::clock::Time;
use crate::store::Store;

/// The key of the table.
const KEY: &str = "pai/1/workers";
/// Seconds after which an entry that was not renewed is dropped.
const STALE: u64 = 10;
/// Races that a renewal may lose: the next tick renews again.
const MAX_RACES: u32 = 16;
/// Bytes of one entry.
const ENTRY: usize = 8 + 8 + size_of::<Version>();

/// The version of a configuration: SHA-256 of its text.
pub type Version = [u8; 32];

/// One worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveWorker {
    /// The random id of its instance of the filter.
    pub instance: u64,
    /// The configuration that it serves.
    pub version: Version,
    seconds: u64,
}

/// Renews the entry of an instance, and drops those that are stale.
pub fn renew(store: &dyn Store, instance: u64, version: Version, now: Time) {
    let own = LiveWorker { instance, version, seconds: now.seconds() };
    for _ in 0..MAX_RACES {
        let (bytes, store_version) = store.get(KEY);
        let bytes = bytes.unwrap_or_default();
        let others = decode(&bytes).filter(|worker| worker.instance != instance && worker.is_live(now));
        let table: Vec<u8> = others.chain([own]).flat_map(LiveWorker::encode).collect();
        if store.set(KEY, &table, store_version) {
            return;
        }
    }
}

/// Returns the live workers, the one that was renewed last at the end.
pub fn list(store: &dyn Store, now: Time) -> Vec<LiveWorker> {
    decode(&store.get(KEY).0.unwrap_or_default()).filter(|worker| worker.is_live(now)).collect()
}

/// Returns a version in hex.
pub fn hex(version: &Version) -> String {
    version.iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl LiveWorker ===

impl LiveWorker {
    /// The clock may have been set in either direction.
    fn is_live(&self, now: Time) -> bool {
        self.seconds.abs_diff(now.seconds()) <= STALE
    }

    fn encode(self) -> impl Iterator<Item = u8> {
        self.instance.to_le_bytes().into_iter().chain(self.seconds.to_le_bytes()).chain(self.version)
    }
}

fn decode(bytes: &[u8]) -> impl Iterator<Item = LiveWorker> {
    bytes.chunks_exact(ENTRY).filter_map(|entry| {
        let (instance, rest) = entry.split_first_chunk()?;
        let (seconds, version) = rest.split_first_chunk()?;
        let (instance, seconds) = (u64::from_le_bytes(*instance), u64::from_le_bytes(*seconds));
        Some(LiveWorker { instance, seconds, version: version.try_into().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_worker_is_live_while_it_renews_its_entry() {
        let store = Memory::default();
        let at = |seconds: u64| Time(seconds * 1_000_000_000);
        let live =
            |seconds| list(&store, at(seconds)).iter().map(|worker| (worker.instance, worker.version[0])).collect::<Vec<_>>();
        renew(&store, 2, [7; 32], at(100));
        renew(&store, 1, [7; 32], at(100));
        assert_eq!(live(100), [(2, 7), (1, 7)]);
        renew(&store, 1, [8; 32], at(105));
        assert_eq!(live(110), [(2, 7), (1, 8)]);
        assert_eq!(live(111), [(1, 8)], "the other has died");
        renew(&store, 1, [8; 32], at(111));
        assert_eq!(store.get(KEY).0.map(|table| table.len()), Some(ENTRY), "and is dropped");
        assert_eq!(live(1), [], "the clock was set back");
        assert_eq!(hex(&[0xab; 32]), "ab".repeat(32));
    }
}
