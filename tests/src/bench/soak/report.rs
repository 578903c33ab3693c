//! The results of a soak: the compared charges, memory, and whether all checks passed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::fixed_rate::Latencies;
use super::super::machine::Machine;
use super::super::table::write_aligned;
use super::client_ledger::{Charge, ClientLedger, Outcome};
use super::sample::Sample;
use super::traffic::KINDS;
use super::{FinalState, Plan, WORKERS};

/// Memory is checked from this time on; before it, caches and pools grow.
const WARM_AFTER: f64 = 300.0;
/// The minimum duration for a meaningful slope.
const JUDGED_FROM: f64 = 1200.0;
/// The allowed slope in megabytes per hour.
const MOST_SLOPE: f64 = 4.0;
/// The allowed size of one VM in megabytes, with bodies of up to 128 KiB.
const MOST_VM: f64 = 4.0;
/// The allowed share of due requests that were not sent. More is not the gateway's failure, but the load was lower than requested.
const HELD: f64 = 0.99;
/// The log lines of a VM trap, and of the filter's panic before it.
const TRACES: [&str; 3] = ["Uncaught RuntimeError", "panicked at", " failed: Uncaught"];

/// The results of a soak.
#[derive(Debug)]
pub struct Report {
    pub(super) plan: Plan,
    pub(super) machine: Machine,
    pub(super) envoy: String,
    pub(super) samples: Vec<Sample>,
    pub(super) client_ledger: ClientLedger,
    pub(super) rest: FinalState,
    pub(super) sent: u64,
    pub(super) missed: u64,
    /// Requests that had not ended at the deadline.
    pub(super) in_flight: u64,
    /// Tokens that the servers have read and written, by their own count.
    pub(super) generated: u64,
    /// Envoy's log.
    pub(super) log: String,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    found: String,
    passed: bool,
}

/// The charges of one provider, by the clients and by the gateway.
#[derive(Debug, Serialize)]
struct Line {
    provider: &'static str,
    clients_least: u64,
    clients_most: u64,
    gate: u64,
    drift: i64,
    today_least: u64,
    today_most: u64,
    gate_today: u64,
    drift_today: i64,
    reserved: u64,
}

/// Envoy's memory in megabytes.
#[derive(Debug, Clone, Copy, Serialize)]
struct Memory {
    /// The time after the start, in seconds, from which memory is checked.
    warm_after: f64,
    warm: f64,
    end: f64,
    /// Megabytes per hour, by least squares.
    slope: f64,
    vm: f64,
}

// === impl Report ===

impl Report {
    /// Returns whether all checks passed.
    pub fn passed(&self) -> bool {
        self.checks().iter().all(|check| check.passed)
    }

    /// Formats the report as text.
    pub fn text(&self) -> String {
        let seconds = self.samples.last().map_or(0.0, |sample| sample.at);
        let mut text = format!(
            "Soak of {:.1} minutes: {} requests of {} wanted a second, {WORKERS} workers\nEnvoy {}; {}\n\n",
            seconds / 60.0,
            self.sent,
            self.plan.rate,
            self.envoy,
            self.machine.line()
        );
        self.write_outcomes(&mut text);
        let latencies = Latencies::of_micros(&self.client_ledger.all);
        let _ = writeln!(
            text,
            "\nSmall chats: p50 {:.2} ms, p99 {:.2} ms, longest {:.0} ms",
            latencies.percentile(50),
            latencies.percentile(99),
            latencies.percentile(100)
        );
        let memory = self.memory();
        let _ = writeln!(
            text,
            "Envoy's memory: {:.1} MB after {:.1} min, {:.1} MB at the end, slope {:+.2} MB/h{}; largest VM {:.2} MB",
            memory.warm,
            memory.warm_after / 60.0,
            memory.end,
            memory.slope,
            if self.is_long() { "" } else { " (too short to tell)" },
            memory.vm
        );
        text.push('\n');
        self.write_books(&mut text);
        text.push('\n');
        for check in self.checks() {
            let _ = writeln!(text, "{}  {}: {}", if check.passed { "ok    " } else { "FAILED" }, check.what, check.found);
        }
        if self.share_sent() < HELD {
            let _ = writeln!(text, "note    the rate was not held: {} requests were due and not sent", self.missed);
        }
        for example in &self.client_ledger.examples {
            let _ = writeln!(text, "\nunexpected: {example}");
        }
        text
    }

