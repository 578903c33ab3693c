//! The Envoy configuration that retries a request at the next provider: the attempt filter in each provider's cluster, and a route
//! that selects the cluster again for each retry.
//!
//! It is a small version of `envoy/fallback.yaml`, with the variations that deployments have.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::envoy::{WASM, seconds};
use super::version::EnvoyFeature;

/// How requests are retried at the next provider.
#[derive(Debug, Clone)]
pub(crate) struct Fallback {
    pub(crate) retries: Retries,
    /// The maximum number of retries (`num_retries`).
    pub(crate) most: u32,
    /// The retry buffer in bytes.
    pub(crate) kept: u32,
    /// Whether the cluster is selected again for each retry (Envoy 1.39 and later).
    pub(crate) refresh: bool,
    /// Whether each provider has a route of its own.
    pub(crate) plain: bool,
    /// Whether a header that matches no provider selects a cluster that does not exist, instead of the previous cluster.
    pub(crate) dead_end: bool,
    /// The timeout of one attempt (`per_try_timeout`).
    pub(crate) try_timeout: Option<Duration>,
    pub(crate) back_off: Duration,
}

/// What triggers a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retries {
    /// The retry header set by the attempt filter.
    Marked,
    /// The response status.
    ByStatus,
}

const MATCHER: &str = "type.googleapis.com/envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier";
const CLUSTER: &str = "type.googleapis.com/envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction";
const HEADER_INPUT: &str = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput";

// === impl Fallback ===

impl Fallback {
    /// Returns the shipped settings, with shorter back-off.
    pub(crate) fn new(kept: u32) -> Self {
        Self {
            retries: Retries::Marked,
            most: 5,
            kept,
            refresh: EnvoyFeature::ClusterRefresh.is_supported(),
            plain: false,
            dead_end: true,
            try_timeout: None,
            back_off: Duration::from_millis(5),
        }
    }

    /// Builds the routes to these providers.
    pub(crate) fn routes(&self, timeout: &str, clusters: &[&str]) -> Vec<Value> {
        if !self.plain {
            return vec![self.route(timeout, clusters)];
        }
        let mut routes = super::envoy::routes(timeout, clusters);
        for route in &mut routes {
            route["route"]["retry_policy"] = self.policy();
        }
        routes
    }

    /// Builds the single route for all providers.
    fn route(&self, timeout: &str, clusters: &[&str]) -> Value {
        json!({
            "match": { "prefix": "/", "headers": [{ "name": "x-pai-provider", "present_match": true }] },
            "route": {
                "timeout": timeout,
                "inline_cluster_specifier_plugin": { "extension": {
                    "name": "envoy.router.cluster_specifier_plugin.matcher",
                    "typed_config": { "@type": MATCHER, "cluster_matcher": self.matcher(clusters) },
                } },
                "retry_policy": self.policy(),
            },
        })
    }

    fn matcher(&self, clusters: &[&str]) -> Value {
        let map: serde_json::Map<String, Value> = clusters.iter().map(|name| ((*name).to_owned(), cluster_action(name))).collect();
        let mut matcher = json!({ "matcher_tree": {
            "input": { "name": "provider", "typed_config": { "@type": HEADER_INPUT, "header_name": "x-pai-provider" } },
            "exact_match_map": { "map": map },
        } });
        if self.dead_end {
            matcher["on_no_match"] = cluster_action("none");
        }
        matcher
    }

    fn policy(&self) -> Value {
        let mut policy = json!({
            "num_retries": self.most,
            "retry_back_off": { "base_interval": seconds(self.back_off), "max_interval": seconds(self.back_off * 4) },
        });
        // Older Envoys reject fields that they do not know.
        if self.refresh {
            policy["refresh_cluster_on_retry"] = json!(true);
        }
        match self.retries {
            Retries::Marked => {
                policy["retry_on"] = json!("connect-failure,refused-stream,reset,retriable-headers");
                policy["retriable_headers"] = json!([{ "name": "x-pai-retry", "present_match": true }]);
            }
            Retries::ByStatus => {
                policy["retry_on"] = json!("5xx,reset,connect-failure,refused-stream,retriable-status-codes");
                policy["retriable_status_codes"] = json!([401, 403, 404, 408, 429]);
            }
        }
        if let Some(timeout) = self.try_timeout {
            policy["per_try_timeout"] = json!(seconds(timeout));
        }
        policy
    }
}

fn cluster_action(cluster: &str) -> Value {
    json!({ "action": { "name": cluster, "typed_config": { "@type": CLUSTER, "cluster": cluster } } })
}

/// Builds the attempt filter of a provider's cluster.
pub(crate) fn attempt_filter(dir: &Path) -> Value {
    json!({
        "name": "pai_attempt",
        "config_discovery": {
            "config_source": {
                "path_config_source": { "path": dir.join("attempt.json") },
                "resource_api_version": "V3",
            },
            "type_urls": [WASM],
        },
    })
}
