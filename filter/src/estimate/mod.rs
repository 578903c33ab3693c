//! Estimates, calibrated by what providers report: tokens of a prompt, and limits of models.

pub mod model_limits;
pub mod prompt_estimator;
pub mod prompt_tokens;
pub mod provider_model_limits;
mod ratio_histogram;
pub mod text_census;
mod token_weights;

use crate::clock::Time;

/// How long a value read from shared data is used, in nanoseconds.
const CACHE_NANOS: u64 = 100_000_000;

/// The number of lost races after which a write is given up. Only the samples of that write are lost.
const MAX_RACES: u32 = 16;

/// Returns whether a value read at the time `read` is to be read again.
fn is_stale(read: Time, now: Time) -> bool {
    read == Time::default() || now.since(read) > CACHE_NANOS
}
