//! Metrics: every series, its name and its labels.
//!
//! Names follow the form in which Istio's bootstrap (and the `stats_tags` of `envoy/envoy.yaml`) find labels:
//! `pai.<label>=.=<value>;.;…<name>`. Label values are names of the configuration, or words of this crate: their number is bounded, as the
//! host can never delete a series.
//!
//! Counts are added up in the worker ([`Batch`]) and sent to the host at each tick, and when a configuration ends: a call into the host
//! for each would cost more than the counting. A VM that dies loses the counts of its last second.

mod budget;
mod histogram;
mod model;
mod subject;

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::Rc;

pub use self::budget::BudgetSeries;
pub use self::histogram::Seconds;
pub use self::model::{ModelSeries, guard_matches, requests_without_provider, status_class, token_counts};
pub use self::subject::{SubjectSeries, TokenSeries};

/// The host's metrics.
pub trait Meter {
    /// The number of the series `name`, which is made if it is new.
    fn define(&self, kind: Kind, name: &str) -> u32;
    /// Adds to a counter.
    fn add(&self, series: u32, by: u64);
    /// Sets a gauge.
    fn set(&self, series: u32, value: u64);
}

/// Kinds of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One series, which the host numbers at its first use.
#[derive(Debug)]
pub struct Series {
    kind: Kind,
    name: Box<str>,
    number: Cell<Option<u32>>,
    /// Of a counter: what was added since the last tick.
    unsent: Cell<u64>,
}

/// What has changed since the last tick.
#[derive(Debug, Default)]
pub struct Batch {
    counters: RefCell<Vec<Rc<Series>>>,
    durations: RefCell<Vec<Rc<Seconds>>>,
}

/// Counters of one name that differ in one label: one for each value that has occurred.
#[derive(Debug)]
pub struct LabelledCounter {
    labels: String,
    name: &'static str,
    /// The label in which they differ.
    label: &'static str,
    known: RefCell<Vec<(&'static str, Rc<Series>)>>,
}

// === impl Series ===

impl Series {
    fn new(kind: Kind, labels: &str, name: &str) -> Self {
        Self { kind, name: format!("pai.{labels}{name}").into(), number: Cell::new(None), unsent: Cell::new(0) }
    }

    fn counter(labels: &str, name: &str) -> Rc<Self> {
        Rc::new(Self::new(Kind::Counter, labels, name))
    }

    fn gauge(labels: &str, name: &str) -> Self {
        Self::new(Kind::Gauge, labels, name)
    }

    /// Sets a gauge.
    pub fn set(&self, meter: &dyn Meter, value: u64) {
        meter.set(self.number(meter), value);
    }

    fn number(&self, meter: &dyn Meter) -> u32 {
        self.number.get().unwrap_or_else(|| {
            let number = meter.define(self.kind, &self.name);
            self.number.set(Some(number));
            number
        })
    }
}

// === impl Batch ===

impl Batch {
    /// Adds to a counter.
    pub fn add(&self, counter: &Rc<Series>, by: u64) {
        if by == 0 {
            return;
        }
        let unsent = counter.unsent.get();
        counter.unsent.set(unsent.saturating_add(by));
        if unsent == 0 {
            self.counters.borrow_mut().push(Rc::clone(counter));
        }
    }

    /// Adds one observation, in nanoseconds, to a distribution.
    pub fn observe(&self, seconds: &Rc<Seconds>, nanos: u64) {
        if seconds.observe(nanos) {
            self.durations.borrow_mut().push(Rc::clone(seconds));
        }
    }

    /// Sends to the host what was added since the last time.
    pub fn send(&self, meter: &dyn Meter) {
        for counter in self.counters.take() {
            meter.add(counter.number(meter), counter.unsent.take());
        }
        for seconds in self.durations.take() {
            seconds.send(meter);
        }
    }
}

// === impl LabelledCounter ===

impl LabelledCounter {
    fn new(labels: &str, name: &'static str, label: &'static str) -> Self {
        Self { labels: labels.to_owned(), name, label, known: RefCell::default() }
    }

    /// Returns the counter for this value of the label.
    pub fn of(&self, value: &'static str) -> Rc<Series> {
        let mut known = self.known.borrow_mut();
        if let Some((_, series)) = known.iter().find(|(known, _)| *known == value) {
            return Rc::clone(series);
        }
        let mut labels = self.labels.clone();
        label(&mut labels, self.label, value);
        let series = Series::counter(&labels, self.name);
        known.push((value, Rc::clone(&series)));
        series
    }
}

/// Counts an error inside the filter, at once.
pub fn filter_error(meter: &dyn Meter, kind: &str) {
    let mut labels = String::new();
    label(&mut labels, "kind", kind);
    meter.add(meter.define(Kind::Counter, &format!("pai.{labels}filter_errors_total")), 1);
}

/// Counts a callout to a provider by its result, at once.
pub fn callout(meter: &dyn Meter, provider: &str, result: &'static str) {
    let mut labels = String::new();
    label(&mut labels, "provider", provider);
    label(&mut labels, "result", result);
    meter.add(meter.define(Kind::Counter, &format!("pai.{labels}callouts_total")), 1);
}

/// Shows the version of the module: a gauge that is always 1.
pub fn build_info(meter: &dyn Meter) {
    let mut labels = String::new();
    label(&mut labels, "version", env!("CARGO_PKG_VERSION"));
    Series::gauge(&labels, "build_info").set(meter, 1);
}

fn label(labels: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = write!(labels, "{name}=.={value};.;");
}
