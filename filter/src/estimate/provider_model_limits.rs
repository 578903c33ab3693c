//! The limits of one provider's models, shared by all workers, and when to poll the provider for context lengths.

use crate::clock::Time;
use crate::estimate::model_limits::LimitsByModel;
use crate::estimate::{MAX_RACES, is_stale};
use crate::store::Store;

/// The interval at which a provider's models are polled, and the delay after a failure, in seconds.
const POLL_SECONDS: u64 = 60;
const RETRY_SECONDS: u64 = 2;

/// The known limits of one provider's models, shared by all workers.
#[derive(Debug)]
pub struct ProviderModelLimits {
    key: Box<str>,
    /// The key of the time of the latest poll.
    poll_key: Box<str>,
    /// The key of the models that the provider has listed.
    listed_key: Box<str>,
    limits: LimitsByModel,
    read: Time,
}

/// The first line of the value with the listed models. An empty list has it too.
const LISTED: &str = "1\n";

// === impl ProviderModelLimits ===

impl ProviderModelLimits {
    /// Creates the cache for the provider with this name.
    pub fn new(provider: &str) -> Self {
        Self {
            key: format!("pai/1/model-limits/{provider}").into(),
            poll_key: format!("pai/1/models-asked/{provider}").into(),
            listed_key: format!("pai/1/models-listed/{provider}").into(),
            limits: LimitsByModel::default(),
            read: Time::default(),
        }
    }

    /// Returns the known limits.
    pub fn get(&mut self, store: &dyn Store, now: Time) -> &LimitsByModel {
        if is_stale(self.read, now) {
            self.limits = LimitsByModel::decode(&store.get(&self.key).0.unwrap_or_default());
            self.read = now;
        }
        &self.limits
    }

    /// Claims the next poll of the provider. Returns false if it is not due, or another worker has claimed it.
    pub fn claim_poll(&self, store: &dyn Store, now: Time) -> bool {
        let (last, version) = store.get(&self.poll_key);
        let last = last.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        let now = now.seconds();
        now.saturating_sub(last) >= POLL_SECONDS && store.set(&self.poll_key, &now.to_le_bytes(), version)
    }

    /// Makes the next poll due soon, because the last one failed.
    pub fn retry_poll_soon(&self, store: &dyn Store, now: Time) {
        let earlier = now.seconds().saturating_sub(POLL_SECONDS - RETRY_SECONDS);
        // If the write fails, another worker has claimed a poll.
        let _ = store.set(&self.poll_key, &earlier.to_le_bytes(), store.get(&self.poll_key).1);
    }

    /// Returns the models that the provider listed at the last poll; `None` if it has not been polled successfully.
    pub fn listed(&self, store: &dyn Store) -> Option<Vec<String>> {
        let value = String::from_utf8(store.get(&self.listed_key).0?).ok()?;
        Some(value.strip_prefix(LISTED)?.lines().map(str::to_owned).collect())
    }

    /// Stores the models that the provider has listed. Their names contain no white space.
    pub fn record_listed(&self, store: &dyn Store, listed: &[String]) {
        let lines: String = std::iter::once(LISTED.to_owned()).chain(listed.iter().map(|model| format!("{model}\n"))).collect();
        let (before, version) = store.get(&self.listed_key);
        if before.as_deref() != Some(lines.as_bytes()) {
            // If the write fails, another worker has stored a newer list.
            let _ = store.set(&self.listed_key, lines.as_bytes(), version);
        }
    }

    /// Applies `change` to the limits and stores them, unless it returns false: nothing changed.
    pub fn update(&mut self, store: &dyn Store, mut change: impl FnMut(&mut LimitsByModel) -> bool) {
        if !change(&mut self.limits) {
            return;
        }
        for _ in 0..MAX_RACES {
            let (bytes, version) = store.get(&self.key);
            let mut limits = LimitsByModel::decode(&bytes.unwrap_or_default());
            if !change(&mut limits) || store.set(&self.key, &limits.encode(), version) {
                self.limits = limits;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::CACHE_NANOS;
    use crate::store::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn workers_share_limits() {
        let store = Memory::default();
        let (mut one, mut other) = (ProviderModelLimits::new("p"), ProviderModelLimits::new("p"));
        one.update(&store, |limits| limits.record_context_length("m", 4096));
        other.update(&store, |limits| limits.record_context_length("n", 8));
        assert_eq!(other.get(&store, Time(1)).of("m").context_length, Some(4096));
        assert_eq!(one.get(&store, Time(CACHE_NANOS * 2)).of("n").context_length, Some(8));
    }

    #[test]
    fn workers_share_the_list_of_models() {
        let store = Memory::default();
        let (one, other) = (ProviderModelLimits::new("p"), ProviderModelLimits::new("p"));
        assert_eq!(one.listed(&store), None, "not known yet");
        for list in [vec![], vec!["org/m".to_owned(), "n".to_owned()]] {
            one.record_listed(&store, &list);
            assert_eq!(other.listed(&store), Some(list));
        }
        assert_eq!(ProviderModelLimits::new("q").listed(&store), None);
    }

    #[test]
    fn one_worker_polls_a_minute_and_sooner_after_a_failure() {
        let store = Memory::default();
        let (one, other) = (ProviderModelLimits::new("p"), ProviderModelLimits::new("p"));
        let at = |second: u64| Time((1_000_000 + second) * 1_000_000_000);
        assert!(one.claim_poll(&store, at(0)) && !other.claim_poll(&store, at(0)) && !one.claim_poll(&store, at(59)));
        assert!(other.claim_poll(&store, at(60)));
        other.retry_poll_soon(&store, at(60));
        assert!(!one.claim_poll(&store, at(61)) && one.claim_poll(&store, at(62)));
    }
}
