//! Credentials, which stand in the environment of the VM and never in the configuration.
//!
//! A reference `{name: vllm-token, key: api-key}` is read from `PAI_SECRET_VLLM_TOKEN_API_KEY`; two different references never
//! share a variable.

use std::collections::BTreeMap;

use crate::policy::Credential;

use super::field::Field;
use super::invalid::{InvalidConfig, Reason};
use super::word;

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
    taken: BTreeMap<String, SecretRef>,
}

fn part(text: &str) -> Result<Box<str>, Reason> {
    word::visible(text, MAX_BYTES).map(Box::from)
}

// === impl SecretRef ===

impl SecretRef {
    fn variable(&self) -> String {
        let part = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
        format!("PAI_SECRET_{}_{}", part(&self.name), part(&self.key))
    }
}

// === impl Secrets ===

impl<'a> Secrets<'a> {
    pub(super) fn new(env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { env, taken: BTreeMap::new() }
    }

    /// Reads an `apiKeySecretRef` and the credential that it means.
    pub(super) fn credential(&mut self, reference: Field) -> Result<Credential, InvalidConfig> {
        let mut fields = reference.fields(FIELDS)?;
        let name = fields.required("name", |name| name.text(part))?;
        let key = fields.required("key", |key| key.text(part))?;
        self.look_up(SecretRef { name, key }).map_err(|reason| fields.refuse(reason))
    }

    fn look_up(&mut self, reference: SecretRef) -> Result<Credential, Reason> {
        let variable = reference.variable();
        let taken = self.taken.entry(variable.clone()).or_insert_with(|| reference.clone());
        if *taken != reference {
            return Err(format!("another apiKeySecretRef meets this one in {variable}; rename one of the two").into());
        }
        let Some(value) = (self.env)(&variable) else {
            return Err(format!("environment variable {variable} is missing; hand it to the VM").into());
        };
        match value.trim() {
            "" => Err(format!("environment variable {variable} is empty").into()),
            value if !value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(format!("environment variable {variable} must hold visible ASCII characters only").into())
            }
            value => Ok(Credential::new(format!("Bearer {value}"))),
        }
    }
}
