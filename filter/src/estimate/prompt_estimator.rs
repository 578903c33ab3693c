//! The estimator of one model's prompt tokens, shared by all workers.
//!
//! A worker caches what it read, and writes in batches once enough samples are known, so that few requests pay for a write.

use crate::clock::Time;
use crate::estimate::prompt_tokens::{Calibration, Estimate};
use crate::estimate::{MAX_RACES, is_stale};
use crate::openai::PromptSize;
use crate::store::Store;

/// The number of samples that a worker writes one by one. Later ones are written in batches of [`BATCH_SIZE`].
const UNBATCHED_WRITES: u32 = 32;
const BATCH_SIZE: usize = 16;

/// The estimator of one model's prompt tokens.
#[derive(Debug)]
pub struct PromptEstimator {
    key: Box<str>,
    calibration: Calibration,
    read: Time,
    samples: u32,
    unwritten: Vec<(PromptSize, u64)>,
}

// === impl PromptEstimator ===

impl PromptEstimator {
    /// Creates the estimator for the models with this metric label at this provider.
    pub fn new(provider: &str, label: &str) -> Self {
        Self {
            key: format!("pai/1/estimate/{provider}/{label}").into(),
            calibration: Calibration::default(),
            read: Time::default(),
            samples: 0,
            unwritten: Vec::new(),
        }
    }

    /// Estimates the tokens of a prompt of this size.
    pub fn estimate(&mut self, store: &dyn Store, now: Time, size: &PromptSize) -> Estimate {
        if is_stale(self.read, now) {
            self.calibration = Calibration::decode(&store.get(&self.key).0.unwrap_or_default());
            self.read = now;
        }
        self.calibration.estimate(size)
    }

    /// Records the number of tokens that the server reported for a prompt of this size.
    pub fn record(&mut self, store: &dyn Store, size: &PromptSize, tokens: u64) {
        self.samples = self.samples.saturating_add(1);
        self.unwritten.push((*size, tokens));
        if self.samples <= UNBATCHED_WRITES || self.unwritten.len() >= BATCH_SIZE {
            self.write(store);
        }
    }

    fn write(&mut self, store: &dyn Store) {
        for _ in 0..MAX_RACES {
            let (bytes, version) = store.get(&self.key);
            let mut calibration = Calibration::decode(&bytes.unwrap_or_default());
            let changed = self.unwritten.iter().fold(false, |changed, (size, tokens)| calibration.record(size, *tokens) | changed);
            if !changed || store.set(&self.key, &calibration.encode(), version) {
                self.calibration = calibration;
                break;
            }
        }
        self.unwritten.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::CACHE_NANOS;
    use crate::store::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const SIZE: PromptSize = PromptSize { text_bytes: 4096, messages: 1, token_ids: 0, parts: 0, cut: None, truncated: false };

    #[test]
    fn workers_share_their_samples() {
        let store = Memory::default();
        let (mut one, mut other) = (PromptEstimator::new("p", "m"), PromptEstimator::new("p", "m"));
        let uncalibrated = other.estimate(&store, Time(1), &SIZE).high;
        for _ in 0..5 {
            one.record(&store, &SIZE, 1024);
        }
        assert_eq!(other.estimate(&store, Time(2), &SIZE).high, uncalibrated, "the cached value is used for a while");
        assert!(other.estimate(&store, Time(CACHE_NANOS + 2), &SIZE).high < 1500);
        assert!(one.estimate(&store, Time(3), &SIZE).high < 1500);
    }

    #[test]
    fn later_samples_are_written_in_batches() {
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
