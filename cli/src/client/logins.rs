//! The logins of this user: `$XDG_CONFIG_HOME/pai/gateways.json`, readable by this user only.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{AccessKey, GatewayUrl};
use crate::failure::Failure;

/// All logins.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logins {
    /// The name of the login that commands use.
    pub current: Option<String>,
    /// The logins by name.
    pub gateways: BTreeMap<String, Login>,
}

/// One login.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The gateway.
    pub url: GatewayUrl,
    /// The key that it has accepted.
    pub access_key: AccessKey,
    /// A PEM file with the certificate authority of the gateway, if it is not one of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<PathBuf>,
}

/// The file that holds the logins.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
}

// === impl Logins ===

impl Logins {
    /// Returns the login that commands use, if there is one.
    pub fn current(&self) -> Option<(&str, &Login)> {
        let (name, login) = self.gateways.get_key_value(self.current.as_ref()?)?;
        Some((name, login))
    }

    /// Checks that there is a login with this name.
    pub fn check(&self, name: &str) -> Result<(), Failure> {
        if self.gateways.contains_key(name) {
            return Ok(());
        }
        let known = self.gateways.keys().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
        Err(Failure::refused(match known.as_str() {
            "" => format!("there is no login called `{name}`, and no other\n  Log in with: pai login URL --access-key pak_…"),
            known => format!("there is no login called `{name}`\n  The logins are {known}; `pai login` adds one"),
        }))
    }
}

// === impl Store ===

impl Store {
    /// Returns the store of this user.
    pub fn of_user() -> Result<Self, Failure> {
        let configured = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || directories::BaseDirs::new().map(|dirs| dirs.home_dir().join(".config"));
        let Some(folder) = configured.or_else(home) else {
            return Err(Failure::refused(
                "logins cannot be stored: neither XDG_CONFIG_HOME nor HOME is set\n  Set XDG_CONFIG_HOME",
            ));
        };
        Ok(Self { file: folder.join("pai/gateways.json") })
    }

    /// Reads the logins. There are none without the file.
    pub fn load(&self) -> Result<Logins, Failure> {
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Logins::default()),
            Err(error) => return Err(Failure::refused(format!("the logins in {} cannot be read: {error}", self.file.display()))),
        };
        serde_json::from_str(&text).map_err(|error| {
            let (file, line) = (self.file.display(), error.line());
            Failure::refused(format!(
                "the logins in {file} are not valid: line {line}\n  Remove the file and log in again with: pai login URL"
            ))
        })
    }

    /// Reads the logins, changes them and writes them, while no other process does.
    pub fn update<T>(&self, change: impl FnOnce(&mut Logins) -> Result<T, Failure>) -> Result<T, Failure> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let cannot = || format!("the logins cannot be stored in {}", folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
        let lock = File::open(folder).with_context(cannot)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).with_context(cannot)?;
        let mut logins = self.load()?;
        let outcome = change(&mut logins)?;
        write(&self.file, folder, &logins).with_context(cannot)?;
        Ok(outcome)
    }
}

/// Replaces the file in one step. Temporary files have mode 0600, and keep it.
fn write(file: &Path, folder: &Path, logins: &Logins) -> anyhow::Result<()> {
    let mut incoming = tempfile::Builder::new().prefix(".gateways.").tempfile_in(folder)?;
    serde_json::to_writer_pretty(&mut incoming, logins)?;
    incoming.write_all(b"\n")?;
    incoming.as_file().sync_all()?;
    incoming.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{AccessKey, Login, Store};

    fn login(key: &str) -> Login {
        let url = "https://api.pairun.dev".parse().unwrap();
        Login { url, access_key: AccessKey::parse(key).unwrap(), ca_cert: None }
    }

    #[test]
    fn logins_are_kept_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { file: folder.path().join("pai/gateways.json") };
        assert_eq!(store.load().unwrap(), super::Logins::default());
        for key in ["pak_first", "pak_second"] {
            let change = |logins: &mut super::Logins| {
                logins.gateways.insert("a".to_owned(), login(key));
                logins.current = Some("a".to_owned());
                Ok(())
            };
            store.update(change).unwrap();
            assert_eq!(store.load().unwrap().current(), Some(("a", &login(key))));
            let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&store.file), mode(store.file.parent().unwrap())), (0o600, 0o700));
        }
        assert_eq!(std::fs::read_dir(store.file.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_damaged_file_is_not_overwritten_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { file: folder.path().join("gateways.json") };
        let text = r#"{"gateways": {"a": {"url": "https://a", "accessKey": "pak_secret '"}}}"#;
        std::fs::write(&store.file, text).unwrap();
        let failure = store.update(|_| Ok(())).unwrap_err().to_string();
        assert!(failure.contains("are not valid: line 1") && !failure.contains("secret"), "{failure}");
        assert_eq!(std::fs::read_to_string(&store.file).unwrap(), text);
    }
}
