//! `pai-bench`: what the filter costs in a real Envoy. `scripts/bench` builds what it needs and runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use e2e::bench::{self, Column, Configuration, Filter, Places, Plan, Workload, flood, reload};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

/// Measures what the gateway's filter costs in a real Envoy
///
/// Without --flood or --reload: Envoy's CPU time per request, a column for each configuration and a row for each workload.
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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["flood", "reload"])]
    vs: Option<PathBuf>,
    /// Write the results here, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these workloads, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["flood", "reload"])]
    only: Vec<Workload>,
    /// Only these columns, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with_all = ["flood", "reload"])]
    columns: Vec<Choice>,
    /// Instead: what a flood of wrong access keys does to good requests at a fixed rate, with 100 and with 10,000 keys configured
    #[arg(long, conflicts_with = "reload")]
    flood: bool,
    /// Instead: how long a changed configuration takes to come into force, and its memory, with 0, 1,000 and 10,000 access keys
    #[arg(long)]
    reload: bool,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// One short round, to see that it works
    #[arg(long)]
    quick: bool,
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// No filter
    None,
    /// An empty filter: what the platform costs
    Empty,
    /// An empty filter that holds requests until their bodies are there: what Envoy does for any filter that routes by them
    Holding,
    /// One provider with a daily budget, open to everybody
    Filter,
    /// An access key, one of 100: budgets of provider, external use and key, tokens and requests per minute
    Developer,
    /// One of three agents, known by a header, with a daily budget
    Agent,
    /// As `filter`, with a guard against prompt injection
    Guards,
    /// Two empty filters where `fallback` has its own: in the listener and before the upstream
    EmptyTwice,
    /// As `filter`, in both places: fallback is there for others
    Attempt,
    /// An agent with two providers, of which the first answers
    Fallback,
    /// The same, but the first fails at every second request
    FallbackUsed,
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
        let rounds = if self.quick { 1 } else { self.rounds.into() };
        let (envoy, module) = (self.envoy.clone(), self.wasm.clone());
        if self.flood {
            let time = Duration::from_millis(if self.quick { 300 } else { 4000 });
            let report = flood::run(flood::Plan { envoy, module, rounds, time }, progress).await?;
            return Ok(Findings { table: report.table(), json: report.json() });
        }
        if self.reload {
            let report = reload::run(reload::Plan { envoy, module, rounds }, progress).await?;
            return Ok(Findings { table: report.table(), json: report.json() });
        }
        let report = bench::run(self.plan(rounds), progress).await?;
        Ok(Findings { table: report.table(), json: report.json() })
    }

    fn plan(self, rounds: usize) -> Plan {
        let choices = if self.columns.is_empty() { Choice::DEFAULT.to_vec() } else { self.columns };
        let mut columns: Vec<Column> = choices.iter().map(|choice| choice.column(&self.empty, &self.wasm)).collect();
        columns.extend(self.vs.map(|module| Column {
            name: "other".to_owned(),
            filter: Filter::Gateway(module, Configuration::Open),
            places: Places::Listener,
            against: &["empty", "no filter"],
        }));
        Plan {
            envoy: self.envoy,
            columns,
            workloads: if self.only.is_empty() { Workload::DEFAULT.to_vec() } else { self.only },
            rounds,
            haste: if self.quick { 10 } else { 1 },
        }
    }
}

// === impl Choice ===

impl Choice {
    /// What is measured where nothing else is asked for: the filter in the listener alone.
    const DEFAULT: [Self; 7] = [Self::None, Self::Empty, Self::Holding, Self::Filter, Self::Developer, Self::Agent, Self::Guards];
    /// Access keys among which the developer's is one.
    const KEYS: usize = 100;

    fn column(self, empty: &Path, module: &Path) -> Column {
        let gateway = |configuration| Filter::Gateway(module.to_owned(), configuration);
        let (name, filter, against): (_, _, &[_]) = match self {
            Self::None => ("no filter", Filter::None, &[]),
            Self::Empty => ("empty", Filter::Empty(empty.to_owned()), &[]),
            Self::Holding => ("holding", Filter::Holding(empty.to_owned()), &["empty"]),
            Self::Filter => ("filter", gateway(Configuration::Open), &["other", "empty", "no filter"]),
            Self::Developer => ("developer", gateway(Configuration::Keys(Self::KEYS)), &["empty"]),
            Self::Agent => ("agent", gateway(Configuration::Agents), &["empty"]),
            Self::Guards => ("guards", gateway(Configuration::Guarded), &["filter", "empty"]),
            Self::EmptyTwice => ("empty-twice", Filter::Empty(empty.to_owned()), &["empty"]),
            Self::Attempt => ("attempt", gateway(Configuration::Open), &["empty-twice", "filter"]),
            Self::Fallback => ("fallback", gateway(Configuration::Fallback), &["empty-twice"]),
            Self::FallbackUsed => ("fallback-used", gateway(Configuration::Fallback), &["empty-twice"]),
        };
        let places = match self {
            Self::EmptyTwice | Self::Attempt | Self::Fallback => Places::Both,
            Self::FallbackUsed => Places::BothFailing,
            _ => Places::Listener,
        };
        Column { name: name.to_owned(), filter, places, against }
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
