//! The commands that talk to a gateway as a client, and completion, run as a user runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod chat;
mod completion;
mod env;
mod login;
mod support;
mod terminal;
