//! The arithmetic of budgets: what is used and what is reserved in a window of time.
//!
//! A daily budget starts from zero at 00:00 UTC. A budget per minute drains all the time, its whole cap in a minute: a bucket
//! with a leak, which is GCRA with reservations on top.
//!
//! **Invariant**: `used + reserved ≤ cap` after every [`Account::reserve`], for any order of reserving and settling, as long as
//! no charge is higher than its reservation. A charge that is higher is kept as debt.

use crate::clock::Time;

/// Nanoseconds in which a budget per minute drains from its cap to nothing.
const MINUTE: u128 = 60_000_000_000;

/// Budgets of one subject at most.
pub const BUDGETS: usize = 3;

/// What one budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLimit {
    /// Tokens (or requests) in a window; `None`: use is counted and not bounded.
    pub cap: Option<u64>,
    /// The window.
    pub period: Period,
}

/// How a budget renews itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// All at once, at 00:00 UTC.
    Day,
    /// All the time, the whole cap in a minute.
    Minute,
}

/// Some of the budgets of a subject, by their places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetSet(u8);

/// The budgets of one subject as the ledger keeps them: together, so that they change together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// When the ledger first saw the subject, in seconds since 1970.
    pub first_seen: u64,
    /// When something was last charged or admitted, in seconds since 1970; 0 for never.
    pub last_used: u64,
    records: Vec<Record>,
}

/// One budget as the ledger keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Tokens settled in this window, and in one per minute not yet drained.
    pub used: u64,
    /// The day that the counts are of; in a budget per minute, the moment up to which it has drained.
    at: u64,
    /// In a budget per minute, the cap that it drains by: that of the configuration in force, whichever a request was admitted under.
    pace: u64,
    slots: Vec<Slot>,
}

/// What one instance of the filter (the VM of one worker) has reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    instance: u64,
    /// Tells this slot from an earlier one of the same instance, which may have been given up for dead.
    serial: u64,
    reserved: u64,
    /// The prompts' share of `reserved`.
    prompt: u64,
}

/// How many tokens a request wants to reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// What it makes do with.
    pub least: u64,
    /// What it would rather have.
    pub most: u64,
    /// The prompts' share.
    pub prompt: u64,
}

/// Reservations in the budgets of one subject, to be settled once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reservations([Option<Reservation>; BUDGETS]);

/// A reservation in one budget.
#[derive(Debug, PartialEq, Eq)]
struct Reservation {
    /// The day it was made in; 0 in a budget per minute.
    day: u64,
    /// Tokens reserved; 0 where the budget has no cap.
    tokens: u64,
    prompt: u64,
    instance: u64,
    serial: u64,
}

/// Why a budget does not hold an ask, the least serious reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Shortfall {
    /// Only the reservations of requests in flight stand in the way.
    #[error("reserved by requests in flight")]
    Reserved,
    /// Enough of it will have drained after so many nanoseconds.
    #[error("drained in {0} ns")]
    Drains(u64),
    /// It is spent until the day ends.
    #[error("spent")]
    Spent,
}

/// A budget, by its place in the account, and why it does not hold an ask.
pub type Short = (usize, Shortfall);

/// Bytes that are no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an account of budgets")]
pub struct InvalidAccount;

// === impl BudgetLimit ===

impl BudgetLimit {
    /// Tokens per UTC day.
    pub fn per_day(cap: Option<u64>) -> Self {
        Self { cap, period: Period::Day }
    }

    /// Tokens (or requests) per minute.
    pub fn per_minute(cap: Option<u64>) -> Self {
        Self { cap, period: Period::Minute }
    }

    /// Nanoseconds in which `tokens` drain.
    fn drain_time(self, tokens: u64) -> u64 {
        let cap = self.cap.unwrap_or(1).max(1);
        u64::try_from((u128::from(tokens) * MINUTE).div_ceil(u128::from(cap))).unwrap_or(u64::MAX)
    }
}

