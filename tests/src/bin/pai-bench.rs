//! `pai-bench`: what the filter costs in a real Envoy. `scripts/bench` builds what it needs and runs it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Parser;
use e2e::bench::{self, Column, Filter, Plan, Workload};
use tokio::signal::unix::{SignalKind, signal};

/// Measures Envoy's CPU time per request: without a filter, with an empty one, with the gateway's
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
    /// Another build of it, to compare with
    #[arg(long, value_name = "FILE")]
    vs: Option<PathBuf>,
    /// Write the results here, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these workloads, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Workload>,
    /// Rounds that count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// One short round, to see that it works
    #[arg(long)]
    quick: bool,
}

// === impl Args ===

impl Args {
    fn plan(self) -> Plan {
        let column = |name: &str, filter| Column { name: name.to_owned(), filter };
        let mut columns = vec![
            column("no filter", Filter::None),
            column("empty", Filter::Empty(self.empty)),
            column("filter", Filter::Gateway(self.wasm)),
        ];
        columns.extend(self.vs.map(|module| column("other", Filter::Gateway(module))));
        Plan {
            envoy: self.envoy,
            columns,
            workloads: if self.only.is_empty() { Workload::DEFAULT.to_vec() } else { self.only },
            rounds: if self.quick { 1 } else { self.rounds.into() },
            haste: if self.quick { 10 } else { 1 },
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let json = args.json.clone();
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let report = tokio::select! {
        report = bench::run(args.plan(), |line| eprintln!("{line}")) => report?,
        // Returning ends the Envoys.
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    };
    print!("{}", report.table());
    if let Some(path) = json {
        let text = format!("{:#}\n", report.json());
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
