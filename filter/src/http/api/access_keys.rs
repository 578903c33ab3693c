//! `GET /pai/v1/access-keys`: the access keys and their budgets. It shows no key and no hash.

use serde::Serialize;

use crate::http::api::Usage;

/// One access key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKey {
    /// `metadata.name`.
    pub name: String,
    /// The entries of its `models`; `null` where it may use whatever is open to developers.
    pub models: Option<Vec<String>>,
    /// The cap of its daily budget.
    pub max_tokens_per_day: Option<u64>,
    /// Its tokens per minute.
    pub tokens_per_minute: Option<u64>,
    /// Its requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Its use.
    #[serde(flatten)]
    pub usage: Usage,
    /// When it expires, in RFC 3339.
    pub expires: Option<String>,
    /// Whether it is refused.
    pub disabled: bool,
}
