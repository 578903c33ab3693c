//! `pai-bench`: measures the overhead of the filter in a real Envoy. `scripts/bench` builds its inputs and runs it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use e2e::bench::{
    self, Choice, Column, Configuration, Filter, FilterPositions, Plan, Workload, contention, counts, flood, footprint, latency,
    refusals, reload,
};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

/// Measures the overhead of the gateway's filter in a real Envoy
///
/// Without a mode: Envoy's CPU time per request, with a column for each configuration and a row for each workload. Compare ratios;
/// absolute numbers depend on the machine and its load.
#[derive(Parser)]
#[command(version, args_override_self = true)]
struct Args {
    /// The Envoy binary
    #[arg(long, value_name = "FILE")]
    envoy: PathBuf,
    /// The empty filter module
    #[arg(long, value_name = "FILE")]
    empty: PathBuf,
    /// The gateway's filter module
    #[arg(long, value_name = "FILE")]
    wasm: PathBuf,
    /// Another build of the filter, measured as an additional column
    #[arg(long, value_name = "FILE", conflicts_with = "mode")]
    vs: Option<PathBuf>,
    /// Also write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these workloads, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["refusals", "counts", "memory", "contention", "flood", "reload"])]
    only: Vec<Workload>,
    /// Only these columns, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["refusals", "counts", "contention", "flood", "reload"])]
    columns: Vec<Choice>,
    #[command(flatten)]
    mode: Mode,
    /// Requests per second, with --latency
    #[arg(long, value_name = "R", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Number of measured rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// One short round, to check that it works
    #[arg(long)]
    quick: bool,
}

/// Other measurements; one at a time.
#[derive(clap::Args)]
#[group(id = "mode", multiple = false)]
struct Mode {
    /// Instead: the overhead of a rejected request, compared with a served one
    #[arg(long)]
    refusals: bool,
    /// Instead: p50 and p99 at a fixed rate, and requests per second without a pause
    #[arg(long)]
    latency: bool,
    /// Instead: memory before and after 100,000 requests
    #[arg(long)]
    memory: bool,
    /// Instead: the overhead of a request whose prompt the server counts first, compared with one that is sent at once
    #[arg(long)]
    counts: bool,
    /// Instead: one budget shared by one, two and four workers
    #[arg(long)]
    contention: bool,
    /// Instead: the effect of a flood of wrong access keys on valid requests at a fixed rate, with 100 and with 10,000 keys
    /// configured
    #[arg(long)]
    flood: bool,
    /// Instead: the time until a changed configuration is in force, and its memory, with 0, 1,000 and 10,000 access keys
    #[arg(long)]
    reload: bool,
}

/// The results as text and as JSON.
struct Findings {
    table: String,
    json: Value,
}

// === impl Args ===

impl Args {
    async fn measure(self) -> anyhow::Result<Findings> {
        let progress = |line: &str| eprintln!("{line}");
        let (rounds, haste) = if self.quick { (1, 10) } else { (self.rounds.into(), 1) };
        let (envoy, empty, module) = (self.envoy.clone(), self.empty.clone(), self.wasm.clone());
        Ok(match self.mode {
            Mode { refusals: true, .. } => {
                let report = refusals::run(refusals::Plan { envoy, module, rounds, haste }, progress).await?;
                Findings { table: report.table(), json: report.json() }
            }
            Mode { counts: true, .. } => {
                let report = counts::run(counts::Plan { envoy, module, rounds, haste }, progress).await?;
                Findings { table: report.table(), json: report.json() }
            }
            Mode { latency: true, .. } => {
                let columns = self.columns(&Choice::FEW);
                let workload = self.only.first().copied().unwrap_or(Workload::Chat);
                let time = Duration::from_secs(if self.quick { 1 } else { 10 });
                let plan = latency::Plan { envoy, columns, workload, rate: self.rate, time, rounds, haste };
                let report = latency::run(plan, progress).await?;
                Findings { table: report.table(), json: report.json() }
            }
            Mode { memory: true, .. } => {
                let columns = self.columns(&Choice::FEW);
                let report = footprint::run(footprint::Plan { envoy, columns, haste }, progress).await?;
                Findings { table: report.table(), json: report.json() }
            }
            Mode { contention: true, .. } => {
                let report = contention::run(contention::Plan { envoy, empty, module, rounds, haste }, progress).await?;
                Findings { table: report.table(), json: report.json() }
            }
            Mode { flood: true, .. } => {
                let time = Duration::from_millis(if self.quick { 300 } else { 4000 });
                let report = flood::run(flood::Plan { envoy, module, rounds, time }, progress).await?;
                Findings { table: report.table(), json: report.json() }
            }
            Mode { reload: true, .. } => {
                let report = reload::run(reload::Plan { envoy, module, rounds }, progress).await?;
                Findings { table: report.table(), json: report.json() }
            }
            _ => {
                let report = bench::run(self.plan(rounds, haste), progress).await?;
                Findings { table: report.table(), json: report.json() }
            }
        })
    }

    /// Returns the requested columns, or these by default.
    fn columns(&self, choices: &[Choice]) -> Vec<Column> {
        let choices = if self.columns.is_empty() { choices } else { &self.columns };
        choices.iter().map(|choice| choice.column(&self.empty, &self.wasm)).collect()
    }

    fn plan(self, rounds: usize, haste: u64) -> Plan {
        let mut columns = self.columns(&Choice::DEFAULT);
        columns.extend(self.vs.map(|module| Column {
            name: "other".to_owned(),
            filter: Filter::Gateway(module, Configuration::Open),
            positions: FilterPositions::Listener,
            against: &["empty", "no filter"],
        }));
        let workloads = if self.only.is_empty() { Workload::DEFAULT.to_vec() } else { self.only };
        Plan { envoy: self.envoy, columns, workloads, rounds, haste }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let json = args.json.clone();
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let findings = tokio::select! {
        findings = args.measure() => findings?,
        // Returning from main stops the Envoys.
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    };
    print!("{}", findings.table);
    if let Some(path) = json {
        let text = format!("{:#}\n", findings.json);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
