//! What the gate has calibration of models, shared by all workers: tokens per byte, and windows.
//!
//! A worker keeps what it read for [`CACHE_NANOS`], and writes in batches once enough is known, so that a request seldom pays for it.

use crate::clock::Time;
use crate::estimate::context_length::ContextLengths;
use crate::estimate::prompt_tokens::{Calibration, Estimate};
use crate::openai::PromptSize;
use crate::store::Store;

/// How long what was read counts as known, in nanoseconds.
const CACHE_NANOS: u64 = 100_000_000;

/// Reports of this worker that are written one by one; later ones go in batches of [`BATCH_SIZE`].
const UNBATCHED_WRITES: u32 = 32;
const BATCH_SIZE: usize = 16;

/// How often one of the workers asks a provider for its models, in seconds; and how soon again where that failed.
const POLL_SECONDS: u64 = 60;
const RETRY_SECONDS: u64 = 2;

/// Races that a write may lose before it is left for the next time: what is lost is one lesson.
const MAX_RACES: u32 = 16;

/// What is known of the prompts of one model.
#[derive(Debug)]
pub struct PromptEstimator {
    key: Box<str>,
    calibration: Calibration,
    read: Time,
    reports: u32,
    unwritten: Vec<(PromptSize, u64)>,
}

/// What is known of the windows of one provider's models.
#[derive(Debug)]
pub struct ProviderContextLengths {
    key: Box<str>,
    /// Where the workers note when one of them last asked.
    poll_key: Box<str>,
    windows: ContextLengths,
    read: Time,
}

// === impl ProviderContextLengths ===

impl ProviderContextLengths {
    /// Of the provider of this name.
    pub fn new(provider: &str) -> Self {
        Self {
            key: format!("pai/1/windows/{provider}").into(),
            poll_key: format!("pai/1/windows-asked/{provider}").into(),
            windows: ContextLengths::default(),
            read: Time::default(),
        }
    }

    /// What is known now.
    pub fn get(&mut self, store: &dyn Store, now: Time) -> &ContextLengths {
        if is_stale(self.read, now) {
            self.windows = ContextLengths::decode(&store.get(&self.key).0.unwrap_or_default());
            self.read = now;
        }
        &self.windows
    }

    /// Whether it is time to ask the provider, and this worker's turn, which it thereby takes.
    pub fn claim_poll(&self, store: &dyn Store, now: Time) -> bool {
        let (last, version) = store.get(&self.poll_key);
        let last = last.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        let now = now.seconds();
        now.saturating_sub(last) >= POLL_SECONDS && store.set(&self.poll_key, &now.to_le_bytes(), version)
    }

    /// Makes it somebody's turn again soon: the provider did not answer.
    pub fn retry_poll_soon(&self, store: &dyn Store, now: Time) {
        let earlier = now.seconds().saturating_sub(POLL_SECONDS - RETRY_SECONDS);
        // Where somebody else has written, he is about to ask.
        let _ = store.set(&self.poll_key, &earlier.to_le_bytes(), store.get(&self.poll_key).1);
    }

    /// Changes what is known; `change` says whether it changed anything.
    pub fn update(&mut self, store: &dyn Store, mut change: impl FnMut(&mut ContextLengths) -> bool) {
        if !change(&mut self.windows) {
            return;
        }
        for _ in 0..MAX_RACES {
            let (bytes, version) = store.get(&self.key);
            let mut windows = ContextLengths::decode(&bytes.unwrap_or_default());
            if !change(&mut windows) || store.set(&self.key, &windows.encode(), version) {
                self.windows = windows;
                return;
            }
        }
    }
}

// === impl PromptEstimator ===

impl PromptEstimator {
    /// Of the models that count under this label of this provider.
    pub fn new(provider: &str, label: &str) -> Self {
        Self {
            key: format!("pai/1/estimate/{provider}/{label}").into(),
            calibration: Calibration::default(),
            read: Time::default(),
            reports: 0,
            unwritten: Vec::new(),
        }
    }

