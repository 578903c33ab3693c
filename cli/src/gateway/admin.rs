//! Envoy's admin port.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::blocking::Client;
use serde::Deserialize;
use serde_json::Value;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client of the admin port.
#[derive(Debug)]
pub struct Admin {
    url: String,
    client: Client,
}

#[derive(Deserialize)]
struct Stats {
    stats: Vec<Stat>,
}

/// A counter or a gauge. Histograms have no name at this level.
#[derive(Deserialize)]
struct Stat {
    name: Option<String>,
    value: Option<Value>,
}

// === impl Admin ===

impl Admin {
    /// Creates a client of the admin port at this address, `127.0.0.1:9901`.
    pub fn new(address: &str) -> Self {
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build().unwrap_or_default();
        Self { url: format!("http://{address}"), client }
    }

    /// Returns the URL of the admin port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the counters and gauges whose names match a regular expression.
    pub fn stats(&self, filter: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let stats = self.read("", filter)?;
        let number = |stat: Stat| Some((stat.name?, stat.value?.as_u64()?));
        Ok(stats.into_iter().filter_map(number).collect())
    }

    /// Returns the texts, such as versions of configurations, whose names match a regular expression.
    pub fn texts(&self, filter: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let stats = self.read("&type=TextReadouts", filter)?;
        let text = |stat: Stat| Some((stat.name?, stat.value?.as_str()?.to_owned()));
        Ok(stats.into_iter().filter_map(text).collect())
    }

    /// Returns the addresses of the listeners, by name: `127.0.0.1:8080`.
    pub fn listeners(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let text = self.client.get(format!("{}/listeners", self.url)).send()?.error_for_status()?.text()?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once("::"))
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect())
    }

    /// Lets the listeners accept no more connections, and connections end after their requests.
    pub fn drain(&self) {
        let _ = self.client.post(format!("{}/drain_listeners?graceful&skip_exit", self.url)).send();
    }

    /// Returns the number of requests in progress, those of the control listener aside.
    pub fn active_requests(&self) -> anyhow::Result<u64> {
        Ok(self.stats("^http\\.openai\\.downstream_rq_active$")?.values().sum())
    }

    fn read(&self, kind: &str, filter: &str) -> anyhow::Result<Vec<Stat>> {
        let url = format!("{}/stats?format=json{kind}&filter={}", self.url, filter.replace('|', "%7C"));
        let stats: Stats = self
            .client
            .get(url)
            .send()
            .and_then(|response| response.error_for_status()?.json())
            .with_context(|| format!("Envoy's admin port at {} does not answer", self.url))?;
        Ok(stats.stats)
    }
}
