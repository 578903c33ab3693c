//! Memory of a process, from /proc.

use std::fs;

use anyhow::{Context as _, Result};

/// What of the process is in memory, in bytes.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    kilobytes(&status).map(|size| size * 1024).with_context(|| format!("{path}: no VmRSS"))
}

fn kilobytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_proc() {
        assert_eq!(kilobytes("Name:\tenvoy\nVmHWM:\t   99 kB\nVmRSS:\t   12345 kB\n"), Some(12345));
        assert_eq!(kilobytes("Name:\tenvoy\n"), None);
    }

    #[test]
    fn this_process_has_some() {
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
    }
}
