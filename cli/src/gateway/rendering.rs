//! The files of a gateway directory that Envoy reads, made from its manifests.

use std::collections::BTreeMap;

use pai_filter::policy;
use serde_json::Value;

use super::Settings;
use crate::digest::sha256;
use crate::directory::GatewayDirectory;
use crate::failure::Failure;
use crate::manifest::{Kind, Manifest, ManifestSet};
use crate::render::{self, DynamicOptions, EnvoyVersion, Transition};

/// The file of the clusters.
pub const CDS: &str = "cds.json";
/// The file of the routes.
pub const RDS: &str = "rds.json";
/// The file of the policy.
pub const GATE: &str = "gate.json";

/// Envoy's files by name.
pub type Files = BTreeMap<String, String>;

/// Renders the manifests of a directory for its gateway.
#[derive(Debug)]
pub struct Rendering {
    options: DynamicOptions,
}

// === impl Rendering ===

impl Rendering {
    /// Renders for the gateway that was started last, or for the newest Envoy where none was.
    pub fn new(directory: &GatewayDirectory) -> Self {
        let settings = Settings::read(directory);
        let envoy = settings.and_then(|settings| settings.envoy.parse().ok()).unwrap_or(EnvoyVersion::NEWEST);
        Self::for_envoy(directory, envoy)
    }

    /// Renders for an Envoy of this version.
    pub fn for_envoy(directory: &GatewayDirectory, envoy: EnvoyVersion) -> Self {
        Self {
            options: DynamicOptions {
                directory: directory.root().to_owned(),
                module: directory.module(),
                envoy,
                authorities: render::system_authorities(),
            },
        }
    }

    /// Returns the files of a configuration.
    pub fn files(&self, manifests: &ManifestSet) -> Result<Files, Failure> {
        let rendered = render::dynamic(&list(manifests), &self.options)?;
        let mut files = clusters_and_routes(Transition { clusters: rendered.clusters, routes: rendered.routes });
        files.insert(GATE.to_owned(), render::resource_file(&[rendered.gate], &rendered.version).to_string());
        Ok(files)
    }

    /// Returns the files of clusters and routes that serve both configurations.
    pub fn union(&self, old: &ManifestSet, new: &ManifestSet) -> Result<Files, Failure> {
        Ok(clusters_and_routes(render::union(&list(old), &list(new), &self.options)?))
    }
}

/// Returns `Gateway.spec.maxRequestBytes`, or its default.
pub fn max_request_bytes(manifests: &ManifestSet) -> u64 {
    let written =
        manifests.of_kind(Kind::Gateway).find_map(|gateway| gateway.spec().get("maxRequestBytes").and_then(Value::as_f64));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the filter has checked that it is whole and at most 1 GiB"
    )]
    written.map_or(policy::Gateway::DEFAULT_MAX_REQUEST_BYTES, |bytes| bytes as u64)
}

fn list(manifests: &ManifestSet) -> Vec<Manifest> {
    manifests.iter().cloned().collect()
}

/// Returns both files. Their versions are digests of their contents.
fn clusters_and_routes(resources: Transition) -> Files {
    let file = |resources: &[Value]| {
        let version = sha256(Value::from(resources.to_vec()).to_string());
        render::resource_file(resources, &version).to_string()
    };
    BTreeMap::from([(CDS.to_owned(), file(&resources.clusters)), (RDS.to_owned(), file(&[resources.routes]))])
}
