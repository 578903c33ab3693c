//! A histogram of the ratio between the tokens that a server reported and those that were expected.
//!
//! Every sample weighs the same, and only quantiles are read, so that a few prompts that are unlike the others change little.

/// The ratios of recent prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatioHistogram {
    counts: [u8; RatioHistogram::BUCKETS],
}

/// A factor, in units of 1/[`RatioHistogram::SCALE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(u64);

// === impl RatioHistogram ===

impl RatioHistogram {
    /// The number of buckets.
    pub const BUCKETS: usize = (Self::LAST - Self::FIRST + 1) as usize;
    /// The number of buckets for each unit of the ratio.
    const SCALE: u64 = 64;
    /// The first bucket contains all ratios up to 0.7, the last one all from 2.
    const FIRST: u64 = 44;
    const LAST: u64 = 2 * Self::SCALE;

    /// Adds a sample.
    pub fn add(&mut self, reported: u64, expected: u64) {
        let ratio = (u128::from(reported) * u128::from(Self::SCALE)).checked_div(expected.into()).unwrap_or(u128::MAX);
        let bucket = u64::try_from(ratio).unwrap_or(u64::MAX).clamp(Self::FIRST, Self::LAST) - Self::FIRST;
        let Some(count) = self.counts.get_mut(bucket as usize) else { return };
        *count += 1;
        if *count == u8::MAX {
            // Old samples count for less over time.
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// Returns the number of samples. Old samples count for less.
    pub fn samples(&self) -> u32 {
        self.counts.iter().map(|&count| u32::from(count)).sum()
    }

    /// Returns the upper edge of the bucket with this percentile of the samples, and `margin` buckets more; between 0.7 and 2.
    pub fn factor(&self, percent: u32, margin: u64) -> Factor {
        // Rounded down, so that one sample of a few is not the percentile.
        self.factor_of(self.samples() * percent / 100, margin)
    }

    /// Returns the same as [`RatioHistogram::factor`], but of a few samples, all count.
    pub fn factor_of_nearly_all(&self, percent: u32, margin: u64) -> Factor {
        self.factor_of((self.samples() * percent).div_ceil(100), margin)
    }

    /// Returns the upper edge of the bucket with the last of the lowest `wanted` samples, and `margin` buckets more.
    fn factor_of(&self, wanted: u32, margin: u64) -> Factor {
        let wanted = wanted.max(1);
        let mut sum = 0;
        let reached = |&count: &u8| {
            sum += u32::from(count);
            sum >= wanted
        };
        let bucket = self.counts.iter().position(reached).unwrap_or(0) as u64;
        Factor((Self::FIRST + bucket + 1 + margin).min(Self::LAST))
    }

    /// Returns the counts, to be stored.
    pub fn encode(&self) -> [u8; Self::BUCKETS] {
        self.counts
    }

    /// Returns the histogram with these counts.
    pub fn decode(counts: [u8; Self::BUCKETS]) -> Self {
        Self { counts }
    }
}

impl Default for RatioHistogram {
    fn default() -> Self {
        Self { counts: [0; Self::BUCKETS] }
    }
}

// === impl Factor ===

impl Factor {
    /// 1.
    pub const ONE: Self = Self(RatioHistogram::SCALE);
    /// The least factor of an upper bound: 7/8. A few dense prompts prevent any lower factor than 1, so that it must not be far from 1.
    pub const LEAST_OF_HIGH: Self = Self(RatioHistogram::SCALE / 8 * 7);

    /// Returns the product, rounded up.
    pub fn of(self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.0).div_ceil(RatioHistogram::SCALE)
    }
}

impl Default for Factor {
    fn default() -> Self {
        Self::ONE
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_factor_is_a_percentile_within_its_bounds() {
        let factor = |samples: &[(u64, u64)], percent, margin| {
            let mut histogram = RatioHistogram::default();
            samples.iter().for_each(|&(reported, expected)| histogram.add(reported, expected));
            histogram.factor(percent, margin).of(6400)
        };
        let spread: Vec<(u64, u64)> = (80..120).map(|reported| (reported, 100)).collect();
        for (samples, percent, margin, expected) in [
            (&[(100, 100); 4][..], 50, 0, 6400..6600),
            (&spread, 50, 0, 6300..6500),
            (&spread, 90, 0, 7300..7500),
            (&spread, 90, 4, 7700..7900),
            (&[(0, 100); 4], 50, 0, 4480..4600),
            (&[(1, 0); 4], 50, 0, 12_800..12_801),
            (&[(u64::MAX, 1); 4], 90, 4, 12_800..12_801),
            (&[(100, 100), (100, 100), (100, 100), (900, 100)], 90, 0, 6400..6600),
            (&[], 90, 0, 4480..4600),
        ] {
            let found = factor(samples, percent, margin);
            assert!(expected.contains(&found), "{samples:?} {percent} {margin}: {found} is not in {expected:?}");
        }
    }

    #[test]
    fn old_samples_count_for_less() {
        let mut histogram = RatioHistogram::default();
        (0..10_000).for_each(|_| histogram.add(150, 100));
        (0..400).for_each(|_| histogram.add(100, 100));
        assert!(histogram.samples() < 700 && histogram.factor(50, 0).of(100) < 105);
        assert_eq!(RatioHistogram::decode(histogram.encode()), histogram);
    }
}
