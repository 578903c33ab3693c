//! The arithmetic of budgets: the tokens used and reserved in the current period.
//!
//! A daily budget resets at 00:00 UTC. A budget per minute is a leaky bucket: it drains continuously, its whole cap in one minute.
//! This is GCRA with reservations on top.
//!
//! **Invariant**: `used + reserved ≤ cap` after every [`Account::reserve`], for any order of reserving and settling, as long as
//! no charge exceeds its reservation. A charge that exceeds it is kept as overage.

use crate::clock::Time;

/// The nanoseconds in which a budget per minute drains from its cap to 0.
const MINUTE: u128 = 60_000_000_000;

/// The maximum number of budgets of one subject.
pub const BUDGETS: usize = 3;

/// The limit of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLimit {
    /// The maximum number of tokens (or requests) in a period; `None` if usage is counted but not limited.
    pub cap: Option<u64>,
    /// The period.
    pub period: Period,
}

/// The period of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A UTC day. The budget resets at 00:00 UTC.
    Day,
    /// A minute. The budget drains continuously, its whole cap in a minute.
    Minute,
}

/// A set of budgets of one subject, by their indices in the account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetSet(u8);

/// The budgets of one subject as the ledger stores them: together, so that they are changed atomically.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// When the account was created, in seconds since 1970.
    pub first_seen: u64,
    /// When a request was last admitted or charged, in seconds since 1970; 0 for never.
    pub last_used: u64,
    records: Vec<Record>,
}

/// One budget as the ledger stores it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The tokens charged in this period; in a budget per minute, those that have not drained yet.
    pub used: u64,
    /// The day that the counts belong to; in a budget per minute, the time up to which it has drained, in nanoseconds since 1970.
    at: u64,
    /// In a budget per minute, the tokens that drain in a minute: the cap of the current configuration, whichever configuration
    /// admitted the request.
    drain_rate: u64,
    slots: Vec<Slot>,
}

/// The reservations of one instance of the filter (the VM of one worker).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    instance: u64,
    /// Distinguishes this slot from an earlier one of the same instance, which may have been released because the instance seemed
    /// dead.
    serial: u64,
    reserved: u64,
    /// The part of `reserved` that is for prompts.
    prompt: u64,
}

/// The number of tokens that a request reserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The least number of tokens to reserve. If fewer remain, nothing is reserved.
    pub least: u64,
    /// The number of tokens to reserve if they remain.
    pub most: u64,
    /// The part of `most` that is for prompts.
    pub prompt: u64,
    /// How much of a budget a request may take that sets no limit; `None` if it may take all that remains.
    pub share: Option<Share>,
}

/// The part of a budget that a request without a limit may take, so that it does not keep others out: an eighth of what remains beside
/// its prompt, but at least `floor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The number of completion tokens that the request may take even if they are more than an eighth.
    pub floor: u64,
    /// What to reserve if every budget has plenty left.
    pub ample: Option<Ample>,
}

/// A smaller reservation for a request whose share of every budget is so large that it need not be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ample {
    /// The number of completion tokens from which a share is large.
    pub from: u64,
    /// The number of tokens to reserve, the prompt's included.
    pub tokens: u64,
}

/// Reservations in the budgets of one subject, to be settled once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reservations([Option<Reservation>; BUDGETS]);

/// A reservation in one budget.
#[derive(Debug, PartialEq, Eq)]
struct Reservation {
    /// The day of the reservation; 0 in a budget per minute.
    day: u64,
    /// The tokens reserved; 0 if the budget has no cap.
    tokens: u64,
    prompt: u64,
    instance: u64,
    serial: u64,
}

/// Why too few tokens remain in a budget, the least serious reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Shortfall {
    /// Requests in flight have reserved the tokens.
    #[error("reserved by requests in flight")]
    Reserved,
    /// Enough tokens will have drained after this number of nanoseconds.
    #[error("drained in {0} ns")]
    Drains(u64),
    /// The budget is exhausted until 00:00 UTC.
    #[error("exhausted")]
    Exhausted,
}

/// The index of a budget in the account, and why too few tokens remain in it.
pub type Short = (usize, Shortfall);

/// The bytes are not an encoded account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an account of budgets")]
pub struct InvalidAccount;

// === impl BudgetLimit ===

