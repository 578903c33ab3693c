//! `GET /v1/models` and `GET /v1/models/{reference}`: the models that this caller may use.

use serde::Serialize;

use crate::http::api::json;
use crate::http::refusal::{Refusal, Reply};
use crate::identity::model_access::ModelAccess;
use crate::identity::model_refusals::not_found;
use crate::openai::is_model_name;

#[derive(Serialize)]
struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

/// One model, as a caller names it.
#[derive(Debug, Serialize)]
pub struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
    /// The context length, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<u64>,
}

/// Answers `GET /v1/models` with these models.
pub fn list(data: Vec<Model>) -> Reply {
    json(&ModelList { object: "list", data })
}

/// Answers `GET /v1/models/{reference}`: 200 if the caller may use the model, listed or not.
/// `context_length` returns that of a model of the provider at an index.
pub fn retrieve(
    access: &ModelAccess<'_>,
    name: &str,
    context_length: impl FnOnce(usize, &str) -> Option<u64>,
) -> Result<Reply, Refusal> {
    let found = Some(name).filter(|name| is_model_name(name)).and_then(|name| access.resolve(name).ok());
    let candidate = found.ok_or_else(|| not_found(access, name))?;
    let length = context_length(candidate.provider, candidate.model);
    Ok(json(&Model::new(access.provider_name(candidate.provider), candidate.model, length)))
}

impl Model {
    /// Creates the entry of a model of `provider`.
    pub fn new(provider: &str, model: &str, max_model_len: Option<u64>) -> Self {
        Self { id: format!("{provider}/{model}"), object: "model", created: 0, owned_by: provider.to_owned(), max_model_len }
    }
}
