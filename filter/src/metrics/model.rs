//! The metrics of one model of one provider, and of a provider's guards.

use std::rc::Rc;

use crate::guard::{Action, Guard};
use crate::metrics::{LabelledCounter, Seconds, Series, label};

/// Upper bounds of the time to the first token, as OpenTelemetry recommends them for `gen_ai.server.time_to_first_token`, and two more for
/// long queues.
const TO_FIRST_TOKEN: [(&str, u64); 17] = [
    ("0.001", 1_000_000),
    ("0.005", 5_000_000),
    ("0.01", 10_000_000),
    ("0.02", 20_000_000),
    ("0.04", 40_000_000),
    ("0.06", 60_000_000),
    ("0.08", 80_000_000),
    ("0.1", 100_000_000),
    ("0.25", 250_000_000),
    ("0.5", 500_000_000),
    ("0.75", 750_000_000),
    ("1", 1_000_000_000),
    ("2.5", 2_500_000_000),
    ("5", 5_000_000_000),
    ("10", 10_000_000_000),
    ("30", 30_000_000_000),
    ("120", 120_000_000_000),
];

/// Upper bounds of the time for each token after the first, as OpenTelemetry recommends them for `gen_ai.server.time_per_output_token`, and
/// one less than those for small models.
const PER_OUTPUT_TOKEN: [(&str, u64); 14] = [
    ("0.005", 5_000_000),
    ("0.01", 10_000_000),
    ("0.025", 25_000_000),
    ("0.05", 50_000_000),
    ("0.075", 75_000_000),
    ("0.1", 100_000_000),
    ("0.15", 150_000_000),
    ("0.2", 200_000_000),
    ("0.3", 300_000_000),
    ("0.4", 400_000_000),
    ("0.5", 500_000_000),
    ("0.75", 750_000_000),
    ("1", 1_000_000_000),
    ("2.5", 2_500_000_000),
];

/// The metrics of one model of one provider.
#[derive(Debug)]
pub struct ModelSeries {
    /// Requests, by how they ended.
    pub requests: LabelledCounter,
    /// Responses of the provider, by the class of their status.
    pub responses: LabelledCounter,
    /// Requests that went on to another candidate, by the reason.
    pub skipped: LabelledCounter,
    /// Requests whose limit of completion tokens was injected or lowered, by what required it.
    pub limited: LabelledCounter,
    /// Prompt tokens charged.
    pub prompt_tokens: Rc<Series>,
    /// Completion tokens charged.
    pub completion_tokens: Rc<Series>,
    /// Tokens reserved at admission.
    pub reserved_tokens: Rc<Series>,
    /// The time from the request to the first token of the answer.
    pub time_to_first_token: Rc<Seconds>,
    /// The time for each completion token after the first.
    pub time_per_output_token: Rc<Seconds>,
}

// === impl ModelSeries ===

impl ModelSeries {
    /// Creates the metrics of a provider and a label of its list of models.
    pub fn new(provider: &str, model: &str) -> Self {
        let mut labels = String::new();
        label(&mut labels, "provider", provider);
        label(&mut labels, "model", model);
        Self {
            requests: LabelledCounter::new(&labels, "requests_total", "decision"),
            responses: LabelledCounter::new(&labels, "responses_total", "status_class"),
            skipped: LabelledCounter::new(&labels, "skipped_candidates_total", "reason"),
            limited: LabelledCounter::new(&labels, "limited_requests_total", "limited_by"),
            prompt_tokens: Series::counter(&labels, "prompt_tokens_total"),
            completion_tokens: Series::counter(&labels, "completion_tokens_total"),
            reserved_tokens: Series::counter(&labels, "reserved_tokens_total"),
            time_to_first_token: Seconds::new(&labels, "time_to_first_token_seconds", &TO_FIRST_TOKEN),
            time_per_output_token: Seconds::new(&labels, "time_per_output_token_seconds", &PER_OUTPUT_TOKEN),
        }
    }
}

/// Creates the counter of requests that reach no provider.
pub fn requests_without_provider() -> LabelledCounter {
    let mut labels = String::new();
    label(&mut labels, "provider", "none");
    label(&mut labels, "model", "none");
    LabelledCounter::new(&labels, "requests_total", "decision")
}

/// Creates the counter of requests whose prompt tokens a provider's server was requested to count, by the result.
pub fn token_counts(provider: &str) -> LabelledCounter {
    let mut labels = String::new();
    label(&mut labels, "provider", provider);
    LabelledCounter::new(&labels, "token_counts_total", "result")
}

/// Returns the value of `status_class` for a status.
pub fn status_class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

/// Creates the counter of what a guard has matched.
pub fn guard_matches(provider: &str, guard: &Guard) -> Rc<Series> {
    let action = match guard.action {
        Action::Reject => "reject",
        Action::Audit => "audit",
    };
    let mut labels = String::new();
    label(&mut labels, "provider", provider);
    label(&mut labels, "guard", &guard.name);
    label(&mut labels, "action", action);
    Series::counter(&labels, "guard_hits_total")
}
