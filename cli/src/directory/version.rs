//! Versions of a gateway's configuration.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GatewayDirectory, files};
use crate::manifest::{Kind, Manifest, ManifestSet};

/// The number of a version. Versions count up from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

/// Everything that a version consists of.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// What users wrote.
    pub manifests: ManifestSet,
    /// Envoy's files by name: `cds.json`, `rds.json`, `gate.json`.
    pub files: BTreeMap<String, String>,
}

/// The file of one kind.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    items: Vec<StoredManifest>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredManifest {
    /// RFC 3339.
    created: jiff::Timestamp,
    manifest: Value,
}

// === impl GatewayDirectory ===

impl GatewayDirectory {
    /// Returns the version in force; `None` before the first.
    pub fn current(&self) -> anyhow::Result<Option<Version>> {
        let link = self.live().join("current");
        match fs::read_link(&link) {
            Ok(target) => {
                let number = target.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                let number =
                    number.with_context(|| format!("{} links to {}, which is no version", link.display(), target.display()))?;
                Ok(Some(Version(number)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", link.display())),
        }
    }

    /// Returns the manifests of the version in force; none before the first.
    pub fn manifests(&self) -> anyhow::Result<ManifestSet> {
        match self.current()? {
            Some(version) => self.manifests_of(version),
            None => Ok(ManifestSet::default()),
        }
    }

    /// Reads a version.
    pub fn read(&self, version: Version) -> anyhow::Result<Configuration> {
        let mut files = BTreeMap::new();
        let path = self.path_of(version);
        for entry in fs::read_dir(&path).with_context(|| format!("{} cannot be read", path.display()))? {
            let path = entry?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name().and_then(|name| name.to_str())) {
                files.insert(
                    name.to_owned(),
                    fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?,
                );
            }
        }
        Ok(Configuration { manifests: self.manifests_of(version)?, files })
    }

    /// Writes a new version, which is not in force yet. What a failure or a crash leaves behind is no version.
    pub fn write(&self, configuration: &Configuration) -> anyhow::Result<Version> {
        let version = self.next_version()?;
        let incoming = tempfile::Builder::new()
            .prefix(".incoming-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(self.versions())
            .context(self.unwritable())?;
        let manifests = incoming.path().join("manifests");
        files::create_private(&manifests)?;
        for kind in Kind::ALL {
            let stored = Stored { items: configuration.manifests.of_kind(kind).map(StoredManifest::of).collect() };
            files::write_new(&manifests.join(file_of(kind)), &serde_json::to_vec(&stored)?)?;
        }
        for (name, contents) in &configuration.files {
            files::write_new(&incoming.path().join(name), contents.as_bytes())?;
        }
        files::sync_directory(&manifests)?;
        files::sync_directory(incoming.path())?;
        let incoming = incoming.keep();
        fs::rename(&incoming, self.path_of(version)).with_context(|| self.unwritable())?;
        files::sync_directory(&self.versions())?;
        Ok(version)
    }

    /// Puts a version in force, by one rename.
    pub fn switch_to(&self, version: Version) -> anyhow::Result<()> {
        // Outside of the directory that Envoy watches.
        let link = self.root().join(".current");
        let _ = fs::remove_file(&link);
        symlink(format!("../versions/{}", version.0), &link).with_context(|| self.unwritable())?;
        fs::rename(&link, self.live().join("current")).with_context(|| self.unwritable())?;
        files::sync_directory(&self.live())
    }

    /// Removes all versions but this one, and what crashed commands have left. A failure is not an error: the next command tries again.
    pub fn clean_up(&self, keep: Version) {
        let Ok(entries) = fs::read_dir(self.versions()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path != self.path_of(keep) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }

    fn manifests_of(&self, version: Version) -> anyhow::Result<ManifestSet> {
        let mut set = ManifestSet::default();
        for kind in Kind::ALL {
            let path = self.path_of(version).join("manifests").join(file_of(kind));
            for stored in read_stored(&path)?.items {
                set.insert(stored.into_manifest().with_context(|| format!("{} contains no {}", path.display(), kind.name()))?);
            }
        }
        Ok(set)
    }

    fn next_version(&self) -> anyhow::Result<Version> {
        let mut last = 0_u64;
        for entry in fs::read_dir(self.versions()).with_context(|| self.unwritable())? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            last = last.max(number.unwrap_or(0));
        }
        match last.checked_add(1) {
            Some(next) => Ok(Version(next)),
            None => bail!("{} has no number left for a version", self.versions().display()),
        }
    }

    fn path_of(&self, version: Version) -> PathBuf {
        self.versions().join(version.0.to_string())
    }

    fn unwritable(&self) -> String {
        format!("{} cannot be written", self.root().display())
    }
}

fn read_stored(path: &Path) -> anyhow::Result<Stored> {
    let text = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

fn file_of(kind: Kind) -> String {
    format!("{}.json", kind.command_names().first().copied().unwrap_or_default())
}

// === impl StoredManifest ===

impl StoredManifest {
    fn of(manifest: &Manifest) -> Self {
        let created = i64::try_from(manifest.created).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        Self { created: created.unwrap_or_default(), manifest: manifest.value.clone() }
    }

    fn into_manifest(self) -> Option<Manifest> {
        Manifest::from_value(self.manifest, self.created.as_second().try_into().unwrap_or(0))
    }
}
