//! Where budgets are kept: accounts in the host's shared data, changed by compare-and-swap.
//!
//! Workers meet only here. An account is read, changed by a pure closure and written back if nobody wrote in between; after
//! [`MAX_RACES`] lost races the ledger gives up, which is an answer ([`Unavailable`]), not a wait.

mod heartbeat;
pub mod start;

use std::cell::RefCell;
use std::rc::Rc;

use crate::budget::account::{Account, Ask, Reservations, Short, Shortfall};
use crate::budget::subject::{Subject, SubjectBudgets};
use crate::clock::Time;
use crate::store::Store;

pub use heartbeat::Heartbeat;

/// Races that a change may lose. Each costs about a microsecond, and to lose one somebody else must have won.
const MAX_RACES: u32 = 256;

/// The ledger as one instance of the filter sees it at one moment.
#[derive(Clone)]
pub struct Ledger<'a> {
    /// The shared data.
    pub store: &'a dyn Store,
    /// What this instance has read last.
    pub recent: Rc<Recent>,
    /// This instance.
    pub instance: u64,
    /// The moment.
    pub now: Time,
}

/// The account that was last read and not written since, with the version it had. The next change begins with it, and so saves a
/// read, which costs a microsecond: if somebody has written in between, the host refuses the version, and it is read again.
#[derive(Debug, Default)]
pub struct Recent(RefCell<Option<(Rc<str>, Account, u32)>>);

/// Proof that a request was admitted: what it holds of each budget. Settling consumes it.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "a permit that is not settled holds its reservations until its worker is given up for dead"]
pub struct Permit {
    holds: Vec<(Rc<Subject>, Reservations)>,
    /// Tokens that every capped budget holds for the request; `None` where no budget has a cap.
    pub granted: Option<u64>,
}

/// Why nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A budget does not hold the ask.
    #[error("budget {budget} of claim {claim}: {shortfall}")]
    Short {
        /// Place of the claim in the list.
        claim: usize,
        /// Place of the budget in its subject's account.
        budget: usize,
        /// Why.
        shortfall: Shortfall,
    },
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

/// The ledger could not be changed: too many races lost, or what is stored is no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot be reached")]
pub struct Unavailable;

// === impl Recent ===

impl Recent {
    fn put(&self, key: &Rc<str>, account: &Account, version: u32) {
        self.0.replace(Some((Rc::clone(key), account.clone(), version)));
    }

    fn take(&self, key: &Rc<str>) -> Option<(Account, u32)> {
        let (_, account, version) = self.0.take().filter(|(of, ..)| of == key)?;
        Some((account, version))
    }
}

// === impl Ledger ===

