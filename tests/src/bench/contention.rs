//! What it costs that workers share a budget: the same requests to Envoys of one, two and four workers, all of one budget, beside an
//! empty filter, whose workers share nothing.
//!
//! A worker that loses the race for a record of shared data changes it once more. If that happened often, the filter's cost beyond the
//! empty one's would grow with the workers.

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
/// Connections to each worker.
const CONNECTIONS_PER_GROUP: usize = 16;
const WORKLOAD: Workload = Workload::Chat;
const REST: Duration = Duration::from_millis(30);

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// The empty filter.
    pub empty: PathBuf,
    /// The gateway's filter.
    pub module: PathBuf,
    /// Rounds that count.
    pub rounds: usize,
    /// Requests are divided by this.
    pub haste: u64,
}

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    envoy: String,
    rows: Vec<Row>,
}

/// One number of workers.
#[derive(Debug)]
struct Row {
    workers: usize,
    empty: Vec<Round>,
    filter: Vec<Round>,
}

/// Measures, telling `progress` how far it is.
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
    /// The table, for people.
    pub fn table(&self) -> String {
        let rounds = self.rows.first().map_or(0, |row| row.empty.len());
        let what = format!("One budget, several workers: {}; median (min–max) of {rounds} rounds", WORKLOAD.title());
        let titles = ["workers", "empty µs", "filter µs", "filter − empty µs", "empty/s", "filter/s"];
        page(&what, &self.envoy, &self.machine, titles, self.rows.iter().map(Row::line))
    }

    /// Everything, for programs.
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

    /// What the filter costs more than the empty one, round by round.
    fn beyond(&self) -> Spread {
        Spread::of(self.filter.iter().zip(&self.empty).map(|(filter, empty)| filter.micros - empty.micros).collect())
    }
}

fn spread(rounds: &[Round], what: fn(&Round) -> f64) -> Spread {
    Spread::of(rounds.iter().map(what).collect())
}
