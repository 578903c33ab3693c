//! Manifests as written, and how they become a policy.
//!
//! A configuration is a stream of *manifests*. `document` turns its text into trees of bounded size, `manifest` reads
//! what every manifest has, and `provider` and `gateway` read the rest, field by field, into the types of
//! [`crate::policy`]. One bad value refuses the whole configuration, with one line that names the manifest and the field.

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

use crate::policy::{Gateway, Policy, Provider};

pub use self::invalid::InvalidConfig;
use self::manifest::{Kind, Manifest};
use self::secret::Secrets;

/// Compiles a plugin configuration. `env` looks up an environment variable of the VM.
pub fn load(text: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Policy, InvalidConfig> {
    let mut names = BTreeSet::new();
    let mut secrets = Secrets::new(env);
    let mut providers = Vec::new();
    let mut gateway: Option<Manifest> = None;
    for document in document::split(text)? {
        let manifest = Manifest::read(document)?;
        if !names.insert((manifest.kind, manifest.name.clone())) {
            return Err(manifest.refuse("metadata.name", "is used twice; names are unique per kind"));
        }
        match manifest.kind {
            Kind::ModelProvider => providers.push(provider::compile(manifest, &mut secrets)?),
            Kind::Gateway => only_one(&mut gateway, manifest)?,
        }
    }
    if providers.is_empty() {
        return Err(InvalidConfig::new("configuration", "holds no ModelProvider; write at least one"));
    }
    let gateway = compile_gateway(gateway, &providers)?;
    Ok(Policy { providers, gateway })
}

fn only_one(gateway: &mut Option<Manifest>, manifest: Manifest) -> Result<(), InvalidConfig> {
    if let Some(first) = gateway {
        let reason = format!("only one Gateway is allowed, and `{}` is there already", first.name);
        return Err(manifest.refuse("kind", reason));
    }
    *gateway = Some(manifest);
    Ok(())
}

fn compile_gateway(manifest: Option<Manifest>, providers: &[Provider]) -> Result<Gateway, InvalidConfig> {
    match manifest {
        Some(manifest) => gateway::compile(manifest, providers),
        None => Ok(Gateway::default()),
    }
}