// === impl BudgetSet ===

impl BudgetSet {
    /// The budget at this place.
    pub const fn one(place: usize) -> Self {
        Self(1 << place)
    }

    /// With another one.
    #[must_use]
    pub const fn and(self, place: usize) -> Self {
        Self(self.0 | 1 << place)
    }

    /// Whether the budget at this place is chosen.
    pub const fn has(self, place: usize) -> bool {
        self.0 & 1 << place != 0
    }

    /// Whether none is chosen.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

// === impl Account ===

impl Account {
    const VERSION: u8 = 1;
    const RECORD: usize = 32;
    const SLOT: usize = 32;

    /// A subject that the ledger sees for the first time.
    pub fn new(limits: &[BudgetLimit], now: Time) -> Self {
        let record = |limit: &BudgetLimit| Record { at: limit.start(now), pace: limit.pace(), ..Record::default() };
        Self { first_seen: now.seconds(), last_used: 0, records: limits.iter().map(record).collect() }
    }

    /// The record of the budget at this place.
    pub fn record(&self, place: usize) -> Option<&Record> {
        self.records.get(place)
    }

    /// Brings every budget to the moment `now`, and to what `limits` allow. Time never goes backwards.
    pub fn roll(&mut self, limits: &[BudgetLimit], now: Time) {
        self.records.iter_mut().zip(limits).for_each(|(record, limit)| record.adopt(*limit, now));
    }

    /// Reserves as much of `ask` as every chosen budget has room for, or says which is short for the most serious reason.
    pub fn reserve(
        &mut self,
        limits: &[BudgetLimit],
        choice: BudgetSet,
        ask: Ask,
        instance: u64,
        now: Time,
    ) -> Result<Reservations, Short> {
        self.roll(limits, now);
        let mut most = ask.most;
        for (place, record, limit) in self.chosen(limits, choice) {
            most = most.min(limit.cap.map_or(u64::MAX, |cap| record.remaining(cap)));
            if record.shortfall(limit, ask.least, now).is_some() {
                return Err(self.most_serious(limits, choice, ask.least, now).unwrap_or((place, Shortfall::Reserved)));
            }
        }
        let ask = Ask { most, ..ask };
        let mut held = Reservations::default();
        for ((place, record), (limit, hold)) in self.records.iter_mut().enumerate().zip(limits.iter().zip(&mut held.0)) {
            if choice.has(place) {
                *hold = Some(record.hold(*limit, ask, instance, now));
            }
        }
        self.last_used = self.last_used.max(now.seconds());
        Ok(held)
    }

    /// The chosen budget that is short of `least` for the most serious reason.
    pub fn most_serious(&self, limits: &[BudgetLimit], choice: BudgetSet, least: u64, now: Time) -> Option<Short> {
        let short = |(place, record, limit): (usize, &Record, BudgetLimit)| Some((place, record.shortfall(limit, least, now)?));
        self.chosen(limits, choice).filter_map(short).max_by_key(|(_, shortfall)| *shortfall)
    }

    /// Replaces reservations by what was really used. One of another day, or of a slot that was given up, changes nothing.
    pub fn settle(&mut self, limits: &[BudgetLimit], held: &Reservations, charge: u64, now: Time) {
        self.last_used = self.last_used.max(now.seconds());
        for ((record, limit), hold) in self.records.iter_mut().zip(limits).zip(&held.0) {
            // The limits may be of a configuration that is no longer in force.
            record.roll(*limit, now);
            if let Some(hold) = hold {
                record.settle(*limit, hold, charge);
            }
        }
    }

    /// Keeps `tokens` of each reservation and gives back the rest; [`Reservations::shrink`] does the same to the other side.
    pub fn shrink(&mut self, limits: &[BudgetLimit], held: &Reservations, tokens: u64) {
        for ((record, limit), hold) in self.records.iter_mut().zip(limits).zip(&held.0) {
            if let Some(hold) = hold {
                record.shrink(*limit, hold, tokens);
            }
        }
    }

