//! From manifests to Envoy's configuration.
//!
//! The templates in `templates/` are commented YAML and the only source. [`envoy`] renders them into one static file, [`bootstrap`] and
//! [`dynamic`] into the files of a gateway directory, which Envoy reads again whenever they are exchanged. All output is a function of
//! the arguments alone.

mod bootstrap;
mod cluster;
mod comments;
mod dynamic;
mod endpoint;
mod gateway;
mod limits;
mod sds;
mod spec;
mod static_file;
mod statistics;
mod template;
#[cfg(test)]
mod tests;
mod upstream;
mod version;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use bootstrap::{BootstrapOptions, bootstrap};
pub use dynamic::{Dynamic, DynamicOptions, Transition, dynamic, resource_file, union};
pub use sds::{SecretFile, SecretForm, certificate, certificate_path, secret_files};
pub use static_file::{StaticOptions, envoy};
pub use version::EnvoyVersion;

/// The name of the filter in a gateway directory's Envoy, and of its resource.
pub const GATE: &str = "pai.gate";

/// The authorities that the system trusts, where an operator names no file.
pub const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An address, as the templates use it.
#[derive(Debug, Clone, serde::Serialize)]
struct Address {
    address: String,
    port: u16,
}

// === impl Address ===

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { address: address.ip().to_string(), port: address.port() }
    }
}

/// Returns the files in which systems keep the authorities that they trust: `SSL_CERT_FILE`, then the usual places.
pub fn system_authorities() -> PathBuf {
    const PLACES: [&str; 5] = [
        SYSTEM_AUTHORITIES,
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ];
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = PLACES.iter().map(PathBuf::from).find(|path| path.is_file());
    named.or(usual).unwrap_or_else(|| Path::new(SYSTEM_AUTHORITIES).to_owned())
}
