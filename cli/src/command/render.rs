//! `pai render`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fs, io};

use anyhow::Context as _;
use clap::Subcommand;

use super::{Outcome, Shared};
use crate::failure::Failure;
use crate::manifest::{Manifest, ManifestSet, read_all};
use crate::render::{self, EnvoyVersion, StaticOptions};

/// Write the configuration of a proxy that you run yourself
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Target {
    Envoy(EnvoyArgs),
}

/// Write one static file for Envoy
///
/// The file has comments and is meant to be committed beside the manifests. Credentials come from the environment of Envoy.
#[derive(Debug, clap::Args)]
struct EnvoyArgs {
    /// File with manifests, directory of such files, or - for standard input. Can be repeated; the manifests of the gateway by default
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write: a file, or a directory for `envoy.yaml`; stdout by default
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Version of the Envoy that will read the file: what an older one does not know is left out
    #[arg(long, value_name = "VERSION", default_value_t = EnvoyVersion::NEWEST)]
    envoy_version: EnvoyVersion,
    /// Path of the filter module, as Envoy will find it
    #[arg(long, value_name = "PATH", default_value = "pai_filter.wasm")]
    module: PathBuf,
    /// Address on which the gateway listens
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Address of Envoy's admin interface
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// PEM file with the authorities that the certificates of providers are checked against
    #[arg(long, value_name = "FILE", default_value = render::SYSTEM_AUTHORITIES)]
    authorities: PathBuf,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        match self.target {
            Target::Envoy(args) => args.run(shared),
        }
    }
}

// === impl EnvoyArgs ===

impl EnvoyArgs {
    fn run(self, shared: &Shared) -> Outcome {
        let manifests: Vec<Manifest> = self.manifests(shared)?.iter().cloned().collect();
        let output = self.output.map(|path| if path.is_dir() { path.join("envoy.yaml") } else { path });
        let options = StaticOptions {
            envoy: self.envoy_version,
            module: self.module,
            listen: self.listen,
            admin: self.admin,
            authorities: self.authorities,
            file: output.clone().unwrap_or_else(|| PathBuf::from("envoy.yaml")),
        };
        let text = render::envoy(&manifests, &options)?;
        match output {
            Some(path) => Ok(fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?),
            None => Ok(io::Write::write_all(&mut io::stdout(), text.as_bytes()).context("stdout cannot be written")?),
        }
    }
    fn manifests(&self, shared: &Shared) -> Result<ManifestSet, Failure> {
        if self.files.is_empty() {
            return Ok(shared.directory()?.manifests()?);
        }
        let (manifests, _) = ManifestSet::default().apply(&read_all(&self.files)?, 0, true)?;
        Ok(manifests)
    }
}
