//! The gateway's budgets, as reported by the gateway and by Envoy's metrics.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::client::Client;
use super::manifests::{AGENT_HEADER, OPERATOR, identity};

/// One item of `GET /pai/v1/model-providers`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) used_today: u64,
    pub(super) reserved: u64,
    pub(super) external: External,
}

/// Its external share.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct External {
    pub(super) used_today: u64,
    pub(super) reserved: u64,
}

/// The filter's metrics.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Metrics {
    /// Tokens charged since the start, by provider.
    pub(super) charged: BTreeMap<String, u64>,
    /// Tokens charged to agents and keys since the start.
    pub(super) subjects: u64,
    /// The sum of all reservation gauges: of providers, their external shares, agents and keys.
    pub(super) reserved: u64,
    /// The number of these gauges.
    pub(super) gauges: u64,
    /// The number of violated invariants in the filter.
    pub(super) errors: u64,
    /// The number of live VMs.
    pub(super) vms: u64,
}

/// Returns all providers.
pub(super) async fn providers(gate: &mut Client) -> Result<Vec<Provider>> {
    let request = format!(
        "GET /pai/v1/model-providers HTTP/1.1\r\nhost: gateway.test:8080\r\n{AGENT_HEADER}: {}\r\n\r\n",
        identity(OPERATOR)
    );
    let mut answer: Value = serde_json::from_slice(&gate.send(request.as_bytes()).await?.body)?;
    let items = answer.get_mut("items").context("no items")?.take();
    Ok(serde_json::from_value(items)?)
}

/// Reads the filter's metrics from Envoy's admin port.
pub(super) async fn metrics(admin: &mut Client) -> Result<Metrics> {
    let answer = admin.send(b"GET /stats?filter=wasm HTTP/1.1\r\nhost: admin\r\n\r\n").await?;
    let mut metrics = Metrics::default();
    std::str::from_utf8(&answer.body)?.lines().filter_map(|line| line.rsplit_once(": ")).for_each(|(name, value)| {
        if let Ok(value) = value.parse() {
            metrics.add(name, value);
        }
    });
    Ok(metrics)
}

// === impl Metrics ===

impl Metrics {
    /// `wasmcustom.pai.provider=.=NAME;.;…;prompt_tokens_total`
    fn add(&mut self, name: &str, value: u64) {
        let last = name.rsplit(";.;").next().unwrap_or(name);
        match last {
            "prompt_tokens_total" | "completion_tokens_total" => {
                let provider = name.split_once("provider=.=").and_then(|(_, rest)| rest.split(";.;").next());
                *self.charged.entry(provider.unwrap_or_default().to_owned()).or_default() += value;
            }
            "subject_prompt_tokens_total" | "subject_completion_tokens_total" => self.subjects += value,
            _ if last.ends_with("budget_reserved_tokens") => {
                self.reserved += value;
                self.gauges += 1;
            }
            "filter_errors_total" => self.errors += value,
            "wasm.envoy.wasm.runtime.v8.active" => self.vms = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_metrics() {
        let mut metrics = Metrics::default();
        for (name, value) in [
            ("wasmcustom.pai.provider=.=a;.;model=.=m;.;prompt_tokens_total", 3),
            ("wasmcustom.pai.provider=.=a;.;model=.=n;.;completion_tokens_total", 4),
            ("wasmcustom.pai.subject=.=agent/x;.;subject_prompt_tokens_total", 100),
            ("wasmcustom.pai.provider=.=a;.;budget_reserved_tokens", 5),
            ("wasmcustom.pai.subject=.=agent/x;.;subject_budget_reserved_tokens", 6),
            ("wasm.envoy.wasm.runtime.v8.active", 4),
        ] {
            metrics.add(name, value);
        }
        assert_eq!(metrics.charged, BTreeMap::from([("a".to_owned(), 7)]));
        assert_eq!((metrics.reserved, metrics.gauges, metrics.vms, metrics.subjects), (11, 2, 4, 100));
    }
}
