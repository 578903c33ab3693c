//! What the filter answers by itself: the models that a caller may use, and for operators the state of the gateway.

pub mod access_keys;
pub mod agents;
pub mod model_providers;
pub mod models;
pub mod page;
pub mod status;

use serde::Serialize;

use crate::http::refusal::Reply;

/// What a subject has used of its daily budget.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Tokens settled in the current UTC day; `null` for a caller whose tokens are not limited, which the ledger does not count.
    pub used_today: Option<u64>,
    /// Tokens of requests in flight; `null` likewise.
    pub reserved: Option<u64>,
    /// What is left of the cap; `null` without a cap.
    pub remaining: Option<u64>,
    /// When the budget is whole again, in RFC 3339.
    pub resets_at: String,
    /// When something was last charged or admitted, in RFC 3339.
    pub last_used: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize)]
pub struct List<T> {
    /// The items, sorted by name.
    pub items: Vec<T>,
    /// The name to continue `after`; `null` on the last page.
    pub next: Option<String>,
}

/// Builds a 200 with this document. A document consists of strings and numbers, so it has a JSON form.
pub fn json(document: &impl Serialize) -> Reply {
    Reply::json(serde_json::to_vec(document).unwrap_or_default())
}