impl BudgetLimit {
    /// Creates a limit of tokens per UTC day.
    pub fn per_day(cap: Option<u64>) -> Self {
        Self { cap, period: Period::Day }
    }

    /// Creates a limit of tokens (or requests) per minute.
    pub fn per_minute(cap: Option<u64>) -> Self {
        Self { cap, period: Period::Minute }
    }

    /// Returns the nanoseconds in which `tokens` drain.
    fn drain_time(self, tokens: u64) -> u64 {
        let cap = self.cap.unwrap_or(1).max(1);
        u64::try_from((u128::from(tokens) * MINUTE).div_ceil(u128::from(cap))).unwrap_or(u64::MAX)
    }
}

// === impl Ask ===

impl Ask {
    /// The part of what remains that a request without a limit may take: one in this number.
    const SHARE: u64 = 8;
    /// The part of a rate that has to remain for a request without a limit: one in this number.
    const RATE_PART: u64 = 4;

    /// Creates an ask for this number of tokens, no fewer.
    pub fn whole(tokens: u64, prompt: u64) -> Self {
        Self { least: tokens, most: tokens, prompt, share: None }
    }

    /// Returns the number of tokens to reserve.
    pub fn tokens(&self) -> u64 {
        self.ample().map_or(self.most, |ample| ample.tokens)
    }

    /// Returns the smaller reservation, if the share of every budget so far is large.
    pub fn ample(&self) -> Option<Ample> {
        self.share.and_then(|share| share.ample)
    }

    /// Returns the least number of tokens that must remain in a budget with this limit. A rate refills within a minute: rather than cut an
    /// answer short, the request waits for it.
    fn least_in(&self, limit: BudgetLimit) -> u64 {
        match (self.share, limit) {
            (Some(share), BudgetLimit { cap: Some(cap), period: Period::Minute }) => {
                let completion = share.floor.min(cap / Self::RATE_PART);
                self.least.max(self.prompt.saturating_add(completion).min(self.most))
            }
            _ => self.least,
        }
    }

    /// Lowers the ask to what the request may take of a budget in which this number of tokens remains.
    fn narrow(&mut self, remaining: u64) {
        let mut most = remaining;
        if let Some(share) = &mut self.share {
            let completion = (remaining.saturating_sub(self.prompt) / Self::SHARE).max(share.floor);
            most = most.min(self.prompt.saturating_add(completion));
            let from = |ample: &Ample| self.prompt.saturating_add(ample.from);
            share.ample = share.ample.filter(|ample| most >= from(ample));
        }
        self.most = self.most.min(most);
    }
}

// === impl BudgetSet ===

impl BudgetSet {
    /// Creates the set that contains only the budget at this index.
    pub const fn one(index: usize) -> Self {
        Self(1 << index)
    }

    /// Adds the budget at this index.
    #[must_use]
    pub const fn and(self, index: usize) -> Self {
        Self(self.0 | 1 << index)
    }

    /// Returns whether the set contains the budget at this index.
    pub const fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

// === impl Account ===

impl Account {
    const VERSION: u8 = 1;
    const RECORD: usize = 32;
    const SLOT: usize = 32;

    /// Creates the account of a subject that the ledger does not contain.
    pub fn new(limits: &[BudgetLimit], now: Time) -> Self {
        let record = |limit: &BudgetLimit| Record { at: limit.start(now), drain_rate: limit.drain_rate(), ..Record::default() };
        Self { first_seen: now.seconds(), last_used: 0, records: limits.iter().map(record).collect() }
    }

    /// Returns the record of the budget at this index.
    pub fn record(&self, index: usize) -> Option<&Record> {
        self.records.get(index)
    }

    /// Advances every budget to the time `now` and applies `limits`. Time never moves backwards.
    pub fn roll(&mut self, limits: &[BudgetLimit], now: Time) {
        self.records.iter_mut().zip(limits).for_each(|(record, limit)| record.adopt(*limit, now));
    }

