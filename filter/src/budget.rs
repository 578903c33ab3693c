//! The arithmetic of one budget: a record of what is used and what is reserved in a UTC day.
//!
//! **Invariant**: `used + reserved ≤ cap` after every [`Record::reserve`], for any order of reserving and settling, as long as
//! no charge is higher than its reservation. A charge that is higher is kept as debt.

use crate::clock::{Day, Time};

/// One budget as the ledger keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The day that the counts are of.
    pub day: Day,
    /// Tokens settled in that day.
    pub used: u64,
    /// When the ledger first saw the budget, in seconds since 1970.
    pub first_seen: u64,
    /// When something was last charged or admitted, in seconds since 1970; 0 for never.
    pub last_used: u64,
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

/// A reservation, to be settled once.
#[derive(Debug, PartialEq, Eq)]
pub struct Hold {
    /// The day it was made in.
    pub day: Day,
    /// Tokens reserved; 0 where the budget has no cap.
    pub tokens: u64,
    prompt: u64,
    instance: u64,
    serial: u64,
}

/// Why a budget does not hold an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shortfall {
    /// Only the reservations of requests in flight stand in the way.
    #[error("reserved by requests in flight")]
    Reserved,
    /// It is spent until the day ends.
    #[error("spent")]
    Spent,
}

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a budget record")]
pub struct InvalidRecord;

// === impl Record ===

impl Record {
    const VERSION: u8 = 1;
    const HEAD: usize = 29;
    const SLOT: usize = 32;

    /// A budget that the ledger sees for the first time.
    pub fn new(now: Time) -> Self {
        Self { day: now.day(), first_seen: now.seconds(), ..Self::default() }
    }

