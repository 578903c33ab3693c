//! The lock of a gateway directory: one command at a time changes it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;

use super::GatewayDirectory;
use crate::failure::Failure;

/// Proof that no other command changes the directory. Dropping it, or the end of the process, releases the lock.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl GatewayDirectory {
    /// Creates the directory if it is missing, and takes its lock. The error names the process that has it.
    pub fn lock(&self) -> Result<Lock, Failure> {
        self.create()?;
        let path = self.root.join("lock");
        let unusable = || format!("{} cannot be locked", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&mut file, self)),
            Err(TryLockError::Error(error)) => return Err(anyhow::Error::new(error).context(unusable()).into()),
        }
        let write = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        write.with_context(unusable)?;
        Ok(Lock { _file: file })
    }
}

fn held(file: &mut File, directory: &GatewayDirectory) -> Failure {
    let mut pid = String::new();
    let holder = match file.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    Failure::refused(format!("{holder} is changing {}; try again when it has ended", directory.root().display()))
}
