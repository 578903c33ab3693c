//! `pai gateway …`.

mod demo;
mod env;
mod list;
mod run;
mod use_;

use clap::Subcommand;

use super::{Outcome, Shared};

/// Choose a gateway and use it in your shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eval $(pai gateway env)          # OpenAI and Anthropic clients of this shell use the gateway
  pai gateway list
  pai gateway use api.example.com")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Env(env::Args),
    List(list::Args),
    Run(run::Args),
    Use(use_::Args),
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        match self.command {
            Command::Env(args) => args.run(shared),
            Command::List(args) => args.run(),
            Command::Run(args) => args.run(shared),
            Command::Use(args) => args.run(),
        }
    }
}
