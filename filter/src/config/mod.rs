//! Manifests as written, and how they become a policy.
//!
//! A configuration is a stream of *manifests*. `document` turns its text into trees of bounded size, `manifest` reads
//! what every manifest has, and `provider`, `agent`, `access_key` and `gateway` read the rest, field by field, into the types of
//! [`crate::policy`]. One bad value refuses the whole configuration, with one line that names the manifest and the field.

mod access_key;
mod agent;
mod document;
mod endpoint;
mod field;
mod gateway;
mod guard;
mod invalid;
mod manifest;
mod node;
mod provider;
mod secret;
#[cfg(test)]
mod tests;
mod word;

use std::collections::BTreeSet;

use crate::identity::access_key::AccessKeys;
use crate::policy::{Gateway, Policy, Provider};

pub use self::invalid::InvalidConfig;
use self::manifest::{Kind, Manifest};
use self::secret::Secrets;

/// What was read of a configuration so far.
struct Draft<'a> {
    names: BTreeSet<(Kind, Box<str>)>,
    secrets: Secrets<'a>,
    providers: Vec<Provider>,
    agents: Vec<Manifest>,
    keys: Vec<access_key::Draft>,
    gateway: Option<Manifest>,
}

/// Compiles a plugin configuration. `env` looks up an environment variable of the VM.
pub fn load(text: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Policy, InvalidConfig> {
    let mut draft = Draft {
        names: BTreeSet::new(),
        secrets: Secrets::new(env),
        providers: Vec::new(),
        agents: Vec::new(),
        keys: Vec::new(),
        gateway: None,
    };
    document::each(text, &mut |document| draft.add(Manifest::read(document)?))?;
    draft.compile()
}

// === impl Draft ===

impl Draft<'_> {
    fn add(&mut self, manifest: Manifest) -> Result<(), InvalidConfig> {
        if !self.names.insert((manifest.kind, manifest.name.clone())) {
            return Err(manifest.refuse("metadata.name", "is used twice; names are unique per kind"));
        }
        match manifest.kind {
            Kind::ModelProvider => self.providers.push(provider::compile(manifest, &mut self.secrets)?),
            Kind::Agent => self.agents.push(manifest),
            Kind::AccessKey => self.keys.push(access_key::read(manifest)?),
            Kind::Gateway => only_one(&mut self.gateway, manifest)?,
        }
        Ok(())
    }

    /// Puts together what refers to each other.
    fn compile(self) -> Result<Policy, InvalidConfig> {
        let Self { names: _, secrets: _, providers, agents, keys, gateway } = self;
        if providers.is_empty() {
            return Err(InvalidConfig::new("configuration", "holds no ModelProvider; write at least one"));
        }
        let agents = agent::compile(agents, &providers)?;
        let keys = access_key::compile(keys, &providers)?;
        let gateway = compile_gateway(gateway, &providers, &keys)?;
        Ok(Policy { providers, agents, keys, gateway })
    }
}

fn only_one(gateway: &mut Option<Manifest>, manifest: Manifest) -> Result<(), InvalidConfig> {
    if let Some(first) = gateway {
        let reason = format!("only one Gateway is allowed, and `{}` is there already", first.name);
        return Err(manifest.refuse("kind", reason));
    }
    *gateway = Some(manifest);
    Ok(())
}

fn compile_gateway(manifest: Option<Manifest>, providers: &[Provider], keys: &AccessKeys) -> Result<Gateway, InvalidConfig> {
    match manifest {
        Some(manifest) => gateway::compile(manifest, providers, keys),
        None => Ok(Gateway::default()),
    }
}
