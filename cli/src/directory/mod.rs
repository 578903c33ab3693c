//! What a gateway keeps on disk: manifests, secrets, and the configuration that Envoy reads.
//!
//! ```text
//! bootstrap.json                    what Envoy is started with
//! versions/N/manifests/KIND.json    manifests with the time of their creation
//! versions/N/{cds,rds,gate}.json    the configuration made from them
//! live/current -> ../versions/N     the version in force: the only entry that Envoy watches
//! secrets/NAME/KEY                  values of secrets
//! sds/*.json                        the same, for Envoy
//! lock                              held by a command that changes something
//! control.sock                      the gateway's control listener
//! ```
//!
//! A version is written completely, and to the disk, before the link is replaced by one rename. So after a crash at any point the old
//! or the new version is in force.

mod files;
mod lock;
mod secrets;
mod version;

pub use lock::Lock;
pub use secrets::{Secret, Secrets};
pub use version::{Configuration, Version};

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use crate::digest::sha256;
use crate::failure::Failure;
use crate::render;

/// The longest path of a Unix socket that is used as it is, in bytes. Linux allows 107.
const MAX_SOCKET_PATH: usize = 100;

/// The directory of a gateway.
#[derive(Debug, Clone)]
pub struct GatewayDirectory {
    root: PathBuf,
}

// === impl GatewayDirectory ===

impl GatewayDirectory {
    /// Returns the directory given by `--dir` or `PAI_DIR`, else `$XDG_DATA_HOME/pai/default`. It need not be there.
    pub fn locate(given: Option<&Path>) -> Result<Self, Failure> {
        let root = match given {
            Some(given) => given.to_path_buf(),
            None => match directories::BaseDirs::new() {
                Some(base) => base.data_dir().join("pai").join("default"),
                None => return Err(Failure::usage("there is no home directory; name the gateway's directory with --dir")),
            },
        };
        // Envoy's configuration contains it, and must not depend on where Envoy is started.
        let root = std::path::absolute(&root).with_context(|| format!("{} is not a path", root.display()))?;
        Ok(Self { root })
    }

    /// Creates what is missing, with access for this user only.
    pub fn create(&self) -> anyhow::Result<()> {
        for directory in [self.root.clone(), self.versions(), self.live(), self.secrets_root(), self.sds()] {
            files::create_private(&directory)?;
        }
        Ok(())
    }

    /// Returns the path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of Envoy's bootstrap.
    pub fn bootstrap(&self) -> PathBuf {
        self.root.join("bootstrap.json")
    }

    /// Returns the directory that Envoy watches.
    pub fn live(&self) -> PathBuf {
        self.root.join("live")
    }

    /// Returns the path of the filter module.
    pub fn module(&self) -> PathBuf {
        self.root.join("pai_filter.wasm")
    }

    fn sds(&self) -> PathBuf {
        self.root.join("sds")
    }

    /// Returns the file into which Envoy writes the address of its admin port.
    pub fn admin_address(&self) -> PathBuf {
        self.root.join("admin")
    }

    /// Returns Envoy's log.
    pub fn log(&self) -> PathBuf {
        self.root.join("envoy.log")
    }

    /// Returns the path of the control socket.
    pub fn control_socket(&self) -> PathBuf {
        let path = self.root.join("control.sock");
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return path;
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let name: String = sha256(self.root.as_os_str().as_bytes()).chars().take(16).collect();
        runtime.join(format!("pai-{name}.sock"))
    }

    /// Returns the secrets.
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.secrets_root(), self.root.clone())
    }

    /// Writes the filter module, where it is another than before. Envoy has read the file when it has started.
    pub fn write_module(&self, module: &[u8]) -> anyhow::Result<()> {
        if std::fs::read(self.module()).is_ok_and(|written| written == module) {
            return Ok(());
        }
        files::replace(&self.module(), module)
    }

    /// Names the certificate of the listener, for Envoy.
    pub fn write_certificate(&self, certificate: &Path, key: &Path) -> anyhow::Result<()> {
        files::replace(&render::certificate_path(&self.root), render::certificate(certificate, key).to_string().as_bytes())
    }

    /// Writes Envoy's bootstrap.
    pub fn write_bootstrap(&self, bootstrap: &Value) -> anyhow::Result<()> {
        files::replace(&self.bootstrap(), bootstrap.to_string().as_bytes())
    }

    /// Returns the filter's last reason for refusing a configuration, from Envoy's log.
    pub fn last_refusal(&self) -> Option<String> {
        const MARK: &str = "configuration refused: ";
        let log = std::fs::read_to_string(self.log()).ok()?;
        let line =
            log.lines().rev().find(|line| line.contains(MARK) || line.contains("update rejected") || line.contains("rejected:"))?;
        Some(line.split_once(MARK).map_or(line, |(_, reason)| reason).to_owned())
    }

    fn versions(&self) -> PathBuf {
        self.root.join("versions")
    }

    fn secrets_root(&self) -> PathBuf {
        self.root.join("secrets")
    }
}
