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

use crate::access_key::AccessKeys;
use crate::policy::{Gateway, Policy, Provider};

pub use self::invalid::InvalidConfig;
use self::manifest::{Kind, Manifest};
use self::secret::Secrets;

/// Compiles a plugin configuration. `env` looks up an environment variable of the VM.
pub fn load(text: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Policy, InvalidConfig> {
    let mut names = BTreeSet::new();
    let mut secrets = Secrets::new(env);
    let (mut providers, mut agents, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let mut gateway: Option<Manifest> = None;
    for document in document::split(text)? {
        let manifest = Manifest::read(document)?;
        if !names.insert((manifest.kind, manifest.name.clone())) {
            return Err(manifest.refuse("metadata.name", "is used twice; names are unique per kind"));
        }
        match manifest.kind {
            Kind::ModelProvider => providers.push(provider::compile(manifest, &mut secrets)?),
            Kind::Agent => agents.push(manifest),
            Kind::AccessKey => keys.push(manifest),
            Kind::Gateway => only_one(&mut gateway, manifest)?,
        }
    }
    if providers.is_empty() {
        return Err(InvalidConfig::new("configuration", "holds no ModelProvider; write at least one"));
    }
    let agents = agent::compile(agents, &providers)?;
    let keys = access_key::compile(keys, &providers)?;
    let gateway = compile_gateway(gateway, &providers, &keys)?;
    Ok(Policy { providers, agents, keys, gateway })
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
