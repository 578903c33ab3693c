//! A long run of all features at once, by default one hour. It checks that memory stays flat, that no reservation remains, and that
//! the gateway has charged what the clients expect.
//!
//! One Envoy runs two workers and the filter in both positions. Requests of two dozen [kinds](traffic) are sent at a fixed rate:
//! chats and streams, aborted streams, several kinds of provider failures, rejections. The clients keep a [ledger](client_ledger)
//! of their own, which is compared with the gateway's when no request is in flight.

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
use generator::Generator;
use malformed::MalformedUpstream;
use sample::{Previous, Sample};

pub(super) use manifests::manifests;
pub use report::Report;

const WORKERS: usize = 2;
/// The deadline for the last requests to end, and for the gateway to settle them and to update its gauges.
const IDLE_DEADLINE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The parameters of a soak.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The filter.
    pub module: PathBuf,
    /// The duration.
    pub time: Duration,
    /// Requests per second.
    pub rate: u32,
    /// Time between two samples.
    pub every: Duration,
    /// The seed of the random requests.
    pub seed: u64,
}

/// The running processes and connections.
struct Soak {
    envoy: Envoy,
    gate: Client,
    admin: Client,
    generator: Arc<Generator>,
}

/// The gateway's state at the end.
#[derive(Debug)]
struct FinalState {
    providers: Vec<Provider>,
    metrics: Metrics,
    /// The day of the state.
    day: u64,
}

/// Runs a soak until `stop` or the end of the plan, and reports its progress to `progress`.
pub async fn run(plan: Plan, stop: impl Future<Output = ()>, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let (sound, cut, failing) = (upstream::start().await?, upstream::start().await?, upstream::start_failing().await?);
    let garbage = MalformedUpstream::start().await?;
    let others = [
        (manifests::CUT, cut.addr()),
        (manifests::FAILING, failing.addr()),
        (manifests::GARBAGE, garbage.address()),
        (manifests::EXHAUSTED, sound.addr()),
    ];
    let filter = Filter::Gateway(plan.module.clone(), Configuration::Soak);
    let setup = Setup { others: &others, callouts: true, workers: WORKERS, ..Setup::new(&plan.envoy, &filter, sound.addr()) };
    progress("Envoy starts");
    let mut soak = Soak::start(&setup).await?;
    let samples = soak.load(&plan, stop, &mut progress).await.with_context(|| soak.envoy.log())?;
    progress("coming to rest");
    let rest = soak.wait_for_idle().await.with_context(|| soak.envoy.log())?;
    let log = soak.envoy.log();
    let client_ledger = std::mem::take(&mut *soak.generator.client_ledger());
    let (sent, missed) = (soak.generator.sent(), soak.generator.missed());
    let in_flight = soak.generator.in_flight();
    let envoy = envoy::version(&plan.envoy)?;
    let generated = [&sound, &cut, &failing].map(|standin| standin.counters().total.tokens()).iter().sum();
    Ok(Report { plan, machine, envoy, samples, client_ledger, rest, sent, missed, in_flight, generated, log })
}

// === impl Soak ===

impl Soak {
    async fn start(setup: &Setup<'_>) -> Result<Self> {
        let mut envoy = Envoy::start(setup, "soak")?;
        let address = envoy.address().await?;
        let generator = Generator::new(address).await.with_context(|| envoy.log())?;
        Ok(Self { gate: Client::connect(address).await?, admin: envoy.admin().await?, generator: Arc::new(generator), envoy })
    }

    async fn load(&mut self, plan: &Plan, stop: impl Future<Output = ()>, progress: &mut impl FnMut(&str)) -> Result<Vec<Sample>> {
        let mut before = Previous::default();
        self.sample(&mut before, Duration::ZERO).await?; // excludes what happened before the start
        let start = Instant::now();
        tokio::spawn(Arc::clone(&self.generator).run(plan.rate, Rng::new(plan.seed)));
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
        self.generator.stop();
        Ok(samples)
    }

    async fn sample(&mut self, before: &mut Previous, at: Duration) -> Result<(Sample, Metrics)> {
        let providers = gate_metrics::providers(&mut self.gate).await?;
        let metrics = gate_metrics::metrics(&mut self.admin).await?;
        Ok((before.sample(at, &self.envoy, &self.generator, &providers)?, metrics))
    }

    /// Waits until no request is in flight and nothing is reserved, or until the deadline.
    async fn wait_for_idle(&mut self) -> Result<FinalState> {
        let start = Instant::now();
        loop {
            let day = today();
            let providers = gate_metrics::providers(&mut self.gate).await?;
            let metrics = gate_metrics::metrics(&mut self.admin).await?;
            let reserved: u64 = providers.iter().map(|provider| provider.reserved + provider.external.reserved).sum();
            let idle = self.generator.in_flight() == 0 && reserved == 0 && metrics.reserved == 0;
            if day == today() && (idle || start.elapsed() > IDLE_DEADLINE) {
                return Ok(FinalState { providers, metrics, day });
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
