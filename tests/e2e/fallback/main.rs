//! Fallback to another provider, because a budget is exhausted or a provider fails, in a real Envoy with two workers and three
//! providers of three dialects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod abort;
mod bodies;
mod budgets;
mod callers;
mod candidates;
mod concurrency;
mod cooldown;
mod credentials;
mod failures;
mod filters;
mod fixtures;
mod midnight;
mod misrouting;
mod no_retry;
mod one_provider;
mod reload;
mod shipped;
