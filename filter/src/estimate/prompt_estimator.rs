//! The estimator of one model's prompt tokens, shared by all workers.
//!
//! A worker caches what it read, and writes in batches once enough samples are known, so that few requests pay for a read or a
//! write.

use crate::clock::Time;
use crate::estimate::prompt_tokens::{Calibration, Estimate, Factors};
use crate::estimate::text_census::TextTokens;
use crate::estimate::{MAX_RACES, is_stale};
use crate::openai::PromptSize;
use crate::policy::PromptEstimate;
use crate::store::Store;

/// The number of known samples from which a worker caches what it read. Before, each sample changes the estimate.
const UNCACHED_SAMPLES: u32 = 16;
/// The number of samples that a worker writes one by one. Later ones are written in batches of [`BATCH_SIZE`], or after
/// [`BATCH_NANOS`].
const UNBATCHED_WRITES: u32 = 32;
const BATCH_SIZE: usize = 16;
const BATCH_NANOS: u64 = 1_000_000_000;

/// The estimator of one model's prompt tokens.
#[derive(Debug)]
pub struct PromptEstimator {
    key: Box<str>,
    method: PromptEstimate,
    /// What follows from the samples that were read.
    factors: Factors,
    known_samples: u32,
    read: Time,
    /// Samples of this worker.
    samples: u32,
    unwritten: Vec<(PromptSize, u64)>,
    written: Time,
}

// === impl PromptEstimator ===

impl PromptEstimator {
    /// Creates the estimator for the models with this metric label at this provider.
    pub fn new(provider: &str, label: &str, method: PromptEstimate) -> Self {
        Self {
            // The version differs from that of a module whose samples had another meaning.
            key: format!("pai/2/estimate/{provider}/{label}").into(),
            method,
            factors: Factors::default(),
            known_samples: 0,
            read: Time::default(),
            samples: 0,
            unwritten: Vec::new(),
            written: Time::default(),
        }
    }

    /// Estimates the tokens of a prompt of this size.
    pub fn estimate(&mut self, store: &dyn Store, now: Time, size: &PromptSize) -> Estimate {
        // The samples change the estimate of a short prompt by a few tokens only.
        let changes = self.known_samples < UNCACHED_SAMPLES && size.text_bytes >= Calibration::MIN_BYTES;
        if changes || is_stale(self.read, now) {
            self.know(&self.read_samples(store).0);
            self.read = now;
        }
        self.factors.estimate(size, self.method)
    }

    /// Estimates the tokens of a text: the median.
    pub fn typical(&self, text: TextTokens) -> u64 {
        self.factors.typical(text)
    }

    /// Records the number of tokens that the server reported for a prompt of this size.
    pub fn record(&mut self, store: &dyn Store, now: Time, size: &PromptSize, tokens: u64) {
        if !Calibration::is_sample(size, tokens) {
            return;
        }
        self.samples = self.samples.saturating_add(1);
        self.unwritten.push((*size, tokens));
        let is_due = self.unwritten.len() >= BATCH_SIZE || now.since(self.written) >= BATCH_NANOS;
        if self.samples <= UNBATCHED_WRITES || is_due {
            self.write(store);
            self.written = now;
        }
    }

    fn write(&mut self, store: &dyn Store) {
        for _ in 0..MAX_RACES {
            let (mut calibration, version) = self.read_samples(store);
            let changed = self.unwritten.iter().fold(false, |changed, (size, tokens)| calibration.record(size, *tokens) | changed);
            if !changed || store.set(&self.key, &calibration.encode(), version) {
                self.know(&calibration);
                break;
            }
        }
        self.unwritten.clear();
    }

    fn read_samples(&self, store: &dyn Store) -> (Calibration, u32) {
        let (bytes, version) = store.get(&self.key);
        (Calibration::decode(&bytes.unwrap_or_default()), version)
    }

