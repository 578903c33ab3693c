//! The control listener: the filter's own reports, over a Unix socket that only this user can open.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::blocking::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long an answer may take. The filter answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Items of one page of a long list.
const PAGE: usize = 1000;

/// A client of the control listener.
#[derive(Debug)]
pub struct Control {
    client: Client,
}

/// `GET /pai/v1/status`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version of the policy in the worker that answered.
    pub version: String,
    /// The live workers.
    pub workers: Vec<WorkerStatus>,
}

/// One worker.
#[derive(Debug, Deserialize)]
pub struct WorkerStatus {
    /// The version of its policy.
    pub version: String,
}

/// The use of an agent or of an access key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerStatus {
    /// `metadata.name`.
    pub name: String,
    /// Tokens of today, where they are counted.
    pub used_today: Option<u64>,
    /// When it was last used, in RFC 3339.
    pub last_used: Option<String>,
}

/// A model provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelProviderStatus {
    /// `metadata.name`.
    pub name: String,
    /// Tokens of today.
    pub used_today: u64,
    /// Tokens of requests in flight.
    pub reserved: u64,
    /// When it was last used, in RFC 3339.
    pub last_used: Option<String>,
    /// The models that the server lists; `None` where they are not known.
    #[serde(default)]
    pub listed: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct ModelProviders {
    items: Vec<ModelProviderStatus>,
}

#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

// === impl Control ===

impl Control {
    /// Creates a client of this socket; `None` if there is no such socket.
    pub fn new(socket: &Path) -> Option<Self> {
        let client = Client::builder().unix_socket(socket.to_owned()).timeout(TIMEOUT).no_proxy().build();
        if socket.exists() { client.ok().map(|client| Self { client }) } else { None }
    }

    /// Returns which policy the workers serve.
    pub fn status(&self) -> anyhow::Result<Status> {
        self.get("/pai/v1/status")
    }

    /// Returns the model providers.
    pub fn model_providers(&self) -> anyhow::Result<Vec<ModelProviderStatus>> {
        self.get("/pai/v1/model-providers").map(|list: ModelProviders| list.items)
    }

    /// Returns the agents.
    pub fn agents(&self) -> anyhow::Result<Vec<CallerStatus>> {
        self.list("/pai/v1/agents")
    }

    /// Returns the access keys.
    pub fn access_keys(&self) -> anyhow::Result<Vec<CallerStatus>> {
        self.list("/pai/v1/access-keys")
    }

    fn list(&self, path: &str) -> anyhow::Result<Vec<CallerStatus>> {
        let mut items: Vec<CallerStatus> = Vec::new();
        let mut after = String::new();
        loop {
            let page: Page<CallerStatus> = self.get(&format!("{path}?limit={PAGE}{after}"))?;
            items.extend(page.items);
            let Some(next) = page.next else { return Ok(items) };
            after = format!("&after={next}");
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let unanswered = || format!("the gateway's control listener does not answer `GET {path}`");
        let response = self.client.get(format!("http://pai{path}")).send().with_context(unanswered)?;
        if !response.status().is_success() {
            bail!("the gateway's control listener answers `GET {path}` with status {}", response.status());
        }
        response.json().with_context(unanswered)
    }
}
