//! The memory of a process and of its wasm VMs, from /proc.

use std::fs;

use anyhow::{Context as _, Result};

/// V8 reserves at least this many bytes of address space behind a VM's memory, so that it need not check each access.
const GUARD: u64 = 4 << 30;

/// Returns the resident memory of the process in bytes.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    kilobytes(&status, "VmRSS:").map(|size| size * 1024).with_context(|| format!("{path}: no VmRSS"))
}

/// Returns the proportional set size in bytes; `None` where the kernel does not report it.
pub(super) fn proportional(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(kilobytes(&rollup, "Pss:")? * 1024)
}

/// Returns the sizes of the linear memories of the process's wasm VMs in bytes: one of Envoy's main thread and one per worker.
pub(super) fn linear(pid: u32) -> Vec<u64> {
    fs::read_to_string(format!("/proc/{pid}/maps")).map(|maps| guarded(&maps)).unwrap_or_default()
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Returns the sizes of the writable mappings that are followed by a guard region.
fn guarded(maps: &str) -> Vec<u64> {
    let mappings: Vec<_> = maps.lines().filter_map(mapping).collect();
    let pairs = mappings.iter().zip(mappings.iter().skip(1));
    let memories = pairs.filter(|((_, end, rights), (start, guard, none))| {
        *rights == "rw-p" && *none == "---p" && end == start && guard - start >= GUARD
    });
    memories.map(|((start, end, _), _)| end - start).collect()
}

/// Parses the start, the end and the permissions of a mapping.
fn mapping(line: &str) -> Option<(u64, u64, &str)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |digits| u64::from_str_radix(digits, 16).ok();
    Some((address(start)?, address(end)?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_proc() {
        let status = "Name:\tenvoy\nVmHWM:\t   99 kB\nVmRSS:\t   12345 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(12345));
        assert_eq!(kilobytes("Name:\tenvoy\n", "VmRSS:"), None);
    }

    #[test]
    fn a_guard_region_identifies_the_memory_of_a_vm() {
        let maps = "7f2a16cb0000-7f2a16db0000 rw-p 00000000 00:00 0\n\
                    7f2a16db0000-7f2a16ef0000 rw-p 00000000 00:00 0\n\
                    7f2a16ef0000-7f2c16dbc000 ---p 00000000 00:00 0\n\
                    7f2c16dbc000-7f2c16dcc000 r--p 00000000 00:00 0 /lib/x.so\n\
                    7f2c26dbc000-7f2c26dcc000 rw-p 00000000 00:00 0\n\
                    7f2c26dcc000-7f2c26ddc000 ---p 00000000 00:00 0\n";
        assert_eq!(guarded(maps), [0x14_0000]);
    }

    #[test]
    fn this_process_has_some() {
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
        assert!(linear(std::process::id()).is_empty());
    }
}
