//! The CPU time of a process, from /proc.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The clock ticks of `/proc/<pid>/stat`: USER_HZ, 100 on every architecture that Envoy supports.
const TICK: Duration = Duration::from_millis(10);

/// Returns the CPU time of all threads of the process, in nanoseconds where the kernel reports them, otherwise in ticks.
pub(crate) fn time(pid: u32) -> Result<Duration> {
    threads(pid).or_else(|_| ticks(pid))
}

/// Returns the CPU time of each thread whose name starts with `name`; empty where the kernel does not report it.
pub(crate) fn of_threads(pid: u32, name: &str) -> Vec<Duration> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let used = threads.flatten().filter_map(|thread| {
        let read = |file| fs::read_to_string(thread.path().join(file)).ok();
        read("comm")?.starts_with(name).then(|| runtime(&read("sched")?)).flatten()
    });
    used.collect()
}

/// Returns the sum of `se.sum_exec_runtime` of all threads. A thread's value is current while the thread sleeps.
fn threads(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += runtime(&fs::read_to_string(thread?.path().join("sched"))?).context("no `se.sum_exec_runtime`")?;
    }
    Ok(sum)
}

fn runtime(sched: &str) -> Option<Duration> {
    let line = sched.lines().find(|line| line.starts_with("se.sum_exec_runtime"))?;
    let milliseconds: f64 = line.rsplit(':').next()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(milliseconds / 1e3).ok()
}

fn ticks(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(Path::new(&path)).with_context(|| path.clone())?;
    used(&stat).with_context(|| format!("{path}: no CPU times"))
}

/// Parses `utime` and `stime`, the 14th and 15th fields. The second field may contain spaces and parentheses.
fn used(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u32>().ok());
    Some(TICK * times.next()?.checked_add(times.next()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_proc() {
        let sched = "envoy (1, #threads: 9)\n---\nse.exec_start   :   4090038.875177\nse.sum_exec_runtime   :   1250.500000\n";
        assert_eq!(runtime(sched), Some(Duration::from_micros(1_250_500)));
        assert_eq!(runtime("se.load.weight : 1"), None);
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(used(stat), Some(Duration::from_secs(3)));
        assert_eq!(used("7 (x) S 1"), None);
    }

    #[test]
    fn this_process_has_used_some() {
        assert!(time(std::process::id()).unwrap() < Duration::from_secs(3600));
    }
}
