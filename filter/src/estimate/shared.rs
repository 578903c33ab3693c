//! What the gate has learned of models, shared by all workers: tokens per byte, and windows.
//!
//! A worker keeps what it read for [`FRESH`], and writes in batches once enough is known, so that a request seldom pays for it.

use crate::clock::Time;
use crate::estimate::context_length::Windows;
use crate::estimate::estimator::{Estimate, Learned};
use crate::openai::PromptSize;
use crate::store::Store;

/// How long what was read counts as known, in nanoseconds.
const FRESH: u64 = 100_000_000;

/// Reports of this worker that are written one by one; later ones go in batches of [`BATCH`].
const EAGER: u32 = 32;
const BATCH: usize = 16;

/// How often one of the workers asks a provider for its models, in seconds; and how soon again where that failed.
const INTERVAL: u64 = 60;
const RETRY: u64 = 2;

/// Races that a write may lose before it is left for the next time: what is lost is one lesson.
const MAX_RACES: u32 = 16;

/// What is known of the prompts of one model.
#[derive(Debug)]
pub struct Lessons {
    key: Box<str>,
    learned: Learned,
    read: Time,
    reports: u32,
    unwritten: Vec<(PromptSize, u64)>,
}

/// What is known of the windows of one provider's models.
#[derive(Debug)]
pub struct KnownWindows {
    key: Box<str>,
    /// Where the workers note when one of them last asked.
    asked_key: Box<str>,
    windows: Windows,
    read: Time,
}

// === impl KnownWindows ===

impl KnownWindows {
    /// Of the provider of this name.
    pub fn new(provider: &str) -> Self {
        Self {
            key: format!("pai/1/windows/{provider}").into(),
            asked_key: format!("pai/1/windows-asked/{provider}").into(),
            windows: Windows::default(),
            read: Time::default(),
        }
    }

    /// What is known now.
    pub fn get(&mut self, store: &dyn Store, now: Time) -> &Windows {
        if stale(self.read, now) {
            self.windows = Windows::decode(&store.get(&self.key).0.unwrap_or_default());
            self.read = now;
        }
        &self.windows
    }

    /// Whether it is time to ask the provider, and this worker's turn, which it thereby takes.
    pub fn take_turn(&self, store: &dyn Store, now: Time) -> bool {
        let (last, version) = store.get(&self.asked_key);
        let last = last.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        let now = now.seconds();
        now.saturating_sub(last) >= INTERVAL && store.set(&self.asked_key, &now.to_le_bytes(), version)
    }

    /// Makes it somebody's turn again soon: the provider did not answer.
    pub fn ask_again_soon(&self, store: &dyn Store, now: Time) {
        let earlier = now.seconds().saturating_sub(INTERVAL - RETRY);
        // Where somebody else has written, he is about to ask.
        let _ = store.set(&self.asked_key, &earlier.to_le_bytes(), store.get(&self.asked_key).1);
    }

    /// Changes what is known; `change` says whether it changed anything.
    pub fn change(&mut self, store: &dyn Store, mut change: impl FnMut(&mut Windows) -> bool) {
        if !change(&mut self.windows) {
            return;
        }
        for _ in 0..MAX_RACES {
            let (bytes, version) = store.get(&self.key);
            let mut windows = Windows::decode(&bytes.unwrap_or_default());
            if !change(&mut windows) || store.set(&self.key, &windows.encode(), version) {
                self.windows = windows;
                return;
            }
        }
    }
}

// === impl Lessons ===

impl Lessons {
    /// Of the models that count under this label of this provider.
    pub fn new(provider: &str, label: &str) -> Self {
        Self {
            key: format!("pai/1/estimate/{provider}/{label}").into(),
            learned: Learned::default(),
            read: Time::default(),
            reports: 0,
            unwritten: Vec::new(),
        }
    }

    /// Bounds of a prompt's tokens.
    pub fn estimate(&mut self, store: &dyn Store, now: Time, size: &PromptSize) -> Estimate {
        if stale(self.read, now) {
            self.learned = Learned::decode(&store.get(&self.key).0.unwrap_or_default());
            self.read = now;
        }
        self.learned.estimate(size)
    }

    /// Takes in the server's count of a prompt's tokens.
    pub fn learn(&mut self, store: &dyn Store, size: &PromptSize, tokens: u64) {
        self.reports = self.reports.saturating_add(1);
        self.unwritten.push((*size, tokens));
        if self.reports <= EAGER || self.unwritten.len() >= BATCH {
            self.write(store);
        }
    }

    fn write(&mut self, store: &dyn Store) {
        for _ in 0..MAX_RACES {
            let (bytes, version) = store.get(&self.key);
            let mut learned = Learned::decode(&bytes.unwrap_or_default());
            let news = self.unwritten.iter().fold(false, |news, (size, tokens)| learned.learn(size, *tokens) | news);
            if !news || store.set(&self.key, &learned.encode(), version) {
                self.learned = learned;
                break;
            }
        }
        self.unwritten.clear();
    }
}

fn stale(read: Time, now: Time) -> bool {
    read == Time::default() || now.since(read) > FRESH
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
        let (mut one, mut other) = (Lessons::new("p", "m"), Lessons::new("p", "m"));
        let unlearned = other.estimate(&store, Time(1), &SIZE).high;
        for _ in 0..5 {
            one.learn(&store, &SIZE, 1024);
        }
        assert_eq!(other.estimate(&store, Time(2), &SIZE).high, unlearned, "known for a while");
        assert!(other.estimate(&store, Time(FRESH + 2), &SIZE).high < 1500);
        assert!(one.estimate(&store, Time(3), &SIZE).high < 1500);
    }

    #[test]
    fn a_window_is_known_to_all_and_told_apart() {
        let store = Memory::default();
        let (mut one, mut other) = (KnownWindows::new("p"), KnownWindows::new("p"));
        one.change(&store, |windows| windows.learn("m", 4096));
        other.change(&store, |windows| windows.learn("n", 8));
        assert_eq!(other.get(&store, Time(1)).length("m"), Some(4096));
        assert_eq!(one.get(&store, Time(FRESH * 2)).length("n"), Some(8));
    }

    #[test]
    fn one_worker_asks_a_minute_and_sooner_after_a_failure() {
        let store = Memory::default();
        let (one, other) = (KnownWindows::new("p"), KnownWindows::new("p"));
        let at = |second: u64| Time((1_000_000 + second) * 1_000_000_000);
        assert!(one.take_turn(&store, at(0)) && !other.take_turn(&store, at(0)) && !one.take_turn(&store, at(59)));
        assert!(other.take_turn(&store, at(60)));
        other.ask_again_soon(&store, at(60));
        assert!(!one.take_turn(&store, at(61)) && one.take_turn(&store, at(62)));
    }

    #[test]
    fn reports_are_written_in_batches_later_on() {
        let store = Memory::default();
        let mut worker = Lessons::new("p", "m");
        for _ in 0..EAGER {
            worker.learn(&store, &SIZE, 1024);
        }
        let version = || store.get(&worker_key()).1;
        let before = version();
        for _ in 1..BATCH {
            worker.learn(&store, &SIZE, 1024);
        }
        assert_eq!(version(), before);
        worker.learn(&store, &SIZE, 1024);
        assert_eq!(version(), before + 1);
    }

    fn worker_key() -> String {
        "pai/1/estimate/p/m".to_owned()
    }
}
