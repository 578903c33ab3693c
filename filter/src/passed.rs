//! Candidates that were passed over, and why.

use std::fmt::{self, Display, Write as _};

use crate::gate::Gate;
use crate::host::Host;
use crate::policy::Candidate;
use crate::refusal::Case;

/// What the access log shows of them, in their order: `vllm-local=spent,openai=503`.
#[derive(Debug, Default)]
pub struct PassedOver(String);

/// Why a candidate was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
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

// === impl PassedOver ===

impl PassedOver {
    /// Adds one, and counts it.
    pub fn note(&mut self, gate: &Gate, candidate: Candidate<'_>, why: Why, host: &Host<'_>) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(self.0, "{}={why}", gate.policy.provider_name(candidate.provider));
        if let Some((_, model)) = gate.model(candidate) {
            model.series.passed_over.count(host.meter, why.label());
        }
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.0
    }
}

// === impl Why ===

impl Why {
    /// The same for a metric, of which there are not to be too many.
    fn label(self) -> &'static str {
        match self {
            Self::Budget(Case::Spent) => "spent",
            Self::Budget(Case::Reserved) => "reserved",
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

impl Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            why => f.write_str(why.label()),
        }
    }
}
