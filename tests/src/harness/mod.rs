//! The module in a real Envoy, told as sentences: a [`Gate`] is one Envoy process with two workers in front of one or
//! more scripted [`Upstream`]s; tests send requests through it and look at what either side saw.
//!
//! Nothing here sleeps for luck: whatever takes time is awaited by [`until`], with a deadline that fails the test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: a broken assumption fails the test that made it"
)]

mod certificate;
mod client;
mod envoy;
mod fallback;
mod gate;
mod key;
mod rate_limit_headers;
mod raw;
pub mod responses;
mod rng;
mod runtime;
mod upstream;
mod version;
mod wait;

pub use certificate::{Authority, ClientCertificate, Peers, ServerCertificate};
pub use client::{Reply, Request, StreamingReply};
pub use gate::{Gate, GateBuilder, Provider, RejectedConfig, built, envoy_binary, installed_clients};
pub use key::{Budget, Key, ProviderBudgets};
pub use rate_limit_headers::{RateLimit, go_seconds, seconds_to_midnight};
pub use raw::Raw;
pub use rng::{Rng, seed};
pub use upstream::{Answer, Call, Received, Upstream};
pub use version::{EnvoyFeature, envoy_version};
pub use wait::{settled, until, within};

/// The model that tests ask for when it does not matter which: an open list serves it by its bare id, for it has no slash.
pub const MODEL: &str = "Meta-Llama-3-70B-Instruct";

/// A model id with a slash in it, as the hubs have them.
pub const SLASHED: &str = "meta-llama/Meta-Llama-3-70B-Instruct";

/// One `ModelProvider` of the name `vllm-local` with these further lines of `spec`.
pub fn provider(spec: &str) -> String {
    named_provider("vllm-local", spec)
}

/// One `ModelProvider` of this name with these further lines of `spec`, one per line, not indented.
pub fn named_provider(name: &str, spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!(
        "---\napiVersion: pai.io/v1\nkind: ModelProvider\nmetadata: {{ name: {name} }}\nspec:\n  provider: vllm\n  endpoint: http://{name}.test:8000/v1\n{lines}"
    )
}

/// The `Gateway` manifest with these lines of `spec`.
pub fn gateway(spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!("---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: {{ name: default }}\nspec:\n{lines}")
}
