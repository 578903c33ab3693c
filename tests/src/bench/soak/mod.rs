//! An hour, or as long as is wanted, of everything at once: is memory flat, does nothing stay reserved, and is what the gate has charged
//! what clients know to have cost?
//!
//! One Envoy with two workers and the filter in both places. Requests of two dozen [sorts](traffic) come at a fixed rate: chats and
//! streams, streams given up at any moment, providers that fail in several ways, refusals. Clients keep [books](client_ledger) of their own, which
//! are compared with the gate's when all is at rest.

mod client_ledger;
mod gate_metrics;
mod generator;
mod malformed;
mod manifests;
mod report;
mod sample;
mod traffic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep, sleep_until};

use super::client::Client;
use super::envoy::{self, Envoy, Setup};
use super::machine::Machine;
use super::{Configuration, Filter, upstream};
use crate::harness::Rng;
use client_ledger::today;
use gate_metrics::{Metrics, Provider};
use generator::Drive;
use malformed::Garbage;
use sample::{Before, Sample};

pub(super) use manifests::manifests;
pub use report::Report;

const WORKERS: usize = 2;
/// The last requests have so long to end, and the gate to settle them and to renew its gauges.
const AT_REST_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// The filter.
    pub module: PathBuf,
    /// How long.
    pub time: Duration,
    /// Requests in a second.
    pub rate: u32,
    /// Time between two samples.
    pub every: Duration,
    /// What is drawn by lot follows from it.
    pub seed: u64,
}

/// Everything that runs.
struct Soak {
    envoy: Envoy,
    gate: Client,
    admin: Client,
    drive: Arc<Drive>,
}

/// What the gate says when all is over.
#[derive(Debug)]
struct AtRest {
    providers: Vec<Provider>,
    metrics: Metrics,
    /// The day of it.
    day: u64,
}

/// Soaks, telling `progress` how it goes, until `stop` or the end of the plan.
pub async fn run(plan: Plan, stop: impl Future<Output = ()>, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let (sound, cut, failing) = (upstream::start().await?, upstream::start().await?, upstream::start_failing().await?);
    let garbage = Garbage::start().await?;
    let others = [
        (manifests::CUT, cut.addr()),
        (manifests::FAILING, failing.addr()),
        (manifests::GARBAGE, garbage.address()),
        (manifests::SPENT, sound.addr()),
    ];
    let filter = Filter::Gateway(plan.module.clone(), Configuration::Soak);
    let setup = Setup { others: &others, callouts: true, workers: WORKERS, ..Setup::new(&plan.envoy, &filter, sound.addr()) };
    progress("Envoy starts");
    let mut soak = Soak::start(&setup).await?;
    let samples = soak.load(&plan, stop, &mut progress).await.with_context(|| soak.envoy.log())?;
    progress("coming to rest");
    let rest = soak.at_rest().await.with_context(|| soak.envoy.log())?;
    let log = soak.envoy.log();
    let book = std::mem::take(&mut *soak.drive.book());
    let (sent, missed) = (soak.drive.sent(), soak.drive.missed());
    let under_way = soak.drive.under_way();
    let envoy = envoy::version(&plan.envoy)?;
    let generated = [&sound, &cut, &failing].map(|standin| standin.counters().total.tokens()).iter().sum();
    Ok(Report { plan, machine, envoy, samples, book, rest, sent, missed, under_way, generated, log })
}

// === impl Soak ===

impl Soak {
    async fn start(setup: &Setup<'_>) -> Result<Self> {
        let mut envoy = Envoy::start(setup, "soak")?;
        let address = envoy.address().await?;
        let drive = Drive::new(address).await.with_context(|| envoy.log())?;
        Ok(Self { gate: Client::connect(address).await?, admin: envoy.admin().await?, drive: Arc::new(drive), envoy })
    }

    async fn load(&mut self, plan: &Plan, stop: impl Future<Output = ()>, progress: &mut impl FnMut(&str)) -> Result<Vec<Sample>> {
        let mut before = Before::default();
        self.sample(&mut before, Duration::ZERO).await?; // what has happened until now is no part of it
        let start = Instant::now();
        tokio::spawn(Arc::clone(&self.drive).run(plan.rate, Rng::new(plan.seed)));
        let (mut samples, mut next, end) = (Vec::new(), start, start + plan.time);
        tokio::pin!(stop);
        while next < end {
            next = (next + plan.every).min(end);
            tokio::select! {
                () = sleep_until(next) => {}
                () = &mut stop => next = end,
            }
            let (sample, metrics) = self.sample(&mut before, start.elapsed()).await?;
            progress(&sample.line(&metrics));
            samples.push(sample);
        }
        self.drive.stop();
        Ok(samples)
    }

    async fn sample(&mut self, before: &mut Before, at: Duration) -> Result<(Sample, Metrics)> {
        let providers = gate_metrics::providers(&mut self.gate).await?;
        let metrics = gate_metrics::metrics(&mut self.admin).await?;
        Ok((before.sample(at, &self.envoy, &self.drive, &providers)?, metrics))
    }

    /// Waits until nothing is under way or reserved any more, or too long.
    async fn at_rest(&mut self) -> Result<AtRest> {
        let start = Instant::now();
        loop {
            let day = today();
            let providers = gate_metrics::providers(&mut self.gate).await?;
            let metrics = gate_metrics::metrics(&mut self.admin).await?;
            let reserved: u64 = providers.iter().map(|provider| provider.reserved + provider.external.reserved).sum();
            let resting = self.drive.under_way() == 0 && reserved == 0 && metrics.reserved == 0;
            if day == today() && (resting || start.elapsed() > AT_REST_WITHIN) {
                return Ok(AtRest { providers, metrics, day });
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}
