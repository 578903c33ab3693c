//! The gauges of a daily budget.

use crate::budget::account::Record;
use crate::metrics::{Meter, Series, label};

/// The gauges of one daily budget.
#[derive(Debug)]
pub struct BudgetSeries {
    /// The cap; not sent where there is none.
    limit: Series,
    /// Tokens used today.
    used: Series,
    /// Tokens reserved now.
    reserved: Series,
}

// === impl BudgetSeries ===

impl BudgetSeries {
    /// Creates those of a provider's own budget and of its external share.
    pub fn of_provider(provider: &str) -> [Self; 2] {
        let mut labels = String::new();
        label(&mut labels, "provider", provider);
        ["budget", "external_budget"].map(|what| Self::new(&labels, what))
    }

    pub(super) fn new(labels: &str, what: &str) -> Self {
        let gauge = |name| Series::gauge(labels, &format!("{what}_{name}_tokens"));
        Self { limit: gauge("limit"), used: gauge("used"), reserved: gauge("reserved") }
    }

    /// Shows a budget at this moment.
    pub fn show(&self, meter: &dyn Meter, record: &Record, cap: Option<u64>) {
        self.used.set(meter, record.used);
        self.reserved.set(meter, record.reserved());
        if let Some(cap) = cap {
            self.limit.set(meter, cap);
        }
    }
}
