//! Which gateway a command talks to.

use std::path::PathBuf;

use reqwest::Certificate;

use super::{AccessKey, GatewayUrl, Login, Store, http};
use crate::directory::GatewayDirectory;
use crate::failure::Failure;
use crate::gateway::Running;

/// A gateway, and the access key for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The gateway.
    pub url: GatewayUrl,
    /// The access key. An open gateway needs none.
    pub access_key: Option<AccessKey>,
    /// A PEM file with the certificate authority of the gateway, if it is not one of the system's.
    pub ca_cert: Option<PathBuf>,
}

/// The options that name a gateway.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Gateway")]
pub struct TargetArgs {
    /// URL of the gateway; default: the one you are logged in to, else the one that runs in the directory
    #[arg(long)]
    url: Option<GatewayUrl>,
    /// Access key for this gateway, `pak_…`; default: that of the login
    #[arg(long, value_name = "KEY")]
    access_key: Option<String>,
    /// PEM file with the certificate authority of the gateway; default: the authorities of the system, or SSL_CERT_FILE
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
}

// === impl Target ===

impl Target {
    /// Returns the current login, or else the gateway that runs in this directory.
    pub fn current(directory: &GatewayDirectory) -> Result<Self, Failure> {
        let logins = Store::of_user()?.load()?;
        if let Some((_, login)) = logins.current() {
            return Ok(login.clone().into());
        }
        if let Some(url) = local(directory) {
            return Ok(Self { url, access_key: None, ca_cert: None });
        }
        let advice = "Log in with: pai login URL --access-key pak_…\n  Or start a gateway on this machine with: pai gateway run";
        let choose = "Choose one with: pai gateway use NAME (`pai gateway list` lists them)";
        let advice = if logins.gateways.is_empty() { advice } else { choose };
        Err(Failure::unreachable(format!("not logged in, and no gateway runs in {}\n  {advice}", directory.root().display())))
    }

    /// Reads the certificates that the gateway's has to be signed by. An empty list stands for those of the system.
    pub fn certificates(&self) -> Result<Vec<Certificate>, Failure> {
        let Some(file) = &self.ca_cert else {
            return Ok(Vec::new());
        };
        let name = file.display();
        let pem = std::fs::read(file)
            .map_err(|error| Failure::refused(format!("the certificate authority {name} cannot be read: {error}")))?;
        let none = || {
            Failure::refused(format!(
                "{name} contains no certificate\n  --ca-cert takes a PEM file with `-----BEGIN CERTIFICATE-----`"
            ))
        };
        http::certificates(&pem).ok_or_else(none)
    }
}

impl From<Login> for Target {
    fn from(login: Login) -> Self {
        Self { url: login.url, access_key: Some(login.access_key), ca_cert: login.ca_cert }
    }
}

// === impl TargetArgs ===

impl TargetArgs {
    /// Returns the gateway that the options name, or the current one.
    pub fn resolve(self, directory: &GatewayDirectory) -> Result<Target, Failure> {
        let access_key = self.access_key.as_deref().map(AccessKey::parse).transpose().map_err(Failure::usage)?;
        let mut target = match self.url {
            Some(url) => Target { url, access_key: None, ca_cert: None },
            None => Target::current(directory)?,
        };
        target.access_key = access_key.or(target.access_key);
        target.ca_cert = self.ca_cert.or(target.ca_cert);
        Ok(target)
    }
}

/// Returns the URL of the gateway that runs in this directory, if one does.
fn local(directory: &GatewayDirectory) -> Option<GatewayUrl> {
    Running::find(directory)?.settings.url.parse().ok()
}
