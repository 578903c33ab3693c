//! Signs of life: how the reservations of a worker that died are given back.
//!
//! Every instance that has ever reserved counts up its own entry of one table. An entry that somebody has watched for
//! [`SILENCE`] of his own monotonic clock without a change is of an instance that is dead: its reservations are given back, then
//! the entry goes. Clocks of different threads are never compared.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Ledger;
use crate::budget::subject::Subject;
use crate::store::Store;

/// How long an instance may be silent.
pub const SILENCE: Duration = Duration::from_secs(60);

/// The key of the table.
const KEY: &str = "pai/1/instances";

/// One instance's beat, and what it knows of the others'.
#[derive(Debug)]
pub struct Heartbeat {
    instance: u64,
    listed: bool,
    /// Every subject of every configuration since this instance began: one may leave the configuration while somebody holds a part
    /// of its budgets, and come back.
    subjects: BTreeMap<Rc<str>, Rc<Subject>>,
    watched: Vec<Watched>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    entry: Beat,
    /// When this count was first seen, by the watcher's clock.
    since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beat {
    instance: u64,
    count: u64,
}

// === impl Heartbeat ===

impl Heartbeat {
    /// For the instance with this random id.
    pub fn new(instance: u64) -> Self {
        Self { instance, listed: false, subjects: BTreeMap::new(), watched: Vec::new() }
    }

    /// The id.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Enters the table, which must happen before anything is reserved.
    pub fn enlist(&mut self, store: &dyn Store) {
        if !self.listed {
            self.listed = change(store, |table| beat(table, self.instance));
        }
    }

    /// Adds subjects in whose budgets the dead may hold something.
    pub fn guard<'a>(&mut self, subjects: impl Iterator<Item = &'a Rc<Subject>>) {
        self.subjects.extend(subjects.map(|subject| (Rc::clone(&subject.key), Rc::clone(subject))));
    }

    /// Counts up, looks at the others, and gives back the reservations of the dead. `now` is a monotonic clock of this thread.
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
        let buried = self.subjects.values().map(|subject| ledger.reap(subject, &dead)).fold(true, |all, one| all & one.is_ok());
        if buried {
            change(ledger.store, |table| table.retain(|entry| !dead(entry.instance)));
        }
    }

    /// Remembers what the table says and returns who has been silent too long.
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

/// Changes the table; says whether it was written.
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

    const ASK: Ask = Ask { least: 10, most: 10, prompt: 4 };

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
    fn the_silent_are_given_up_after_a_minute_and_not_before() {
        let store = Memory::default();
        let (mut dead, mut alive, mut observer) = (Heartbeat::new(1), Heartbeat::new(2), Heartbeat::new(3));
        let subject = subject();
        let claims = [SubjectBudgets { subject: &subject, budgets: BudgetSet::one(0) }];
        for heart in [&mut dead, &mut alive] {
            heart.enlist(&store);
            let permit = at(&store, heart.instance()).reserve(&claims, ASK).unwrap();
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
        assert_eq!(state(), (4, 10), "the prompt is charged, the rest given back");
        tick(&mut observer, &store, 600);
        assert_eq!(state(), (8, 0), "whoever beats no more is dead, too");
        assert_eq!(decode(&store.get(KEY).0.unwrap()), [], "an observer that reserves nothing is in no table");
    }

    #[test]
    fn one_that_was_given_up_in_error_comes_back() {
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