    /// Gives up the reservations of every instance for which `dead` holds: what their prompts were reckoned at is charged.
    pub fn reap(&mut self, dead: impl Fn(u64) -> bool) -> bool {
        self.records.iter_mut().fold(false, |any, record| record.reap(&dead) | any)
    }

    fn chosen<'a>(
        &'a self,
        limits: &'a [BudgetLimit],
        choice: BudgetSet,
    ) -> impl Iterator<Item = (usize, &'a Record, BudgetLimit)> {
        let all = self.records.iter().zip(limits).enumerate();
        all.filter(move |(place, _)| choice.has(*place)).map(|(place, (record, limit))| (place, record, *limit))
    }

    /// The account as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let slots: usize = self.records.iter().map(|record| record.slots.len()).sum();
        let mut bytes = Vec::with_capacity(17 + self.records.len() * Self::RECORD + slots * Self::SLOT);
        bytes.push(Self::VERSION);
        let mut push = |word: u64| bytes.extend_from_slice(&word.to_le_bytes());
        push(self.first_seen);
        push(self.last_used);
        for record in &self.records {
            push(record.used);
            push(record.at);
            push(record.pace);
            push(record.slots.len() as u64);
            for slot in &record.slots {
                [slot.instance, slot.serial, slot.reserved, slot.prompt].into_iter().for_each(&mut push);
            }
        }
        bytes
    }

    /// Reads what [`Account::encode`] wrote for as many budgets.
    pub fn decode(bytes: &[u8], budgets: usize) -> Result<Self, InvalidAccount> {
        let (&version, words) = bytes.split_first().ok_or(InvalidAccount)?;
        let mut words = Words(words);
        if version != Self::VERSION {
            return Err(InvalidAccount);
        }
        let [first_seen, last_used] = words.take()?;
        let records = (0..budgets).map(|_| words.record()).collect::<Result<_, _>>()?;
        if words.0.is_empty() { Ok(Self { first_seen, last_used, records }) } else { Err(InvalidAccount) }
    }
}

/// Little-endian words still to be read.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u64; N], InvalidAccount> {
        let (taken, rest) = self.0.split_at_checked(N * 8).ok_or(InvalidAccount)?;
        self.0 = rest;
        let mut words = taken.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        Ok(std::array::from_fn(|_| words.next().unwrap_or(0)))
    }

    fn record(&mut self) -> Result<Record, InvalidAccount> {
        let [used, at, pace, slots] = self.take()?;
        // More than there are bytes for is found out before anything is allocated.
        let slots = usize::try_from(slots).ok().filter(|&slots| slots <= self.0.len() / Account::SLOT).ok_or(InvalidAccount)?;
        let slot = |_| self.take().map(|[instance, serial, reserved, prompt]| Slot { instance, serial, reserved, prompt });
        Ok(Record { used, at, pace, slots: (0..slots).map(slot).collect::<Result<_, _>>()? })
    }
}

// === impl Record ===