    /// Tokens reserved and not yet settled.
    pub fn reserved(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(slot.reserved))
    }

    /// Tokens that are neither used nor reserved.
    pub fn remaining(&self, cap: u64) -> u64 {
        cap.saturating_sub(self.used).saturating_sub(self.reserved())
    }

    /// Starts from zero where the day has changed. The day never goes backwards.
    pub fn roll(&mut self, today: Day) {
        if today > self.day {
            self.day = today;
            self.used = 0;
            self.slots.clear();
        }
    }

    /// Reserves as much of `ask` as `cap` has room for.
    pub fn reserve(&mut self, cap: u64, ask: Ask, instance: u64, now: Time) -> Result<Hold, Shortfall> {
        self.roll(now.day());
        let remaining = self.remaining(cap);
        if remaining < ask.least {
            let spent = self.used.saturating_add(ask.least) > cap;
            return Err(if spent { Shortfall::Spent } else { Shortfall::Reserved });
        }
        let tokens = ask.most.min(remaining);
        let prompt = ask.prompt.min(tokens);
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
        self.last_used = self.last_used.max(now.seconds());
        Ok(Hold { day: self.day, tokens, prompt, instance, serial })
    }

    /// Replaces a reservation by what was really used. A reservation of another day, or of a slot that was given up, changes
    /// nothing.
    pub fn settle(&mut self, hold: &Hold, charge: u64, now: Time) {
        self.last_used = self.last_used.max(now.seconds());
        self.roll(now.day());
        if hold.day != self.day {
            return;
        }
        if hold.tokens > 0 && !self.release(hold) {
            return;
        }
        self.used = self.used.saturating_add(charge);
    }

    /// Gives back `tokens` of a reservation.
    pub fn shrink(&mut self, hold: &mut Hold, tokens: u64) {
        let excess = hold.tokens.saturating_sub(tokens);
        if let Some(slot) = self.slots.iter_mut().find(|slot| hold.day == self.day && slot.is_of(hold)) {
            slot.reserved = slot.reserved.saturating_sub(excess);
        }
        hold.tokens -= excess;
    }

    /// Gives up the reservations of every instance for which `dead` holds: what their prompts were reckoned at is charged.
    pub fn reap(&mut self, dead: impl Fn(u64) -> bool) -> bool {
        let before = self.slots.len();
        let prompts = self.slots.iter().filter(|slot| dead(slot.instance)).fold(0u64, |sum, slot| sum.saturating_add(slot.prompt));
        self.slots.retain(|slot| !dead(slot.instance));
        self.used = self.used.saturating_add(prompts);
        self.slots.len() != before
    }

    fn release(&mut self, hold: &Hold) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_of(hold)) else { return false };
        slot.reserved = slot.reserved.saturating_sub(hold.tokens);
        slot.prompt = slot.prompt.saturating_sub(hold.prompt);
        self.slots.retain(|slot| slot.reserved > 0);
        true
    }

    /// The record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::HEAD + self.slots.len() * Self::SLOT);
        bytes.push(Self::VERSION);
        bytes.extend_from_slice(&self.day.0.to_le_bytes());
        for field in [self.used, self.first_seen, self.last_used] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for slot in &self.slots {
            for field in [slot.instance, slot.serial, slot.reserved, slot.prompt] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads what [`Record::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        let (head, slots) = bytes.split_at_checked(Self::HEAD).ok_or(InvalidRecord)?;
        let (version, head) = head.split_first().ok_or(InvalidRecord)?;
        let (day, head) = head.split_first_chunk().ok_or(InvalidRecord)?;
        let ([used, first_seen, last_used], true) = (fields(head), *version == Self::VERSION) else { return Err(InvalidRecord) };
        if slots.len() % Self::SLOT != 0 {
            return Err(InvalidRecord);
        }
        let slot = |bytes| {
            let [instance, serial, reserved, prompt] = fields(bytes);
            Slot { instance, serial, reserved, prompt }
        };
        let slots = slots.chunks_exact(Self::SLOT).map(slot).collect();
        Ok(Self { day: Day(u32::from_le_bytes(*day)), used, first_seen, last_used, slots })
    }
}

/// The first `N` little-endian words of `bytes`.
fn fields<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    std::array::from_fn(|_| words.next().unwrap_or(0))
}

// === impl Slot ===

impl Slot {
    fn is_of(&self, hold: &Hold) -> bool {
        self.instance == hold.instance && self.serial == hold.serial
    }
}

// === impl Hold ===

impl Hold {
    /// A hold on a budget without a cap: nothing is reserved, what is used is counted.
    pub fn uncapped(now: Time) -> Self {
        Self { day: now.day(), tokens: 0, prompt: 0, instance: 0, serial: 0 }
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

    fn ask(least: u64, most: u64) -> Ask {
        Ask { least, most, prompt: 10 }
    }

    #[test]
    fn a_reservation_becomes_a_charge() {
        let mut record = Record::new(NOON);
        let hold = record.reserve(100, ask(60, 60), 1, NOON).unwrap();
        assert_eq!((record.used, record.reserved(), record.remaining(100)), (0, 60, 40));
        record.settle(&hold, 25, NOON);
        assert_eq!((record.used, record.reserved(), record.remaining(100)), (25, 0, 75));
    }

    #[test]
    fn shortfalls_say_whether_waiting_helps() {
        let mut record = Record::new(NOON);
        let hold = record.reserve(100, ask(60, 60), 1, NOON).unwrap();
        assert_eq!(record.reserve(100, ask(41, 50), 2, NOON), Err(Shortfall::Reserved));
        assert_eq!(record.reserve(100, ask(20, 50), 2, NOON).unwrap().tokens, 40, "it takes what is left");
        record.settle(&hold, 60, NOON);
        assert_eq!(record.reserve(100, ask(41, 50), 2, NOON), Err(Shortfall::Spent));
    }

    #[test]
    fn debt_is_kept() {
        let mut record = Record::new(NOON);
        let hold = record.reserve(100, ask(60, 60), 1, NOON).unwrap();
        record.settle(&hold, 150, NOON);
        assert_eq!((record.used, record.remaining(100)), (150, 0));
    }

    #[test]
    fn a_reservation_of_yesterday_settles_into_yesterday() {
        let mut record = Record::new(NOON);
        let hold = record.reserve(100, ask(60, 60), 1, NOON).unwrap();
        let today = record.reserve(100, ask(100, 100), 1, NEXT_DAY).unwrap();
        record.settle(&hold, 60, NEXT_DAY);
        assert_eq!((record.used, record.reserved()), (0, 100));
        record.settle(&today, 7, NOON);
        assert_eq!((record.day, record.used), (Day(1), 7), "the day never goes backwards");
    }

    #[test]
    fn the_dead_give_back_all_but_their_prompts() {
        let mut record = Record::new(NOON);
        let late = record.reserve(100, ask(60, 60), 1, NOON).unwrap();
        assert!(record.reap(|instance| instance == 1));
        assert_eq!((record.used, record.reserved()), (10, 0));
        let again = record.reserve(100, ask(30, 30), 1, Time(NOON.0 + 1)).unwrap();
        record.settle(&late, 60, NOON);
        assert_eq!((record.used, record.reserved()), (10, 30), "a late settle changes nothing");
        record.settle(&again, 5, NOON);
        assert_eq!((record.used, record.reserved()), (15, 0));
    }

    #[test]
    fn records_survive_encoding_and_rubbish_does_not() {
        let mut record = Record::new(NOON);
        assert_eq!(Record::decode(&record.encode()), Ok(record.clone()));
        record.reserve(100, ask(1, 5), 7, NOON).unwrap();
        record.reserve(100, ask(1, 5), 8, NOON).unwrap();
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Ok(record));
        for cut in 0..bytes.len() {
            let whole = cut >= Record::HEAD && (cut - Record::HEAD).is_multiple_of(Record::SLOT);
            assert_eq!(Record::decode(&bytes[..cut]).is_ok(), whole, "cut at {cut}");
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest! {
        /// Against a naive twin: a list of live reservations and a sum.
        #[test]
        fn the_invariant_holds_in_every_interleaving(
            cap in 1u64..1000,
            steps in prop::collection::vec((0u8..4, 0u64..4, 0u64..400, 0u64..400, any::<prop::sample::Index>()), 1..80),
        ) {
            let mut record = Record::new(NOON);
            let (mut live, mut used): (Vec<(Hold, u64)>, u64) = (Vec::new(), 0);
            for (at, (what, instance, a, b, pick)) in steps.into_iter().enumerate() {
                let now = Time(NOON.0 + at as u64 + 1);
                match what {
                    0 | 1 => {
                        let ask = Ask { least: a.min(b).max(1), most: a.max(b).max(1), prompt: a / 2 };
                        let room = cap - used - live.iter().map(|(hold, _)| hold.tokens).sum::<u64>();
                        match record.reserve(cap, ask, instance, now) {
                            Ok(hold) => {
                                prop_assert_eq!(hold.tokens, ask.most.min(room));
                                live.push((hold, instance));
                            }
                            Err(Shortfall::Spent) => prop_assert!(used + ask.least > cap),
                            Err(Shortfall::Reserved) => prop_assert!(room < ask.least && used + ask.least <= cap),
                        }
                    }
                    2 if !live.is_empty() => {
                        let (hold, _) = live.swap_remove(pick.index(live.len()));
                        let charge = a.min(hold.tokens);
                        record.settle(&hold, charge, now);
                        used += charge;
                    }
                    3 => {
                        record.reap(|dead| dead == instance);
                        used += live.iter().filter(|(_, of)| *of == instance).map(|(hold, _)| hold.prompt).sum::<u64>();
                        let (dead, alive) = live.into_iter().partition(|(_, of)| *of == instance);
                        live = alive;
                        let dead: Vec<_> = dead;
                        for (hold, _) in dead {
                            record.settle(&hold, hold.tokens, now);
                        }
                    }
                    _ => {}
                }
                let reserved: u64 = live.iter().map(|(hold, _)| hold.tokens).sum();
                prop_assert_eq!((record.used, record.reserved()), (used, reserved));
                prop_assert!(used + reserved <= cap);
                prop_assert_eq!(Record::decode(&record.encode()), Ok(record.clone()));
            }
        }
    }
}
