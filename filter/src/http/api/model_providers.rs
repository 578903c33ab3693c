//! `GET /pai/v1/model-providers`: the providers and their budgets.

use std::collections::BTreeMap;

use serde::Serialize;

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelProviders {
    /// When the ledger began, in RFC 3339.
    pub ledger_since: String,
    /// The providers in the order of the configuration.
    pub items: Vec<ModelProvider>,
}

/// One provider.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelProvider {
    /// `metadata.name`.
    pub name: String,
    /// Its dialect.
    pub provider: &'static str,
    /// Its URL as written.
    pub endpoint: String,
    /// The cap of its daily budget.
    pub max_tokens_per_day: Option<u64>,
    /// Tokens settled in the current UTC day, all callers.
    pub used_today: u64,
    /// Tokens of requests in flight.
    pub reserved: u64,
    /// The developers' share.
    pub external: External,
    /// When something was last charged or admitted, in RFC 3339.
    pub last_used: Option<String>,
    /// Seconds since this ledger first saw the name.
    pub age: u64,
    /// The entries of `allowedModels`.
    pub models: Vec<String>,
    /// What is left of the cap; `null` without a cap.
    pub remaining: Option<u64>,
    /// When the budget is whole again, in RFC 3339.
    pub resets_at: String,
    /// The known context lengths of its models, in tokens.
    pub context_lengths: BTreeMap<String, u64>,
    /// Models that the answering worker skips after failures.
    pub cooldowns: Vec<Cooldown>,
    /// The models that the server itself lists; `null` where that is not known, or the provider has no callouts.
    pub listed: Option<Vec<String>>,
}

/// A model that is cooling down.
#[derive(Debug, Serialize)]
pub struct Cooldown {
    /// The entry of `allowedModels`, `*` where there is no list.
    pub model: String,
    /// Until when, in RFC 3339.
    pub until: String,
}

/// The developers' share of a provider.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Whether developers may use the provider.
    pub enabled: bool,
    /// The cap of their daily budget.
    pub max_tokens_per_day: Option<u64>,
    /// Tokens settled in the current UTC day.
    pub used_today: u64,
    /// Tokens of requests in flight.
    pub reserved: u64,
}
