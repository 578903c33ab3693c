//! A sample of all measurements, taken every few seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::super::fixed_rate::Latencies;
use super::super::{cpu, envoy::Envoy, memory};
use super::client_ledger::Outcome;
use super::gate_metrics::{Metrics, Provider};
use super::generator::Generator;

/// One sample.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    /// Seconds since the start.
    pub(super) at: f64,
    /// Since the previous sample: requests sent per second, and requests that were due but not sent.
    pub(super) rate: f64,
    pub(super) missed: u64,
    /// Responses since the previous sample, by outcome.
    answers: BTreeMap<String, u64>,
    /// Requests in flight.
    in_flight: u64,
    /// Response times of small chats without streaming since the previous sample, in milliseconds.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Envoy's memory in bytes, and its proportional part.
    pub(super) resident: u64,
    proportional: Option<u64>,
    /// The size of each wasm VM in bytes.
    pub(super) vms: Vec<u64>,
    /// CPU cores used since the previous sample: by each worker, by Envoy in total, and by clients and servers together.
    worker_cores: Vec<f64>,
    pub(super) envoy_cores: f64,
    generator_cores: f64,
    /// The sums over all providers, as the gateway reports them.
    pub(super) used: u64,
    pub(super) reserved: u64,
}

/// The previous values that the next sample is compared with.
#[derive(Debug, Default)]
pub(super) struct Previous {
    at: Duration,
    sent: u64,
    missed: u64,
    answers: BTreeMap<Outcome, u64>,
    workers: Vec<Duration>,
    envoy: Duration,
    generator: Duration,
}

// === impl Previous ===

impl Previous {
    /// Takes a sample and keeps its values for the next.
    pub(super) fn sample(&mut self, at: Duration, envoy: &Envoy, generator: &Generator, providers: &[Provider]) -> Result<Sample> {
        let pid = envoy.pid();
        let (answers, latencies) = answers(generator);
        let now = Self {
            at,
            sent: generator.sent(),
            missed: generator.missed(),
            answers,
            workers: cpu::of_threads(pid, "wrk:"),
            envoy: envoy.cpu()?,
            generator: cpu::time(std::process::id())?,
        };
        let seconds = (now.at.saturating_sub(self.at)).as_secs_f64().max(1e-3);
        let cores = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / seconds;
        let workers = now.workers.iter().zip(self.workers.iter().chain(std::iter::repeat(&Duration::ZERO)));
        let since =
            |(outcome, count): (&Outcome, &u64)| (outcome.to_string(), count - self.answers.get(outcome).copied().unwrap_or(0));
        let sample = Sample {
            at: at.as_secs_f64(),
            rate: (now.sent - self.sent) as f64 / seconds,
            missed: now.missed - self.missed,
            answers: now.answers.iter().map(since).filter(|(_, count)| *count > 0).collect(),
            in_flight: generator.in_flight(),
            p50_ms: latencies.percentile(50),
            p99_ms: latencies.percentile(99),
            resident: envoy.resident()?,
            proportional: memory::proportional(pid),
            vms: memory::linear(pid),
            worker_cores: workers.map(|(now, before)| cores(*now, *before)).collect(),
            envoy_cores: cores(now.envoy, self.envoy),
            generator_cores: cores(now.generator, self.generator),
            used: providers.iter().map(|provider| provider.used_today).sum(),
            reserved: providers.iter().map(|provider| provider.reserved).sum(),
        };
        *self = now;
        Ok(sample)
    }
}

fn answers(generator: &Generator) -> (BTreeMap<Outcome, u64>, Latencies) {
    let mut client_ledger = generator.client_ledger();
    let mut answers = BTreeMap::new();
    for ((_, outcome), count) in &client_ledger.outcomes {
        *answers.entry(*outcome).or_default() += count;
    }
    let recent = std::mem::take(&mut client_ledger.recent);
    drop(client_ledger);
    (answers, Latencies::of_micros(&recent))
}

// === impl Sample ===

impl Sample {
    /// Formats the sample in one line.
    pub(super) fn line(&self, metrics: &Metrics) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let vms: Vec<String> = self.vms.iter().map(|bytes| format!("{:.2}", megabytes(*bytes))).collect();
        let at = self.at as u64;
        format!(
            "{:02}:{:02}:{:02}  {:.0}/s  {:.2} ms, p99 {:.1}  Envoy {:.1} MB, VMs {}, {:.2} cores; generator {:.2}  used {}  reserved {}  under way {}{}",
            at / 3600,
            at / 60 % 60,
            at % 60,
            self.rate,
            self.p50_ms,
            self.p99_ms,
            megabytes(self.resident),
            vms.join(" "),
            self.envoy_cores,
            self.generator_cores,
            self.used,
            self.reserved,
            self.in_flight,
            if metrics.errors > 0 { format!("  FILTER ERRORS {}", metrics.errors) } else { String::new() },
        )
    }
}
