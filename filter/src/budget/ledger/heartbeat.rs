//! Heartbeats: they release the reservations of workers that have died.
//!
//! Every instance that has ever made a reservation increments its own entry in a shared table. If an instance sees no change of an
//! entry for [`SILENCE`] by its own monotonic clock, it considers that entry's instance dead: it releases the reservations, then
//! removes the entry. Clocks of different threads are never compared.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Ledger;
use crate::budget::subject::Subject;
use crate::store::Store;

/// The time without a heartbeat after which an instance is considered dead.
pub const SILENCE: Duration = Duration::from_secs(60);

/// The key of the table.
const KEY: &str = "pai/1/instances";

/// The heartbeat of one instance, and the heartbeats that it has observed.
#[derive(Debug)]
pub struct Heartbeat {
    instance: u64,
    listed: bool,
    /// All subjects of all configurations since this instance was created: a subject may be removed from the configuration while
    /// reservations exist in its budgets, and be added again.
    subjects: BTreeMap<Rc<str>, Rc<Subject>>,
    watched: Vec<Watched>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    entry: Beat,
    /// When this count was first observed, by the observer's monotonic clock.
    since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beat {
    instance: u64,
    count: u64,
}

// === impl Heartbeat ===

impl Heartbeat {
    /// Creates the heartbeat of the instance with this random id.
    pub fn new(instance: u64) -> Self {
        Self { instance, listed: false, subjects: BTreeMap::new(), watched: Vec::new() }
    }

    /// Returns the id of the instance.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Adds the instance to the table. This must happen before its first reservation.
    pub fn enlist(&mut self, store: &dyn Store) {
        if !self.listed {
            self.listed = change(store, |table| beat(table, self.instance));
        }
    }

    /// Adds subjects in whose budgets dead instances may have reservations.
    pub fn guard<'a>(&mut self, subjects: impl Iterator<Item = &'a Rc<Subject>>) {
        self.subjects.extend(subjects.map(|subject| (Rc::clone(&subject.key), Rc::clone(subject))));
    }

    /// Increments the entry of this instance, and releases the reservations of dead instances. `now` is the time of this thread's
    /// monotonic clock.
    pub fn tick(&mut self, ledger: &Ledger<'_>, now: Duration) {
        if self.listed {
            change(ledger.store, |table| beat(table, self.instance));
        }
        let table = decode(&ledger.store.get(KEY).0.unwrap_or_default());
        let silent = self.watch(&table, now);
        if silent.is_empty() {
            return;
        }
        let dead = |instance| silent.contains(&instance);
        let released = self.subjects.values().map(|subject| ledger.reap(subject, &dead)).fold(true, |all, one| all & one.is_ok());
        if released {
            change(ledger.store, |table| table.retain(|entry| !dead(entry.instance)));
        }
    }

    /// Records the entries of the table. Returns the instances that have not changed theirs for [`SILENCE`].
    fn watch(&mut self, table: &[Beat], now: Duration) -> Vec<u64> {
        let known = std::mem::take(&mut self.watched);
        let since = |entry: &Beat| known.iter().find(|watched| watched.entry == *entry).map_or(now, |watched| watched.since);
        self.watched = table.iter().map(|entry| Watched { entry: *entry, since: since(entry) }).collect();
        let silent = |watched: &&Watched| watched.entry.instance != self.instance && now.saturating_sub(watched.since) >= SILENCE;
        self.watched.iter().filter(silent).map(|watched| watched.entry.instance).collect()
    }
}

fn beat(table: &mut Vec<Beat>, instance: u64) {
    match table.iter_mut().find(|entry| entry.instance == instance) {
        Some(entry) => entry.count = entry.count.wrapping_add(1),
        None => table.push(Beat { instance, count: 0 }),
    }
}

/// Changes the table. Returns whether it was written.
fn change(store: &dyn Store, mut change: impl FnMut(&mut Vec<Beat>)) -> bool {
    (0..super::MAX_RACES).any(|_| {
        let (bytes, version) = store.get(KEY);
        let mut table = decode(&bytes.unwrap_or_default());
        change(&mut table);
        store.set(KEY, &encode(&table), version)
    })
}

fn encode(table: &[Beat]) -> Vec<u8> {
    table.iter().flat_map(|entry| [entry.instance.to_le_bytes(), entry.count.to_le_bytes()]).flatten().collect()
}

fn decode(bytes: &[u8]) -> Vec<Beat> {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let entry = |bytes: &[u8]| {
        let (instance, count) = bytes.split_at(8);
        Beat { instance: word(instance), count: word(count) }
    };
    bytes.chunks_exact(16).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::account::{Ask, BudgetLimit, BudgetSet};
    use crate::budget::ledger::SubjectBudgets;
    use crate::clock::Time;
    use crate::store::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ASK: Ask = Ask { least: 10, most: 10, prompt: 4, share: None };

    fn subject() -> Rc<Subject> {
        Rc::new(Subject {
            key: "a".into(),
            kind: crate::budget::subject::SubjectKind::Agent,
            name: "".into(),
            limits: [BudgetLimit::per_day(Some(100))].into(),
        })
    }

    fn at(store: &Memory, instance: u64) -> Ledger<'_> {
        Ledger { store, recent: Rc::default(), instance, now: Time(1) }
    }

    fn tick(heart: &mut Heartbeat, store: &Memory, seconds: u64) {
        let ledger = at(store, heart.instance());
        heart.guard([&subject()].into_iter());
        heart.tick(&ledger, Duration::from_secs(seconds));
    }

    #[test]
    fn an_instance_is_dead_after_a_minute_without_a_heartbeat() {
        let store = Memory::default();
        let (mut dead, mut alive, mut observer) = (Heartbeat::new(1), Heartbeat::new(2), Heartbeat::new(3));
        let subject = subject();
        let budgets = [SubjectBudgets { subject: &subject, budgets: BudgetSet::one(0) }];
        for heart in [&mut dead, &mut alive] {
            heart.enlist(&store);
            let permit = at(&store, heart.instance()).reserve(&budgets, ASK).unwrap();
            std::mem::forget(permit);
        }
        let state = || {
            let account = at(&store, 0).read(&subject).unwrap();
            account.record(0).map(|record| (record.used, record.reserved())).unwrap()
        };
        for second in 0..60 {
            tick(&mut alive, &store, 1000 + second);
            tick(&mut observer, &store, second);
            assert_eq!(state(), (0, 20), "second {second}");
        }
        tick(&mut observer, &store, 60);
        assert_eq!(state(), (4, 10), "the prompt is charged, the remainder released");
        tick(&mut observer, &store, 600);
        assert_eq!(state(), (8, 0), "an instance that stops its heartbeat is dead, too");
        assert_eq!(decode(&store.get(KEY).0.unwrap()), [], "an instance without reservations is not in the table");
    }

    #[test]
    fn an_instance_that_was_removed_in_error_is_added_again() {
        let store = Memory::default();
        let (mut slow, mut observer) = (Heartbeat::new(1), Heartbeat::new(2));
        slow.enlist(&store);
        tick(&mut observer, &store, 0);
        tick(&mut observer, &store, 60);
        assert_eq!(decode(&store.get(KEY).0.unwrap()), []);
        tick(&mut slow, &store, 0);
        assert_eq!(decode(&store.get(KEY).0.unwrap()), [Beat { instance: 1, count: 0 }]);
    }
}
