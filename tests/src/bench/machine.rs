//! Where it was measured: numbers of one machine say nothing about another.

use std::fs;

use serde::Serialize;

/// The machine and what else it was doing.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    load_average: [f64; 3],
}

// === impl Machine ===

impl Machine {
    pub(super) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let mut load = [0.0; 3];
        for (place, number) in load.iter_mut().zip(read("/proc/loadavg").split_whitespace()) {
            *place = number.parse().unwrap_or(0.0);
        }
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.trim_end_matches(" kB").parse().unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: load,
        }
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let [load, ..] = self.load_average;
        format!("{}, {} cores, Linux {}, load {load} before", self.cpu, self.cores, self.kernel)
    }
}
