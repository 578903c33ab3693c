//! An LLM gateway for vLLM: the decision core and its plug into Envoy.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod budget;
pub mod clock;
pub mod config;
pub mod json;
pub mod ledger;
pub mod openai;
pub mod policy;
pub mod sse;
