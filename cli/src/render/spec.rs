//! What the configuration of Envoy depends on in each kind of manifest. All other fields are the filter's.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;
use crate::manifest::{Manifest, SecretReference};

/// `spec` of a `ModelProvider`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProviderSpec {
    pub(super) provider: Dialect,
    pub(super) endpoint: String,
    pub(super) api_key_secret_ref: Option<SecretReference>,
}

/// `spec` of an `Agent`.
#[derive(Debug, Deserialize)]
pub(super) struct AgentSpec {
    pub(super) models: Vec<String>,
}

/// `spec` of a `Gateway`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GatewaySpec {
    /// Whole, but it may be written as a float.
    pub(super) max_request_bytes: Option<f64>,
    pub(super) callouts: Option<BTreeMap<String, String>>,
    pub(super) credentials: Option<String>,
    pub(super) identity_header: Option<String>,
}

/// `spec.provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dialect {
    Vllm,
    OpenAi,
    Anthropic,
}

/// Reads `spec`; a missing one is empty.
pub(super) fn read<T: DeserializeOwned>(manifest: &Manifest) -> Result<T, Failure> {
    let spec = manifest.value.get("spec").filter(|spec| !spec.is_null()).cloned();
    let spec = spec.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    serde_json::from_value(spec).map_err(|error| refused(manifest, "spec", error))
}

/// Builds the refusal of a manifest because of one of its fields.
pub(super) fn refused(manifest: &Manifest, field: &str, reason: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("{} {}: {field}: {reason}", manifest.kind.name(), manifest.name))
}
