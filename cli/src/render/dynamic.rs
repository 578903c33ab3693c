//! The files of a gateway directory that Envoy reads again when they change: clusters, routes and the policy.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::digest::sha256;
use crate::failure::Failure;
use crate::manifest::Manifest;

use super::GATE;
use super::cluster::{Layout, Source};
use super::gateway::{self, Settings};
use super::template;
use super::upstream::Upstreams;
use super::version::EnvoyVersion;

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";

/// What the resources of a gateway directory depend on, beside the manifests.
#[derive(Debug, Clone)]
pub struct DynamicOptions {
    /// The gateway directory, absolute.
    pub directory: PathBuf,
    /// The filter module.
    pub module: PathBuf,
    /// The version of the Envoy that runs.
    pub envoy: EnvoyVersion,
    /// The authorities that providers' certificates are checked against, in a PEM file.
    pub authorities: PathBuf,
}

/// The resources of one configuration.
#[derive(Debug, Clone)]
pub struct Dynamic {
    /// The clusters.
    pub clusters: Vec<Value>,
    /// The route configuration.
    pub routes: Value,
    /// The filter, with the policy.
    pub gate: Value,
    /// The SHA-256 of the plugin configuration's bytes, in hexadecimal.
    pub version: String,
}

/// The clusters and the routes while one configuration replaces another.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The clusters.
    pub clusters: Vec<Value>,
    /// The route configuration.
    pub routes: Value,
}

/// What the templates need beside the [`Layout`].
#[derive(Debug, serde::Serialize)]
struct Context<'a> {
    #[serde(flatten)]
    layout: &'a Layout,
    /// There is a gateway directory.
    live: bool,
    module: &'a Path,
    authorities: &'a Path,
    /// Environment variables of the VM: none.
    variables: [String; 0],
    /// Whether the gate's VM configuration is an anchor for that of the attempt filters.
    attempts: bool,
}

/// Renders the resources of a configuration.
pub fn dynamic(manifests: &[Manifest], options: &DynamicOptions) -> Result<Dynamic, Failure> {
    let upstreams = read(manifests, options)?;
    let configuration = configuration(manifests, &upstreams, options);
    let version = sha256(&configuration);
    let layout = options.layout(&upstreams);
    let context = options.context(&layout);
    let mut gate: Value = template::data("gate.yaml", &context)?;
    if let Some(config) = gate.get_mut("config").and_then(Value::as_object_mut) {
        config.insert("configuration".to_owned(), json!({ "@type": STRING, "value": configuration }));
    }
    let gate = json!({ "@type": EXTENSION, "name": GATE, "typed_config": gate });
    let Transition { clusters, routes } = resources(&context)?;
    Ok(Dynamic { clusters, routes, gate, version })
}

/// Renders clusters and routes that serve both configurations, the one that is in force and the one that replaces it.
pub fn union(old: &[Manifest], new: &[Manifest], options: &DynamicOptions) -> Result<Transition, Failure> {
    let upstreams = Upstreams::union(read(old, options)?, read(new, options)?)?;
    let layout = options.layout(&upstreams);
    resources(&options.context(&layout))
}

/// Returns a file with these resources of one kind, in the form of an answer of an xDS server.
pub fn resource_file(resources: &[Value], version: &str) -> Value {
    json!({ "version_info": version, "resources": resources })
}

fn read(manifests: &[Manifest], options: &DynamicOptions) -> Result<Upstreams, Failure> {
    let settings = Settings::read(manifests, options.source().credentials())?;
    Upstreams::read(manifests, &settings)
}

/// Returns the plugin configuration.
fn configuration(manifests: &[Manifest], upstreams: &Upstreams, options: &DynamicOptions) -> String {
    json!({ "items": gateway::complete(manifests, upstreams, options.source().credentials()) }).to_string()
}

fn resources(context: &Context<'_>) -> Result<Transition, Failure> {
    let clusters: Option<Vec<Value>> = template::data("clusters.yaml", context)?;
    let clusters = clusters.unwrap_or_default().into_iter().map(|cluster| typed(CLUSTER, cluster)).collect();
    let routes = typed(ROUTES, template::data("routes.yaml", context)?);
    Ok(Transition { clusters, routes })
}

/// Adds the type to a resource.
fn typed(name: &str, mut resource: Value) -> Value {
    if let Some(resource) = resource.as_object_mut() {
        resource.shift_insert(0, "@type".to_owned(), name.into());
    }
    resource
}

// === impl DynamicOptions ===

impl DynamicOptions {
    fn source(&self) -> Source<'_> {
        Source::Directory(&self.directory)
    }

    fn layout(&self, upstreams: &Upstreams) -> Layout {
        Layout::new(upstreams, self.source(), self.envoy)
    }

    fn context<'a>(&'a self, layout: &'a Layout) -> Context<'a> {
        Context { layout, live: true, module: &self.module, authorities: &self.authorities, variables: [], attempts: false }
    }
}
