//! The commands: one file each, with its arguments and what it does.

mod gateway;
mod login;
mod logout;
mod version;
mod render;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// What every command returns.
pub type Outcome = Result<(), Failure>;

/// An LLM gateway for vLLM: budgets, access keys, model lists and fallback, in Envoy.
///
/// Start a gateway with `pai gateway run`, then configure it with `pai apply -f FILE`. Changes take effect without a restart.
#[derive(Debug, Parser)]
#[command(name = "pai", version, max_term_width = 100)]
struct Cli {
    /// Directory of the gateway: its manifests, secrets and state
    #[arg(long, global = true, env = "PAI_DIR", value_name = "DIR", help_heading = "Global options")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Gateway(gateway::Args),
    Login(login::Args),
    Logout(logout::Args),
    Version(version::Args),
    Render(render::Args),
}

/// Parses the command line and runs the command.
pub fn run() -> Outcome {
    let cli = Cli::parse();
    let dir = cli.dir.as_deref();
    match cli.command {
        Command::Gateway(args) => args.run(dir),
        Command::Login(args) => args.run(),
        Command::Logout(args) => args.run(),
        Command::Version(args) => args.run(),
        Command::Render(args) => args.run(),
    }
}
