//! The command line of the gateway, as a library: `main` calls [`command::run`].
//!
//! `command` has one file for each command. They share `manifest` (what users write), `directory` (what a gateway keeps on disk), `render`
//! (manifests to Envoy's configuration), `gateway` (the running Envoy), `client` (gateways that this user is logged in to) and `output`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod client;
pub mod command;
pub mod demo;
mod digest;
pub mod directory;
pub mod failure;
pub mod gateway;
pub mod manifest;
pub mod module;
pub mod output;
pub mod render;
