//! End-to-end tests: harness for a real Envoy, scripted upstream, stand-in vLLM, benchmarks.

pub mod bench;
pub mod harness;

pub mod standin;
