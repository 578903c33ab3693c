//! Estimates the number of tokens of a prompt before its server has counted them.
//!
//! No tokenizer is involved. Until a model is calibrated, every byte of text is estimated as one token, which text does not exceed.
//! From then on, the estimate is a high quantile of the tokens per byte that the model's server has reported.

use crate::openai::PromptSize;

/// Bounds of the number of tokens of one request's prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The lower bound: no tokenizer in use produces fewer tokens.
    pub low: u64,
    /// The upper bound, rarely exceeded; one token per byte until the model is calibrated.
    pub high: u64,
}

/// The samples that a model's server has reported: a histogram of tokens per byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calibration {
    /// The number of samples in each bucket of 1/64 token per byte. The last bucket counts all above.
    counts: [u8; Calibration::BUCKETS],
    /// The maximum number of tokens of an image or another part, recently; 0 before the first sample.
    part: u32,
}

/// Tokens that a chat template adds around one message. Few templates add more.
const TOKENS_PER_MESSAGE: u64 = 16;
/// Tokens that a template adds before all messages (special tokens, a short default system prompt).
const TOKENS_PER_REQUEST: u64 = 64;
/// The maximum number of bytes of one token: a long run of spaces is a single token of up to 128 bytes.
const BYTES_PER_TOKEN: u64 = 128;
/// Tokens of an image or another part before the first sample: four times those of 1024 × 1024 pixels in today's models.
const DEFAULT_PART_TOKENS: u64 = 4096;

// === impl Calibration ===

impl Calibration {
    const BUCKETS: usize = 128;
    /// The number of buckets for one token per byte.
    const SCALE: u64 = 64;
    /// The number of samples from which the histogram is used.
    const MIN_SAMPLES: u32 = 4;
    /// The upper bound is at least one token for four bytes, whatever the samples: a client that sends white space for an hour
    /// cannot skew the estimate for others.
    const MIN_HIGH: u64 = Self::SCALE / 4;
    /// Prompts with fewer bytes are no samples: the tokens of the template outweigh those of the text.
    const MIN_BYTES: u64 = 128;

    /// Returns bounds for a prompt of this size.
    pub fn estimate(&self, size: &PromptSize) -> Estimate {
        let bytes = size.text_bytes;
        let high = match self.quantiles() {
            Some([_, high]) => bytes.saturating_mul(high.max(Self::MIN_HIGH)).div_ceil(Self::SCALE),
            None => bytes,
        };
        let part = match self.part {
            0 => DEFAULT_PART_TOKENS,
            part => u64::from(part).saturating_add(u64::from(part / 4)),
        };
        let fixed = size.token_ids;
        let whole = fixed.saturating_add(bytes / BYTES_PER_TOKEN).saturating_add(size.messages).saturating_add(size.parts);
        Estimate {
            low: whole.min(size.cut.unwrap_or(u64::MAX)).max(1),
            high: fixed
                .saturating_add(high)
                .saturating_add(size.messages.saturating_mul(TOKENS_PER_MESSAGE))
                .saturating_add(size.parts.saturating_mul(part))
                .saturating_add(TOKENS_PER_REQUEST),
        }
    }

    /// Records the number of tokens that the server reported for a prompt of this size. Returns whether the calibration changed.
    pub fn record(&mut self, size: &PromptSize, tokens: u64) -> bool {
        let text = tokens.saturating_sub(size.token_ids).saturating_sub(size.messages.saturating_mul(TOKENS_PER_MESSAGE / 4));
        if size.parts > 0 {
            return self.record_part(size, text);
        }
        if size.truncated || size.text_bytes < Self::MIN_BYTES {
            return false;
        }
        let bucket = text.saturating_mul(Self::SCALE) / size.text_bytes;
        let last = Self::BUCKETS - 1;
        let Some(count) = self.counts.get_mut(usize::try_from(bucket).unwrap_or(last).min(last)) else { return false };
        *count += 1;
        if *count == u8::MAX {
            // Old samples count for less over time.
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        true
    }

    fn record_part(&mut self, size: &PromptSize, tokens: u64) -> bool {
        let Some([middle, _]) = self.quantiles() else { return false };
        let text = size.text_bytes.saturating_mul(middle).div_ceil(Self::SCALE);
        let seen = tokens.saturating_sub(text).div_ceil(size.parts);
        let faded = self.part - self.part / 16;
        let part = u32::try_from(seen).unwrap_or(u32::MAX).max(faded).max(1);
        std::mem::replace(&mut self.part, part) != part
    }

    /// Returns the upper edges of the buckets that hold the median and the 99th percentile of the samples.
    fn quantiles(&self) -> Option<[u64; 2]> {
        let total: u32 = self.counts.iter().map(|&count| u32::from(count)).sum();
        if total < Self::MIN_SAMPLES {
            return None;
        }
        let edge = |percent: u32| {
            let wanted = (total * percent).div_ceil(100).max(1);
            let mut sum = 0;
            let reached = |&count: &u8| {
                sum += u32::from(count);
                sum >= wanted
            };
            self.counts.iter().position(reached).unwrap_or(Self::BUCKETS) as u64 + 1
        };
        // One bucket of margin: the next prompt differs from the samples.
        Some([edge(50), edge(99) + 1])
    }

    /// Encodes the histogram.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.counts.to_vec();
        bytes.extend_from_slice(&self.part.to_le_bytes());
        bytes
    }

