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

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
}

/// Answers `GET /v1/models`.
pub fn list(access: &ModelAccess<'_>) -> Reply {
    let data = access.references().map(|(provider, id)| Model::new(id, &provider.name)).collect();
    json(&ModelList { object: "list", data })
}

/// Answers `GET /v1/models/{reference}`: 200 if the caller may use the model, listed or not.
pub fn retrieve(access: &ModelAccess<'_>, name: &str) -> Result<Reply, Refusal> {
    let found = Some(name).filter(|name| is_model_name(name)).and_then(|name| access.resolve(name).ok());
    let candidate = found.ok_or_else(|| not_found(access, name))?;
    let provider = access.provider_name(candidate.provider);
    Ok(json(&Model::new(format!("{provider}/{}", candidate.model), provider)))
}

impl Model {
    fn new(id: String, provider: &str) -> Self {
        Self { id, object: "model", created: 0, owned_by: provider.to_owned() }
    }
}
