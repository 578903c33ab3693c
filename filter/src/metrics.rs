//! What operators see: every series, its name and its labels.
//!
//! Names follow the form in which Istio's bootstrap (and the `stats_tags` of `envoy/envoy.yaml`) find labels:
//! `pai.<label>=.=<value>;.;…<name>`. Label values come from the configuration only, so that their number is bounded: the host
//! can never forget a series.

use std::cell::{Cell, RefCell};
use std::fmt::Write;

use crate::budget::account::Record;
use crate::guard::{Action, Guard};

/// The host's metrics.
pub trait Meter {
    /// The number of the series `name`, which is made if it is new.
    fn define(&self, kind: Kind, name: &str) -> u32;
    /// Adds to a counter.
    fn add(&self, series: u32, by: u64);
    /// Sets a gauge, or adds an observation to a histogram.
    fn record(&self, series: u32, value: u64);
}

/// Kinds of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One series, which the host numbers at its first use.
#[derive(Debug)]
pub struct Series {
    kind: Kind,
    name: Box<str>,
    number: Cell<Option<u32>>,
}

/// The series of one model of one provider.
#[derive(Debug)]
pub struct ModelSeries {
    /// Requests, by how they ended.
    pub requests: LabelledCounter,
    /// Requests that went on to another candidate, by why.
    pub skipped: LabelledCounter,
    /// Prompt tokens charged.
    pub prompt_tokens: Series,
    /// Completion tokens charged.
    pub completion_tokens: Series,
    /// Tokens reserved on admission.
    pub reserved_tokens: Series,
    /// From the request's headers to the first piece of the answer, in milliseconds.
    pub time_to_first_token: Series,
    /// From the first piece to the last, for each completion token after the first, in microseconds.
    pub time_per_output_token: Series,
}

/// Requests by one word about each: one series for each that has come up.
#[derive(Debug)]
pub struct LabelledCounter {
    labels: String,
    name: &'static str,
    /// What the word is about.
    about: &'static str,
    known: RefCell<Vec<(&'static str, Series)>>,
}

/// The series of one agent or access key.
#[derive(Debug)]
pub struct SubjectSeries {
    /// Requests, by how they ended.
    pub requests: LabelledCounter,
    /// Prompt tokens charged.
    pub prompt_tokens: Series,
    /// Completion tokens charged.
    pub completion_tokens: Series,
    /// Its daily budget.
    pub budget: BudgetSeries,
}

/// The series of one daily budget.
#[derive(Debug)]
pub struct BudgetSeries {
    /// The cap; absent where there is none.
    pub limit: Series,
    /// Tokens used today.
    pub used: Series,
    /// Tokens reserved now.
    pub reserved: Series,
}

// === impl Series ===

impl Series {
    fn new(kind: Kind, labels: &str, name: &str) -> Self {
        Self { kind, name: format!("pai.{labels}{name}").into(), number: Cell::new(None) }
    }

    /// Adds to a counter.
    pub fn add(&self, meter: &dyn Meter, by: u64) {
        if by > 0 {
            meter.add(self.number(meter), by);
        }
    }

    /// Sets a gauge, or adds an observation to a histogram.
    pub fn record(&self, meter: &dyn Meter, value: u64) {
        meter.record(self.number(meter), value);
    }

    fn number(&self, meter: &dyn Meter) -> u32 {
        self.number.get().unwrap_or_else(|| {
            let number = meter.define(self.kind, &self.name);
            self.number.set(Some(number));
            number
        })
    }
}

// === impl ModelSeries ===

impl ModelSeries {
    /// For a provider and a label of its list of models.
    pub fn new(provider: &str, model: &str) -> Self {
        let mut labels = String::new();
        label(&mut labels, "provider", provider);
        label(&mut labels, "model", model);
        let counter = |name| Series::new(Kind::Counter, &labels, name);
        let histogram = |name| Series::new(Kind::Histogram, &labels, name);
        Self {
            requests: LabelledCounter::new(&labels, "requests_total", "decision"),
            skipped: LabelledCounter::new(&labels, "passed_over_total", "reason"),
            prompt_tokens: counter("prompt_tokens_total"),
            completion_tokens: counter("completion_tokens_total"),
            reserved_tokens: counter("reserved_tokens_total"),
            time_to_first_token: histogram("time_to_first_token_milliseconds"),
            time_per_output_token: histogram("time_per_output_token_microseconds"),
        }
    }
}

// === impl LabelledCounter ===

impl LabelledCounter {
    fn new(labels: &str, name: &'static str, about: &'static str) -> Self {
        Self { labels: labels.to_owned(), name, about, known: RefCell::default() }
    }

    /// Counts a request of which this can be said.
    pub fn count(&self, meter: &dyn Meter, word: &'static str) {
        let mut known = self.known.borrow_mut();
        if let Some((_, series)) = known.iter().find(|(known, _)| *known == word) {
            return series.add(meter, 1);
        }
        let mut labels = self.labels.clone();
        label(&mut labels, self.about, word);
        let series = Series::new(Kind::Counter, &labels, self.name);
        series.add(meter, 1);
        known.push((word, series));
    }
}

// === impl SubjectSeries ===

impl SubjectSeries {
    /// For an agent or an access key.
    pub fn new(subject: &str) -> Self {
        let mut labels = String::new();
        label(&mut labels, "subject", subject);
        Self {
            requests: LabelledCounter::new(&labels, "subject_requests_total", "decision"),
            prompt_tokens: Series::new(Kind::Counter, &labels, "subject_prompt_tokens_total"),
            completion_tokens: Series::new(Kind::Counter, &labels, "subject_completion_tokens_total"),
            budget: BudgetSeries::new(&labels, "subject_budget"),
        }
    }
}

// === impl BudgetSeries ===

impl BudgetSeries {
    /// For a provider's own budget and for its external share.
    pub fn of_provider(provider: &str) -> [Self; 2] {
        let mut labels = String::new();
        label(&mut labels, "provider", provider);
        ["budget", "external_budget"].map(|what| Self::new(&labels, what))
    }

    fn new(labels: &str, what: &str) -> Self {
        let gauge = |name| Series::new(Kind::Gauge, labels, &format!("{what}_{name}_tokens"));
        Self { limit: gauge("limit"), used: gauge("used"), reserved: gauge("reserved") }
    }

    /// Shows a budget as it stands.
    pub fn show(&self, meter: &dyn Meter, record: &Record, cap: Option<u64>) {
        self.used.record(meter, record.used);
        self.reserved.record(meter, record.reserved());
        if let Some(cap) = cap {
            self.limit.record(meter, cap);
        }
    }
}

/// What a guard has found.
pub fn guard_hits(provider: &str, guard: &Guard) -> Series {
    let action = match guard.action {
        Action::Reject => "reject",
        Action::Audit => "audit",
    };
    let mut labels = String::new();
    label(&mut labels, "provider", provider);
    label(&mut labels, "guard", &guard.name);
    label(&mut labels, "action", action);
    Series::new(Kind::Counter, &labels, "guard_hits_total")
}

/// Counts something that went wrong inside the filter.
pub fn filter_error(meter: &dyn Meter, kind: &str) {
    let mut labels = String::new();
    label(&mut labels, "kind", kind);
    Series::new(Kind::Counter, &labels, "filter_errors_total").add(meter, 1);
}

fn label(labels: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = write!(labels, "{name}=.={value};.;");
}
