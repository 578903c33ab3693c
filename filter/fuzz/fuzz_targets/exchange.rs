//! Runs complete exchanges with callbacks in any order, and checks that nothing panics, permits are settled once, and each provider
//! receives only its own credential.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pai_filter_fuzz::simulation::Simulation;

fuzz_target!(|script: &[u8]| Simulation::play(script));
