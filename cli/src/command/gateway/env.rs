//! `pai gateway env`.

use clap::ValueEnum;

use super::{Outcome, Shared};
use crate::client::{AccessKey, Target};
use crate::failure::Failure;
use crate::output;

/// Clients insist on a key; a gateway without access keys ignores it.
const UNUSED_KEY: &str = "unused";

/// Print the environment variables with which OpenAI and Anthropic clients use the gateway
///
/// Sets OPENAI_BASE_URL, OPENAI_API_KEY, ANTHROPIC_BASE_URL and ANTHROPIC_AUTH_TOKEN for the gateway that you are logged in to, or else for the one
/// that runs in the directory. The output contains the access key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eval $(pai gateway env)                                              # bash, zsh
  pai gateway env --shell fish | source                                # fish
  pai gateway env --shell powershell | Out-String | Invoke-Expression  # PowerShell")]
pub struct Args {
    /// The shell that reads the output
    #[arg(long, default_value = "bash")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    Pwsh,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self, shared: &Shared) -> Outcome {
        let target = Target::current(&shared.directory()?)?;
        let lines = lines(self.shell, &target)?;
        if let Some(file) = &target.ca_cert {
            let file = file.display();
            output::note(&format!("Clients have to trust {file} too: SSL_CERT_FILE for Python, NODE_EXTRA_CA_CERTS for Node"));
        }
        output::print(&lines)
    }
}

fn lines(shell: Shell, target: &Target) -> Result<String, Failure> {
    let (openai, anthropic) = (target.url.openai(), target.url.base());
    let key = target.access_key.as_ref().map_or(UNUSED_KEY, AccessKey::reveal);
    let variables = [
        ("OPENAI_BASE_URL", openai.as_str()),
        ("OPENAI_API_KEY", key),
        ("ANTHROPIC_BASE_URL", anthropic),
        ("ANTHROPIC_AUTH_TOKEN", key),
    ];
    variables.into_iter().map(|(name, value)| shell.line(name, value)).collect()
}

// === impl Shell ===

impl Shell {
    /// Returns the command that sets a variable. It survives `eval $(…)` without quotes: splitting at blanks changes nothing in it.
    fn line(self, name: &str, value: &str) -> Result<String, Failure> {
        if !value.chars().all(|c| c.is_ascii_alphanumeric() || "._~:/%+=-".contains(c)) {
            let shown = if name.ends_with("_URL") { value } else { "the access key" };
            return Err(Failure::refused(format!(
                "{name} cannot be printed: {shown} has a character that a shell may interpret\n  Only letters, digits and . _ ~ : / % + = - are allowed"
            )));
        }
        Ok(match self {
            Self::Bash | Self::Zsh => format!("export {name}='{value}';\n"),
            Self::Fish => format!("set -gx {name} '{value}';\n"),
            Self::Pwsh => format!("$env:{name} = '{value}';\n"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Shell, lines};
    use crate::client::{AccessKey, Target};

    fn target(url: &str, key: Option<&str>) -> Target {
        let access_key = key.map(|key| AccessKey::parse(key).unwrap());
        Target { url: url.parse().unwrap(), access_key, ca_cert: None }
    }

    #[test]
    fn each_shell_has_its_syntax() {
        let target = target("https://api.pairun.dev/v1", Some("pak_abc"));
        let of = |shell| lines(shell, &target).unwrap();
        let posix = "\
export OPENAI_BASE_URL='https://api.pairun.dev/v1';
export OPENAI_API_KEY='pak_abc';
export ANTHROPIC_BASE_URL='https://api.pairun.dev';
export ANTHROPIC_AUTH_TOKEN='pak_abc';
";
        assert_eq!((of(Shell::Bash).as_str(), of(Shell::Zsh).as_str()), (posix, posix));
        assert_eq!(of(Shell::Fish).lines().next(), Some("set -gx OPENAI_BASE_URL 'https://api.pairun.dev/v1';"));
        assert_eq!(of(Shell::Pwsh).lines().next(), Some("$env:OPENAI_BASE_URL = 'https://api.pairun.dev/v1';"));
    }

    #[test]
    fn a_gateway_without_keys_gets_a_placeholder() {
        assert!(lines(Shell::Bash, &target("http://127.0.0.1:8080", None)).unwrap().contains("OPENAI_API_KEY='unused';"));
    }

    #[test]
    fn values_that_a_shell_may_interpret_are_refused() {
        for url in ["http://[::1]:8080", "https://a/$(id)", "https://a/x'y", "https://a/x;y", "https://a/*"] {
            assert!(lines(Shell::Bash, &target(url, None)).is_err(), "{url}");
        }
    }
}