    /// Decodes the output of [`Calibration::encode`]. Returns an empty histogram for anything else.
    pub fn decode(bytes: &[u8]) -> Self {
        let read = || {
            let (counts, part) = bytes.split_first_chunk()?;
            Some(Self { counts: *counts, part: u32::from_le_bytes(part.try_into().ok()?) })
        };
        read().unwrap_or_default()
    }
}

impl Default for Calibration {
    fn default() -> Self {
        Self { counts: [0; Self::BUCKETS], part: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn text(bytes: u64) -> PromptSize {
        PromptSize { text_bytes: bytes, messages: 1, ..PromptSize::default() }
    }

    #[test]
    fn a_byte_is_one_token_until_the_model_is_calibrated() {
        let mut calibration = Calibration::default();
        let uncalibrated = calibration.estimate(&text(4000));
        assert_eq!(uncalibrated, Estimate { low: 32, high: 4080 });
        for _ in 0..3 {
            calibration.record(&text(4000), 1004);
            assert_eq!(calibration.estimate(&text(4000)), uncalibrated);
        }
        calibration.record(&text(2000), 504);
        let estimate = calibration.estimate(&text(4000));
        assert!((1004..1300).contains(&estimate.high), "{estimate:?}");
        assert_eq!(estimate.low, uncalibrated.low, "a lower bound is not calibration");
        assert_eq!(Calibration::decode(&calibration.encode()), calibration);
    }

    #[test]
    fn the_upper_bound_follows_the_prompts_with_most_tokens_per_byte() {
        let mut calibration = Calibration::default();
        for at in 0..1000 {
            // One prompt in twenty has two tokens for three bytes.
            let tokens = if at % 20 == 0 { 2000 } else { 750 };
            calibration.record(&text(3000), tokens);
        }
        assert!(calibration.estimate(&text(3000)).high >= 2000);
        for _ in 0..5000 {
            calibration.record(&text(3000), 750);
        }
        assert!(calibration.estimate(&text(3000)).high < 1000, "old samples count for less");
        for _ in 0..5000 {
            calibration.record(&text(3000), 30);
        }
        assert!(calibration.estimate(&text(3000)).high > 750, "whitespace does not lower the estimate of text");
        let cut = PromptSize { truncated: true, cut: Some(10), ..text(3000) };
        assert!(!calibration.record(&cut, 10), "a truncated prompt is not sampled");
        assert_eq!(calibration.estimate(&cut).low, 10);
        let to_more = PromptSize { cut: Some(100_000), ..cut };
        assert_eq!(calibration.estimate(&to_more).low, calibration.estimate(&text(3000)).low);
        let to_the_context_length = PromptSize { cut: None, ..cut };
        assert_eq!(calibration.estimate(&to_the_context_length).low, calibration.estimate(&text(3000)).low);
    }

    #[test]
    fn token_ids_and_parts_are_estimated() {
        let ids = PromptSize { token_ids: 500, ..PromptSize::default() };
        assert_eq!(Calibration::default().estimate(&ids), Estimate { low: 500, high: 564 });
        let mut calibration = Calibration::default();
        let image = PromptSize { text_bytes: 1000, messages: 1, parts: 2, ..PromptSize::default() };
        assert!(calibration.estimate(&image).high > 8192);
        for _ in 0..4 {
            calibration.record(&text(1000), 254);
        }
        calibration.record(&image, 254 + 2 * 600);
        let high = calibration.estimate(&image).high;
        assert!((1454..2200).contains(&high), "{high}");
    }

    #[test]
    fn extreme_reports_are_handled() {
        let mut calibration = Calibration::default();
        for tokens in [0, 1, u64::MAX, 1 << 53] {
            for size in [text(u64::MAX), text(128), PromptSize { parts: u64::MAX, messages: 1 << 40, ..text(1000) }] {
                calibration.record(&size, tokens);
                calibration.estimate(&size);
            }
        }
        assert_eq!(Calibration::decode(b"invalid"), Calibration::default());
    }
}