    /// Bounds of a prompt's tokens.
    pub fn estimate(&mut self, store: &dyn Store, now: Time, size: &PromptSize) -> Estimate {
        if is_stale(self.read, now) {
            self.calibration = Calibration::decode(&store.get(&self.key).0.unwrap_or_default());
            self.read = now;
        }
        self.calibration.estimate(size)
    }

    /// Takes in the server's count of a prompt's tokens.
    pub fn record(&mut self, store: &dyn Store, size: &PromptSize, tokens: u64) {
        self.reports = self.reports.saturating_add(1);
        self.unwritten.push((*size, tokens));
        if self.reports <= UNBATCHED_WRITES || self.unwritten.len() >= BATCH_SIZE {
            self.write(store);
        }
    }

    fn write(&mut self, store: &dyn Store) {
        for _ in 0..MAX_RACES {
            let (bytes, version) = store.get(&self.key);
            let mut calibration = Calibration::decode(&bytes.unwrap_or_default());
            let news = self.unwritten.iter().fold(false, |news, (size, tokens)| calibration.record(size, *tokens) | news);
            if !news || store.set(&self.key, &calibration.encode(), version) {
                self.calibration = calibration;
                break;
            }
        }
        self.unwritten.clear();
    }
}

fn is_stale(read: Time, now: Time) -> bool {
    read == Time::default() || now.since(read) > CACHE_NANOS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SIZE: PromptSize = PromptSize { text_bytes: 4096, messages: 1, token_ids: 0, parts: 0, cut: None, truncated: false };

    #[test]
    fn what_one_worker_learns_the_others_know() {
        let store = Memory::default();
        let (mut one, mut other) = (PromptEstimator::new("p", "m"), PromptEstimator::new("p", "m"));
        let uncalibrated = other.estimate(&store, Time(1), &SIZE).high;
        for _ in 0..5 {
            one.record(&store, &SIZE, 1024);
        }
        assert_eq!(other.estimate(&store, Time(2), &SIZE).high, uncalibrated, "known for a while");
        assert!(other.estimate(&store, Time(CACHE_NANOS + 2), &SIZE).high < 1500);
        assert!(one.estimate(&store, Time(3), &SIZE).high < 1500);
    }

    #[test]
    fn a_window_is_known_to_all_and_told_apart() {
        let store = Memory::default();
        let (mut one, mut other) = (ProviderContextLengths::new("p"), ProviderContextLengths::new("p"));
        one.update(&store, |windows| windows.record("m", 4096));
        other.update(&store, |windows| windows.record("n", 8));
        assert_eq!(other.get(&store, Time(1)).length("m"), Some(4096));
        assert_eq!(one.get(&store, Time(CACHE_NANOS * 2)).length("n"), Some(8));
    }

    #[test]
    fn one_worker_asks_a_minute_and_sooner_after_a_failure() {
        let store = Memory::default();
        let (one, other) = (ProviderContextLengths::new("p"), ProviderContextLengths::new("p"));
        let at = |second: u64| Time((1_000_000 + second) * 1_000_000_000);
        assert!(one.claim_poll(&store, at(0)) && !other.claim_poll(&store, at(0)) && !one.claim_poll(&store, at(59)));
        assert!(other.claim_poll(&store, at(60)));
        other.retry_poll_soon(&store, at(60));
        assert!(!one.claim_poll(&store, at(61)) && one.claim_poll(&store, at(62)));
    }

    #[test]
    fn reports_are_written_in_batches_later_on() {
        let store = Memory::default();
        let mut worker = PromptEstimator::new("p", "m");
        for _ in 0..UNBATCHED_WRITES {
            worker.record(&store, &SIZE, 1024);
        }
        let version = || store.get(&worker_key()).1;
        let before = version();
        for _ in 1..BATCH_SIZE {
            worker.record(&store, &SIZE, 1024);
        }
        assert_eq!(version(), before);
        worker.record(&store, &SIZE, 1024);
        assert_eq!(version(), before + 1);
    }

    fn worker_key() -> String {
        "pai/1/estimate/p/m".to_owned()
    }
}
