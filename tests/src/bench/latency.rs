//! How long a request takes, and how many a worker can take.
//!
//! Each column is an Envoy with one worker. First requests come at a fixed rate, each when it is due, whether or not those before are
//! answered; then sixteen connections ask without a pause, which is as much as the worker, or the machine, can do. Clients and
//! stand-in share the machine: how busy the worker was tells which of the two it is.

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

/// Connections that the requests at a fixed rate take turns on.
const TURNS: usize = 32;
const REST: Duration = Duration::from_millis(100);

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// The configurations.
    pub columns: Vec<Column>,
    /// What is asked.
    pub workload: Workload,
    /// Requests in a second, of the fixed rate.
    pub rate: u32,
    /// How long in each round.
    pub time: Duration,
    /// Rounds that count.
    pub rounds: usize,
    /// Requests without a pause are divided by this.
    pub haste: u64,
}

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    machine: Machine,
    envoy: String,
    rows: Vec<(String, Vec<Round>)>,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    /// Milliseconds.
    p50: f64,
    p99: f64,
    /// Requests a second, and cores that Envoy used for them.
    most: f64,
    cores: f64,
}

/// Measures, telling `progress` how far it is.
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
    /// The table, for people.
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

    /// Everything, for programs.
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
