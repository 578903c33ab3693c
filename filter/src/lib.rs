//! An LLM gateway for vLLM: a decision core that knows no host, and its plug into Envoy.
//!
//! One request is one [`exchange::Exchange`]; one configuration is one [`gate::Gate`]. Only `plugin` names proxy-wasm.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod access;
pub mod access_key;
pub mod admission;
pub mod admitted;
pub mod agent;
pub mod asked;
pub mod attempt;
pub mod budget;
pub mod caller;
pub mod certificate;
pub mod clock;
pub mod config;
pub mod estimate;
pub mod exchange;
pub mod gate;
pub mod guard;
pub mod headers;
pub mod host;
pub mod json;
pub mod knowledge;
pub mod ledger;
pub mod metrics;
pub mod models;
pub mod notes;
pub mod openai;
pub mod pattern;
pub mod peer;
#[cfg(target_os = "wasi")]
mod plugin;
pub mod policy;
pub mod refusal;
pub mod rest;
pub mod route;
pub mod selection;
pub mod sse;
pub mod trial;
pub mod window;
pub mod worker;
