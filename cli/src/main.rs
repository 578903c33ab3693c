//! `pai`: the command line of the gateway.
//!
//! `command` has one file for each command. They share `manifest` (what users write), `directory` (what a gateway keeps on disk), `render`
//! (manifests to Envoy's configuration), `gateway` (the running Envoy), `client` (gateways that this user is logged in to) and `output`.

mod client;
mod command;
mod demo;
mod directory;
mod failure;
mod gateway;
mod manifest;
mod module;
mod output;
mod render;

use std::process::ExitCode;

fn main() -> ExitCode {
    match command::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
