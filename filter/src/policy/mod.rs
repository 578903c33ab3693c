//! The compiled configuration: who may use which models, and within which caps.
//!
//! A [`Policy`] is built once per configuration by [`crate::config`], and never changes. It is fully validated: requests are served
//! from it without further checks.

mod cors;
mod gateway;
mod model_allowlist;
pub mod model_resolution;
pub mod name_pattern;
mod provider;

use crate::identity::access_key::AccessKeys;
use crate::identity::agent::Agents;

pub use cors::{AllowedOrigin, Cors, is_label};
pub use gateway::{Audience, Callout, Credentials, Gateway, Operators, Routing};
pub use model_allowlist::ModelAllowlist;
pub use provider::{Credential, Dialect, Endpoint, ExternalAccess, LimitField, PromptEstimate, Provider, ProviderCredential};

/// A compiled configuration.
#[derive(Debug, Default)]
pub struct Policy {
    /// SHA-256 of the text of the configuration.
    pub version: [u8; 32],
    /// Providers in the order of the configuration.
    pub providers: Vec<Provider>,
    /// Workloads that the configuration names.
    pub agents: Agents,
    /// The access keys of developers.
    pub keys: AccessKeys,
    /// The settings of this proxy.
    pub gateway: Gateway,
}

/// A model of a provider that may serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The index of the provider in [`Policy::providers`].
    pub provider: usize,
    /// The model id at the provider.
    pub model: &'a str,
}

// === impl Policy ===

impl Policy {
    /// Returns the name of the provider at this index; empty if there is none.
    pub fn provider_name(&self, provider: usize) -> &str {
        self.providers.get(provider).map_or("", |provider| &provider.name)
    }

    /// Returns the dialect of the provider at this index; OpenAI's own if there is none.
    pub fn dialect(&self, provider: usize) -> Dialect {
        self.providers.get(provider).map_or(Dialect::OpenAi, |provider| provider.dialect)
    }

    /// Returns where the filter's own requests to the provider at this index go; `None` if it makes none.
    pub fn callout(&self, provider: usize) -> Option<&Callout> {
        self.gateway.callouts.iter().find(|callout| callout.provider == provider)
    }

    /// Returns whether routing is fixed to the provider of this name.
    pub fn is_fixed_to(&self, provider: Option<&[u8]>) -> bool {
        let name = self.providers.first().map(|only| only.name.as_bytes());
        self.gateway.routing == Routing::Fixed && name.is_some() && name == provider
    }

    /// Splits `<provider>/<model-id>` if a provider has that name. Returns the provider's index and the model id.
    pub fn split_reference<'a>(&self, name: &'a str) -> Option<(usize, &'a str)> {
        split_reference(&self.providers, name)
    }

    /// Returns whether callers without an identity or a key are admitted.
    pub fn admits_anonymous(&self) -> bool {
        match self.gateway.audience {
            Audience::External => false,
            Audience::Agents => self.agents.is_empty(),
            Audience::Auto => self.is_open(),
        }
    }

    /// Returns whether the configuration does not restrict who may call.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty() && self.agents.is_empty() && self.providers.iter().all(|provider| provider.external.is_none())
    }
}

/// Splits `<provider>/<model-id>` if one of `providers` has that name. Returns its index and the model id.
pub fn split_reference<'a>(providers: &[Provider], name: &'a str) -> Option<(usize, &'a str)> {
    let (provider, model) = name.split_once('/')?;
    let index = providers.iter().position(|known| *known.name == *provider)?;
    Some((index, model))
}