    /// Returns the report as JSON.
    pub fn json(&self) -> Value {
        let latencies = Latencies::of_micros(&self.client_ledger.all);
        let mut outcomes: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
        for ((kind, outcome), count) in &self.client_ledger.outcomes {
            outcomes.entry(kind).or_default().insert(outcome.to_string(), *count);
        }
        json!({
            "machine": self.machine,
            "envoy": self.envoy,
            "workers": WORKERS,
            "module_bytes": self.plan.module.metadata().map(|file| file.len()).ok(),
            "minutes": self.samples.last().map_or(0.0, |sample| sample.at) / 60.0,
            "rate_wanted": self.plan.rate,
            "seed": self.plan.seed,
            "sent": self.sent,
            "missed": self.missed,
            "outcomes": outcomes,
            "unexpected": self.client_ledger.unexpected,
            "chat_ms": { "p50": latencies.percentile(50), "p99": latencies.percentile(99), "longest": latencies.percentile(100) },
            "memory_mb": self.memory(),
            "books": self.books(),
            "servers_tokens": self.generated,
            "checks": self.checks(),
            "passed": self.passed(),
            "samples": self.samples,
        })
    }

    fn write_outcomes(&self, text: &mut String) {
        let cells = ["", "‰", "requests", "came to"].map(str::to_owned).to_vec();
        let lines = KINDS.iter().map(|kind| {
            let found = self.client_ledger.outcomes.iter().filter(|((name, _), _)| *name == kind.name);
            let (mut sum, mut parts) = (0, Vec::new());
            for ((_, outcome), count) in found {
                sum += count;
                parts.push(format!("{outcome}: {count}"));
            }
            vec![kind.name.to_owned(), kind.share.to_string(), sum.to_string(), parts.join(", ")]
        });
        write_aligned(text, &std::iter::once(cells).chain(lines).collect::<Vec<_>>());
    }

    fn write_books(&self, text: &mut String) {
        let titles = ["tokens", "clients know of", "the gate charged", "drift", "of it today", "reserved"];
        let bounds = |least: u64, most: u64| if least == most { least.to_string() } else { format!("{least}–{most}") };
        let lines = self.books().into_iter().map(|line| {
            vec![
                line.provider.to_owned(),
                bounds(line.clients_least, line.clients_most),
                line.gate.to_string(),
                line.drift.to_string(),
                format!("{} ({})", line.gate_today, line.drift_today),
                line.reserved.to_string(),
            ]
        });
        let titles = titles.map(str::to_owned).to_vec();
        write_aligned(text, &std::iter::once(titles).chain(lines).collect::<Vec<_>>());
        let _ = writeln!(
            text,
            "The servers say that they have read and written {} tokens, beside the one that talks garbage.",
            self.generated
        );
    }

    fn books(&self) -> Vec<Line> {
        let lines = self.client_ledger.accounts.iter().map(|(provider, account)| {
            let found = self.rest.providers.iter().find(|found| found.name == *provider);
            let gate = self.rest.metrics.charged.get(*provider).copied().unwrap_or(0);
            let gate_today = found.map_or(0, |found| found.used_today);
            let (total, today): (Charge, Charge) = (account.total, account.on(self.rest.day));
            Line {
                provider,
                clients_least: total.least,
                clients_most: total.most,
                gate,
                drift: total.deviation(gate),
                today_least: today.least,
                today_most: today.most,
                gate_today,
                drift_today: today.deviation(gate_today),
                reserved: found.map_or(0, |found| found.reserved + found.external.reserved),
            }
        });
        lines.collect()
    }

