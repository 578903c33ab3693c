//! The bootstrap of a gateway directory: the listeners, and where Envoy reads everything else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

use super::limits::Limits;
use super::sds::{certificate_path, certificate_resource};
use super::statistics::LABELS;
use super::{Address, template};

/// What a bootstrap depends on.
#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// The gateway directory, absolute.
    pub directory: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where Envoy's admin interface listens.
    pub admin: SocketAddr,
    /// The control socket: at most 100 bytes.
    pub control: PathBuf,
    /// Whether clients use TLS. The certificate is named by the file at [`certificate_path`].
    pub tls: bool,
    /// The largest `Gateway.spec.maxRequestBytes` that can be applied without a restart.
    pub max_request_bytes: u64,
    /// The name of this Envoy.
    pub node: String,
}

#[derive(Debug, Serialize)]
struct Context<'a> {
    node: &'a str,
    listen: Address,
    admin: Address,
    control: &'a Path,
    live: Live,
    limits: Limits,
    certificate: Option<Certificate>,
    labels: &'static [&'static str],
    /// The header that identifies agents: not known at the start.
    identity_header: Option<&'a str>,
}

/// The files that Envoy reads again when `live/current` is exchanged.
#[derive(Debug, Serialize)]
struct Live {
    directory: PathBuf,
    clusters: PathBuf,
    routes: PathBuf,
    gate: PathBuf,
}

#[derive(Debug, Serialize)]
struct Certificate {
    name: &'static str,
    path: PathBuf,
}

/// Renders the bootstrap.
pub fn bootstrap(options: &BootstrapOptions) -> Result<Value, Failure> {
    let certificate = || Certificate { name: certificate_resource(), path: certificate_path(&options.directory) };
    let context = Context {
        node: &options.node,
        listen: options.listen.into(),
        admin: options.admin.into(),
        control: &options.control,
        live: Live::new(&options.directory),
        limits: Limits::new(options.max_request_bytes),
        certificate: options.tls.then(certificate),
        labels: &LABELS,
        identity_header: None,
    };
    template::data("bootstrap.yaml", context)
}

// === impl Live ===

impl Live {
    fn new(directory: &Path) -> Self {
        let directory = directory.join("live");
        let current = directory.join("current");
        Self { clusters: current.join("cds.json"), routes: current.join("rds.json"), gate: current.join("gate.json"), directory }
    }
}
