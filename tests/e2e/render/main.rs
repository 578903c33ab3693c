//! What `pai` renders, in a real Envoy: generated configurations that one Envoy takes while it runs, and static files.
//!
//! `PAI_CONFIGURATIONS` is the number of configurations, `PAI_SEED` the seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod generate;
mod live;
mod requests;
mod static_files;

use std::path::PathBuf;

use pai::render::EnvoyVersion;

/// Returns the number of configurations: `PAI_CONFIGURATIONS`, or a number that takes some seconds.
fn count(default: usize) -> usize {
    std::env::var("PAI_CONFIGURATIONS").map_or(default, |count| count.parse().expect("a number"))
}

/// Returns the version of the Envoy under test.
fn version() -> EnvoyVersion {
    let (major, minor) = e2e::harness::envoy_version();
    format!("{major}.{minor}").parse().unwrap()
}

/// Returns the module under test.
fn module() -> PathBuf {
    e2e::harness::built("wasm32-wasip1/release/pai_filter.wasm", "scripts/build")
}
