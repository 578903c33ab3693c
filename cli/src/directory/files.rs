//! Files that survive a crash, and are this user's only.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// Creates a directory and those above it, with mode 0700.
pub fn create_private(directory: &Path) -> anyhow::Result<()> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    created.with_context(|| format!("{} cannot be created", directory.display()))
}

/// Writes a new file with mode 0600, to the disk.
pub fn write_new(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// Replaces a file, or creates it, by one rename.
pub fn replace(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let write = || -> anyhow::Result<()> {
        let mut file =
            tempfile::Builder::new().prefix(".new-").permissions(Permissions::from_mode(0o600)).tempfile_in(directory)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_directory(directory)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// Writes the entries of a directory to the disk.
pub fn sync_directory(directory: &Path) -> anyhow::Result<()> {
    let sync = File::open(directory).and_then(|file| file.sync_all());
    sync.with_context(|| format!("{} cannot be written", directory.display()))
}
