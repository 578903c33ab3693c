//! Access control: audiences, identities, access keys, agents and operators, in a real Envoy with two workers. The rules are in
//! `docs/callers.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod agents;
mod audience;
mod fixtures;
mod identity;
mod identity_header;
mod listing;
mod operators;
mod outcome;
mod refusal_order;
mod reload;
mod statistics;
