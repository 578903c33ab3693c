//! Where budgets are kept: records in the host's shared data, changed by compare-and-swap.
//!
//! Workers meet only here. A record is read, changed by a pure closure and written back if nobody wrote in between; after
//! [`ATTEMPTS`] lost races the ledger gives up, which is an answer ([`Unavailable`]), not a wait.

mod heartbeat;
#[cfg(test)]
mod memory;

use crate::budget::{Ask, Hold, Record, Shortfall};
use crate::clock::Time;

pub use heartbeat::Heartbeat;
#[cfg(test)]
pub use memory::Memory;

/// Races that a change may lose. Each costs about a microsecond, and to lose one somebody else must have won.
const ATTEMPTS: u32 = 256;

/// The host's shared data.
pub trait Store {
    /// The value of `key` and its version; version 0 where there is none.
    fn get(&self, key: &str) -> (Option<Vec<u8>>, u32);
    /// Writes `value` if `key` still has `version` (0: if it still has no value). `false`: somebody else wrote.
    fn set(&self, key: &str, value: &[u8], version: u32) -> bool;
}

/// The ledger as one instance of the filter sees it at one moment.
#[derive(Clone, Copy)]
pub struct Ledger<'a> {
    /// The shared data.
    pub store: &'a dyn Store,
    /// This instance.
    pub instance: u64,
    /// The moment.
    pub now: Time,
}

/// One budget that an ask must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its key in the shared data, made of names of the configuration only.
    pub key: Box<str>,
    /// Tokens per day; `None`: use is counted and not bounded.
    pub cap: Option<u64>,
}

/// Proof that a request was admitted: what it holds of each budget. Settling consumes it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not settled holds its reservations until its worker is given up for dead"]
pub struct Permit {
    holds: Vec<(Box<str>, Hold)>,
    /// Tokens that every capped budget holds for the request; 0 where there is none.
    pub granted: u64,
}

/// Why nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The budget at this place of the list does not hold the ask.
    #[error("budget {0}: {1}")]
    Short(usize, Shortfall),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A refusal, and what could not be given back of what had been reserved before it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub refused: Refused,
    /// To be settled with 0, as soon as the ledger can be changed again.
    pub left: Option<Permit>,
}

/// The ledger could not be changed: too many races lost, or what is stored is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot be reached")]
pub struct Unavailable;

// === impl Ledger ===

