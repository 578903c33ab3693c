//! Developers and their access keys: the providers and models that they may use, and the budgets that they are charged to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod authentication;
mod budgets;
mod fixtures;
mod models;
mod statistics;