impl Record {
    /// Tokens reserved and not yet settled.
    pub fn reserved(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(slot.reserved))
    }

    /// Tokens that are neither used nor reserved.
    pub fn remaining(&self, cap: u64) -> u64 {
        cap.saturating_sub(self.used).saturating_sub(self.reserved())
    }

    /// Whole seconds until all of the budget is there again, if what is reserved is used; rounded up.
    pub fn reset(&self, limit: BudgetLimit, now: Time) -> u64 {
        match limit.period {
            Period::Day => now.seconds_to_midnight(),
            Period::Minute => {
                let whole = limit.drain_time(self.used.saturating_add(self.reserved()));
                whole.saturating_sub(now.since(Time(self.at))).div_ceil(1_000_000_000)
            }
        }
    }

    /// Rolls, and goes on at the pace of `limit`. Where that has changed, no more is used than the new cap: a rate that was lowered
    /// must not have to drain for hours.
    fn adopt(&mut self, limit: BudgetLimit, now: Time) {
        self.roll(limit, now);
        let pace = limit.pace();
        if pace != self.pace {
            self.pace = pace;
            self.used = self.used.min(limit.cap.unwrap_or(self.used));
        }
    }

    fn roll(&mut self, limit: BudgetLimit, now: Time) {
        match limit.period {
            Period::Day if limit.start(now) > self.at => {
                *self = Self { at: limit.start(now), ..Self::default() };
            }
            Period::Day => {}
            Period::Minute => self.drain(BudgetLimit::per_minute(Some(self.pace)), now),
        }
    }

    /// Whole tokens drain; the time in which a part of one has stays for the next look.
    fn drain(&mut self, limit: BudgetLimit, now: Time) {
        // A clock that was wrong and is put right must not stop the drain until the time that it had told.
        let ahead = self.at.saturating_sub(now.0);
        if u128::from(ahead) > MINUTE {
            self.at = now.0;
        }
        let elapsed = now.since(Time(self.at));
        let drained = u64::try_from(u128::from(elapsed) * u128::from(self.pace) / MINUTE).unwrap_or(u64::MAX);
        if drained >= self.used {
            self.used = 0;
            self.at = self.at.max(now.0);
        } else {
            self.used -= drained;
            self.at = self.at.saturating_add(limit.drain_time(drained));
        }
    }

    fn shortfall(&self, limit: BudgetLimit, least: u64, now: Time) -> Option<Shortfall> {
        let cap = limit.cap?;
        if self.remaining(cap) >= least {
            return None;
        }
        let missing = self.used.saturating_add(least).saturating_sub(cap);
        match limit.period {
            _ if missing == 0 => Some(Shortfall::Reserved),
            Period::Day => Some(Shortfall::Spent),
            Period::Minute => Some(Shortfall::Drains(limit.drain_time(missing).saturating_sub(now.since(Time(self.at))))),
        }
    }

    fn hold(&mut self, limit: BudgetLimit, ask: Ask, instance: u64, now: Time) -> Reservation {
        let day = self.day(limit);
        if limit.cap.is_none() {
            return Reservation { day, tokens: 0, prompt: 0, instance, serial: 0 };
        }
        let (tokens, prompt) = (ask.most, ask.prompt.min(ask.most));
        let serial = match self.slots.iter_mut().find(|slot| slot.instance == instance) {
            Some(slot) => {
                slot.reserved = slot.reserved.saturating_add(tokens);
                slot.prompt = slot.prompt.saturating_add(prompt);
                slot.serial
            }
            None => {
                self.slots.push(Slot { instance, serial: now.0, reserved: tokens, prompt });
                now.0
            }
        };
        Reservation { day, tokens, prompt, instance, serial }
    }

    fn settle(&mut self, limit: BudgetLimit, hold: &Reservation, charge: u64) {
        let counts = hold.day == self.day(limit) && (hold.tokens == 0 || self.release(hold));
        if counts {
            self.used = self.used.saturating_add(charge);
        }
    }

    fn shrink(&mut self, limit: BudgetLimit, hold: &Reservation, tokens: u64) {
        let today = hold.day == self.day(limit);
        if let Some(slot) = self.slots.iter_mut().find(|slot| today && slot.is_of(hold)) {
            slot.reserved = slot.reserved.saturating_sub(hold.tokens.saturating_sub(tokens));
            slot.prompt = slot.prompt.saturating_sub(hold.prompt.saturating_sub(tokens));
        }
    }

    fn reap(&mut self, dead: &impl Fn(u64) -> bool) -> bool {
        let before = self.slots.len();
        let prompts = self.slots.iter().filter(|slot| dead(slot.instance)).fold(0u64, |sum, slot| sum.saturating_add(slot.prompt));
        self.slots.retain(|slot| !dead(slot.instance));
        self.used = self.used.saturating_add(prompts);
        self.slots.len() != before
    }

    fn release(&mut self, hold: &Reservation) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_of(hold)) else { return false };
        slot.reserved = slot.reserved.saturating_sub(hold.tokens);
        slot.prompt = slot.prompt.saturating_sub(hold.prompt);
        self.slots.retain(|slot| slot.reserved > 0);
        true
    }

    /// The day that the counts are of. A budget per minute has no days.
    fn day(&self, limit: BudgetLimit) -> u64 {
        match limit.period {
            Period::Day => self.at,
            Period::Minute => 0,
        }
    }
}

