//! The gate in front of a real vLLM: what it serves, what it charges, and whether it refuses anything that vLLM takes.
//!
//! `scripts/test vllm` starts the server and runs these, one after the other: the server's own counts are compared with the gate's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod accounting;
mod differential;
mod random_text;
mod requests;
mod scenarios;
mod server;
