//! Runs the module in a real Envoy. A [`Gate`] is one Envoy process with two workers in front of one or more scripted
//! [`Upstream`]s. Tests send requests through it and check what the client and the upstream received.
//!
//! Tests never sleep for a fixed time: [`until`] waits for a condition and fails the test after a deadline.
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
mod prompt_text;
mod rate_limit_headers;
mod raw;
pub mod responses;
mod rng;
mod runtime;
mod shell;
mod upstream;
mod version;
mod wait;

pub use certificate::{Authority, ClientCertificate, Peers, ServerCertificate};
pub use client::{Reply, Request, StreamingReply};
pub use gate::{Gate, GateBuilder, Provider, RejectedConfig, built, envoy_binary, installed_clients};
pub use key::{Budget, Key, ProviderBudgets};
pub use prompt_text::TextKind;
pub use rate_limit_headers::{RateLimit, go_seconds, seconds_to_midnight};
pub use raw::Raw;
pub use rng::{Rng, seed};
pub use shell::{Printed, RunningGateway, Shell};
pub use upstream::{Answer, Call, Received, Upstream};
pub use version::{EnvoyFeature, envoy_version};
pub use wait::{settled, until, within};

/// The default model of the tests. It contains no slash, so that a provider without a model list serves it by its bare id.
pub const MODEL: &str = "Meta-Llama-3-70B-Instruct";

/// A model id with a slash, as on model hubs.
pub const SLASHED: &str = "meta-llama/Meta-Llama-3-70B-Instruct";

/// Returns a `ModelProvider` named `vllm-local` with these additional lines of `spec`.
pub fn provider(spec: &str) -> String {
    named_provider("vllm-local", spec)
}

/// Returns a `ModelProvider` with this name and these additional lines of `spec`, one per line, not indented.
pub fn named_provider(name: &str, spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!(
        "---\napiVersion: pai.io/v1\nkind: ModelProvider\nmetadata: {{ name: {name} }}\nspec:\n  provider: vllm\n  endpoint: http://{name}.test:8000/v1\n{lines}"
    )
}

/// Returns a `Gateway` manifest with these lines of `spec`.
pub fn gateway(spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!("---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: {{ name: default }}\nspec:\n{lines}")
}