impl BudgetLimit {
    /// What [`Record::pace`] is under this limit.
    fn pace(self) -> u64 {
        match self.period {
            Period::Day => 0,
            Period::Minute => self.cap.unwrap_or(0),
        }
    }

    /// What [`Record::at`] is in a window that begins now.
    fn start(self, now: Time) -> u64 {
        match self.period {
            Period::Day => now.day().0.into(),
            Period::Minute => now.0,
        }
    }
}

// === impl Slot ===

impl Slot {
    fn is_of(&self, hold: &Reservation) -> bool {
        self.instance == hold.instance && self.serial == hold.serial
    }
}

// === impl Reservations ===

impl Reservations {
    /// Tokens that the budgets with a cap hold; `None` where none has one.
    pub fn tokens(&self, limits: &[BudgetLimit]) -> Option<u64> {
        let capped = self.0.iter().zip(limits).filter(|(_, limit)| limit.cap.is_some());
        capped.filter_map(|(hold, _)| hold.as_ref()).map(|hold| hold.tokens).min()
    }

    /// Holds no more than `tokens` of each budget.
    pub fn shrink(&mut self, tokens: u64) {
        for hold in self.0.iter_mut().flatten() {
            hold.tokens = hold.tokens.min(tokens);
            hold.prompt = hold.prompt.min(tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(target_arch = "wasm32"))]
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOON: Time = Time(43_200_000_000_000);
    const NEXT_DAY: Time = Time(86_400_000_000_001);
    const DAILY: [BudgetLimit; 1] = [BudgetLimit { cap: Some(100), period: Period::Day }];
    const RATE: [BudgetLimit; 1] = [BudgetLimit { cap: Some(60), period: Period::Minute }];
    const FIRST: BudgetSet = BudgetSet::one(0);

    fn ask(least: u64, most: u64) -> Ask {
        Ask { least, most, prompt: 10 }
    }

    fn after(seconds: f64) -> Time {
        Time(NOON.0 + (seconds * 1e9) as u64)
    }

    fn reserve(
        account: &mut Account,
        limits: &[BudgetLimit],
        ask: Ask,
        instance: u64,
        now: Time,
    ) -> Result<Reservations, Shortfall> {
        account.reserve(limits, FIRST, ask, instance, now).map_err(|(_, shortfall)| shortfall)
    }

    /// Used, reserved and remaining of the first budget.
    fn state(account: &Account, limits: &[BudgetLimit]) -> (u64, u64, u64) {
        let record = account.record(0).unwrap();
        (record.used, record.reserved(), record.remaining(limits[0].cap.unwrap()))
    }

    #[test]
    fn a_reservation_becomes_a_charge() {
        let mut account = Account::new(&DAILY, NOON);
        let held = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        assert_eq!(state(&account, &DAILY), (0, 60, 40));
        account.settle(&DAILY, &held, 25, NOON);
        assert_eq!(state(&account, &DAILY), (25, 0, 75));
    }

    #[test]
    fn shortfalls_say_whether_waiting_helps() {
        let mut account = Account::new(&DAILY, NOON);
        let held = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        assert_eq!(reserve(&mut account, &DAILY, ask(41, 50), 2, NOON), Err(Shortfall::Reserved));
        let other = reserve(&mut account, &DAILY, ask(20, 50), 2, NOON).unwrap();
        assert_eq!(other.tokens(&DAILY), Some(40), "it takes what is left");
        account.settle(&DAILY, &held, 60, NOON);
        assert_eq!(reserve(&mut account, &DAILY, ask(41, 50), 2, NOON), Err(Shortfall::Spent));
    }

    #[test]
    fn debt_is_kept() {
        let mut account = Account::new(&DAILY, NOON);
        let held = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        account.settle(&DAILY, &held, 150, NOON);
        assert_eq!(state(&account, &DAILY), (150, 0, 0));
    }

    #[test]
    fn a_reservation_of_yesterday_settles_into_yesterday() {
        let mut account = Account::new(&DAILY, NOON);
        let held = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        let today = reserve(&mut account, &DAILY, ask(100, 100), 1, NEXT_DAY).unwrap();
        account.settle(&DAILY, &held, 60, NEXT_DAY);
        assert_eq!(state(&account, &DAILY), (0, 100, 0));
        account.settle(&DAILY, &today, 7, NOON);
        assert_eq!(state(&account, &DAILY), (7, 0, 93), "the day never goes backwards");
    }

    #[test]
    fn the_dead_give_back_all_but_their_prompts() {
        let mut account = Account::new(&DAILY, NOON);
        let late = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        assert!(account.reap(|instance| instance == 1));
        assert_eq!(state(&account, &DAILY), (10, 0, 90));
        let again = reserve(&mut account, &DAILY, ask(30, 30), 1, Time(NOON.0 + 1)).unwrap();
        account.settle(&DAILY, &late, 60, NOON);
        assert_eq!(state(&account, &DAILY), (10, 30, 60), "a late settle changes nothing");
        account.settle(&DAILY, &again, 5, NOON);
        assert_eq!(state(&account, &DAILY), (15, 0, 85));
    }

    #[test]
    fn a_rate_drains_and_says_when() {
        let mut account = Account::new(&RATE, NOON);
        let held = reserve(&mut account, &RATE, ask(50, 50), 1, NOON).unwrap();
        assert_eq!(
            reserve(&mut account, &RATE, ask(20, 20), 1, after(30.0)),
            Err(Shortfall::Reserved),
            "a reservation does not drain"
        );
        account.settle(&RATE, &held, 50, after(30.0));
        assert_eq!(reserve(&mut account, &RATE, ask(20, 20), 1, after(30.0)), Err(Shortfall::Drains(10_000_000_000)));
        assert_eq!(account.record(0).unwrap().reset(RATE[0], after(30.0)), 50);
        assert_eq!(reserve(&mut account, &RATE, ask(20, 20), 1, after(39.9)), Err(Shortfall::Drains(100_000_000)));
        assert!(reserve(&mut account, &RATE, ask(20, 20), 1, after(40.0)).is_ok());
        assert_eq!(state(&account, &RATE), (40, 20, 0));
        account.roll(&RATE, after(1e6));
        assert_eq!(state(&account, &RATE), (0, 20, 40));
        account.roll(&RATE, NOON);
        assert_eq!(state(&account, &RATE), (0, 20, 40), "time does not go backwards");
    }

    #[test]
    fn a_rate_of_requests_is_a_burst_and_then_one_at_a_time() {
        for cap in [1, 3, 7, 60, 1000] {
            let limits = [BudgetLimit::per_minute(Some(cap))];
            let mut account = Account::new(&limits, NOON);
            let mut now = NOON;
            let mut take = |now: Time| {
                let held = account.reserve(&limits, FIRST, Ask { least: 1, most: 1, prompt: 0 }, 1, now);
                held.map(|held| account.settle(&limits, &held, 1, now))
            };
            (0..cap).for_each(|_| take(now).unwrap());
            for _ in 0..3 * cap {
                let Err((0, Shortfall::Drains(wait))) = take(now) else { panic!("{cap} a minute: one too many at {now:?}") };
                assert!(wait <= 60_000_000_000 / cap + 1);
                assert!(take(Time(now.0 + wait - 1)).is_err(), "{cap} a minute");
                now.0 += wait;
                take(now).unwrap();
            }
            let minutes = (now.0 - NOON.0) as f64 / 6e10;
            assert!((2.99..3.01).contains(&minutes), "{cap} a minute: thrice as many took {minutes} minutes");
        }
    }

    #[test]
    fn a_rate_goes_at_the_pace_of_the_configuration_in_force() {
        let [fast, slow] = [6000, 60].map(|cap| [BudgetLimit::per_minute(Some(cap))]);
        let mut account = Account::new(&fast, NOON);
        let held = reserve(&mut account, &fast, ask(6000, 6000), 1, NOON).unwrap();
        account.settle(&fast, &held, 6000, NOON);
        assert_eq!(
            reserve(&mut account, &slow, ask(1, 1), 1, NOON),
            Err(Shortfall::Drains(1_000_000_000)),
            "a full bucket, no more"
        );

        let mut account = Account::new(&fast, NOON);
        let mut old: Vec<Reservations> = (0..10).map(|_| reserve(&mut account, &fast, ask(100, 100), 1, NOON).unwrap()).collect();
        let mut admitted = 0;
        for second in 1..=20 {
            let now = after(f64::from(second));
            old.pop().into_iter().for_each(|held| account.settle(&fast, &held, 0, now));
            while let Ok(held) = reserve(&mut account, &slow, ask(10, 10), 2, now) {
                account.settle(&slow, &held, 10, now);
                admitted += 10;
            }
        }
        assert!(admitted <= 60 + 20, "{admitted}: what was admitted before does not drain the new rate at the old pace");
        assert!(admitted >= 60, "{admitted}");
    }

    #[test]
    fn a_clock_that_was_wrong_stops_no_rate() {
        let mut account = Account::new(&RATE, NEXT_DAY);
        let held = reserve(&mut account, &RATE, ask(60, 60), 1, NEXT_DAY).unwrap();
        account.settle(&RATE, &held, 60, NEXT_DAY);
        assert!(reserve(&mut account, &RATE, ask(1, 1), 1, NOON).is_err());
        assert!(reserve(&mut account, &RATE, ask(1, 1), 1, after(1.0)).is_ok(), "it drains from when the clock was put right");
    }

    #[test]
    fn all_chosen_budgets_of_a_subject_hold_or_none() {
        let limits = [BudgetLimit::per_day(Some(100)), BudgetLimit::per_minute(Some(50)), BudgetLimit::per_minute(Some(2))];
        let both = BudgetSet::one(0).and(1);
        let mut account = Account::new(&limits, NOON);
        let held = account.reserve(&limits, both, ask(10, 80), 1, NOON).unwrap();
        assert_eq!(held.tokens(&limits), Some(50), "what the smallest has room for");
        let reserved = |account: &Account| [0, 1, 2].map(|place| account.record(place).unwrap().reserved());
        assert_eq!(reserved(&account), [50, 50, 0]);
        let before = account.clone();
        assert_eq!(account.reserve(&limits, both, ask(10, 80), 1, NOON), Err((1, Shortfall::Reserved)));
        assert_eq!(account, before);
        account.settle(&limits, &held, 95, NOON);
        assert_eq!(account.reserve(&limits, both, ask(10, 80), 1, NOON), Err((0, Shortfall::Spent)), "the most serious is told");
    }

    #[test]
    fn accounts_survive_encoding_and_rubbish_does_not() {
        let limits = [BudgetLimit::per_day(Some(100)), BudgetLimit::per_minute(Some(50))];
        let mut account = Account::new(&limits, NOON);
        assert_eq!(Account::decode(&account.encode(), 2), Ok(account.clone()));
        account.reserve(&limits, FIRST.and(1), ask(1, 5), 7, NOON).unwrap();
        account.reserve(&limits, FIRST, ask(1, 5), 8, NOON).unwrap();
        let bytes = account.encode();
        assert_eq!(Account::decode(&bytes, 2), Ok(account));
        for budgets in [0, 1, 3] {
            assert_eq!(Account::decode(&bytes, budgets), Err(InvalidAccount));
        }
        for cut in 0..bytes.len() {
            assert_eq!(Account::decode(&bytes[..cut], 2), Err(InvalidAccount), "cut at {cut}");
        }
        let mut absurd = bytes;
        absurd[41..49].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Account::decode(&absurd, 2), Err(InvalidAccount));
    }

