//! An LLM gateway for vLLM: a decision core that knows no host, and its adapter to Envoy.
//!
//! One request is one [`exchange::Exchange`]; one configuration is one [`exchange::gate::Gate`]. Only `host::envoy` names proxy-wasm.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod budget;
pub mod clock;
pub mod config;
pub mod estimate;
pub mod exchange;
pub mod guard;
pub mod host;
pub mod http;
pub mod identity;
pub mod json;
pub mod metrics;
pub mod openai;
pub mod policy;
mod simd;
pub mod store;
