//! Response times, and the throughput of a worker.
//!
//! Each column is an Envoy with one worker. First, requests are sent at a fixed rate, whether or not previous requests have been
//! answered. Then sixteen connections send without a pause, up to the limit of the worker or of the machine. Clients and stand-in
//! share the machine; the worker's utilization shows which of the two limits applies.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::column::Column;
use super::envoy::{self, Setup};
use super::fixed_rate::FixedRate;
use super::machine::Machine;
use super::subject::Subject;
use super::table::{Spread, page};
use super::workload::Workload;
use super::{CONNECTIONS, upstream};

/// The connections over which the requests at a fixed rate are distributed.
const TURNS: usize = 32;
const REST: Duration = Duration::from_millis(100);

/// The parameters of the measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The configurations.
    pub columns: Vec<Column>,
    /// The workload.
    pub workload: Workload,
    /// Requests per second at the fixed rate.
    pub rate: u32,
    /// The duration of each round.
    pub time: Duration,
    /// The number of measured rounds.
    pub rounds: usize,
    /// Divides the number of requests without a pause, for a quick run.
    pub haste: u64,
}

/// The results of the measurement.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    machine: Machine,
    envoy: String,
    rows: Vec<(String, Vec<Round>)>,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    /// In milliseconds.
    p50: f64,
    p99: f64,
    /// Requests per second, and the CPU cores that Envoy used for them.
    most: f64,
    cores: f64,
}

/// Runs the measurement and reports its progress to `progress`.
pub async fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let standin = upstream::start().await?;
    let mut subjects = Vec::with_capacity(plan.columns.len());
    for (place, column) in plan.columns.iter().enumerate() {
        progress(&format!("{} starts", column.name));
        let setup = Setup::new(&plan.envoy, &column.filter, standin.addr());
        let subject = Subject::start(&setup, plan.workload, CONNECTIONS, &format!("latency-{place}")).await;
        let subject = subject.with_context(|| column.name.clone())?;
        let fixed_rate = FixedRate::connect(subject.address, TURNS).await?;
        subjects.push((subject, fixed_rate));
    }
    let mut rows: Vec<_> = plan.columns.iter().map(|column| (column.name.clone(), Vec::new())).collect();
    for number in 1..=plan.rounds {
        for ((subject, fixed_rate), (name, rounds)) in subjects.iter_mut().zip(&mut rows) {
            progress(&format!("round {number} of {}: {name}", plan.rounds));
            rounds.push(round(subject, fixed_rate, &plan).await.with_context(|| format!("{name}\n{}", subject.envoy.log()))?);
        }
    }
    Ok(Report { envoy: envoy::version(&plan.envoy)?, plan, machine, rows })
}

async fn round(subject: &mut Subject, fixed_rate: &mut FixedRate, plan: &Plan) -> Result<Round> {
    let Subject { envoy, load, request, expected, .. } = subject;
    sleep(REST).await;
    let latencies = fixed_rate.run(request, plan.rate, plan.time, *expected).await?;
    sleep(REST).await;
    let (before, start) = (envoy.cpu()?, Instant::now());
    let served = load.run(request, (plan.workload.requests() / plan.haste).max(100), *expected).await?;
    let used = envoy.cpu()?.saturating_sub(before);
    Ok(Round {
        p50: latencies.percentile(50),
        p99: latencies.percentile(99),
        most: served.requests as f64 / served.took.as_secs_f64(),
        cores: used.as_secs_f64() / start.elapsed().as_secs_f64(),
    })
}

// === impl Report ===

impl Report {
    /// Formats the results as a table.
    pub fn table(&self) -> String {
        let what = format!("{}; median (min–max) of {} rounds; one worker", self.plan.workload.title(), self.plan.rounds);
        let at = format!("p50 ms at {}/s", self.plan.rate);
        let titles = ["", &at, "p99 ms", "requests/s without a pause", "Envoy's cores then"];
        let rows = self.rows.iter().map(|(name, rounds)| {
            let show = |digits, what: fn(&Round) -> f64| spread(rounds, what).show(digits);
            let numbers =
                [show(3, |round| round.p50), show(3, |round| round.p99), show(0, |round| round.most), show(2, |round| round.cores)];
            std::iter::once(name.clone()).chain(numbers).collect()
        });
        page(&what, &self.envoy, &self.machine, titles, rows)
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, rounds)| {
            let show = |what: fn(&Round) -> f64| spread(rounds, what).json();
            json!({
                "column": name,
                "p50_ms": show(|round| round.p50),
                "p99_ms": show(|round| round.p99),
                "most_per_second": show(|round| round.most),
                "envoy_cores": show(|round| round.cores),
            })
        });
        json!({
            "machine": self.machine,
            "envoy": self.envoy,
            "workers": 1,
            "workload": self.plan.workload.title(),
            "per_second": self.plan.rate,
            "seconds": self.plan.time.as_secs_f64(),
            "rounds": self.plan.rounds,
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

fn spread(rounds: &[Round], what: fn(&Round) -> f64) -> Spread {
    Spread::of(rounds.iter().map(what).collect())
}
