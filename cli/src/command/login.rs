//! `pai login`.

use std::io::{BufRead as _, IsTerminal as _, Read as _, stdin};
use std::path::PathBuf;

use super::Outcome;
use crate::client::{AccessKey, Client, GatewayUrl, Login, Store, Target};
use crate::failure::Failure;
use crate::output;

/// The most that is read from a pipe in search of the key.
const MAX_LINE: u64 = 4096;
const MAX_NAME: usize = 253;

/// Log in to a gateway with an access key
///
/// Checks the key with the gateway and stores it for this user only, in $XDG_CONFIG_HOME/pai/gateways.json. The gateway becomes the current one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pai login https://api.example.com --access-key pak_…
  pai login https://api.example.com                      # prompts for the key
  pass show pai | pai login https://api.example.com      # reads the key from a pipe

Then:
  eval $(pai gateway env)                                # clients in this shell use the gateway")]
pub struct Args {
    /// URL of the gateway, such as https://api.example.com
    url: GatewayUrl,
    /// The access key, `pak_…`; prompted for, or read from a pipe, if it is missing
    #[arg(long, value_name = "KEY")]
    access_key: Option<String>,
    /// What to call this login; default: the host of the URL
    #[arg(long)]
    name: Option<String>,
    /// PEM file with the certificate authority of the gateway; default: the authorities of the system, or SSL_CERT_FILE
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
}

// === impl Args ===

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let name = self.name.unwrap_or_else(|| self.url.name());
        check_name(&name)?;
        if !self.url.is_encrypted() && !self.url.is_loopback() {
            output::warn(&format!("{} does not encrypt: others in the network can read the access key. Use https", self.url));
        }
        let ca_cert = self.ca_cert.map(std::path::absolute).transpose().map_err(Failure::usage)?;
        let text = self.access_key.map_or_else(|| ask(&self.url), Ok)?;
        let access_key = AccessKey::parse(&text).map_err(Failure::usage)?;
        let login = Login { url: self.url, access_key, ca_cert };
        let models = Client::new(Target::from(login.clone()))?.models()?.len();
        let url = login.url.clone();
        store(&name, login)?;
        output::note(&format!("Logged in to {url} as `{name}`; {}", available(models)));
        output::note("To use it in this shell: eval $(pai gateway env)");
        Ok(())
    }
}

fn store(name: &str, login: Login) -> Outcome {
    Store::of_user()?.update(|logins| {
        logins.gateways.insert(name.to_owned(), login);
        logins.current = Some(name.to_owned());
        Ok(())
    })
}

fn available(models: usize) -> String {
    match models {
        0 => "it lists no models for this key".to_owned(),
        1 => "1 model is available: pai models".to_owned(),
        models => format!("{models} models are available: pai models"),
    }
}

/// Asks for the key without echo, or reads one line from a pipe.
fn ask(url: &GatewayUrl) -> Result<String, Failure> {
    let cannot = |error| Failure::usage(format!("the access key cannot be read: {error}\n  Use --access-key pak_…"));
    if stdin().is_terminal() {
        return rpassword::prompt_password(format!("Access key for {url}: ")).map_err(cannot);
    }
    let mut line = String::new();
    stdin().lock().take(MAX_LINE).read_line(&mut line).map_err(cannot)?;
    Ok(line)
}

fn check_name(name: &str) -> Outcome {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:-[]".contains(c);
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_plain) && !name.starts_with('-') {
        return Ok(());
    }
    let name = output::printable(name);
    Err(Failure::usage(format!("--name `{name}` is not usable: use letters, digits, `.`, `_`, `:` and `-`, at most {MAX_NAME}")))
}
