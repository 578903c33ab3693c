//! What the access log is to say of the way to an answer: guards that have found something, candidates that were passed over.

use std::fmt::{self, Display, Write as _};

use crate::exchange::environment::Environment;
use crate::exchange::gate::Gate;
use crate::http::refusal::Case;
use crate::policy::Candidate;

/// What access logs say of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessLogEntry {
    /// Name of the provider; empty where the request got to none.
    pub provider: String,
    /// Model id; empty likewise.
    pub model: String,
    /// Who asked.
    pub subject: String,
    /// `allowed`, or the code of the refusal.
    pub decision: &'static str,
    /// The guards that have found something, with commas between them; empty for none.
    pub guard: String,
    /// Candidates that were passed over, and why; empty for none.
    pub attempts: String,
    /// Tokens charged, `None` where no provider was asked.
    pub tokens: Option<(u64, u64)>,
}

/// Notes about one request.
#[derive(Debug, Default)]
pub struct DecisionLog {
    /// Names of the guards that have found something, with commas between them.
    pub matched_guards: String,
    /// Candidates that were passed over and why, in their order: `vllm-local=spent,openai=503`.
    pub attempts: String,
}

/// Why a candidate was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A budget stood in the way.
    Budget(Case),
    /// It has failed everybody of late.
    Resting,
    /// It answered with this status.
    Status(u16),
    /// No connection came about.
    Connect,
    /// The connection, or the time, ended before it had answered.
    Reset,
}

// === impl DecisionLog ===

impl DecisionLog {
    /// A candidate was passed over: notes it, and counts it.
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
    /// The same for a metric, of which there are not to be too many.
    fn label(self) -> &'static str {
        match self {
            Self::Budget(Case::BudgetExhausted) => "spent",
            Self::Budget(Case::BudgetReserved) => "reserved",
            Self::Budget(Case::ContextLengthExceeded) => "too_large",
            Self::Budget(_) => "ledger",
            Self::Resting => "resting",
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