    /// Reserves as much of `ask` as it may take of all chosen budgets. Returns the ask with what these budgets leave of it: fewer tokens,
    /// and no [`Ample`] if the share of one is not large. If less than the least remains in one, reserves nothing and returns the budget
    /// with the most serious shortfall.
    pub fn reserve(
        &mut self,
        limits: &[BudgetLimit],
        choice: BudgetSet,
        ask: Ask,
        instance: u64,
        now: Time,
    ) -> Result<(Reservations, Ask), Short> {
        for ((index, record), limit) in self.records.iter_mut().enumerate().zip(limits) {
            // The other budgets may have limits of a newer configuration.
            if choice.has(index) { record.adopt(*limit, now) } else { record.roll(*limit, now) }
        }
        let mut left = ask;
        for (index, record, limit) in self.chosen(limits, choice) {
            let Some(cap) = limit.cap else { continue };
            if record.shortfall(limit, ask.least_in(limit), now).is_some() {
                return Err(self.most_serious(limits, choice, ask, now).unwrap_or((index, Shortfall::Reserved)));
            }
            left.narrow(record.remaining(cap));
        }
        let tokens = left.tokens();
        let mut reservations = Reservations::default();
        for ((index, record), (limit, reservation)) in
            self.records.iter_mut().enumerate().zip(limits.iter().zip(&mut reservations.0))
        {
            if choice.has(index) {
                *reservation = Some(record.reserve(*limit, tokens, ask.prompt, instance, now));
            }
        }
        self.last_used = self.last_used.max(now.seconds());
        Ok((reservations, left))
    }

    /// Returns the chosen budget with the most serious shortfall of the least that `ask` needs; `None` if all have enough.
    pub fn most_serious(&self, limits: &[BudgetLimit], choice: BudgetSet, ask: Ask, now: Time) -> Option<Short> {
        let short = |(index, record, limit): (usize, &Record, BudgetLimit)| {
            Some((index, record.shortfall(limit, ask.least_in(limit), now)?))
        };
        self.chosen(limits, choice).filter_map(short).max_by_key(|(_, shortfall)| *shortfall)
    }

    /// Replaces reservations by the tokens used. A reservation of another day, or of a slot that was released, changes nothing.
    pub fn settle(&mut self, limits: &[BudgetLimit], reservations: &Reservations, charge: u64, now: Time) {
        self.last_used = self.last_used.max(now.seconds());
        for ((record, limit), reservation) in self.records.iter_mut().zip(limits).zip(&reservations.0) {
            // The limits may belong to an earlier configuration.
            record.roll(*limit, now);
            if let Some(reservation) = reservation {
                record.settle(*limit, reservation, charge);
            }
        }
    }

    /// Lowers each reservation to `tokens` and releases the remainder. The caller applies [`Reservations::shrink`] as well.
    pub fn shrink(&mut self, limits: &[BudgetLimit], reservations: &Reservations, tokens: u64) {
        for ((record, limit), reservation) in self.records.iter_mut().zip(limits).zip(&reservations.0) {
            if let Some(reservation) = reservation {
                record.shrink(*limit, reservation, tokens);
            }
        }
    }

    /// Releases the reservations of every instance for which `dead` returns true, and charges the estimates of their prompts.
    /// Returns whether anything changed.
    pub fn reap(&mut self, dead: impl Fn(u64) -> bool) -> bool {
        self.records.iter_mut().fold(false, |any, record| record.reap(&dead) | any)
    }

    fn chosen<'a>(
        &'a self,
        limits: &'a [BudgetLimit],
        choice: BudgetSet,
    ) -> impl Iterator<Item = (usize, &'a Record, BudgetLimit)> {
        let all = self.records.iter().zip(limits).enumerate();
        all.filter(move |(index, _)| choice.has(*index)).map(|(index, (record, limit))| (index, record, *limit))
    }

    /// Encodes the account.
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
            push(record.drain_rate);
            push(record.slots.len() as u64);
            for slot in &record.slots {
                [slot.instance, slot.serial, slot.reserved, slot.prompt].into_iter().for_each(&mut push);
            }
        }
        bytes
    }

    /// Decodes the output of [`Account::encode`] for an account with this number of budgets.
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

/// The little-endian words that have not been read yet.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u64; N], InvalidAccount> {
        let (taken, rest) = self.0.split_at_checked(N * 8).ok_or(InvalidAccount)?;
        self.0 = rest;
        let mut words = taken.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        Ok(std::array::from_fn(|_| words.next().unwrap_or(0)))
    }

    fn record(&mut self) -> Result<Record, InvalidAccount> {
        let [used, at, drain_rate, slots] = self.take()?;
        // The count is checked against the number of bytes before anything is allocated.
        let slots = usize::try_from(slots).ok().filter(|&slots| slots <= self.0.len() / Account::SLOT).ok_or(InvalidAccount)?;
        let slot = |_| self.take().map(|[instance, serial, reserved, prompt]| Slot { instance, serial, reserved, prompt });
        Ok(Record { used, at, drain_rate, slots: (0..slots).map(slot).collect::<Result<_, _>>()? })
    }
}

