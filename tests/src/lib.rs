//! Real Envoy, a scripted upstream, a stand-in vLLM, and the scenarios that drive them.

pub mod bench;
pub mod harness;

pub mod standin;
