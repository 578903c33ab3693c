//! Durations in seconds, as a Prometheus histogram of counters.
//!
//! A histogram of the host takes whole numbers only, and its buckets are a setting of its bootstrap: neither fits seconds per token. So the
//! buckets are counters here (`<name>_bucket`, with the label `le`), beside `<name>_count` and `<name>_sum`.

use std::cell::Cell;
use std::rc::Rc;

use crate::metrics::{Batch, Series, label};

const NANOS: u64 = 1_000_000_000;

/// The distribution of a duration.
#[derive(Debug)]
pub struct Seconds {
    /// Upper bounds in nanoseconds, ascending, with the counter of each.
    buckets: Box<[(u64, Rc<Series>)]>,
    count: Rc<Series>,
    sum: Rc<Series>,
    /// Nanoseconds that are not in `sum` yet, which counts whole seconds.
    rest: Cell<u64>,
    /// Whether all buckets were sent once: a bucket that is missing is not 0.
    shown: Cell<bool>,
}

// === impl Seconds ===

impl Seconds {
    /// Creates a distribution with these upper bounds, in seconds as Prometheus writes them.
    pub(super) fn new(labels: &str, name: &str, bounds: &[(&str, u64)]) -> Self {
        let bucket = |bound: &str| {
            let mut labels = labels.to_owned();
            label(&mut labels, "le", bound);
            Series::counter(&labels, &format!("{name}_bucket"))
        };
        let bounded = bounds.iter().map(|(bound, nanos)| (*nanos, bucket(bound)));
        Self {
            buckets: bounded.chain([(u64::MAX, bucket("+Inf"))]).collect(),
            count: Series::counter(labels, &format!("{name}_count")),
            sum: Series::counter(labels, &format!("{name}_sum")),
            rest: Cell::new(0),
            shown: Cell::new(false),
        }
    }

    /// Adds one observation, in nanoseconds.
    pub fn observe(&self, batch: &Batch, nanos: u64) {
        for (_, bucket) in self.buckets.iter().filter(|(bound, _)| nanos <= *bound) {
            batch.add(bucket, 1);
        }
        batch.add(&self.count, 1);
        let rest = self.rest.get().saturating_add(nanos);
        batch.add(&self.sum, rest / NANOS);
        self.rest.set(rest % NANOS);
        self.show(batch);
    }

    fn show(&self, batch: &Batch) {
        if !self.shown.replace(true) {
            self.buckets.iter().map(|(_, bucket)| bucket).chain([&self.sum]).for_each(|series| batch.show(series));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::metrics::{Kind, Meter};
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
            seconds.observe(&batch, nanos);
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
        Seconds::new("", "d", &[("0.1", NANOS / 10)]).observe(&batch, NANOS);
        batch.send(&totals);
        assert_eq!(totals.1.borrow().get("pai.le=.=0.1;.;d_bucket"), Some(&0));
    }
}
