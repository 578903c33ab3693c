//! Credentials, which are in the environment of the VM and never in the configuration.
//!
//! A reference `{name: vllm-token, key: api-key}` is read from `PAI_SECRET_VLLM_TOKEN_API_KEY`; two different references never
//! share a variable. With `credentials: proxy` nothing is read: the proxy has the secrets.

use std::collections::BTreeMap;

use crate::policy::{Credential, ProviderCredential};

use super::field::{Field, Fields};
use super::identifier;
use super::invalid::{Reason, Reported};

pub(super) const FIELDS: &[&str] = &["name", "key"];

/// The longest name or key of a Kubernetes Secret.
const MAX_BYTES: usize = 253;

/// `apiKeySecretRef` as written.
#[derive(Debug)]
pub(super) struct SecretRef<'a> {
    name: Box<str>,
    key: Box<str>,
    /// Reports errors of it.
    fields: Fields<'a>,
}

fn secret_name(text: &str) -> Result<Box<str>, Reason> {
    identifier::visible_ascii(text, MAX_BYTES).map(Box::from)
}

/// Reads an `apiKeySecretRef`.
pub(super) fn read(reference: Field<'_>) -> Result<SecretRef<'_>, Reported> {
    let mut fields = reference.fields(FIELDS)?;
    let name = fields.required("name", |name| name.text(secret_name));
    let key = fields.required("key", |key| key.text(secret_name));
    Ok(SecretRef { name: name?, key: key?, fields })
}

/// Looks the credentials of `references` up in the environment. All errors are reported.
pub(super) fn look_up(
    references: Vec<Option<SecretRef<'_>>>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<ProviderCredential>, Reported> {
    let mut first = BTreeMap::new();
    let mut failed = None;
    let mut look_up = |reference: Option<SecretRef<'_>>| {
        let Some(reference) = reference else { return ProviderCredential::None };
        match reference.credential(&mut first, env) {
            Ok(credential) => ProviderCredential::Filter(credential),
            Err(reason) => {
                failed = Some(reference.fields.refuse(reason));
                ProviderCredential::None
            }
        }
    };
    let credentials = references.into_iter().map(&mut look_up).collect();
    failed.map_or(Ok(credentials), Err)
}

/// Returns the credentials of providers with these references, which the proxy adds.
pub(super) fn from_proxy(references: &[Option<SecretRef<'_>>]) -> Vec<ProviderCredential> {
    let credential = |reference: &Option<_>| if reference.is_some() { ProviderCredential::Proxy } else { ProviderCredential::None };
    references.iter().map(credential).collect()
}

// === impl SecretRef ===

impl SecretRef<'_> {
    /// Returns the name of the environment variable.
    fn variable(&self) -> String {
        let part = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
        format!("PAI_SECRET_{}_{}", part(&self.name), part(&self.key))
    }

    /// Looks the credential up. `first` contains the first reference of each variable.
    fn credential(
        &self,
        first: &mut BTreeMap<String, [Box<str>; 2]>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Credential, Reason> {
        let variable = self.variable();
        let written = [&self.name, &self.key].map(Clone::clone);
        if *first.entry(variable.clone()).or_insert_with(|| written.clone()) != written {
            return Err(
                format!("another apiKeySecretRef has the same environment variable {variable}; rename one of the two").into()
            );
        }
        let Some(value) = env(&variable) else {
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
