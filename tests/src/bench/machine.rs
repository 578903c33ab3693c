//! Where it was measured: numbers of one machine say nothing about another.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine and what else it was doing.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// UTC, `2026-11-24`.
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
            date: date(seconds / 86_400),
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

/// The date of a day since 1970, in the Gregorian calendar, whose years are counted from March here: the leap day is their last.
fn date(day: u64) -> String {
    let day = day + 719_468; // since March 1st of the year 0
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    format!("{:04}-{month:02}-{of_month:02}", era * 400 + year)
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