// === impl Record ===

impl Record {
    /// Returns the tokens that are reserved and not yet settled.
    pub fn reserved(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(slot.reserved))
    }

    /// Returns the tokens that are neither used nor reserved.
    pub fn remaining(&self, cap: u64) -> u64 {
        cap.saturating_sub(self.used).saturating_sub(self.reserved())
    }

    /// Returns the seconds until the whole budget is available again if all reserved tokens are used, rounded up.
    pub fn reset(&self, limit: BudgetLimit, now: Time) -> u64 {
        match limit.period {
            Period::Day => now.seconds_to_midnight(),
            Period::Minute => {
                let whole = limit.drain_time(self.used.saturating_add(self.reserved()));
                whole.saturating_sub(now.since(Time(self.at))).div_ceil(1_000_000_000)
            }
        }
    }

    /// Advances the record to `now` and applies the drain rate of `limit`. If the rate has changed, the used tokens are reduced to
    /// the new cap: a budget whose rate was lowered must not drain for hours.
    fn adopt(&mut self, limit: BudgetLimit, now: Time) {
        self.roll(limit, now);
        let drain_rate = limit.drain_rate();
        if drain_rate != self.drain_rate {
            self.drain_rate = drain_rate;
            self.used = self.used.min(limit.cap.unwrap_or(self.used));
        }
    }

    fn roll(&mut self, limit: BudgetLimit, now: Time) {
        match limit.period {
            Period::Day if limit.start(now) > self.at => {
                *self = Self { at: limit.start(now), ..Self::default() };
            }
            Period::Day => {}
            Period::Minute => self.drain(BudgetLimit::per_minute(Some(self.drain_rate)), now),
        }
    }

    /// Drains whole tokens. The time in which a fraction of a token has drained counts for the next call.
    fn drain(&mut self, limit: BudgetLimit, now: Time) {
        // A clock that was ahead and is corrected must not stop the drain until the wrong time is reached.
        let ahead = self.at.saturating_sub(now.0);
        if u128::from(ahead) > MINUTE {
            self.at = now.0;
        }
        let elapsed = now.since(Time(self.at));
        let drained = u64::try_from(u128::from(elapsed) * u128::from(self.drain_rate) / MINUTE).unwrap_or(u64::MAX);
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
            Period::Day => Some(Shortfall::Exhausted),
            Period::Minute => Some(Shortfall::Drains(limit.drain_time(missing).saturating_sub(now.since(Time(self.at))))),
        }
    }

    fn reserve(&mut self, limit: BudgetLimit, tokens: u64, prompt: u64, instance: u64, now: Time) -> Reservation {
        let day = self.day(limit);
        if limit.cap.is_none() {
            return Reservation { day, tokens: 0, prompt: 0, instance, serial: 0 };
        }
        let prompt = prompt.min(tokens);
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

    fn settle(&mut self, limit: BudgetLimit, reservation: &Reservation, charge: u64) {
        let counts = reservation.day == self.day(limit) && (reservation.tokens == 0 || self.release(reservation));
        if counts {
            self.used = self.used.saturating_add(charge);
        }
    }

    fn shrink(&mut self, limit: BudgetLimit, reservation: &Reservation, tokens: u64) {
        let today = reservation.day == self.day(limit);
        if let Some(slot) = self.slots.iter_mut().find(|slot| today && slot.is_of(reservation)) {
            slot.reserved = slot.reserved.saturating_sub(reservation.tokens.saturating_sub(tokens));
            slot.prompt = slot.prompt.saturating_sub(reservation.prompt.saturating_sub(tokens));
        }
    }

    fn reap(&mut self, dead: &impl Fn(u64) -> bool) -> bool {
        let before = self.slots.len();
        let prompts = self.slots.iter().filter(|slot| dead(slot.instance)).fold(0u64, |sum, slot| sum.saturating_add(slot.prompt));
        self.slots.retain(|slot| !dead(slot.instance));
        self.used = self.used.saturating_add(prompts);
        self.slots.len() != before
    }

    fn release(&mut self, reservation: &Reservation) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_of(reservation)) else { return false };
        slot.reserved = slot.reserved.saturating_sub(reservation.tokens);
        slot.prompt = slot.prompt.saturating_sub(reservation.prompt);
        self.slots.retain(|slot| slot.reserved > 0);
        true
    }

    /// Returns the day that the counts belong to; 0 in a budget per minute.
    fn day(&self, limit: BudgetLimit) -> u64 {
        match limit.period {
            Period::Day => self.at,
            Period::Minute => 0,
        }
    }
}

