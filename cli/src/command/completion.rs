//! `pai completion`.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::{Cli, Outcome};
use crate::output;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  source <(pai completion bash)                                # bash: put it into ~/.bashrc
  source <(pai completion zsh)                                 # zsh: into ~/.zshrc, after compinit
  pai completion fish > ~/.config/fish/completions/pai.fish    # fish
  pai completion powershell | Out-String | Invoke-Expression   # PowerShell: into $PROFILE")]
pub struct Args {
    /// The shell
    shell: Shell,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "pai", &mut script);
        output::print(&String::from_utf8_lossy(&script))
    }
}
