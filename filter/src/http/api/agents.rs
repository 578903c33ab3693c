//! `GET /pai/v1/agents`: the agents and their budgets.

use serde::Serialize;

use crate::http::api::Usage;

/// One agent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// `metadata.name`.
    pub name: String,
    /// The references that it may use, in the order of its fallback.
    pub models: Vec<String>,
    /// The cap of its daily budget.
    pub max_tokens_per_day: Option<u64>,
    /// Its use.
    #[serde(flatten)]
    pub usage: Usage,
}
