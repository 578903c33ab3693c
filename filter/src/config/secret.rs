//! Credentials, which are in the environment of the VM and never in the configuration.
//!
//! A reference `{name: vllm-token, key: api-key}` is read from `PAI_SECRET_VLLM_TOKEN_API_KEY`; two different references never
//! share a variable.

use std::collections::BTreeMap;

use crate::policy::Credential;

use super::field::Field;
use super::identifier;
use super::invalid::{Reason, Reported};

pub(super) const FIELDS: &[&str] = &["name", "key"];

/// The longest name or key of a Kubernetes Secret.
const MAX_BYTES: usize = 253;

/// `apiKeySecretRef` as written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SecretRef {
    name: Box<str>,
    key: Box<str>,
}

/// The environment, and the references that were looked up in it.
pub(super) struct Secrets<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    /// By variable.
    references: BTreeMap<String, SecretRef>,
}

fn secret_name(text: &str) -> Result<Box<str>, Reason> {
    identifier::visible_ascii(text, MAX_BYTES).map(Box::from)
}

// === impl SecretRef ===

impl SecretRef {
    /// Returns the name of the environment variable.
    fn variable(&self) -> String {
        let part = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
        format!("PAI_SECRET_{}_{}", part(&self.name), part(&self.key))
    }
}

// === impl Secrets ===

impl<'a> Secrets<'a> {
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { env, references: BTreeMap::new() }
    }

    /// Reads an `apiKeySecretRef` and looks its credential up.
    pub(super) fn credential(&mut self, reference: Field<'_>) -> Result<Credential, Reported> {
        let mut fields = reference.fields(FIELDS)?;
        let name = fields.required("name", |name| name.text(secret_name));
        let key = fields.required("key", |key| key.text(secret_name));
        self.look_up(SecretRef { name: name?, key: key? }).map_err(|reason| fields.refuse(reason))
    }

    fn look_up(&mut self, reference: SecretRef) -> Result<Credential, Reason> {
        let variable = reference.variable();
        let first = self.references.entry(variable.clone()).or_insert_with(|| reference.clone());
        if *first != reference {
            return Err(
                format!("another apiKeySecretRef has the same environment variable {variable}; rename one of the two").into()
            );
        }
        let Some(value) = (self.env)(&variable) else {
            return Err(format!("environment variable {variable} is not set; pass it to the VM").into());
        };
        match value.trim() {
            "" => Err(format!("environment variable {variable} is empty").into()),
            value if !value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(format!("environment variable {variable} must contain visible ASCII characters only").into())
            }
            value => Ok(Credential::new(format!("Bearer {value}"))),
        }
    }
}
