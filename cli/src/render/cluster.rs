//! The clusters and the routes of a set of upstreams, as the templates use them.

use std::path::Path;

use serde::Serialize;

use super::gateway::Credentials;
use super::limits::Limits;
use super::sds::{SecretFile, SecretForm};
use super::spec::Dialect;
use super::upstream::{Upstream, Upstreams, callout_cluster};
use super::version::EnvoyVersion;

/// What `clusters.yaml` and `routes.yaml` need.
#[derive(Debug, Serialize)]
pub(super) struct Layout {
    pub(super) clusters: Vec<Cluster>,
    /// The providers with a route of their own.
    pub(super) plain: Vec<String>,
    /// The providers that share the route that follows `x-pai-provider`.
    pub(super) matched: Vec<String>,
    pub(super) limits: Limits,
    pub(super) envoy: Envoy,
}

/// What the version of Envoy decides.
#[derive(Debug, Serialize)]
pub(super) struct Envoy {
    version: String,
    refreshes_clusters: bool,
}

/// One cluster.
#[derive(Debug, Serialize)]
pub(super) struct Cluster {
    name: String,
    /// Whether it is for the filter's own requests.
    is_callout: bool,
    host: String,
    port: u16,
    tls: Option<Tls>,
    /// Whether the server closes idle connections after some seconds.
    closes_idle: bool,
    pub(super) has_attempt: bool,
    credential: Option<Credential>,
}

/// Who the server has to be: one of both.
#[derive(Debug, Serialize)]
struct Tls {
    name: Option<String>,
    address: Option<String>,
}

/// The secret that Envoy adds to requests.
#[derive(Debug, Serialize)]
struct Credential {
    name: String,
    path: String,
}

/// Where credentials come from, for clusters.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// The filter sets them.
    Filter,
    /// Envoy adds them, from the files of this gateway directory.
    Directory(&'a Path),
}

// === impl Source ===

impl Source<'_> {
    /// Returns what the `Gateway` manifest has to say.
    pub(super) fn credentials(self) -> Credentials {
        match self {
            Self::Filter => Credentials::Environment,
            Self::Directory(_) => Credentials::Proxy,
        }
    }
}

// === impl Layout ===

impl Layout {
    pub(super) fn new(upstreams: &Upstreams, source: Source<'_>, version: EnvoyVersion) -> Self {
        let names = |falls_back| {
            let listed = upstreams.list.iter().filter(move |upstream| upstream.falls_back == falls_back);
            listed.map(|upstream| upstream.name.clone()).collect()
        };
        Self {
            clusters: upstreams.list.iter().flat_map(|upstream| upstream.clusters(source)).collect(),
            plain: names(false),
            matched: names(true),
            limits: Limits::new(upstreams.max_request_bytes),
            envoy: Envoy { version: version.to_string(), refreshes_clusters: version >= EnvoyVersion::REFRESHES_CLUSTERS },
        }
    }
}

// === impl Upstream ===

impl Upstream {
    /// Returns whether requests to it pass through an attempt filter. Without fallback, only the credential's header can need one:
    /// Envoy itself can add `authorization`, but the API of Anthropic has another header for it.
    fn has_attempt(&self, source: Source<'_>) -> bool {
        let is_dressed = matches!(source, Source::Directory(_)) && self.secret.is_some() && self.dialect == Dialect::Anthropic;
        self.falls_back || is_dressed
    }

    fn clusters(&self, source: Source<'_>) -> Vec<Cluster> {
        let has_attempt = self.has_attempt(source);
        let form = if has_attempt { SecretForm::Raw } else { SecretForm::Bearer };
        let own = Cluster { has_attempt, credential: self.credential(form, source), ..self.cluster(self.name.clone()) };
        let callouts = self.has_callouts.then(|| Cluster {
            is_callout: true,
            credential: self.credential(SecretForm::Bearer, source),
            ..self.cluster(callout_cluster(&self.name))
        });
        std::iter::once(own).chain(callouts).collect()
    }

    /// Returns a cluster for the upstream's address.
    fn cluster(&self, name: String) -> Cluster {
        let endpoint = &self.endpoint;
        let address = endpoint.address().map(|address| address.to_string());
        let tls = endpoint.is_tls.then(|| Tls { name: address.is_none().then(|| endpoint.server_name()), address });
        Cluster {
            name,
            is_callout: false,
            host: endpoint.host.clone(),
            port: endpoint.port,
            tls,
            closes_idle: self.dialect == Dialect::Vllm || !endpoint.is_tls,
            has_attempt: false,
            credential: None,
        }
    }

    fn credential(&self, form: SecretForm, source: Source<'_>) -> Option<Credential> {
        let (Source::Directory(directory), Some(secret)) = (source, &self.secret) else { return None };
        let file = SecretFile::new(&secret.name, &secret.key, form);
        Some(Credential { name: file.resource(), path: file.path(directory).to_string_lossy().into_owned() })
    }
}
