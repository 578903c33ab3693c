//! Whole exchanges, their callbacks in any order: nothing panics, permits are settled once, and credentials stay with their providers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pai_filter_fuzz::simulation::Simulation;

fuzz_target!(|script: &[u8]| Simulation::play(script));
