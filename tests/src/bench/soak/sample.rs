//! One look at everything, every few seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::super::fixed_rate::Latencies;
use super::super::{cpu, envoy::Envoy, memory};
use super::client_ledger::Outcome;
use super::gate_metrics::{Metrics, Provider};
use super::generator::Generator;

/// What was seen.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    /// Seconds since the start.
    pub(super) at: f64,
    /// Since the sample before: requests sent in a second, and those that were due and were not sent.
    pub(super) rate: f64,
    pub(super) missed: u64,
    /// Answers since the sample before, by what they were.
    answers: BTreeMap<String, u64>,
    /// Requests that have no answer yet.
    in_flight: u64,
    /// Milliseconds that small whole chats took since the sample before.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Envoy's memory in bytes, and what of it is its own alone.
    pub(super) resident: u64,
    proportional: Option<u64>,
    /// Bytes of each wasm VM.
    pub(super) vms: Vec<u64>,
    /// Cores in use since the sample before: by each worker, by Envoy as a whole, and by clients and servers together.
    worker_cores: Vec<f64>,
    pub(super) envoy_cores: f64,
    generator_cores: f64,
    /// What the gate says of all its providers together.
    pub(super) used: u64,
    pub(super) reserved: u64,
}

/// What the next sample is compared with.
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
    /// Looks, and is what the one after is compared with.
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
    /// One line for people.
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
