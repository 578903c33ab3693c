//! The ledger: accounts in the host's shared data, changed by compare-and-swap.
//!
//! Workers share nothing else. An account is read, changed by a pure closure, and written back unless another worker has written it
//! in between. After [`MAX_RACES`] lost races the change fails with [`Unavailable`]; it does not wait.

mod heartbeat;
pub mod start;

use std::cell::RefCell;
use std::rc::Rc;

use crate::budget::account::{Account, Ask, Reservations, Short, Shortfall};
use crate::budget::subject::{Subject, SubjectBudgets};
use crate::clock::Time;
use crate::store::Store;

pub use heartbeat::Heartbeat;

/// The number of lost races after which a change fails. A race takes about a microsecond, and each lost race is one that another
/// worker has won.
const MAX_RACES: u32 = 256;

/// The ledger as one instance of the filter accesses it at one time.
#[derive(Clone)]
pub struct Ledger<'a> {
    /// The shared data.
    pub store: &'a dyn Store,
    /// The account that this instance read last.
    pub recent: Rc<Recent>,
    /// The id of this instance.
    pub instance: u64,
    /// The current time.
    pub now: Time,
}

/// The account that was last read, and its version. The next change starts from it, which saves a read of about a microsecond. If
/// another worker has written the account in between, the host rejects the version and the account is read again.
#[derive(Debug, Default)]
pub struct Recent(RefCell<Option<(Rc<str>, Account, u32)>>);

/// The reservations of an admitted request. Settling consumes the permit.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "the reservations of a permit that is not settled last until its worker is considered dead"]
pub struct Permit {
    reservations: Vec<(Rc<Subject>, Reservations)>,
    /// What was granted.
    pub grant: Grant,
}

/// What a request may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grant {
    /// The number of tokens; `None` if no budget has a cap. They are reserved in every budget with a cap, except in those with plenty left
    /// if [`crate::budget::account::Ample`] asks for fewer there.
    pub tokens: Option<u64>,
    /// Whether every budget with a cap has plenty left.
    pub is_ample: bool,
}

/// Why nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too few tokens remain in a budget.
    #[error("budget {budget} of subject {subject}: {shortfall}")]
    Short {
        /// The index of the subject in the list.
        subject: usize,
        /// The index of the budget in the subject's account.
        budget: usize,
        /// The reason.
        shortfall: Shortfall,
    },
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A refusal, and the reservations made before it that could not be released.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The reason.
    pub refused: Refused,
    /// The permit to settle with a charge of 0, as soon as the ledger can be changed again.
    pub left: Option<Permit>,
}

/// The ledger could not be changed: too many races were lost, or the stored bytes are not an account.
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

// === impl Permit ===

#[cfg(feature = "test-hooks")]
impl Permit {
    /// Returns the tokens reserved in the budget in which they are the fewest; `None` if no budget has a cap.
    pub fn reserved(&self) -> Option<u64> {
        self.reservations.iter().filter_map(|(subject, reservations)| reservations.tokens(&subject.limits)).min()
    }
}

// === impl Ledger ===

