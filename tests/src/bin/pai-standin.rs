//! `pai-standin`: the stand-in vLLM as a standalone server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Parser;
use e2e::standin::{FAULT_HELP, Options, StandIn};

/// Serves vLLM 0.32's HTTP API without a model: for trying out, testing and load-testing what is in front of vLLM
#[derive(Parser)]
#[command(version, after_help = FAULT_HELP)]
struct Args {
    /// Port to listen on; 0 selects a free port
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Number of worker threads; by default the number of cores
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    options: Options,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.max(1));
    }
    runtime.enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let models = args.options.models.join(", ");
    let standin = StandIn::listen(SocketAddr::new(args.host, args.port), args.options).await?;
    println!("pai-standin: a stand-in for vLLM 0.32, not a model: its text means nothing");
    println!("  listens on {}/v1", standin.url());
    println!("  models     {models}");
    println!("  seen so far: GET /standin/counters, GET /standin/requests; faults: POST /standin/fault, --help");
    standin.run().await;
    Ok(())
}