impl BudgetLimit {
    /// Returns the value of [`Record::drain_rate`] under this limit.
    fn drain_rate(self) -> u64 {
        match self.period {
            Period::Day => 0,
            Period::Minute => self.cap.unwrap_or(0),
        }
    }

    /// Returns the value of [`Record::at`] in a period that starts at `now`.
    fn start(self, now: Time) -> u64 {
        match self.period {
            Period::Day => now.day().0.into(),
            Period::Minute => now.0,
        }
    }
}

// === impl Slot ===

impl Slot {
    fn is_of(&self, reservation: &Reservation) -> bool {
        self.instance == reservation.instance && self.serial == reservation.serial
    }
}

// === impl Reservations ===

impl Reservations {
    /// Returns the tokens reserved in the budgets with a cap; `None` if no budget has a cap.
    pub fn tokens(&self, limits: &[BudgetLimit]) -> Option<u64> {
        let capped = self.0.iter().zip(limits).filter(|(_, limit)| limit.cap.is_some());
        capped.filter_map(|(reservation, _)| reservation.as_ref()).map(|reservation| reservation.tokens).min()
    }

    /// Lowers each reservation to `tokens`.
    pub fn shrink(&mut self, tokens: u64) {
        for reservation in self.0.iter_mut().flatten() {
            reservation.tokens = reservation.tokens.min(tokens);
            reservation.prompt = reservation.prompt.min(tokens);
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
        Ask { least, most, prompt: 10, share: None }
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
        account.reserve(limits, FIRST, ask, instance, now).map(|(reservations, _)| reservations).map_err(|(_, shortfall)| shortfall)
    }

    /// Returns the used, reserved and remaining tokens of the first budget.
    fn state(account: &Account, limits: &[BudgetLimit]) -> (u64, u64, u64) {
        let record = account.record(0).unwrap();
        (record.used, record.reserved(), record.remaining(limits[0].cap.unwrap()))
    }

    #[test]
    fn a_reservation_becomes_a_charge() {
        let mut account = Account::new(&DAILY, NOON);
        let reservations = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        assert_eq!(state(&account, &DAILY), (0, 60, 40));
        account.settle(&DAILY, &reservations, 25, NOON);
        assert_eq!(state(&account, &DAILY), (25, 0, 75));
    }

    #[test]
    fn shortfalls_show_whether_to_retry() {
        let mut account = Account::new(&DAILY, NOON);
        let reservations = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        assert_eq!(reserve(&mut account, &DAILY, ask(41, 50), 2, NOON), Err(Shortfall::Reserved));
        let other = reserve(&mut account, &DAILY, ask(20, 50), 2, NOON).unwrap();
        assert_eq!(other.tokens(&DAILY), Some(40), "it reserves what remains");
        account.settle(&DAILY, &reservations, 60, NOON);
        assert_eq!(reserve(&mut account, &DAILY, ask(41, 50), 2, NOON), Err(Shortfall::Exhausted));
    }

    #[test]
    fn overage_is_kept() {
        let mut account = Account::new(&DAILY, NOON);
        let reservations = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        account.settle(&DAILY, &reservations, 150, NOON);
        assert_eq!(state(&account, &DAILY), (150, 0, 0));
    }

    #[test]
    fn a_reservation_of_yesterday_settles_into_yesterday() {
        let mut account = Account::new(&DAILY, NOON);
        let reservations = reserve(&mut account, &DAILY, ask(60, 60), 1, NOON).unwrap();
        let today = reserve(&mut account, &DAILY, ask(100, 100), 1, NEXT_DAY).unwrap();
        account.settle(&DAILY, &reservations, 60, NEXT_DAY);
        assert_eq!(state(&account, &DAILY), (0, 100, 0));
        account.settle(&DAILY, &today, 7, NOON);
        assert_eq!(state(&account, &DAILY), (7, 0, 93), "the day never moves backwards");
    }

    #[test]
    fn reservations_of_dead_instances_are_released_except_their_prompts() {
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
    fn a_rate_drains_and_returns_the_wait() {
        let mut account = Account::new(&RATE, NOON);
        let reservations = reserve(&mut account, &RATE, ask(50, 50), 1, NOON).unwrap();
        assert_eq!(
            reserve(&mut account, &RATE, ask(20, 20), 1, after(30.0)),
            Err(Shortfall::Reserved),
            "a reservation does not drain"
        );
        account.settle(&RATE, &reservations, 50, after(30.0));
        assert_eq!(reserve(&mut account, &RATE, ask(20, 20), 1, after(30.0)), Err(Shortfall::Drains(10_000_000_000)));
        assert_eq!(account.record(0).unwrap().reset(RATE[0], after(30.0)), 50);
        assert_eq!(reserve(&mut account, &RATE, ask(20, 20), 1, after(39.9)), Err(Shortfall::Drains(100_000_000)));
        assert!(reserve(&mut account, &RATE, ask(20, 20), 1, after(40.0)).is_ok());
        assert_eq!(state(&account, &RATE), (40, 20, 0));
        account.roll(&RATE, after(1e6));
        assert_eq!(state(&account, &RATE), (0, 20, 40));
        account.roll(&RATE, NOON);
        assert_eq!(state(&account, &RATE), (0, 20, 40), "time does not move backwards");
    }

    #[test]
    fn a_rate_of_requests_is_a_burst_and_then_one_at_a_time() {
        for cap in [1, 3, 7, 60, 1000] {
            let limits = [BudgetLimit::per_minute(Some(cap))];
            let mut account = Account::new(&limits, NOON);
            let mut now = NOON;
            let mut reserve_one = |now: Time| {
                let reservations = account.reserve(&limits, FIRST, Ask::whole(1, 0), 1, now);
                reservations.map(|(reservations, _)| account.settle(&limits, &reservations, 1, now))
            };
            (0..cap).for_each(|_| reserve_one(now).unwrap());
            for _ in 0..3 * cap {
                let Err((0, Shortfall::Drains(wait))) = reserve_one(now) else { panic!("{cap} a minute: one too many at {now:?}") };
                assert!(wait <= 60_000_000_000 / cap + 1);
                assert!(reserve_one(Time(now.0 + wait - 1)).is_err(), "{cap} a minute");
                now.0 += wait;
                reserve_one(now).unwrap();
            }
            let minutes = (now.0 - NOON.0) as f64 / 6e10;
            assert!((2.99..3.01).contains(&minutes), "{cap} a minute: three times the cap took {minutes} minutes");
        }
    }

    #[test]
    fn a_rate_drains_as_the_current_configuration_sets() {
        let [fast, slow] = [6000, 60].map(|cap| [BudgetLimit::per_minute(Some(cap))]);
        let mut account = Account::new(&fast, NOON);
        let reservations = reserve(&mut account, &fast, ask(6000, 6000), 1, NOON).unwrap();
        account.settle(&fast, &reservations, 6000, NOON);
        assert_eq!(
            reserve(&mut account, &slow, ask(1, 1), 1, NOON),
            Err(Shortfall::Drains(1_000_000_000)),
            "at most the new cap is used"
        );

        let mut account = Account::new(&fast, NOON);
        let mut old: Vec<Reservations> = (0..10).map(|_| reserve(&mut account, &fast, ask(100, 100), 1, NOON).unwrap()).collect();
        let mut admitted = 0;
        for second in 1..=20 {
            let now = after(f64::from(second));
            old.pop().into_iter().for_each(|reservations| account.settle(&fast, &reservations, 0, now));
            while let Ok(reservations) = reserve(&mut account, &slow, ask(10, 10), 2, now) {
                account.settle(&slow, &reservations, 10, now);
                admitted += 10;
            }
        }
        assert!(admitted <= 60 + 20, "{admitted}: earlier requests do not make the new rate drain faster");
        assert!(admitted >= 60, "{admitted}");
    }

    #[test]
    fn a_corrected_clock_does_not_stop_the_drain() {
        let mut account = Account::new(&RATE, NEXT_DAY);
        let reservations = reserve(&mut account, &RATE, ask(60, 60), 1, NEXT_DAY).unwrap();
        account.settle(&RATE, &reservations, 60, NEXT_DAY);
        assert!(reserve(&mut account, &RATE, ask(1, 1), 1, NOON).is_err());
        assert!(
            reserve(&mut account, &RATE, ask(1, 1), 1, after(1.0)).is_ok(),
            "it drains from the time when the clock was corrected"
        );
    }

    #[test]
    fn a_reservation_is_made_in_all_chosen_budgets_or_in_none() {
        let limits = [BudgetLimit::per_day(Some(100)), BudgetLimit::per_minute(Some(50)), BudgetLimit::per_minute(Some(2))];
        let both = BudgetSet::one(0).and(1);
        let mut account = Account::new(&limits, NOON);
        let (reservations, left) = account.reserve(&limits, both, ask(10, 80), 1, NOON).unwrap();
        assert_eq!(left.most, 50);
        assert_eq!(reservations.tokens(&limits), Some(50), "what remains in the smallest budget");
        let reserved = |account: &Account| [0, 1, 2].map(|index| account.record(index).unwrap().reserved());
        assert_eq!(reserved(&account), [50, 50, 0]);
        let before = account.clone();
        assert_eq!(account.reserve(&limits, both, ask(10, 80), 1, NOON), Err((1, Shortfall::Reserved)));
        assert_eq!(account, before);
        account.settle(&limits, &reservations, 95, NOON);
        assert_eq!(
            account.reserve(&limits, both, ask(10, 80), 1, NOON),
            Err((0, Shortfall::Exhausted)),
            "the most serious shortfall is returned"
        );
    }

    #[test]
    fn a_request_without_a_limit_takes_a_share() {
        let share = Some(Share { floor: 100, ample: None });
        // A prompt of 10 tokens, at most 1000 in all; of a cap, `used` are used. The reservation, or the shortfall.
        for (limit, used, expected) in [
            (BudgetLimit::per_day(Some(10_000)), 0, Ok(1000)),
            (BudgetLimit::per_day(Some(4010)), 0, Ok(510)),
            (BudgetLimit::per_day(Some(4010)), 3200, Ok(110)),
            (BudgetLimit::per_day(Some(4010)), 3950, Ok(60)),
            (BudgetLimit::per_day(Some(4010)), 3951, Ok(59)),
            (BudgetLimit::per_day(Some(4010)), 3990, Err(Shortfall::Exhausted)),
            (BudgetLimit::per_minute(Some(4010)), 3900, Ok(110)),
            (BudgetLimit::per_minute(Some(4010)), 3901, Err(Shortfall::Drains(14_962_594))),
            (BudgetLimit::per_minute(Some(200)), 140, Ok(60)),
            (BudgetLimit::per_minute(Some(200)), 141, Err(Shortfall::Drains(300_000_000))),
        ] {
            let limits = [limit];
            let mut account = Account::new(&limits, NOON);
            let before = reserve(&mut account, &limits, Ask::whole(used, 0), 1, NOON).unwrap();
            account.settle(&limits, &before, used, NOON);
            let reserved = reserve(&mut account, &limits, Ask { least: 30, most: 1000, prompt: 10, share }, 1, NOON);
            assert_eq!(reserved.map(|reserved| reserved.tokens(&limits).unwrap()), expected, "{limit:?}, {used} used");
        }
    }

    #[test]
    fn a_large_share_reserves_what_is_assumed() {
        let limits = [BudgetLimit::per_day(Some(10_000)), BudgetLimit::per_day(Some(8_000))];
        let share = Some(Share { floor: 100, ample: Some(Ample { from: 1000, tokens: 200 }) });
        let ask = Ask { least: 30, most: 500, prompt: 10, share };
        let mut account = Account::new(&limits, NOON);
        let (reservations, left) = account.reserve(&limits, FIRST, ask, 1, NOON).unwrap();
        assert_eq!((reservations.tokens(&limits[..1]), left), (Some(200), ask));
        let (reservations, left) = account.reserve(&limits, FIRST.and(1), ask, 1, NOON).unwrap();
        assert_eq!(reservations.tokens(&limits), Some(500), "the share of the second is 998");
        assert_eq!((left.most, left.ample()), (500, None));
    }

    #[test]
    fn accounts_are_encoded_and_invalid_bytes_are_rejected() {
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

    /// A reference model of an account: a list of the open reservations, and sums.
    #[cfg(not(target_arch = "wasm32"))]
    #[derive(Default)]
    struct Model {
        live: Vec<(Reservations, u64, u64)>,
        used: [u64; 2],
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest! {
        /// Compares with the reference model. Both budgets have the same reservations; the second drains by one token each step.
        #[test]
        fn the_invariant_holds_in_every_interleaving(
            caps in [1u64..1000, 1u64..1000],
            steps in prop::collection::vec((0u8..4, 0u64..4, 0u64..400, 0u64..400, any::<prop::sample::Index>()), 1..80),
        ) {
            let limits = [BudgetLimit::per_day(Some(caps[0])), BudgetLimit::per_minute(Some(caps[1]))];
            let mut account = Account::new(&limits, NOON);
            let mut model = Model::default();
            let step = limits[1].drain_time(1);
            let mut now = NOON;
            for (what, instance, a, b, pick) in steps {
                now.0 += step;
                model.used[1] = model.used[1].saturating_sub(1);
                account.roll(&limits, now);
                match what {
                    0 | 1 => {
                        let ask = Ask { least: a.min(b).max(1), most: a.max(b).max(1), prompt: a / 2, share: None };
                        let reserved: u64 = model.live.iter().map(|(_, tokens, _)| tokens).sum();
                        let remaining = [0, 1].map(|at| caps[at].saturating_sub(model.used[at]).saturating_sub(reserved));
                        match account.reserve(&limits, FIRST.and(1), ask, instance, now) {
                            Ok((reservations, _)) => {
                                let tokens = ask.most.min(remaining[0]).min(remaining[1]);
                                prop_assert_eq!(reservations.tokens(&limits), Some(tokens));
                                model.live.push((reservations, tokens, instance));
                            }
                            Err((0, Shortfall::Exhausted)) => prop_assert!(model.used[0] + ask.least > caps[0]),
                            Err((1, Shortfall::Drains(_))) => prop_assert!(model.used[1] + ask.least > caps[1]),
                            Err((at, Shortfall::Reserved)) => {
                                prop_assert!(remaining[at] < ask.least && model.used[at] + ask.least <= caps[at]);
                            }
                            Err(short) => prop_assert!(false, "{:?}", short),
                        }
                    }
                    2 if !model.live.is_empty() => {
                        let (reservations, tokens, _) = model.live.swap_remove(pick.index(model.live.len()));
                        account.settle(&limits, &reservations, a.min(tokens), now);
                        model.used.iter_mut().for_each(|used| *used += a.min(tokens));
                    }
                    3 => {
                        account.reap(|dead| dead == instance);
                        let (dead, alive): (Vec<_>, Vec<_>) = model.live.into_iter().partition(|(.., of)| *of == instance);
                        model.live = alive;
                        for (reservations, ..) in dead {
                            let prompt = reservations.0[0].as_ref().unwrap().prompt;
                            model.used.iter_mut().for_each(|used| *used += prompt);
                            account.settle(&limits, &reservations, 1000, now);
                        }
                    }
                    _ => {}
                }
                let reserved: u64 = model.live.iter().map(|(_, tokens, _)| tokens).sum();
                for at in [0, 1] {
                    let record = account.record(at).unwrap();
                    prop_assert_eq!((record.used, record.reserved()), (model.used[at], reserved), "budget {}", at);
                    prop_assert!(record.used + reserved <= caps[at]);
                }
                prop_assert_eq!(Account::decode(&account.encode(), 2), Ok(account.clone()));
            }
        }
    }

    #[test]
    fn a_reservation_leaves_the_rates_of_other_budgets_alone() {
        let now = Time(0);
        let (old, new) = (
            [BudgetLimit::per_minute(Some(100)), BudgetLimit::per_minute(Some(9))],
            [BudgetLimit::per_minute(Some(1000)), BudgetLimit::per_minute(Some(9))],
        );
        let ask = |tokens| Ask::whole(tokens, 0);
        let mut account = Account::new(&new, now);
        let (held, _) = account.reserve(&new, BudgetSet::one(0), ask(800), 1, now).unwrap();
        account.settle(&new, &held, 800, now);
        // A configuration that is no longer in force counts a request.
        account.reserve(&old, BudgetSet::one(1), ask(1), 1, now).unwrap();
        assert_eq!(account.record(0).map(|record| record.used), Some(800));
    }
}