impl Ledger<'_> {
    /// Returns the account of a subject at the current time; a new one if the ledger does not contain it. Fails if the stored bytes
    /// are not an account.
    pub fn read(&self, subject: &Subject) -> Result<Account, Unavailable> {
        let (mut account, version) = self.load(subject)?;
        self.recent.put(&subject.key, &account, version);
        account.roll(&subject.limits, self.now);
        Ok(account)
    }

    /// Creates the account of a subject unless the ledger contains it.
    pub fn introduce(&self, subject: &Subject) -> Result<(), Unavailable> {
        if self.store.get(&subject.key).0.is_some() { Ok(()) } else { self.update(subject, |_| ()) }
    }

    /// Reserves `ask` in all of `budgets`, or in none. If too few tokens remain in several of them, returns the most serious
    /// shortfall.
    pub fn reserve(&self, budgets: &[SubjectBudgets<'_>], ask: Ask) -> Result<Permit, Rejected> {
        let mut permit = Permit { reservations: Vec::with_capacity(budgets.len()), ..Permit::default() };
        let mut left = ask;
        for (index, subject_budgets) in budgets.iter().enumerate() {
            let limits = &subject_budgets.subject.limits;
            let reserve = |account: &mut Account| account.reserve(limits, subject_budgets.budgets, left, self.instance, self.now);
            match self.try_update(subject_budgets.subject, reserve) {
                Ok(Ok((reserved, less))) => {
                    left = less;
                    if reserved.tokens(limits).is_some() {
                        permit.grant.tokens = Some(left.tokens());
                    }
                    permit.reservations.push((Rc::clone(subject_budgets.subject), reserved));
                }
                Ok(Err(short)) => {
                    let refused = self.most_serious(budgets, index, short, ask);
                    return Err(Rejected { refused, left: self.settle(permit, 0) });
                }
                Err(unavailable) => return Err(Rejected { refused: unavailable.into(), left: self.settle(permit, 0) }),
            }
        }
        permit.grant.is_ample = left.ample().is_some();
        self.even_out(&mut permit);
        Ok(permit)
    }

    /// Returns whether every budget has the least that `ask` needs, without reserving anything.
    pub fn holds(&self, budgets: &[SubjectBudgets<'_>], ask: Ask) -> bool {
        budgets.iter().all(|SubjectBudgets { subject, budgets }| {
            self.read(subject).is_ok_and(|account| account.most_serious(&subject.limits, *budgets, ask, self.now).is_none())
        })
    }

    /// Counts one request against a budget without reservations.
    pub fn count(&self, subject_budgets: SubjectBudgets<'_>) -> Result<Result<(), Shortfall>, Unavailable> {
        let one = Ask::whole(1, 0);
        let limits = &subject_budgets.subject.limits;
        self.try_update(subject_budgets.subject, |account| {
            let reserved = account.reserve(limits, subject_budgets.budgets, one, self.instance, self.now);
            let (reserved, _) = reserved.map_err(|(_, shortfall)| shortfall)?;
            account.settle(limits, &reserved, 1, self.now);
            Ok(())
        })
    }

    /// Replaces the reservations of `permit` by `charge` tokens. Returns the reservations that could not be settled, to be tried again.
    pub fn settle(&self, permit: Permit, charge: u64) -> Option<Permit> {
        let Permit { mut reservations, grant } = permit;
        reservations.retain(|(subject, reserved)| {
            self.update(subject, |account| account.settle(&subject.limits, reserved, charge, self.now)).is_err()
        });
        (!reservations.is_empty()).then_some(Permit { reservations, grant })
    }

    /// Releases the reservations in a subject's budgets of every instance for which `dead` returns true.
    pub fn reap(&self, subject: &Subject, dead: &dyn Fn(u64) -> bool) -> Result<(), Unavailable> {
        self.try_update(subject, |account| if account.reap(dead) { Ok(()) } else { Err(()) }).map(drop)
    }

    /// Returns the most serious shortfall of the subject at index `first` and those after it.
    fn most_serious(&self, budgets: &[SubjectBudgets<'_>], first: usize, short: Short, ask: Ask) -> Refused {
        let later = budgets.iter().enumerate().skip(first.saturating_add(1)).filter_map(|(index, subject_budgets)| {
            let account = self.read(subject_budgets.subject).ok()?;
            Some((index, account.most_serious(&subject_budgets.subject.limits, subject_budgets.budgets, ask, self.now)?))
        });
        let (subject, (budget, shortfall)) =
            later.fold((first, short), |most_serious, next| if next.1.1 > most_serious.1.1 { next } else { most_serious });
        Refused::Short { subject, budget, shortfall }
    }

    /// Lowers the reservations in earlier budgets to what remained in a later one.
    fn even_out(&self, permit: &mut Permit) {
        let Permit { reservations, grant: Grant { tokens: Some(granted), .. } } = permit else { return };
        for (subject, reserved) in reservations {
            if reserved.tokens(&subject.limits).is_some_and(|tokens| tokens > *granted) {
                // If this fails, the reservation is unchanged and is settled as a whole.
                if self.update(subject, |account| account.shrink(&subject.limits, reserved, *granted)).is_ok() {
                    reserved.shrink(*granted);
                }
            }
        }
    }

    fn update<T>(&self, subject: &Subject, mut change: impl FnMut(&mut Account) -> T) -> Result<T, Unavailable> {
        match self.try_update(subject, |account| Ok::<T, std::convert::Infallible>(change(account)))? {
            Ok(answer) => Ok(answer),
        }
    }

    /// Changes an account. If `change` fails, nothing is written and its error is returned.
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
                // The remembered account may be outdated, so that the change is tried again with the stored one.
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

    fn budgets(subjects: &[Rc<Subject>]) -> Vec<SubjectBudgets<'_>> {
        subjects.iter().map(|subject| SubjectBudgets { subject, budgets: BudgetSet::one(0) }).collect()
    }

    /// Returns the used and reserved tokens of the only budget under `key`.
    fn state(ledger: &Ledger<'_>, key: &str) -> (u64, u64) {
        let account = ledger.read(&subject(key, None)).unwrap();
        account.record(0).map(|record| (record.used, record.reserved())).unwrap()
    }

    fn short(subject: usize, shortfall: Shortfall) -> Refused {
        Refused::Short { subject, budget: 0, shortfall }
    }

    fn ask(least: u64, most: u64) -> Ask {
        Ask { least, most, prompt: 0, share: None }
    }

    /// A store that loses the given number of races.
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
    fn a_request_is_reserved_in_all_budgets_or_in_none() {
        let store = Memory::default();
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(100)), subject("b", None), subject("c", Some(50))];
        let budgets = budgets(&subjects);
        let permit = ledger.reserve(&budgets, ask(10, 80)).unwrap();
        assert_eq!(permit.grant.tokens, Some(50));
        let reserved = |key| state(&ledger, key).1;
        assert_eq!((reserved("a"), reserved("b"), reserved("c")), (50, 0, 50), "the larger reservation is lowered");
        assert_eq!(refused(ledger.reserve(&budgets, ask(10, 80))), short(2, Shortfall::Reserved));
        assert_eq!(reserved("a"), 50, "the reservation is released");
        assert_eq!(ledger.settle(permit, 45), None);
        for key in ["a", "b", "c"] {
            assert_eq!(state(&ledger, key), (45, 0), "{key}");
        }
        assert_eq!(refused(ledger.reserve(&budgets, ask(10, 80))), short(2, Shortfall::Exhausted));
    }

    #[test]
    fn the_most_serious_shortfall_is_returned() {
        let store = Memory::default();
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(100)), subject("b", Some(50))];
        let exhausted = ledger.reserve(&budgets(&subjects[1..]), ask(50, 50)).unwrap();
        assert_eq!(ledger.settle(exhausted, 50), None);
        let _held = ledger.reserve(&budgets(&subjects[..1]), ask(95, 95)).unwrap();
        assert_eq!(refused(ledger.reserve(&budgets(&subjects), ask(10, 80))), short(1, Shortfall::Exhausted));
    }

    #[test]
    fn lost_races_are_repeated_a_limited_number_of_times() {
        let memory = Memory::default();
        let store = Contended(&memory, Cell::new(3));
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(100))];
        let budgets = budgets(&subjects);
        let permit = ledger.reserve(&budgets, ask(10, 80)).unwrap();
        store.1.set(u32::MAX);
        let permit = ledger.settle(permit, 5).expect("the permit is returned");
        assert_eq!(refused(ledger.reserve(&budgets, ask(10, 80))), Refused::Unavailable(Unavailable));
        store.1.set(0);
        assert_eq!(ledger.settle(permit, 5), None);
        assert_eq!(state(&ledger, "a"), (5, 0));
    }

    #[test]
    fn reservations_are_lowered_after_a_lost_race() {
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
        let permit = ledger.reserve(&budgets(&subjects), ask(10, 80)).unwrap();
        assert_eq!((state(&ledger, "a"), state(&ledger, "b")), ((0, 30), (0, 30)));
        assert_eq!(ledger.settle(permit, 7), None);
        assert_eq!((state(&ledger, "a"), state(&ledger, "b")), ((7, 0), (7, 0)));
    }

    #[test]
    fn dead_instances_are_charged_at_most_their_reservations() {
        let store = Memory::default();
        let workers = [1, 2].map(|instance| Ledger { store: &store, recent: Rc::default(), instance, now: NOW });
        let subjects = [subject("a", Some(100)), subject("b", Some(20))];
        let budgets = budgets(&subjects);
        let _dead = workers[0].reserve(&budgets, Ask { least: 1, most: 100, prompt: 50, share: None }).unwrap();
        let _alive = workers[1].reserve(&budgets[..1], ask(80, 80)).unwrap();
        workers[1].reap(&subjects[0], &|instance| instance == 1).unwrap();
        assert_eq!(state(&workers[1], "a"), (20, 80), "the prompt's share is limited by the smallest budget, too");
    }

    #[test]
    fn an_outdated_account_refuses_nothing() {
        let store = Memory::default();
        let workers = [1, 2].map(|instance| Ledger { store: &store, recent: Rc::default(), instance, now: NOW });
        let subjects = [subject("a", Some(100))];
        let budgets = budgets(&subjects);
        let permit = workers[0].reserve(&budgets, ask(90, 90)).unwrap();
        assert_eq!(state(&workers[1], "a"), (0, 90));
        assert_eq!(workers[0].settle(permit, 10), None);
        let permit = workers[1].reserve(&budgets, ask(90, 90)).expect("the remembered account has too few tokens");
        assert_eq!(state(&workers[0], "a"), (10, 90));
        assert_eq!(workers[1].settle(permit, 20), None);
        let permit = workers[0].reserve(&budgets, ask(5, 70)).unwrap();
        assert_eq!((permit.grant.tokens, state(&workers[1], "a")), (Some(70), (30, 70)));
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
        assert_eq!([0, 1].map(|index| account.record(index).unwrap().used), [0, 2]);
    }

    #[test]
    fn reservations_that_cannot_be_released_are_returned() {
        /// A store that accepts one write only.
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
        let rejected = ledger.reserve(&budgets(&subjects), ask(10, 80)).expect_err("b is too small");
        assert_eq!(rejected.refused, short(1, Shortfall::Exhausted));
        let left = rejected.left.expect("the reservation in a is left");
        assert_eq!(state(&ledger, "a"), (0, 80));
        let ledger = Ledger { store: &memory, ..ledger };
        assert_eq!(ledger.settle(left, 0), None);
        assert_eq!(state(&ledger, "a"), (0, 0));
    }

    #[test]
    fn invalid_bytes_in_the_store_are_an_error() {
        let store = Memory::default();
        assert!(store.set("a", b"rubbish", 0));
        let ledger = Ledger { store: &store, recent: Rc::default(), instance: 1, now: NOW };
        let subjects = [subject("a", Some(1))];
        assert_eq!(ledger.read(&subjects[0]), Err(Unavailable));
        assert_eq!(refused(ledger.reserve(&budgets(&subjects), ask(1, 1))), Refused::Unavailable(Unavailable));
    }
}