impl Ledger<'_> {
    /// The record of a budget; a new one if the ledger has none.
    pub fn read(&self, key: &str) -> Result<Record, Unavailable> {
        let (mut record, _) = self.load(key)?;
        record.roll(self.now.day());
        Ok(record)
    }

    /// Makes sure that the ledger has seen `key`.
    pub fn introduce(&self, key: &str) -> Result<(), Unavailable> {
        if self.store.get(key).0.is_some() { Ok(()) } else { self.update(key, |_| ()) }
    }

    /// Reserves `ask` in all of `budgets`, or in none.
    pub fn reserve(&self, budgets: &[Budget], ask: Ask) -> Result<Permit, Rejected> {
        let mut permit = Permit { holds: Vec::with_capacity(budgets.len()), granted: 0 };
        let mut ask = ask;
        for (place, budget) in budgets.iter().enumerate() {
            let Some(cap) = budget.cap else {
                permit.holds.push((budget.key.clone(), Hold::uncapped(self.now)));
                continue;
            };
            match self.try_update(&budget.key, |record| record.reserve(cap, ask, self.instance, self.now)) {
                Ok(Ok(hold)) => {
                    ask.most = hold.tokens;
                    permit.granted = hold.tokens;
                    permit.holds.push((budget.key.clone(), hold));
                }
                Ok(Err(shortfall)) => {
                    return Err(Rejected { refused: Refused::Short(place, shortfall), left: self.settle(permit, 0) });
                }
                Err(unavailable) => return Err(Rejected { refused: unavailable.into(), left: self.settle(permit, 0) }),
            }
        }
        self.even_out(&mut permit);
        Ok(permit)
    }

    /// Replaces the reservations of `permit` by `charge`. What the ledger cannot take now is returned, to be tried again.
    pub fn settle(&self, permit: Permit, charge: u64) -> Option<Permit> {
        let Permit { mut holds, granted } = permit;
        holds.retain(|(key, hold)| self.update(key, |record| record.settle(hold, charge, self.now)).is_err());
        (!holds.is_empty()).then_some(Permit { holds, granted })
    }

    /// Gives back the reservations in `key` of every instance for which `dead` holds.
    pub fn reap(&self, key: &str, dead: &dyn Fn(u64) -> bool) -> Result<(), Unavailable> {
        self.try_update(key, |record| if record.reap(dead) { Ok(()) } else { Err(()) }).map(drop)
    }

    /// Gives back what an earlier budget holds beyond what a later one had room for.
    fn even_out(&self, permit: &mut Permit) {
        for (key, hold) in &mut permit.holds {
            if hold.tokens > permit.granted {
                let granted = permit.granted;
                // Where this fails, the reservation stays as it is and is settled whole.
                let _ = self.update(key, |record| record.shrink(hold, granted));
            }
        }
    }

    fn update<T>(&self, key: &str, mut change: impl FnMut(&mut Record) -> T) -> Result<T, Unavailable> {
        match self.try_update(key, |record| Ok::<T, std::convert::Infallible>(change(record)))? {
            Ok(answer) => Ok(answer),
        }
    }

    /// Changes a record; where `change` fails, nothing is written.
    fn try_update<T, E>(
        &self,
        key: &str,
        mut change: impl FnMut(&mut Record) -> Result<T, E>,
    ) -> Result<Result<T, E>, Unavailable> {
        for _ in 0..ATTEMPTS {
            let (mut record, version) = self.load(key)?;
            match change(&mut record) {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(answer) if self.store.set(key, &record.encode(), version) => return Ok(Ok(answer)),
                Ok(_) => {}
            }
        }
        Err(Unavailable)
    }

    fn load(&self, key: &str) -> Result<(Record, u32), Unavailable> {
        match self.store.get(key) {
            (Some(bytes), version) => Ok((Record::decode(&bytes).map_err(|_| Unavailable)?, version)),
            (None, version) => Ok((Record::new(self.now), version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Time = Time(43_200_000_000_000);

    fn refused(answer: Result<Permit, Rejected>) -> Refused {
        let Rejected { refused, left } = answer.expect_err("refused");
        assert_eq!(left, None);
        refused
    }

    fn budget(key: &str, cap: Option<u64>) -> Budget {
        Budget { key: key.into(), cap }
    }

    fn ask(least: u64, most: u64) -> Ask {
        Ask { least, most, prompt: 0 }
    }

    /// A store in which somebody else writes first, a given number of times.
    struct Contended<'a>(&'a Memory, Cell<u32>);

    impl Store for Contended<'_> {
        fn get(&self, key: &str) -> (Option<Vec<u8>>, u32) {
            self.0.get(key)
        }

        fn set(&self, key: &str, value: &[u8], version: u32) -> bool {
            match self.1.get().checked_sub(1) {
                Some(left) => {
                    self.1.set(left);
                    false
                }
                None => self.0.set(key, value, version),
            }
        }
    }

    #[test]
    fn all_budgets_hold_or_none() {
        let store = Memory::default();
        let ledger = Ledger { store: &store, instance: 1, now: NOW };
        let budgets = [budget("a", Some(100)), budget("b", None), budget("c", Some(50))];
        let permit = ledger.reserve(&budgets, ask(10, 80)).unwrap();
        assert_eq!(permit.granted, 50);
        let reserved = |key| ledger.read(key).unwrap().reserved();
        assert_eq!((reserved("a"), reserved("b"), reserved("c")), (50, 0, 50), "the larger hold is evened out");
        assert_eq!(refused(ledger.reserve(&budgets, ask(10, 80))), Refused::Short(2, Shortfall::Reserved));
        assert_eq!(reserved("a"), 50, "what was taken is given back");
        assert_eq!(ledger.settle(permit, 45), None);
        for key in ["a", "b", "c"] {
            assert_eq!((ledger.read(key).unwrap().used, reserved(key)), (45, 0), "{key}");
        }
        assert_eq!(refused(ledger.reserve(&budgets, ask(10, 80))), Refused::Short(2, Shortfall::Spent));
    }

    #[test]
    fn lost_races_are_run_again_but_not_for_ever() {
        let memory = Memory::default();
        let store = Contended(&memory, Cell::new(3));
        let ledger = Ledger { store: &store, instance: 1, now: NOW };
        let permit = ledger.reserve(&[budget("a", Some(100))], ask(10, 80)).unwrap();
        store.1.set(u32::MAX);
        let permit = ledger.settle(permit, 5).expect("the permit comes back");
        assert_eq!(refused(ledger.reserve(&[budget("a", Some(100))], ask(10, 80))), Refused::Unavailable(Unavailable));
        store.1.set(0);
        assert_eq!(ledger.settle(permit, 5), None);
        assert_eq!((ledger.read("a").unwrap().used, ledger.read("a").unwrap().reserved()), (5, 0));
    }

    #[test]
    fn what_cannot_be_given_back_is_not_forgotten() {
        /// A store that takes one write and no more.
        struct Once<'a>(&'a Memory, Cell<bool>);
        impl Store for Once<'_> {
            fn get(&self, key: &str) -> (Option<Vec<u8>>, u32) {
                self.0.get(key)
            }
            fn set(&self, key: &str, value: &[u8], version: u32) -> bool {
                !self.1.replace(true) && self.0.set(key, value, version)
            }
        }
        let memory = Memory::default();
        let store = Once(&memory, Cell::new(false));
        let ledger = Ledger { store: &store, instance: 1, now: NOW };
        let rejected = ledger.reserve(&[budget("a", Some(100)), budget("b", Some(5))], ask(10, 80)).expect_err("b is too small");
        assert_eq!(rejected.refused, Refused::Short(1, Shortfall::Spent));
        let left = rejected.left.expect("a still holds it");
        assert_eq!(ledger.read("a").unwrap().reserved(), 80);
        let ledger = Ledger { store: &memory, ..ledger };
        assert_eq!(ledger.settle(left, 0), None);
        assert_eq!(ledger.read("a").unwrap().reserved(), 0);
    }

    #[test]
    fn rubbish_in_the_store_is_an_answer() {
        let store = Memory::default();
        assert!(store.set("a", b"rubbish", 0));
        let ledger = Ledger { store: &store, instance: 1, now: NOW };
        assert_eq!(ledger.read("a"), Err(Unavailable));
        assert_eq!(refused(ledger.reserve(&[budget("a", Some(1))], ask(1, 1))), Refused::Unavailable(Unavailable));
    }
}
