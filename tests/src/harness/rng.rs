//! Seeded random numbers. `PAI_SEED=…` repeats a run, except for the scheduling of Envoy's workers.

/// A `SplitMix64` generator.
#[derive(Debug)]
pub struct Rng(u64);

// === impl Rng ===

impl Rng {
    /// Returns a generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Returns the seed: `PAI_SEED`, or a fixed default.
pub fn seed() -> u64 {
    std::env::var("PAI_SEED").map_or(4, |seed| seed.parse().expect("a number"))
}
