//! Secrets: `secrets/NAME/KEY`, and what Envoy reads of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::files;
use crate::manifest::SecretReference;
use crate::render::SecretFile;

/// The secrets of a gateway.
#[derive(Debug)]
pub struct Secrets {
    root: PathBuf,
    /// The gateway's directory.
    directory: PathBuf,
}

/// A secret without its values.
#[derive(Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub keys: Vec<String>,
    /// When it was created, in seconds since 1970.
    pub created: u64,
}

// === impl Secrets ===

impl Secrets {
    pub(super) fn new(root: PathBuf, directory: PathBuf) -> Self {
        Self { root, directory }
    }

    /// Returns all secrets, by name.
    pub fn list(&self) -> anyhow::Result<Vec<Secret>> {
        let mut secrets = Vec::new();
        for name in names_in(&self.root)? {
            secrets.extend(self.get(&name)?);
        }
        Ok(secrets)
    }

    /// Returns a secret; `None` if there is none of this name.
    pub fn get(&self, name: &str) -> anyhow::Result<Option<Secret>> {
        let path = self.root.join(name);
        let keys = names_in(&path)?;
        let Ok(metadata) = fs::metadata(&path) else { return Ok(None) };
        let created = metadata.created().or_else(|_| metadata.modified()).ok();
        let created = created.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs());
        Ok((!keys.is_empty()).then(|| Secret { name: name.to_owned(), keys, created }))
    }

    /// Returns whether a reference can be resolved.
    pub fn has(&self, reference: &SecretReference) -> bool {
        self.root.join(&reference.name).join(&reference.key).is_file()
    }

    /// Returns the value of a key.
    pub fn value(&self, reference: &SecretReference) -> Option<String> {
        fs::read_to_string(self.root.join(&reference.name).join(&reference.key)).ok()
    }

    /// Sets keys of a secret. Returns whether the secret is new. Envoy uses a changed value for its next request.
    pub fn set(&self, name: &str, values: &BTreeMap<String, String>) -> anyhow::Result<bool> {
        let directory = self.root.join(name);
        let is_new = !directory.is_dir();
        for (key, value) in values {
            self.write_sds(&SecretReference { name: name.to_owned(), key: key.clone() }, value)?;
        }
        files::create_private(&directory)?;
        for (key, value) in values {
            files::replace(&directory.join(key), value.as_bytes())?;
        }
        files::sync_directory(&self.root)?;
        Ok(is_new)
    }

    /// Removes a secret. Returns whether it was there.
    pub fn remove(&self, name: &str) -> anyhow::Result<bool> {
        let Some(secret) = self.get(name)? else { return Ok(false) };
        for key in secret.keys {
            for file in SecretFile::both(name, &key) {
                let _ = fs::remove_file(file.path(&self.directory));
            }
        }
        let directory = self.root.join(name);
        fs::remove_dir_all(&directory).with_context(|| format!("{} cannot be removed", directory.display()))?;
        Ok(true)
    }

    /// Writes Envoy's files of all secrets again, in the form of this version of `pai`.
    pub fn render(&self) -> anyhow::Result<()> {
        for secret in self.list()? {
            for key in secret.keys {
                let path = self.root.join(&secret.name).join(&key);
                let value = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
                self.write_sds(&SecretReference { name: secret.name.clone(), key }, &value)?;
            }
        }
        Ok(())
    }

    fn write_sds(&self, reference: &SecretReference, value: &str) -> anyhow::Result<()> {
        for file in SecretFile::both(&reference.name, &reference.key) {
            let path = file.path(&self.directory);
            let version = version_of(&path).map_or(1, |version| version.saturating_add(1));
            if fs::read_to_string(&path).ok() != version.checked_sub(1).map(|last| file.content(value, last).to_string()) {
                files::replace(&path, file.content(value, version).to_string().as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Returns the version of Envoy's file of a secret: a counter.
fn version_of(path: &Path) -> Option<u64> {
    let file: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    file.get("version_info")?.as_str()?.parse().ok()
}

/// Returns the names in a directory, sorted; none where there is no such directory.
fn names_in(directory: &Path) -> anyhow::Result<Vec<String>> {
    let unreadable = || format!("{} cannot be read", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(unreadable),
    };
    let mut names = Vec::new();
    for entry in entries {
        let Ok(name) = entry.with_context(unreadable)?.file_name().into_string() else {
            bail!("{} contains a name that is not UTF-8", directory.display());
        };
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
