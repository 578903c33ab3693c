//! The gateway in front of a real vLLM: what it serves and charges, and whether it rejects requests that vLLM accepts.
//!
//! `scripts/test vllm` starts the server and runs these tests one after the other, because they compare the server's counts with
//! the gateway's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod accounting;
mod differential;
mod random_text;
mod requests;
mod scenarios;
mod server;
