//! The machine of a measurement. Results of different machines are not comparable.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use pai_filter::clock::rfc3339;
use serde::Serialize;

const DAY: u64 = 86_400;

/// The machine and its load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// The UTC date, `2026-11-24`.
    date: String,
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
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            date: date(seconds / DAY),
            cpu: value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.trim_end_matches(" kB").parse().unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: load,
        }
    }

    /// Formats the machine in one line.
    pub(super) fn line(&self) -> String {
        let [load, ..] = self.load_average;
        format!("{}, {} cores, Linux {}, load {load} before", self.cpu, self.cores, self.kernel)
    }
}

/// Returns the date of a day since 1970.
fn date(day: u64) -> String {
    let mut date = rfc3339(day * DAY);
    date.truncate("2026-11-24".len());
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // `date -u -d @$((day * 86400)) +%F`
        for (day, written) in
            [(0, "1970-01-01"), (11_016, "2000-02-29"), (19_782, "2024-02-29"), (20_781, "2026-11-24"), (20_819, "2027-01-01")]
        {
            assert_eq!(date(day), written);
        }
    }
}
