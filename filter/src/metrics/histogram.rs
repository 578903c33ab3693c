//! Durations in seconds, as a Prometheus histogram of counters.
//!
//! A histogram of the host takes whole numbers only, and its buckets are a setting of its bootstrap: neither fits seconds per token. So the
//! buckets are counters here (`<name>_bucket`, with the label `le`), beside `<name>_count` and `<name>_sum`.

use std::cell::Cell;
use std::rc::Rc;

use crate::metrics::{Kind, Meter, Series, label};

const NANOS: u64 = 1_000_000_000;

/// The distribution of a duration.
#[derive(Debug)]
pub struct Seconds {
    /// Ascending.
    buckets: Box<[Bucket]>,
    count: Series,
    sum: Series,
    /// Observations that were not sent yet.
    unsent: Cell<u64>,
    /// Nanoseconds that are not in `sum` yet, which counts whole seconds.
    nanos: Cell<u64>,
}

#[derive(Debug)]
struct Bucket {
    /// Its upper bound, in nanoseconds.
    bound: u64,
    series: Series,
    /// Observations that were not sent yet and do not fit the bucket before.
    unsent: Cell<u64>,
}

// === impl Seconds ===

impl Seconds {
    /// Creates a distribution with these upper bounds, in seconds as Prometheus writes them and in nanoseconds.
    pub(super) fn new(labels: &str, name: &str, bounds: &[(&str, u64)]) -> Rc<Self> {
        let bucket = |&(le, bound): &(&str, u64)| {
            let mut labels = labels.to_owned();
            label(&mut labels, "le", le);
            Bucket { bound, series: Series::new(Kind::Counter, &labels, &format!("{name}_bucket")), unsent: Cell::new(0) }
        };
        Rc::new(Self {
            buckets: bounds.iter().chain([&("+Inf", u64::MAX)]).map(bucket).collect(),
            count: Series::new(Kind::Counter, labels, &format!("{name}_count")),
            sum: Series::new(Kind::Counter, labels, &format!("{name}_sum")),
            unsent: Cell::new(0),
            nanos: Cell::new(0),
        })
    }

    /// Adds one observation. Returns whether it is the first that was not sent yet.
    pub(super) fn observe(&self, nanos: u64) -> bool {
        if let Some(bucket) = self.buckets.iter().find(|bucket| nanos <= bucket.bound) {
            bucket.unsent.set(bucket.unsent.get() + 1);
        }
        self.nanos.set(self.nanos.get().saturating_add(nanos));
        self.unsent.replace(self.unsent.get() + 1) == 0
    }

    /// Sends to the host what was observed since the last time. Every bucket is sent, as one that is missing would not be 0.
    pub(super) fn send(&self, meter: &dyn Meter) {
        let mut cumulative = 0;
        for bucket in &self.buckets {
            cumulative += bucket.unsent.take();
            meter.add(bucket.series.number(meter), cumulative);
        }
        meter.add(self.count.number(meter), self.unsent.take());
        let nanos = self.nanos.get();
        meter.add(self.sum.number(meter), nanos / NANOS);
        self.nanos.set(nanos % NANOS);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::metrics::Batch;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Totals by name.
    #[derive(Default)]
    struct Totals(RefCell<Vec<String>>, RefCell<BTreeMap<String, u64>>);

    impl Meter for Totals {
        fn define(&self, _kind: Kind, name: &str) -> u32 {
            self.0.borrow_mut().push(name.to_owned());
            u32::try_from(self.0.borrow().len() - 1).unwrap()
        }

        fn add(&self, series: u32, by: u64) {
            *self.1.borrow_mut().entry(self.0.borrow()[series as usize].clone()).or_default() += by;
        }

        fn set(&self, _series: u32, _value: u64) {}
    }

    #[test]
    fn buckets_are_cumulative_and_all_of_them_are_there() {
        let (batch, totals) = (Batch::default(), Totals::default());
        let seconds = Seconds::new("", "d_seconds", &[("0.1", NANOS / 10), ("1", NANOS), ("60", 60 * NANOS)]);
        for nanos in [NANOS / 10, NANOS / 10 + 1, 1_700_000_000, 90 * NANOS] {
            batch.observe(&seconds, nanos);
            batch.send(&totals);
        }
        let total = |name: &str| totals.1.borrow().get(&format!("pai.{name}")).copied();
        let bucket = |bound: &str| total(&format!("le=.={bound};.;d_seconds_bucket"));
        assert_eq!(["0.1", "1", "60", "+Inf"].map(bucket), [Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(
            (total("d_seconds_count"), total("d_seconds_sum")),
            (Some(4), Some(91)),
            "1.9 s + 90 s, less what is no whole second"
        );
    }

    #[test]
    fn a_bucket_without_an_observation_is_zero_and_not_missing() {
        let (batch, totals) = (Batch::default(), Totals::default());
        batch.observe(&Seconds::new("", "d", &[("0.1", NANOS / 10)]), NANOS);
        batch.send(&totals);
        assert_eq!(totals.1.borrow().get("pai.le=.=0.1;.;d_bucket"), Some(&0));
    }
}