    /// What an account should hold, told by a list of live reservations and sums.
    #[cfg(not(target_arch = "wasm32"))]
    #[derive(Default)]
    struct Twin {
        live: Vec<(Reservations, u64, u64)>,
        used: [u64; 2],
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest! {
        /// Against a naive twin. Both budgets have the same reservations; the second drains, by one token each step.
        #[test]
        fn the_invariant_holds_in_every_interleaving(
            caps in [1u64..1000, 1u64..1000],
            steps in prop::collection::vec((0u8..4, 0u64..4, 0u64..400, 0u64..400, any::<prop::sample::Index>()), 1..80),
        ) {
            let limits = [BudgetLimit::per_day(Some(caps[0])), BudgetLimit::per_minute(Some(caps[1]))];
            let mut account = Account::new(&limits, NOON);
            let mut twin = Twin::default();
            let step = limits[1].drain_time(1);
            let mut now = NOON;
            for (what, instance, a, b, pick) in steps {
                now.0 += step;
                twin.used[1] = twin.used[1].saturating_sub(1);
                account.roll(&limits, now);
                match what {
                    0 | 1 => {
                        let ask = Ask { least: a.min(b).max(1), most: a.max(b).max(1), prompt: a / 2 };
                        let reserved: u64 = twin.live.iter().map(|(_, tokens, _)| tokens).sum();
                        let room = [0, 1].map(|at| caps[at].saturating_sub(twin.used[at]).saturating_sub(reserved));
                        match account.reserve(&limits, FIRST.and(1), ask, instance, now) {
                            Ok(held) => {
                                let tokens = ask.most.min(room[0]).min(room[1]);
                                prop_assert_eq!(held.tokens(&limits), Some(tokens));
                                twin.live.push((held, tokens, instance));
                            }
                            Err((0, Shortfall::Spent)) => prop_assert!(twin.used[0] + ask.least > caps[0]),
                            Err((1, Shortfall::Drains(_))) => prop_assert!(twin.used[1] + ask.least > caps[1]),
                            Err((at, Shortfall::Reserved)) => {
                                prop_assert!(room[at] < ask.least && twin.used[at] + ask.least <= caps[at]);
                            }
                            Err(short) => prop_assert!(false, "{:?}", short),
                        }
                    }
                    2 if !twin.live.is_empty() => {
                        let (held, tokens, _) = twin.live.swap_remove(pick.index(twin.live.len()));
                        account.settle(&limits, &held, a.min(tokens), now);
                        twin.used.iter_mut().for_each(|used| *used += a.min(tokens));
                    }
                    3 => {
                        account.reap(|dead| dead == instance);
                        let (dead, alive): (Vec<_>, Vec<_>) = twin.live.into_iter().partition(|(.., of)| *of == instance);
                        twin.live = alive;
                        for (held, ..) in dead {
                            let prompt = held.0[0].as_ref().unwrap().prompt;
                            twin.used.iter_mut().for_each(|used| *used += prompt);
                            account.settle(&limits, &held, 1000, now);
                        }
                    }
                    _ => {}
                }
                let reserved: u64 = twin.live.iter().map(|(_, tokens, _)| tokens).sum();
                for at in [0, 1] {
                    let record = account.record(at).unwrap();
                    prop_assert_eq!((record.used, record.reserved()), (twin.used[at], reserved), "budget {}", at);
                    prop_assert!(record.used + reserved <= caps[at]);
                }
                prop_assert_eq!(Account::decode(&account.encode(), 2), Ok(account.clone()));
            }
        }
    }
}
