//! The fields of the access log: the decision, the guards that matched, and the candidates that were skipped.

use std::fmt::{self, Display, Write as _};

use crate::budget::plan::InjectedLimit;
use crate::exchange::environment::Environment;
use crate::exchange::gate::Gate;
use crate::http::refusal::{Case, Refusal};
use crate::policy::Candidate;

/// The values for the access log of one exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessLogEntry {
    /// The name of the provider; empty if none was selected.
    pub provider: String,
    /// The model id; empty if no provider was selected.
    pub model: String,
    /// The caller.
    pub subject: String,
    /// `allowed`, or the code of the error.
    pub decision: &'static str,
    /// The names of the guards that matched, separated by commas; empty if none did.
    pub guard: String,
    /// The candidates that were skipped or failed, with the reasons; empty if there are none.
    pub attempts: String,
    /// The tokens charged for the prompt and for the completion; `None` if no provider was selected.
    pub tokens: Option<(u64, u64)>,
    /// The limit of completion tokens that was injected.
    pub limit: Option<InjectedLimit>,
}

/// The guards that matched and the candidates that were skipped for one request.
#[derive(Debug, Default)]
pub struct DecisionLog {
    /// The names of the guards that matched, separated by commas.
    pub matched_guards: String,
    /// The candidates that were skipped or failed, in order, with the reasons: `vllm-local=exhausted,openai=503`.
    pub attempts: String,
    /// For each provider whose guards were evaluated, its index and their refusal.
    pub verdicts: Vec<(usize, Option<Refusal>)>,
}

/// Why a candidate was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// The request did not fit a budget.
    Budget(Case),
    /// The candidate is cooling down.
    Cooldown,
    /// The candidate responded with this status.
    Status(u16),
    /// No connection was established.
    Connect,
    /// The connection was closed, or the timeout expired, before a response.
    Reset,
}

// === impl DecisionLog ===

impl DecisionLog {
    /// Records that a candidate was skipped, in the log and in the metrics.
    pub fn skip(&mut self, gate: &Gate, candidate: Candidate<'_>, why: SkipReason, env: &Environment<'_>) {
        if !self.attempts.is_empty() {
            self.attempts.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(self.attempts, "{}={why}", gate.policy.provider_name(candidate.provider));
        if let Some((_, model)) = gate.model(candidate) {
            env.count(&model.series.skipped.of(why.label()), 1);
        }
    }
}

// === impl SkipReason ===

impl SkipReason {
    /// Returns the value of the metric label `reason`. All 5xx statuses share one value, to bound the number of
    /// time series.
    fn label(self) -> &'static str {
        match self {
            Self::Budget(Case::BudgetExhausted) => "exhausted",
            Self::Budget(Case::BudgetReserved) => "reserved",
            Self::Budget(Case::ContextLengthExceeded) => "too_large",
            Self::Budget(_) => "ledger",
            Self::Cooldown => "cooldown",
            Self::Status(401) => "401",
            Self::Status(403) => "403",
            Self::Status(404) => "404",
            Self::Status(408) => "408",
            Self::Status(429) => "429",
            Self::Status(_) => "5xx",
            Self::Connect => "connect",
            Self::Reset => "reset",
        }
    }
}

impl Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            why => f.write_str(why.label()),
        }
    }
}
