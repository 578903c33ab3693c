//! Chaos tests in a real Envoy: two hundred concurrent clients, half of which disconnect, failing providers, reloads, VM traps, the
//! end of a day, drained listeners. Budgets must hold, and each charge must match what was sent.
//!
//! A round is generated from its seed: `scripts/test chaos --seed N --rounds 1` repeats its plan, except for the scheduling of
//! Envoy's workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod client;
mod ledger;
mod ledger_check;
mod plan;
mod round;
mod setup;
mod utilization;
mod vm_trap;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The default number of rounds.
const ROUNDS: u64 = 3;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds() {
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 % 1_000_000;
    let seed = variable("PAI_SEED").unwrap_or(drawn);
    for seed in seed..seed + variable("PAI_ROUNDS").unwrap_or(ROUNDS) {
        let start = Instant::now();
        let summary = round::run_round(seed).await;
        eprintln!("{summary}, {:.1} s", start.elapsed().as_secs_f64());
    }
}
