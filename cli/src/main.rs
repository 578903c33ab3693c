//! `pai`: the command line of the gateway.

use std::process::ExitCode;

fn main() -> ExitCode {
    match pai::command::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
