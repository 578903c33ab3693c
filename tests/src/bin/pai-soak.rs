//! `pai-soak`: all features at once for an hour. `scripts/soak` builds its inputs and runs it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use e2e::bench::soak::{self, Plan};
use tokio::signal::unix::{SignalKind, signal};

/// Sends all kinds of requests to a real Envoy, and checks that memory stays flat, no reservation remains, and all charges agree
///
/// The exit code is 1 if a check fails.
#[derive(Parser)]
#[command(version, args_override_self = true)]
struct Args {
    /// The Envoy binary
    #[arg(long, value_name = "FILE")]
    envoy: PathBuf,
    /// The gateway's filter module
    #[arg(long, value_name = "FILE")]
    wasm: PathBuf,
    /// Duration in minutes
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    minutes: f64,
    /// Requests per second
    #[arg(long, value_name = "R", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Seconds between two samples
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Seed of the random requests
    #[arg(long, value_name = "N", default_value_t = 4)]
    seed: u64,
    /// Also write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // An interruption ends the soak early.
    let stop = async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    };
    let plan = Plan {
        envoy: args.envoy,
        module: args.wasm,
        time: Duration::try_from_secs_f64(args.minutes * 60.0).context("--minutes")?,
        rate: args.rate,
        every: Duration::from_secs(args.every),
        seed: args.seed,
    };
    let report = soak::run(plan, stop, |line| eprintln!("{line}")).await?;
    print!("{}", report.text());
    if let Some(path) = args.json {
        fs::write(&path, format!("{:#}\n", report.json())).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
