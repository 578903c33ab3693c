//! The overhead of a request whose prompt the server counts before the filter decides, compared with one that is sent at once: Envoy's CPU
//! time, and the time that a client waits.
//!
//! Two Envoys with one worker, whose `maxTokensPerRequest` is such that the limit decides which is which. The connections are as many as
//! the filter lets wait for counts at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::column::Filter;
use super::configuration::Configuration;
use super::envoy::{self, Envoy, Setup};
use super::load::Load;
use super::machine::Machine;
use super::report::Round;
use super::table::{Spread, page};
use super::upstream;
use super::workload::{Expected, Workload};
use crate::standin::StandIn;

const CONNECTIONS: usize = 4;
const REST: Duration = Duration::from_millis(30);
/// The time in which the filter has read the context length, at its start.
const START: Duration = Duration::from_secs(2);
/// A limit that leaves nothing open, and one that is lowered.
const SMALL_LIMIT: u64 = 100;
const LARGE_LIMIT: u64 = 1_000_000_000;

/// A body, and the `maxTokensPerRequest` with which the bounds of its prompt lead to different limits.
const CASES: [(Workload, u64); 2] = [(Workload::Chat, 600), (Workload::Long, 80_000)];

/// The parameters of the measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The filter.
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

#[derive(Debug)]
struct Row {
    workload: Workload,
    is_counted: bool,
    rounds: Vec<Round>,
}

/// Requests of one kind to one Envoy.
struct Subject {
    request: Arc<[u8]>,
    expected: Expected,
}

/// Runs the measurement and reports its progress to `progress`.
pub async fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let standin = upstream::start().await?;
    let mut rows = Vec::new();
    for (workload, cap) in CASES {
        progress(workload.title());
        let filter = Filter::Gateway(plan.module.clone(), Configuration::Counted(cap));
        let setup = Setup { callouts: true, ..Setup::new(&plan.envoy, &filter, standin.addr()) };
        let mut envoy = Envoy::start(&setup, "counts")?;
        let mut load = Load::connect(envoy.address().await?, CONNECTIONS).await?;
        sleep(START).await;
        let mut subjects = Vec::new();
        for limit in [SMALL_LIMIT, LARGE_LIMIT] {
            let request: Arc<[u8]> = workload.request_with_limit(&filter.credentials(), limit).into();
            let expected = workload.examine(load.send(&request).await?).with_context(|| envoy.log())?;
            subjects.push(Subject { request, expected });
        }
        let requests = (workload.requests() / plan.haste).max(CONNECTIONS as u64);
        let mut measured = [false, true].map(|is_counted| Row { workload, is_counted, rounds: Vec::with_capacity(plan.rounds) });
        for number in 0..=plan.rounds {
            for (row, subject) in measured.iter_mut().zip(&subjects) {
                let round = subject.round(&envoy, &mut load, &standin, requests, row.is_counted).await?;
                // The first round is the warm-up.
                if number > 0 {
                    row.rounds.push(round);
                }
            }
        }
        rows.extend(measured);
    }
    Ok(Report { machine, envoy: envoy::version(&plan.envoy)?, rows })
}

// === impl Subject ===

impl Subject {
    async fn round(&self, envoy: &Envoy, load: &mut Load, standin: &StandIn, requests: u64, is_counted: bool) -> Result<Round> {
        sleep(REST).await;
        let (before, counted) = (envoy.cpu()?, standin.counters().tokenized);
        let served = load.run(&self.request, requests, self.expected).await.with_context(|| envoy.log())?;
        sleep(REST).await;
        let used = envoy.cpu()?.saturating_sub(before);
        let counted = standin.counters().tokenized - counted;
        ensure!(counted == if is_counted { requests } else { 0 }, "{counted} of {requests} requests were counted");
        Ok(Round::new(used, &served))
    }
}

// === impl Report ===

impl Report {
    /// Formats the results as a table.
    pub fn table(&self) -> String {
        let rounds = self.rows.first().map_or(0, |row| row.rounds.len());
        let what = format!(
            "Envoy's CPU time per request in µs, one worker, {CONNECTIONS} connections: median (min–max) of {rounds} rounds"
        );
        let rows = self.rows.iter().map(|row| {
            let name = format!("{}{}", row.workload.title(), if row.is_counted { ", counted" } else { "" });
            vec![name, row.micros().show(1), self.ratio(row).show(2), row.wait().show(2)]
        });
        page(&what, &self.envoy, &self.machine, ["", "µs", "of one not counted", "ms until the answer"], rows)
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "workload": row.workload.title(),
                "counted": row.is_counted,
                "micros": row.micros().json(),
                "of_not_counted": self.ratio(row).json(),
                "milliseconds": row.wait().json(),
            })
        });
        json!({
            "machine": self.machine, "envoy": self.envoy, "workers": 1, "connections": CONNECTIONS, "rows": rows.collect::<Vec<_>>(),
        })
    }

    fn ratio(&self, row: &Row) -> Spread {
        let other = self.rows.iter().find(|other| other.workload == row.workload && !other.is_counted);
        let other = other.map_or(&[][..], |other| &other.rounds);
        Spread::of(row.rounds.iter().zip(other).map(|(one, other)| one.micros / other.micros).collect())
    }
}

// === impl Row ===

impl Row {
    fn micros(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.micros).collect())
    }

    /// Returns how long an answer takes, in milliseconds, with all connections busy.
    fn wait(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|round| CONNECTIONS as f64 * 1000.0 / round.rate).collect())
    }
}
