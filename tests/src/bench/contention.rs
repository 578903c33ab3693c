//! The overhead of a budget shared by workers: the same requests to Envoys with one, two and four workers that share one budget,
//! compared with an empty filter, whose workers share nothing.
//!
//! A worker that loses a compare-and-set of shared data retries it. If that happened often, the filter's overhead would grow with
//! the number of workers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::column::Filter;
use super::configuration::Configuration;
use super::envoy::{self, Setup};
use super::machine::Machine;
use super::report::Round;
use super::subject::Subject;
use super::table::{Spread, page};
use super::upstream;
use super::workload::Workload;

const WORKERS: [usize; 3] = [1, 2, 4];
/// Connections per worker.
const CONNECTIONS_PER_GROUP: usize = 16;
const WORKLOAD: Workload = Workload::Chat;
const REST: Duration = Duration::from_millis(30);

/// The parameters of the measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The empty filter.
    pub empty: PathBuf,
    /// The gateway's filter.
    pub module: PathBuf,
    /// The number of measured rounds.
    pub rounds: usize,
    /// Divides the number of requests, for a quick run.
    pub haste: u64,
}

/// The results of the measurement.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    envoy: String,
    rows: Vec<Row>,
}

/// The results for one number of workers.
#[derive(Debug)]
struct Row {
    workers: usize,
    empty: Vec<Round>,
    filter: Vec<Round>,
}

/// Runs the measurement and reports its progress to `progress`.
pub async fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let standin = upstream::start().await?;
    let filters = [Filter::Empty(plan.empty.clone()), Filter::Gateway(plan.module.clone(), Configuration::Open)];
    let requests = WORKLOAD.requests() / plan.haste;
    let mut rows = Vec::new();
    for workers in WORKERS {
        progress(&format!("{workers} workers: Envoys start"));
        let [mut empty, mut filter] = start(&plan.envoy, &filters, standin.addr(), workers).await?;
        let mut row = Row { workers, empty: Vec::new(), filter: Vec::new() };
        for number in 1..=plan.rounds {
            progress(&format!("{workers} workers: round {number} of {}", plan.rounds));
            row.empty.push(round(&mut empty, requests).await?);
            row.filter.push(round(&mut filter, requests).await?);
        }
        rows.push(row);
    }
    Ok(Report { machine, envoy: envoy::version(&plan.envoy)?, rows })
}

async fn start(binary: &Path, filters: &[Filter; 2], upstream: std::net::SocketAddr, workers: usize) -> Result<[Subject; 2]> {
    let setup = |filter| Setup { workers, ..Setup::new(binary, filter, upstream) };
    let [empty, filter] = filters;
    Ok([
        Subject::start(&setup(empty), WORKLOAD, CONNECTIONS_PER_GROUP * workers, &format!("empty-{workers}")).await?,
        Subject::start(&setup(filter), WORKLOAD, CONNECTIONS_PER_GROUP * workers, &format!("filter-{workers}")).await?,
    ])
}

async fn round(subject: &mut Subject, requests: u64) -> Result<Round> {
    sleep(REST).await;
    let before = subject.envoy.cpu()?;
    let served = subject.load.run(&subject.request, requests, subject.expected).await.with_context(|| subject.envoy.log())?;
    sleep(REST).await;
    Ok(Round::new(subject.envoy.cpu()?.saturating_sub(before), &served))
}

// === impl Report ===

impl Report {
    /// Formats the results as a table.
    pub fn table(&self) -> String {
        let rounds = self.rows.first().map_or(0, |row| row.empty.len());
        let what = format!("One budget, several workers: {}; median (min–max) of {rounds} rounds", WORKLOAD.title());
        let titles = ["workers", "empty µs", "filter µs", "filter − empty µs", "empty/s", "filter/s"];
        page(&what, &self.envoy, &self.machine, titles, self.rows.iter().map(Row::line))
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "envoy": self.envoy,
            "workload": WORKLOAD.title(),
            "connections_per_worker": CONNECTIONS_PER_GROUP,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

// === impl Row ===

impl Row {
    fn line(&self) -> Vec<String> {
        vec![
            self.workers.to_string(),
            spread(&self.empty, |round| round.micros).show(1),
            spread(&self.filter, |round| round.micros).show(1),
            self.beyond().show(1),
            spread(&self.empty, |round| round.rate).show(0),
            spread(&self.filter, |round| round.rate).show(0),
        ]
    }

    fn json(&self) -> Value {
        let both = |rounds: &[Round]| json!({ "micros": spread(rounds, |round| round.micros).json(), "per_second": spread(rounds, |round| round.rate).json() });
        json!({
            "workers": self.workers,
            "empty": both(&self.empty),
            "filter": both(&self.filter),
            "beyond_empty_micros": self.beyond().json(),
        })
    }

    /// Returns the filter's overhead over the empty filter, round by round.
    fn beyond(&self) -> Spread {
        Spread::of(self.filter.iter().zip(&self.empty).map(|(filter, empty)| filter.micros - empty.micros).collect())
    }
}

fn spread(rounds: &[Round], what: fn(&Round) -> f64) -> Spread {
    Spread::of(rounds.iter().map(what).collect())
}
