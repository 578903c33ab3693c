//! What the filter answers by itself: the models that a caller may use, and for operators the state of the gateway.

pub mod model_providers;
pub mod models;

use serde::Serialize;

use crate::http::refusal::Reply;

/// Builds a 200 with this document. A document consists of strings and numbers, so it has a JSON form.
pub fn json(document: &impl Serialize) -> Reply {
    Reply::json(serde_json::to_vec(document).unwrap_or_default())
}
