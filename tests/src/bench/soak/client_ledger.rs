//! What the clients recorded: outcomes, response times, and the expected charges.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The maximum number of unexpected responses that are kept.
const KEPT: usize = 10;
const SECONDS_OF_A_DAY: u64 = 86_400;

/// The clients' records.
#[derive(Debug, Default)]
pub(super) struct ClientLedger {
    /// Requests by kind and outcome.
    pub(super) outcomes: BTreeMap<(&'static str, Outcome), u64>,
    /// The number of unexpected responses.
    pub(super) unexpected: u64,
    /// The first unexpected responses.
    pub(super) examples: Vec<String>,
    /// Expected charges by provider.
    pub(super) accounts: BTreeMap<&'static str, Account>,
    /// Response times of small chats without streaming, in microseconds: since the last sample, and all.
    pub(super) recent: Vec<u32>,
    pub(super) all: Vec<u32>,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// A complete response with this status.
    Status(u16),
    /// An incomplete response, or none.
    Broken,
    /// The client disconnected.
    Abandoned,
}

/// Bounds of the tokens that a provider must have charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) least: u64,
    pub(super) most: u64,
}

/// The expected charges of one provider.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    /// Since the start.
    pub(super) total: Charge,
    /// The charge of today. A request sent before midnight that ended after it may or may not be included.
    today: Charge,
    /// The day of `today`.
    day: u64,
}

// === impl ClientLedger ===

impl ClientLedger {
    pub(super) fn record(&mut self, kind: &'static str, outcome: Outcome) {
        *self.outcomes.entry((kind, outcome)).or_default() += 1;
    }

    pub(super) fn record_unexpected(&mut self, what: String) {
        self.unexpected += 1;
        if self.examples.len() < KEPT {
            self.examples.push(what);
        }
    }

    /// Adds a request that was sent on the day `sent` and has ended now.
    pub(super) fn charge(&mut self, provider: &'static str, charge: Charge, sent: u64) {
        self.accounts.entry(provider).or_default().add(charge, sent, today());
    }

    pub(super) fn record_latency(&mut self, micros: u32) {
        self.recent.push(micros);
        self.all.push(micros);
    }
}

// === impl Outcome ===

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Broken => f.write_str("broken"),
            Self::Abandoned => f.write_str("given up"),
        }
    }
}

// === impl Charge ===

impl Charge {
    pub(super) fn exactly(tokens: u64) -> Self {
        Self { least: tokens, most: tokens }
    }

    /// Returns the distance of an amount from the bounds; 0 within them.
    pub(super) fn deviation(self, amount: u64) -> i64 {
        let below = self.least.saturating_sub(amount);
        let above = amount.saturating_sub(self.most);
        i64::try_from(above).unwrap_or(i64::MAX) - i64::try_from(below).unwrap_or(i64::MAX)
    }

    fn add(&mut self, other: Self) {
        self.least += other.least;
        self.most += other.most;
    }
}

// === impl Account ===

impl Account {
    fn add(&mut self, charge: Charge, sent: u64, ended: u64) {
        self.total.add(charge);
        self.roll_over(ended);
        let least = if sent == ended { charge.least } else { 0 };
        self.today.add(Charge { least, most: charge.most });
    }

    /// Returns the charge of this day.
    pub(super) fn on(mut self, day: u64) -> Charge {
        self.roll_over(day);
        self.today
    }

    fn roll_over(&mut self, day: u64) {
        if self.day != day {
            (self.day, self.today) = (day, Charge::default());
        }
    }
}

/// Returns the number of the current UTC day.
pub(super) fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SECONDS_OF_A_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_across_midnight_may_count_on_either_day() {
        let mut account = Account::default();
        account.add(Charge::exactly(10), 7, 7);
        assert_eq!(account.on(7), Charge::exactly(10));
        account.add(Charge::exactly(5), 7, 8);
        account.add(Charge { least: 1, most: 3 }, 8, 8);
        assert_eq!(account.on(8), Charge { least: 1, most: 8 });
        assert_eq!(account.on(9), Charge::default());
        assert_eq!(account.total, Charge { least: 16, most: 18 });
    }

    #[test]
    fn drift_is_what_lies_outside_the_bounds() {
        let charge = Charge { least: 10, most: 12 };
        for (amount, missed) in [(9, -1), (10, 0), (12, 0), (15, 3)] {
            assert_eq!(charge.deviation(amount), missed, "{amount}");
        }
    }
}
