//! `pai-soak`: everything at once for an hour. `scripts/soak` builds what it needs and runs it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use e2e::bench::soak::{self, Plan};
use tokio::signal::unix::{SignalKind, signal};

/// Sends a real Envoy everything at once, and looks whether memory is flat, nothing stays reserved, and books agree
///
/// Exit code 1 if something is not as it must be.
#[derive(Parser)]
#[command(version, args_override_self = true)]
struct Args {
    /// Envoy's binary
    #[arg(long, value_name = "FILE")]
    envoy: PathBuf,
    /// The gateway's filter
    #[arg(long, value_name = "FILE")]
    wasm: PathBuf,
    /// How long
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    minutes: f64,
    /// Requests a second
    #[arg(long, value_name = "R", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Seconds between two samples
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// What is drawn by lot follows from it
    #[arg(long, value_name = "N", default_value_t = 4)]
    seed: u64,
    /// Write everything here, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // An interrupted soak is a shorter one.
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
