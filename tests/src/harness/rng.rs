//! Numbers drawn from a seed, so that a run can be repeated: `PAI_SEED=…`, as far as two workers let anything be repeated.

/// `SplitMix64`.
#[derive(Debug)]
pub struct Rng(u64);

// === impl Rng ===

impl Rng {
    /// What follows from this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What is drawn from, unless `PAI_SEED` says otherwise.
pub fn seed() -> u64 {
    std::env::var("PAI_SEED").map_or(4, |seed| seed.parse().expect("a number"))
}