    fn checks(&self) -> Vec<Check> {
        let check = |what, found: String, passed| Check { what, found, passed };
        let lines = self.books();
        let sum = |of: fn(&Line) -> i64| lines.iter().map(of).map(i64::abs).sum::<i64>();
        let drift = sum(|line| line.drift) + sum(|line| line.drift_today);
        let charged: u64 = self.rest.metrics.charged.values().sum();
        let external: u64 = self.rest.providers.iter().map(|provider| provider.external.used_today).sum();
        let used: u64 = self.rest.providers.iter().map(|provider| provider.used_today).sum();
        let reserved = lines.iter().map(|line| line.reserved).sum::<u64>() + self.rest.metrics.reserved;
        let traces = TRACES.iter().filter(|trace| self.log.contains(**trace)).count();
        let answered = self.client_ledger.outcomes.keys().filter(|(_, outcome)| matches!(outcome, Outcome::Status(_))).count();
        let memory = self.memory();
        let mut checks = vec![
            check(
                "answers that should not have been",
                self.client_ledger.unexpected.to_string(),
                self.client_ledger.unexpected == 0 && answered > 0,
            ),
            check("requests without an end", self.in_flight.to_string(), self.in_flight == 0),
            check("drift between clients and gate, tokens", drift.to_string(), drift == 0 && !lines.is_empty()),
            check(
                "charged to callers and to providers",
                format!("{} and {charged}", self.rest.metrics.subjects),
                self.rest.metrics.subjects == charged,
            ),
            check("developers' share of what is used today", format!("{external} of {used}"), (1..=used).contains(&external)),
            check(
                "reserved at rest",
                format!("{reserved} ({} gauges)", self.rest.metrics.gauges),
                reserved == 0 && self.rest.metrics.gauges > 0,
            ),
            check("errors that the filter counts", self.rest.metrics.errors.to_string(), self.rest.metrics.errors == 0),
            check("traces of a trapped VM in the log", traces.to_string(), traces == 0),
            check("MB of the largest VM", format!("{:.2} of {MOST_VM}", memory.vm), memory.vm > 0.0 && memory.vm <= MOST_VM),
        ];
        if self.is_long() {
            checks.push(check("MB an hour", format!("{:+.2} of {MOST_SLOPE}", memory.slope), memory.slope <= MOST_SLOPE));
        }
        checks
    }

    fn memory(&self) -> Memory {
        let last = self.samples.last().map_or(0.0, |sample| sample.at);
        let warm_after = WARM_AFTER.min(last / 2.0);
        let megabytes = |sample: &Sample| sample.resident as f64 / 1e6;
        let warm: Vec<(f64, f64)> = self
            .samples
            .iter()
            .filter(|sample| sample.at >= warm_after)
            .map(|sample| (sample.at / 3600.0, megabytes(sample)))
            .collect();
        let vms = self.samples.iter().flat_map(|sample| &sample.vms).copied().max().unwrap_or(0);
        Memory {
            warm_after,
            warm: warm.first().map_or(f64::NAN, |(_, megabytes)| *megabytes),
            end: self.samples.last().map_or(f64::NAN, megabytes),
            slope: slope(&warm),
            vm: vms as f64 / 1e6,
        }
    }

    fn is_long(&self) -> bool {
        self.samples.last().is_some_and(|sample| sample.at >= JUDGED_FROM)
    }

    fn share_sent(&self) -> f64 {
        self.sent as f64 / (self.sent + self.missed).max(1) as f64
    }
}

/// Returns the slope of the regression line of these points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (over, under) = points
        .iter()
        .fold((0.0, 0.0), |(over, under), point| (over + (point.0 - x) * (point.1 - y), under + (point.0 - x) * (point.0 - x)));
    if under > 0.0 { over / under } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes() {
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert!((slope(&[(0.0, 1.0), (1.0, 4.0), (2.0, 1.0)])).abs() < 1e-9);
        assert!(slope(&[(1.0, 1.0)]).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }
}