impl Ledger<'_> {
    /// The account of a subject at this moment; a new one if the ledger has none.
    pub fn read(&self, subject: &Subject) -> Result<Account, Unavailable> {
        let (mut account, version) = self.load(subject)?;
        self.recent.put(&subject.key, &account, version);
        account.roll(&subject.limits, self.now);
        Ok(account)
    }

    /// Makes sure that the ledger has seen a subject.
    pub fn introduce(&self, subject: &Subject) -> Result<(), Unavailable> {
        if self.store.get(&subject.key).0.is_some() { Ok(()) } else { self.update(subject, |_| ()) }
    }

    /// Reserves `ask` in all budgets of `claims`, or in none. Where several are short, the most serious reason is told.
    pub fn reserve(&self, claims: &[SubjectBudgets<'_>], ask: Ask) -> Result<Permit, Rejected> {
        let mut permit = Permit { holds: Vec::with_capacity(claims.len()), granted: None };
        let mut ask = ask;
        for (place, claim) in claims.iter().enumerate() {
            let limits = &claim.subject.limits;
            let reserve = |account: &mut Account| account.reserve(limits, claim.budgets, ask, self.instance, self.now);
            match self.try_update(claim.subject, reserve) {
                Ok(Ok(held)) => {
                    if let Some(tokens) = held.tokens(limits) {
                        ask.most = tokens;
                        permit.granted = Some(tokens);
                    }
                    permit.holds.push((Rc::clone(claim.subject), held));
                }
                Ok(Err(short)) => {
                    let refused = self.most_serious(claims, place, short, ask.least);
                    return Err(Rejected { refused, left: self.settle(permit, 0) });
                }
                Err(unavailable) => return Err(Rejected { refused: unavailable.into(), left: self.settle(permit, 0) }),
            }
        }
        self.even_out(&mut permit);
        Ok(permit)
    }

    /// Counts one request against a budget that nothing is reserved in.
    pub fn count(&self, claim: SubjectBudgets<'_>) -> Result<Result<(), Shortfall>, Unavailable> {
        const ONE: Ask = Ask { least: 1, most: 1, prompt: 0 };
        let limits = &claim.subject.limits;
        self.try_update(claim.subject, |account| {
            let held = account.reserve(limits, claim.budgets, ONE, self.instance, self.now);
            let held = held.map_err(|(_, shortfall)| shortfall)?;
            account.settle(limits, &held, 1, self.now);
            Ok(())
        })
    }

    /// Replaces the reservations of `permit` by `charge`. What the ledger cannot take now is returned, to be tried again.
    pub fn settle(&self, permit: Permit, charge: u64) -> Option<Permit> {
        let Permit { mut holds, granted } = permit;
        holds.retain(|(subject, held)| {
            self.update(subject, |account| account.settle(&subject.limits, held, charge, self.now)).is_err()
        });
        (!holds.is_empty()).then_some(Permit { holds, granted })
    }

    /// Gives back the reservations that every instance for which `dead` holds has with a subject.
    pub fn reap(&self, subject: &Subject, dead: &dyn Fn(u64) -> bool) -> Result<(), Unavailable> {
        self.try_update(subject, |account| if account.reap(dead) { Ok(()) } else { Err(()) }).map(drop)
    }

    /// Of the claim that was found short and those behind it, the most serious shortfall.
    fn most_serious(&self, claims: &[SubjectBudgets<'_>], first: usize, short: Short, least: u64) -> Refused {
        let behind = claims.iter().enumerate().skip(first.saturating_add(1)).filter_map(|(place, claim)| {
            let account = self.read(claim.subject).ok()?;
            Some((place, account.most_serious(&claim.subject.limits, claim.budgets, least, self.now)?))
        });
        let (claim, (budget, shortfall)) =
            behind.fold((first, short), |most_serious, next| if next.1.1 > most_serious.1.1 { next } else { most_serious });
        Refused::Short { claim, budget, shortfall }
    }

    /// Gives back what earlier budgets hold beyond what a later one had room for.
    fn even_out(&self, permit: &mut Permit) {
        let Permit { holds, granted: Some(granted) } = permit else { return };
        for (subject, held) in holds {
            if held.tokens(&subject.limits).is_some_and(|tokens| tokens > *granted) {
                // Where this fails, the reservation stays as it is and is settled whole.
                if self.update(subject, |account| account.shrink(&subject.limits, held, *granted)).is_ok() {
                    held.shrink(*granted);
                }
            }
        }
    }

    fn update<T>(&self, subject: &Subject, mut change: impl FnMut(&mut Account) -> T) -> Result<T, Unavailable> {
        match self.try_update(subject, |account| Ok::<T, std::convert::Infallible>(change(account)))? {
            Ok(answer) => Ok(answer),
        }
    }

    /// Changes an account; where `change` fails, nothing is written.
    fn try_update<T, E>(
        &self,
        subject: &Subject,
        mut change: impl FnMut(&mut Account) -> Result<T, E>,
    ) -> Result<Result<T, E>, Unavailable> {
        let mut recent = self.recent.take(&subject.key);
        for _ in 0..MAX_RACES {
            let remembered = recent.take();
            let is_fresh = remembered.is_none();
            let (mut account, version) = remembered.map_or_else(|| self.load(subject), Ok)?;
            match change(&mut account) {
                Err(refusal) if is_fresh => return Ok(Err(refusal)),
                // What is refused for may be over by now.
                Err(_) => {}
                Ok(answer) if self.store.set(&subject.key, &account.encode(), version) => return Ok(Ok(answer)),
                Ok(_) => {}
            }
        }
        Err(Unavailable)
    }

    fn load(&self, subject: &Subject) -> Result<(Account, u32), Unavailable> {
        match self.store.get(&subject.key) {
            (Some(bytes), version) => Ok((Account::decode(&bytes, subject.limits.len()).map_err(|_| Unavailable)?, version)),
            (None, version) => Ok((Account::new(&subject.limits, self.now), version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::budget::account::{BudgetLimit, BudgetSet};
    use crate::budget::subject::SubjectKind;
    use crate::store::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Time = Time(43_200_000_000_000);

    fn refused(answer: Result<Permit, Rejected>) -> Refused {
        let Rejected { refused, left } = answer.expect_err("refused");
        assert_eq!(left, None);
        refused
    }

    fn subject(key: &str, cap: Option<u64>) -> Rc<Subject> {
        Rc::new(Subject { key: key.into(), kind: SubjectKind::Agent, name: "".into(), limits: [BudgetLimit::per_day(cap)].into() })
    }

    fn claims(subjects: &[Rc<Subject>]) -> Vec<SubjectBudgets<'_>> {
        subjects.iter().map(|subject| SubjectBudgets { subject, budgets: BudgetSet::one(0) }).collect()
    }

    /// Used and reserved of the only budget under `key`.
    fn state(ledger: &Ledger<'_>, key: &str) -> (u64, u64) {
        let account = ledger.read(&subject(key, None)).unwrap();
        account.record(0).map(|record| (record.used, record.reserved())).unwrap()
    }

    fn short(claim: usize, shortfall: Shortfall) -> Refused {
        Refused::Short { claim, budget: 0, shortfall }
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
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(100)), subject("b", None), subject("c", Some(50))];
        let claims = claims(&subjects);
        let permit = ledger.reserve(&claims, ask(10, 80)).unwrap();
        assert_eq!(permit.granted, Some(50));
        let reserved = |key| state(&ledger, key).1;
        assert_eq!((reserved("a"), reserved("b"), reserved("c")), (50, 0, 50), "the larger hold is evened out");
        assert_eq!(refused(ledger.reserve(&claims, ask(10, 80))), short(2, Shortfall::Reserved));
        assert_eq!(reserved("a"), 50, "what was taken is given back");
        assert_eq!(ledger.settle(permit, 45), None);
        for key in ["a", "b", "c"] {
            assert_eq!(state(&ledger, key), (45, 0), "{key}");
        }
        assert_eq!(refused(ledger.reserve(&claims, ask(10, 80))), short(2, Shortfall::Spent));
    }

    #[test]
    fn the_most_serious_reason_is_told() {
        let store = Memory::default();
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(100)), subject("b", Some(50))];
        let spent = ledger.reserve(&claims(&subjects[1..]), ask(50, 50)).unwrap();
        assert_eq!(ledger.settle(spent, 50), None);
        let _held = ledger.reserve(&claims(&subjects[..1]), ask(95, 95)).unwrap();
        assert_eq!(refused(ledger.reserve(&claims(&subjects), ask(10, 80))), short(1, Shortfall::Spent));
    }

    #[test]
    fn lost_races_are_run_again_but_not_for_ever() {
        let memory = Memory::default();
        let store = Contended(&memory, Cell::new(3));
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(100))];
        let claims = claims(&subjects);
        let permit = ledger.reserve(&claims, ask(10, 80)).unwrap();
        store.1.set(u32::MAX);
        let permit = ledger.settle(permit, 5).expect("the permit comes back");
        assert_eq!(refused(ledger.reserve(&claims, ask(10, 80))), Refused::Unavailable(Unavailable));
        store.1.set(0);
        assert_eq!(ledger.settle(permit, 5), None);
        assert_eq!(state(&ledger, "a"), (5, 0));
    }

    #[test]
    fn what_is_evened_out_in_a_race_is_given_back_all_the_same() {
        /// A store in which every write loses its first race.
        struct Second<'a>(&'a Memory, Cell<bool>);
        impl Store for Second<'_> {
            fn get(&self, key: &str) -> (Option<Vec<u8>>, u32) {
                self.0.get(key)
            }
            fn set(&self, key: &str, value: &[u8], version: u32) -> bool {
                !self.1.replace(!self.1.get()) && self.0.set(key, value, version)
            }
        }
        let memory = Memory::default();
        let store = Second(&memory, Cell::new(true));
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(100)), subject("b", Some(30))];
        let permit = ledger.reserve(&claims(&subjects), ask(10, 80)).unwrap();
        assert_eq!((state(&ledger, "a"), state(&ledger, "b")), ((0, 30), (0, 30)));
        assert_eq!(ledger.settle(permit, 7), None);
        assert_eq!((state(&ledger, "a"), state(&ledger, "b")), ((7, 0), (7, 0)));
    }

    #[test]
    fn the_dead_are_charged_no_more_than_they_held() {
        let store = Memory::default();
        let workers = [1, 2].map(|instance| Ledger { store: &store, recent: Rc::default(), instance, now: NOW });
        let subjects = [subject("a", Some(100)), subject("b", Some(20))];
        let claims = claims(&subjects);
        let _dead = workers[0].reserve(&claims, Ask { least: 1, most: 100, prompt: 50 }).unwrap();
        let _alive = workers[1].reserve(&claims[..1], ask(80, 80)).unwrap();
        workers[1].reap(&subjects[0], &|instance| instance == 1).unwrap();
        assert_eq!(state(&workers[1], "a"), (20, 80), "of the prompt as of the rest, what the smallest budget had room for");
    }

    #[test]
    fn nothing_is_decided_by_what_is_only_remembered() {
        let store = Memory::default();
        let workers = [1, 2].map(|instance| Ledger { store: &store, recent: Rc::default(), instance, now: NOW });
        let subjects = [subject("a", Some(100))];
        let claims = claims(&subjects);
        let permit = workers[0].reserve(&claims, ask(90, 90)).unwrap();
        assert_eq!(state(&workers[1], "a"), (0, 90));
        assert_eq!(workers[0].settle(permit, 10), None);
        let permit = workers[1].reserve(&claims, ask(90, 90)).expect("what it remembers would not hold it");
        assert_eq!(state(&workers[0], "a"), (10, 90));
        assert_eq!(workers[1].settle(permit, 20), None);
        let permit = workers[0].reserve(&claims, ask(5, 70)).unwrap();
        assert_eq!((permit.granted, state(&workers[1], "a")), (Some(70), (30, 70)));
    }

    #[test]
    fn requests_are_counted_one_by_one() {
        let store = Memory::default();
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subject = Rc::new(Subject {
            key: "a".into(),
            kind: SubjectKind::Agent,
            name: "".into(),
            limits: [BudgetLimit::per_day(None), BudgetLimit::per_minute(Some(2))].into(),
        });
        let count = || ledger.count(SubjectBudgets { subject: &subject, budgets: BudgetSet::one(1) }).unwrap();
        assert_eq!((count(), count(), count()), (Ok(()), Ok(()), Err(Shortfall::Drains(30_000_000_000))));
        let account = ledger.read(&subject).unwrap();
        assert_eq!([0, 1].map(|place| account.record(place).unwrap().used), [0, 2]);
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
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(100)), subject("b", Some(5))];
        let rejected = ledger.reserve(&claims(&subjects), ask(10, 80)).expect_err("b is too small");
        assert_eq!(rejected.refused, short(1, Shortfall::Spent));
        let left = rejected.left.expect("a still holds it");
        assert_eq!(state(&ledger, "a"), (0, 80));
        let ledger = Ledger { store: &memory, ..ledger };
        assert_eq!(ledger.settle(left, 0), None);
        assert_eq!(state(&ledger, "a"), (0, 0));
    }

    #[test]
    fn rubbish_in_the_store_is_an_answer() {
        let store = Memory::default();
        assert!(store.set("a", b"rubbish", 0));
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(1))];
        assert_eq!(ledger.read(&subjects[0]), Err(Unavailable));
        assert_eq!(refused(ledger.reserve(&claims(&subjects), ask(1, 1))), Refused::Unavailable(Unavailable));
    }
}