    fn know(&mut self, calibration: &Calibration) {
        self.factors = calibration.factors();
        self.known_samples = calibration.samples();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::CACHE_NANOS;
    use crate::estimate::text_census::TextCensus;
    use crate::store::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const KEY: &str = "pai/2/estimate/p/m";

    fn worker() -> PromptEstimator {
        PromptEstimator::new("p", "m", PromptEstimate::Estimated)
    }

    /// Returns the size of a text of this many bytes, and the number of tokens that a dense tokenizer makes of it.
    fn prompt(bytes: usize) -> (PromptSize, u64) {
        let text = "word ".repeat(bytes / 5);
        let mut census = TextCensus::default();
        census.count_run(text.as_bytes(), 0..text.len());
        let size = PromptSize { text_bytes: text.len() as u64, text: census.tokens(), messages: 1, ..PromptSize::default() };
        (size, size.text.high() * 3 / 2)
    }

    #[test]
    fn samples_are_known_to_all_workers_at_once_until_sixteen_are_known() {
        let store = Memory::default();
        let (mut one, mut other) = (worker(), worker());
        let (size, tokens) = prompt(4000);
        let mut before = other.estimate(&store, Time(1), &size);
        for sample in 1..=UNCACHED_SAMPLES {
            one.record(&store, Time(1), &size, tokens);
            let estimate = other.estimate(&store, Time(1), &size);
            assert_eq!(estimate, one.estimate(&store, Time(1), &size), "{sample} samples");
            assert_eq!(estimate.high > before.high, sample == 4, "{sample} samples");
            before = estimate;
        }
        // From now on, what was read is used for a while.
        for _ in 0..100 {
            one.record(&store, Time(1), &size, tokens / 2);
        }
        assert_eq!(other.estimate(&store, Time(1), &size), before);
        assert!(other.estimate(&store, Time(CACHE_NANOS + 2), &size).typical < before.typical);
    }

    #[test]
    fn the_estimate_of_a_short_prompt_is_not_read_each_time() {
        let store = Memory::default();
        let (mut one, mut other) = (worker(), worker());
        let ((size, tokens), (short, _)) = (prompt(4000), prompt(100));
        let before = other.estimate(&store, Time(1), &short);
        for _ in 0..8 {
            one.record(&store, Time(1), &size, tokens);
            one.record(&store, Time(1), &short, 1000);
        }
        assert_eq!(Calibration::decode(&store.get(KEY).0.unwrap()).samples(), 8, "a short prompt is no sample");
        assert_eq!(other.estimate(&store, Time(1), &short), before);
        assert!(other.estimate(&store, Time(CACHE_NANOS + 2), &short).high > before.high);
    }

    #[test]
    fn later_samples_are_written_in_batches() {
        let store = Memory::default();
        let mut worker = worker();
        let (size, tokens) = prompt(4000);
        for _ in 0..UNBATCHED_WRITES {
            worker.record(&store, Time(1), &size, tokens);
        }
        let version = || store.get(KEY).1;
        let before = version();
        for _ in 1..BATCH_SIZE {
            worker.record(&store, Time(1), &size, tokens);
        }
        assert_eq!(version(), before);
        worker.record(&store, Time(1), &size, tokens);
        assert_eq!(version(), before + 1);
        worker.record(&store, Time(2), &size, tokens);
        assert_eq!(version(), before + 1);
        worker.record(&store, Time(BATCH_NANOS + 1), &size, tokens);
        assert_eq!(version(), before + 2, "no sample waits for a batch for long");
    }

    #[test]
    fn a_value_of_another_version_is_ignored() {
        let store = Memory::default();
        let (size, tokens) = prompt(4000);
        let expected = worker().estimate(&store, Time(1), &size);
        assert!(store.set(KEY, &[9; 132], 0));
        let mut worker = worker();
        assert_eq!(worker.estimate(&store, Time(1), &size), expected);
        (0..4).for_each(|_| worker.record(&store, Time(1), &size, tokens));
        assert!(worker.estimate(&store, Time(1), &size).high > expected.high);
    }
}
