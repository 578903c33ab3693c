//! `pai-bench`: what the filter costs in a real Envoy. `scripts/bench` builds what it needs and runs it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use e2e::bench::{
    self, Choice, Column, Configuration, Filter, FilterPositions, Plan, Workload, contention, flood, footprint, latency, refusals,
    reload,
};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

/// Measures what the gateway's filter costs in a real Envoy
///
/// Without one of the modes: Envoy's CPU time per request, a column for each configuration and a row for each workload.
/// Compare ratios; absolute numbers are of this machine at this moment.
#[derive(Parser)]
#[command(version, args_override_self = true)]
struct Args {
    /// Envoy's binary
    #[arg(long, value_name = "FILE")]
    envoy: PathBuf,
    /// The empty filter
    #[arg(long, value_name = "FILE")]
    empty: PathBuf,
    /// The gateway's filter
    #[arg(long, value_name = "FILE")]
    wasm: PathBuf,
    /// Another build of it as one more column, to compare with
    #[arg(long, value_name = "FILE", conflicts_with = "mode")]
    vs: Option<PathBuf>,
    /// Write the results here, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these workloads, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["refusals", "memory", "contention", "flood", "reload"])]
    only: Vec<Workload>,
    /// Only these columns, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["refusals", "contention", "flood", "reload"])]
    columns: Vec<Choice>,
    #[command(flatten)]
    mode: Mode,
    /// Requests a second, with --latency
    #[arg(long, value_name = "R", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// One short round, to see that it works
    #[arg(long)]
    quick: bool,
}

/// What else can be measured; one at a time.
#[derive(clap::Args)]
#[group(id = "mode", multiple = false)]
struct Mode {
    /// Instead: what a refused request costs, beside one that is served
    #[arg(long)]
    refusals: bool,
    /// Instead: p50 and p99 at a fixed rate, and requests a second without a pause
    #[arg(long)]
    latency: bool,
    /// Instead: memory before and after 100,000 requests
    #[arg(long)]
    memory: bool,
    /// Instead: one budget shared by one, two and four workers
    #[arg(long)]
    contention: bool,
    /// Instead: what a flood of wrong access keys does to good requests at a fixed rate, with 100 and with 10,000 keys configured
    #[arg(long)]
    flood: bool,
    /// Instead: how long a changed configuration takes to come into force, and its memory, with 0, 1,000 and 10,000 access keys
    #[arg(long)]
    reload: bool,
}

/// What was found, for people and for programs.
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

    /// Those that were asked for, or else these.
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
        // Returning ends the Envoys.
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
