//! The commands: one file each, with its arguments and what it does.

mod access_key;
mod apply;
mod change;
mod chat;
mod completion;
mod delete;
mod describe;
mod gateway;
mod get;
mod login;
mod logout;
mod models;
#[cfg(test)]
mod reference;
mod render;
mod resource;
mod secret;
mod validate;
mod version;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::directory::GatewayDirectory;
use crate::failure::Failure;

/// What every command returns.
pub type Outcome = Result<(), Failure>;

/// An LLM gateway for vLLM: budgets, access keys, model lists and fallback, in Envoy.
///
/// Start a gateway with `pai gateway run`, then configure it with `pai apply -f FILE`. Changes take effect without a restart.
#[derive(Debug, Parser)]
#[command(name = "pai", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// The options of every command.
#[derive(Debug, clap::Args)]
pub struct Shared {
    /// Directory of the gateway: its manifests, secrets and state
    #[arg(long, global = true, env = "PAI_DIR", value_name = "DIR", help_heading = "Global options")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    Add(Add),
    Apply(apply::Args),
    Chat(chat::Args),
    Completion(completion::Args),
    #[command(subcommand)]
    Create(Create),
    Delete(delete::Args),
    Describe(describe::Args),
    Gateway(gateway::Args),
    Get(get::Args),
    Login(login::Args),
    Logout(logout::Args),
    Models(models::Args),
    Render(render::Args),
    #[command(subcommand)]
    Rotate(Rotate),
    Validate(validate::Args),
    Version(version::Args),
}

/// Add a secret
#[derive(Debug, Subcommand)]
enum Add {
    Secret(secret::Args),
}

/// Create an access key or a secret
#[derive(Debug, Subcommand)]
enum Create {
    AccessKey(access_key::Create),
    #[command(subcommand)]
    Secret(CreateSecret),
}

/// Create a secret, as with kubectl
#[derive(Debug, Subcommand)]
enum CreateSecret {
    Generic(secret::Args),
}

/// Replace an access key
#[derive(Debug, Subcommand)]
enum Rotate {
    AccessKey(access_key::Rotate),
}

/// Parses the command line and runs the command.
pub fn run() -> Outcome {
    let Cli { shared, command } = Cli::parse();
    match command {
        Command::Add(Add::Secret(args)) | Command::Create(Create::Secret(CreateSecret::Generic(args))) => args.run(&shared),
        Command::Apply(args) => args.run(&shared),
        Command::Chat(args) => args.run(&shared),
        Command::Completion(args) => args.run(),
        Command::Create(Create::AccessKey(args)) => args.run(&shared),
        Command::Delete(args) => args.run(&shared),
        Command::Describe(args) => args.run(&shared),
        Command::Gateway(args) => args.run(&shared),
        Command::Get(args) => args.run(&shared),
        Command::Login(args) => args.run(),
        Command::Logout(args) => args.run(),
        Command::Models(args) => args.run(&shared),
        Command::Render(args) => args.run(&shared),
        Command::Rotate(Rotate::AccessKey(args)) => args.run(&shared),
        Command::Validate(args) => args.run(&shared),
        Command::Version(args) => args.run(),
    }
}

// === impl Shared ===

impl Shared {
    /// Returns the gateway's directory.
    pub fn directory(&self) -> Result<GatewayDirectory, Failure> {
        GatewayDirectory::locate(self.dir.as_deref())
    }

    /// Returns ` --dir DIR` for commands that are printed, empty for the default.
    pub fn dir_option(&self) -> String {
        self.dir.as_ref().map_or_else(String::new, |dir| format!(" --dir {}", dir.display()))
    }
}
