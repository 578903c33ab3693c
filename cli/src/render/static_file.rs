//! One static file for an Envoy that an operator runs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::output::yaml;

use super::cluster::{Layout, Source};
use super::gateway::{self, Settings};
use super::statistics::LABELS;
use super::upstream::Upstreams;
use super::version::EnvoyVersion;
use super::{Address, template};

/// What a static file depends on, beside the manifests.
#[derive(Debug, Clone)]
pub struct StaticOptions {
    /// The version of the Envoy that will read it.
    pub envoy: EnvoyVersion,
    /// The filter module, as Envoy will find it.
    pub module: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where Envoy's admin interface listens.
    pub admin: SocketAddr,
    /// The authorities that providers' certificates are checked against, in a PEM file.
    pub authorities: PathBuf,
    /// The name of the file, for the comment that describes how to use it.
    pub file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Context<'a> {
    #[serde(flatten)]
    layout: &'a Layout,
    listen: Address,
    admin: Address,
    module: &'a Path,
    authorities: &'a Path,
    file: &'a Path,
    /// The providers in words.
    providers: String,
    /// The environment variables with credentials.
    variables: BTreeSet<String>,
    /// Whether some cluster has an attempt filter.
    attempts: bool,
    /// The oldest version that accepts the file.
    needed: String,
    labels: &'static [&'static str],
    /// The header that identifies agents.
    identity_header: Option<&'a str>,
    /// The manifests, as a stream of YAML documents.
    manifests: String,
    /// There is no gateway directory, and no certificate in one.
    live: bool,
    certificate: bool,
}

/// Renders one static file with comments.
pub fn envoy(manifests: &[Manifest], options: &StaticOptions) -> Result<String, Failure> {
    let source = Source::Filter;
    let settings = Settings::read(manifests, source.credentials())?;
    let upstreams = Upstreams::read(manifests, &settings)?;
    let layout = Layout::new(&upstreams, source, options.envoy);
    let is_new = !layout.matched.is_empty() && options.envoy >= EnvoyVersion::REFRESHES_CLUSTERS;
    let needed = if is_new { EnvoyVersion::REFRESHES_CLUSTERS } else { EnvoyVersion::OLDEST };
    let secrets = upstreams.list.iter().filter_map(|upstream| upstream.secret.as_ref());
    let context = Context {
        listen: options.listen.into(),
        admin: options.admin.into(),
        module: &options.module,
        authorities: &options.authorities,
        file: &options.file,
        providers: in_words(&upstreams),
        identity_header: settings.identity_header.as_deref(),
        variables: secrets.map(|secret| secret.variable()).collect(),
        attempts: layout.clusters.iter().any(|cluster| cluster.has_attempt),
        needed: needed.to_string(),
        labels: &LABELS,
        manifests: yaml::stream(gateway::complete(manifests, &upstreams, source.credentials()).iter()),
        live: false,
        certificate: false,
        layout: &layout,
    };
    template::text("envoy.yaml", context)
}

/// Returns the names of the upstreams, or their number where they are many.
fn in_words(upstreams: &Upstreams) -> String {
    match upstreams.list.as_slice() {
        [] => "no provider".to_owned(),
        list @ [_, _, _, _, _, _, ..] => format!("{} providers", list.len()),
        list => list.iter().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}
