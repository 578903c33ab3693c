//! Manifests: what users write, and what a gateway keeps of it.
//!
//! The filter's own configuration code parses and validates them. This module adds where each one is from, so that an error has the file,
//! the document and the line.

mod kind;
mod position;
mod set;
mod source;

pub use kind::Kind;
pub use set::{Change, ManifestSet, default_gateway};
pub use source::{Document, read_all};

use serde::Deserialize;
use serde_json::Value;

/// One manifest. Its value has passed the filter's own validation.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The whole manifest.
    pub value: Value,
}

/// A reference to a key of a secret: `spec.apiKeySecretRef`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct SecretReference {
    /// The name of the secret.
    pub name: String,
    /// The key within it.
    pub key: String,
}

// === impl SecretReference ===

impl SecretReference {
    /// Returns the environment variable from which a filter without `pai` reads the value: `PAI_SECRET_VLLM_TOKEN_API_KEY`.
    pub fn variable(&self) -> String {
        let part = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
        format!("PAI_SECRET_{}_{}", part(&self.name), part(&self.key))
    }
}

// === impl Manifest ===

impl Manifest {
    /// Returns the manifest of a document whose kind and name can be read. Only the filter's validation shows whether it is valid.
    pub fn from_value(value: Value, created: u64) -> Option<Self> {
        let kind = Kind::from_name(value.get("kind")?.as_str()?)?;
        let name = value.get("metadata")?.get("name")?.as_str()?.to_owned();
        Some(Self { kind, name, created, value })
    }

    /// Returns `spec`, or null.
    pub fn spec(&self) -> &Value {
        self.value.get("spec").unwrap_or(&Value::Null)
    }

    /// Returns the text of a field of `spec`, empty where it is not a string.
    pub fn spec_text(&self, field: &str) -> &str {
        self.spec().get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the strings of a list of `spec`.
    pub fn spec_list(&self, field: &str) -> Vec<String> {
        let list = self.spec().get(field).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Returns whether developers may use a provider.
    pub fn is_external(&self) -> bool {
        self.spec().pointer("/externalAccess/enabled") == Some(&Value::Bool(true))
    }

    /// Returns the secret that a provider refers to.
    pub fn secret_reference(&self) -> Option<SecretReference> {
        let reference = self.spec().get("apiKeySecretRef")?;
        let part = |field| reference.get(field).and_then(Value::as_str).map(str::to_owned);
        Some(SecretReference { name: part("name")?, key: part("key")? })
    }

    /// Returns `modelprovider.pai.io/vllm-local`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind.resource(), self.name)
    }
}
