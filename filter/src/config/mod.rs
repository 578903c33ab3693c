//! The configuration: manifests as written, and how they become a policy.
//!
//! A configuration is a stream of *manifests*. `document` parses its text into trees of bounded size, `manifest` reads what
//! every manifest has, and `provider`, `agent`, `access_key` and `gateway` read the rest, field by field, into the types of
//! [`crate::policy`]. Reading goes on after an error, so that all errors are reported. One error refuses the whole
//! configuration.

mod access_key;
mod agent;
mod cors;
mod document;
mod endpoint;
mod field;
mod gateway;
mod guard;
mod identifier;
mod invalid;
mod manifest;
mod node;
mod path;
mod provider;
mod quote;
mod references;
mod secret;
mod suggestion;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::policy::{Gateway, Policy, Provider};

use self::access_key::UnresolvedKey;
use self::agent::UnresolvedAgent;
use self::field::Field;
pub use self::invalid::{ConfigError, InvalidConfig};
use self::invalid::{Errors, Reported};
use self::manifest::{Kind, Manifest};
use self::path::Path;
use self::references::{Known, Unreadable};
use self::secret::SecretRef;

/// Compiles a plugin configuration. `env` looks up an environment variable of the VM.
pub fn load(text: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Policy, InvalidConfig> {
    let errors = Errors::default();
    let policy = read(text, env, &errors).map(|policy| Policy { version: Sha256::digest(text).into(), ..policy });
    errors.into_result(policy)
}

/// Parses the text of a configuration into its manifests, as they are written. Only their syntax is checked.
pub fn parse(text: &[u8]) -> Result<Vec<serde_json::Value>, InvalidConfig> {
    let errors = Errors::default();
    let mut manifests = Vec::new();
    let read = document::read(text, &errors, &mut |document| manifests.extend(document.map(Field::into_json)));
    errors.into_result(read.map(|()| manifests))
}

fn read(text: &[u8], env: &dyn Fn(&str) -> Option<String>, errors: &Errors) -> Result<Policy, Reported> {
    let mut manifests = Manifests {
        errors,
        names: BTreeSet::new(),
        unreadable: Unreadable::default(),
        providers: Vec::new(),
        secrets: Vec::new(),
        agents: Vec::new(),
        keys: Vec::new(),
        gateway: None,
    };
    document::read(text, errors, &mut |document| manifests.add(document))?;
    manifests.compile(env)
}

/// The manifests that were read so far.
struct Manifests<'a> {
    errors: &'a Errors,
    names: BTreeSet<(Kind, Box<str>)>,
    unreadable: Unreadable,
    providers: Vec<Provider>,
    /// The references to the credentials of the providers, in their order.
    secrets: Vec<Option<SecretRef<'a>>>,
    agents: Vec<UnresolvedAgent>,
    keys: Vec<UnresolvedKey>,
    gateway: Option<Manifest<'a>>,
}

// === impl Manifests ===

impl<'a> Manifests<'a> {
    fn add(&mut self, document: Result<Field<'a>, Reported>) {
        let Ok(document) = document else { return self.unreadable.add(None) };
        let name = manifest::written_name(&document).map(Box::from);
        if self.read(document).is_err() {
            self.unreadable.add(name);
        }
    }

    fn read(&mut self, document: Field<'a>) -> Result<(), Reported> {
        let manifest = Manifest::read(document)?;
        let unique = self.check_name(&manifest);
        match manifest.kind {
            Kind::ModelProvider => {
                let (provider, secret) = provider::read(manifest)?;
                unique?;
                self.providers.push(provider);
                self.secrets.push(secret);
                Ok(())
            }
            Kind::Agent => {
                let agent = agent::read(manifest)?;
                unique.map(|()| self.agents.push(agent))
            }
            Kind::AccessKey => {
                let key = access_key::read(manifest)?;
                unique.map(|()| self.keys.push(key))
            }
            Kind::Gateway => self.set_gateway(manifest, unique),
        }
    }

    fn check_name(&mut self, manifest: &Manifest<'_>) -> Result<(), Reported> {
        let name = manifest.name.clone()?;
        if self.names.insert((manifest.kind, name)) {
            return Ok(());
        }
        let path = manifest.path.key("metadata").key("name");
        Err(self.errors.report(&path, "is used twice; names are unique per kind"))
    }

    fn set_gateway(&mut self, manifest: Manifest<'a>, unique: Result<(), Reported>) -> Result<(), Reported> {
        let Some(first) = &self.gateway else {
            self.gateway = Some(manifest);
            return Ok(());
        };
        unique?;
        let first = first.name.as_ref().map_or("another", |name| name);
        let reason = format!("only one Gateway is allowed, and `{first}` is already there");
        Err(self.errors.report(&manifest.path.key("kind"), reason))
    }

    /// Resolves the references between manifests, and those to secrets.
    fn compile(self, env: &dyn Fn(&str) -> Option<String>) -> Result<Policy, Reported> {
        let Self { errors, names: _, unreadable, mut providers, secrets, agents, keys, gateway } = self;
        // A gateway starts without a provider, so that it is there when the first one is applied.
        if providers.is_empty() && gateway.is_none() && unreadable.is_empty() {
            return Err(errors.report(&Path::root("configuration"), "contains no ModelProvider; write at least one"));
        }
        let credentials = match &gateway {
            Some(gateway) if gateway::leaves_credentials(gateway) => Ok(secret::from_proxy(&secrets)),
            _ => secret::look_up(secrets, env),
        };
        let key_names: Vec<Box<str>> = keys.iter().map(|key| key.name().into()).collect();
        let known = Known { providers: &providers, keys: &key_names, unreadable: &unreadable };
        let agents = agent::compile(agents, &known, errors);
        let keys = access_key::compile(keys, &known, errors);
        let gateway = gateway.map_or_else(|| Ok(Gateway::default()), |manifest| gateway::compile(manifest, &known));
        for (provider, credential) in providers.iter_mut().zip(credentials?) {
            provider.credential = credential;
        }
        Ok(Policy { agents: agents?, keys: keys?, gateway: gateway?, providers, ..Policy::default() })
    }
}
