//! `pai login`.

use super::Outcome;

/// Log in to a gateway with an access key
#[derive(Debug, clap::Args)]
pub struct Args {
    /// URL of the gateway, such as https://api.example.com
    url: String,
    /// The access key, `pak_…`; asked for if it is missing
    #[arg(long, value_name = "KEY")]
    access_key: Option<String>,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let _ = (self.url, self.access_key);
        Ok(())
    }
}
