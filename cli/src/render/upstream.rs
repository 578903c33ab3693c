//! The providers as Envoy sees them: an [`Upstream`] becomes a cluster, its callout cluster and a route.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::Failure;
use crate::manifest::{Kind, Manifest, SecretReference};

use super::endpoint::Endpoint;
use super::gateway::Settings;
use super::spec::{self, AgentSpec, Dialect, ProviderSpec};

/// A provider as Envoy sees it.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) dialect: Dialect,
    pub(super) endpoint: Endpoint,
    pub(super) secret: Option<SecretReference>,
    /// Whether some agent can fall back from it or to it.
    pub(super) falls_back: bool,
    /// Whether the filter sends requests of its own to it.
    pub(super) has_callouts: bool,
}

/// The upstreams of a configuration, and the size of the bodies that they receive.
#[derive(Debug, Clone)]
pub(super) struct Upstreams {
    pub(super) list: Vec<Upstream>,
    pub(super) max_request_bytes: u64,
}

// === impl Upstreams ===

impl Upstreams {
    /// Reads the manifests of a configuration.
    pub(super) fn read(manifests: &[Manifest], settings: &Settings) -> Result<Self, Failure> {
        let fallbacks = fallbacks(manifests)?;
        let providers = manifests.iter().filter(|manifest| manifest.kind == Kind::ModelProvider);
        let list = providers.map(|manifest| Upstream::read(manifest, &fallbacks, settings)).collect::<Result<_, _>>()?;
        let upstreams = Self { list, max_request_bytes: settings.max_request_bytes };
        upstreams.check_names()?;
        Ok(upstreams)
    }

    /// Returns what serves both configurations, while one replaces the other. Where both have a provider, the new one's address and
    /// credential are used.
    pub(super) fn union(old: Self, new: Self) -> Result<Self, Failure> {
        let max_request_bytes = old.max_request_bytes.max(new.max_request_bytes);
        let mut before: BTreeMap<String, Upstream> =
            old.list.into_iter().map(|upstream| (upstream.name.clone(), upstream)).collect();
        let join = |upstream: Upstream| match before.remove(&upstream.name) {
            Some(old) => upstream.serving_also(&old),
            None => upstream,
        };
        let mut list: Vec<Upstream> = new.list.into_iter().map(join).collect();
        list.extend(before.into_values());
        let upstreams = Self { list, max_request_bytes };
        upstreams.check_names()?;
        Ok(upstreams)
    }

    /// Refuses a provider whose cluster would have the name of another's callout cluster.
    fn check_names(&self) -> Result<(), Failure> {
        let callouts: BTreeSet<String> =
            self.list.iter().filter(|upstream| upstream.has_callouts).map(|upstream| callout_cluster(&upstream.name)).collect();
        let Some(taken) = self.list.iter().find(|upstream| callouts.contains(&upstream.name)) else { return Ok(()) };
        Err(Failure::refused(format!(
            "ModelProvider {0}: metadata.name: `{0}` is the name of the cluster for callouts to another provider; rename this one",
            taken.name
        )))
    }
}

// === impl Upstream ===

impl Upstream {
    fn read(manifest: &Manifest, fallbacks: &BTreeSet<String>, settings: &Settings) -> Result<Self, Failure> {
        let spec: ProviderSpec = spec::read(manifest)?;
        let Some(endpoint) = Endpoint::parse(&spec.endpoint) else {
            return Err(spec::refused(manifest, "spec.endpoint", "must be http(s)://host[:port][/path]"));
        };
        let name = manifest.name.clone();
        Ok(Self {
            falls_back: fallbacks.contains(&name),
            has_callouts: spec.provider == Dialect::Vllm || settings.callouts.contains(&name),
            name,
            dialect: spec.provider,
            endpoint,
            secret: spec.api_key_secret_ref,
        })
    }

    fn serving_also(self, old: &Self) -> Self {
        Self { falls_back: self.falls_back || old.falls_back, has_callouts: self.has_callouts || old.has_callouts, ..self }
    }
}

/// Returns the name of the cluster for the filter's own requests to a provider.
pub(super) fn callout_cluster(provider: &str) -> String {
    format!("{provider}-callouts")
}

/// Returns the providers of all agents that have more than one model.
fn fallbacks(manifests: &[Manifest]) -> Result<BTreeSet<String>, Failure> {
    let mut providers = BTreeSet::new();
    for manifest in manifests.iter().filter(|manifest| manifest.kind == Kind::Agent) {
        let spec: AgentSpec = spec::read(manifest)?;
        let models: BTreeSet<&str> = spec.models.iter().map(String::as_str).collect();
        if models.len() > 1 {
            providers.extend(models.iter().filter_map(|model| model.split_once('/')).map(|(provider, _)| provider.to_owned()));
        }
    }
    Ok(providers)
}
