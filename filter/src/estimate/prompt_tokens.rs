//! Estimates the number of tokens of a prompt before its server has counted them.
//!
//! No tokenizer is involved. The kinds of the characters of a text give a first estimate, which is fitted to real tokenizers. From
//! then on, two factors follow from what the model's server has reported.

use super::ratio_histogram::{Factor, RatioHistogram};
use super::text_census::TextTokens;
use crate::openai::PromptSize;
use crate::policy::PromptEstimate;

/// The number of tokens of one request's prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The lower bound: no tokenizer in use produces fewer tokens.
    pub low: u64,
    /// The median.
    pub typical: u64,
    /// The upper bound, rarely exceeded.
    pub high: u64,
}

/// The samples that a model's server has reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calibration {
    /// Reported tokens of text, as a ratio to the typical number.
    typical: RatioHistogram,
    /// Reported tokens of text, as a ratio to the high number.
    high: RatioHistogram,
    /// The maximum number of tokens of an image or another part, recently; 0 before the first sample.
    part: u32,
}

/// What follows from the samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Factors {
    typical: Factor,
    high: Factor,
    /// The maximum number of tokens of an image or another part, recently; 0 before the first sample.
    part: u32,
}

/// Tokens that a chat template adds around one message. Few templates add more.
const TOKENS_PER_MESSAGE: u64 = 16;
/// Tokens that most templates add around one message.
const TYPICAL_TOKENS_PER_MESSAGE: u64 = 4;
/// Tokens that a template adds before all messages (special tokens, a short default system prompt).
const TOKENS_PER_REQUEST: u64 = 64;
/// The maximum number of bytes of one token: a long run of spaces is a single token of up to 128 bytes.
const BYTES_PER_TOKEN: u64 = 128;
/// Tokens of an image or another part before the first sample: four times those of 1024 × 1024 pixels in today's models.
const DEFAULT_PART_TOKENS: u64 = 4096;

// === impl Calibration ===

impl Calibration {
    /// The number of samples from which the histograms are used.
    const MIN_SAMPLES: u32 = 4;
    /// Prompts with fewer bytes are no samples: the tokens of the template outweigh those of the text.
    pub const MIN_BYTES: u64 = 128;
    /// The percentile of the samples that raises the upper bound, and buckets of margin, because the next prompt differs from the
    /// samples. A caller with a twentieth of the prompts does not determine this percentile.
    const RAISE_PERCENT: u32 = 90;
    const RAISE_MARGIN: u64 = 4;
    /// The same for lowering it: texts of several kinds differ, and the densest kind has to stay below the bound.
    const LOWER_PERCENT: u32 = 99;
    const LOWER_MARGIN: u64 = 8;

    /// Returns whether a prompt of this size is a sample.
    pub fn is_sample(size: &PromptSize, tokens: u64) -> bool {
        tokens > 0 && (size.parts > 0 || !size.truncated && size.text_bytes >= Self::MIN_BYTES)
    }

    /// Records the number of tokens that the server reported for a prompt of this size. Returns whether the calibration changed.
    pub fn record(&mut self, size: &PromptSize, tokens: u64) -> bool {
        if !Self::is_sample(size, tokens) {
            return false;
        }
        let template = size.messages.saturating_mul(TYPICAL_TOKENS_PER_MESSAGE);
        let text = tokens.saturating_sub(size.token_ids).saturating_sub(template);
        if size.parts > 0 {
            return self.record_part(size, text);
        }
        self.typical.add(text, size.text.typical());
        self.high.add(text, size.text.high());
        true
    }

    fn record_part(&mut self, size: &PromptSize, tokens: u64) -> bool {
        let text = self.factors().typical(size.text);
        let seen = tokens.saturating_sub(text).div_ceil(size.parts);
        let faded = self.part - self.part / 16;
        let part = u32::try_from(seen).unwrap_or(u32::MAX).max(faded).max(1);
        std::mem::replace(&mut self.part, part) != part
    }

    /// Returns the number of samples of text.
    pub fn samples(&self) -> u32 {
        self.typical.samples()
    }

    /// Returns the factors that follow from the samples.
    pub fn factors(&self) -> Factors {
        let (typical, high) = if self.samples() < Self::MIN_SAMPLES {
            (Factor::default(), Factor::default())
        } else {
            (self.typical.factor(50, 0), self.high_factor())
        };
        Factors { typical, high, part: self.part }
    }

    /// Returns the factor of the upper bound. It is raised by many samples, and lowered only as far as nearly all samples allow.
    fn high_factor(&self) -> Factor {
        let raised = self.high.factor(Self::RAISE_PERCENT, Self::RAISE_MARGIN);
        if raised > Factor::ONE {
            return raised;
        }
        self.high.factor_of_nearly_all(Self::LOWER_PERCENT, Self::LOWER_MARGIN).clamp(Factor::LEAST_OF_HIGH, Factor::ONE)
    }

    /// Encodes the samples.
    pub fn encode(&self) -> Vec<u8> {
        [&self.typical.encode()[..], &self.high.encode(), &self.part.to_le_bytes()].concat()
    }

    /// Decodes the output of [`Calibration::encode`]. Returns no samples for anything else.
    pub fn decode(bytes: &[u8]) -> Self {
        let read = || {
            let (typical, rest) = bytes.split_first_chunk()?;
            let (high, part) = rest.split_first_chunk()?;
            let part = u32::from_le_bytes(part.try_into().ok()?);
            Some(Self { typical: RatioHistogram::decode(*typical), high: RatioHistogram::decode(*high), part })
        };
        read().unwrap_or_default()
    }
}

// === impl Factors ===

impl Factors {
    /// Estimates the tokens of a prompt of this size.
    pub fn estimate(&self, size: &PromptSize, method: PromptEstimate) -> Estimate {
        let part = match (self.part, method) {
            (0, _) => DEFAULT_PART_TOKENS,
            (part, PromptEstimate::Estimated) => with_margin(part),
            (part, PromptEstimate::Strict) => with_margin(part).max(DEFAULT_PART_TOKENS),
        };
        let PromptSize { text_bytes, messages, token_ids, parts, .. } = *size;
        let high = match method {
            // A tokenizer that knows all bytes never produces more tokens than bytes.
            PromptEstimate::Estimated => self.high.of(size.text.high()).min(text_bytes),
            PromptEstimate::Strict => text_bytes,
        };
        let sum = |text: u64, per_message: u64, per_request: u64, per_part: u64| {
            [text, messages.saturating_mul(per_message), parts.saturating_mul(per_part), per_request]
                .into_iter()
                .fold(token_ids, u64::saturating_add)
        };
        let low = sum(text_bytes / BYTES_PER_TOKEN, 1, 0, 1).min(size.cut.unwrap_or(u64::MAX)).max(1);
        let high = sum(high, TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, part).max(low);
        let typical = sum(self.typical(size.text), TYPICAL_TOKENS_PER_MESSAGE, 0, part).clamp(low, high);
        Estimate { low, typical, high }
    }

    /// Estimates the tokens of a text: the median.
    pub fn typical(&self, text: TextTokens) -> u64 {
        text.typical_times(self.typical)
    }
}

/// Returns the tokens of a part, and a quarter more, because the next one differs from those before.
fn with_margin(part: u32) -> u64 {
    u64::from(part) + u64::from(part / 4)
}

#[cfg(test)]
mod tests {
    use super::super::text_census::TextCensus;
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const ENGLISH: &str = "The quick brown fox jumps over the lazy dog, and nothing else happens on this page. ";

    /// Returns the size of a message with this text, repeated.
    fn message(text: &str, times: usize) -> PromptSize {
        let text = text.repeat(times);
        let mut census = TextCensus::default();
        census.count_run(text.as_bytes(), 0..text.len());
        PromptSize { text_bytes: text.len() as u64, text: census.tokens(), messages: 1, ..PromptSize::default() }
    }

    fn estimate(calibration: &Calibration, size: &PromptSize) -> Estimate {
        calibration.factors().estimate(size, PromptEstimate::Estimated)
    }

    /// Records prompts for each of which the server reports `percent` of the typical number of tokens.
    fn record(calibration: &mut Calibration, size: &PromptSize, percent: u64, times: usize) {
        let tokens = size.text.typical() * percent / 100 + 4;
        (0..times).for_each(|_| _ = calibration.record(size, tokens));
    }

    #[test]
    fn the_kinds_of_its_characters_are_the_estimate_of_a_prompt_until_the_model_is_calibrated() {
        let mut calibration = Calibration::default();
        let english = message(ENGLISH, 100);
        let before = estimate(&calibration, &english);
        let bytes = english.text_bytes;
        assert_eq!(before.low, bytes / 128 + 1);
        assert!((bytes / 5..bytes / 3).contains(&before.typical), "{before:?}");
        assert!((before.typical..bytes / 2 + 80).contains(&before.high), "{before:?}");
        record(&mut calibration, &english, 150, 3);
        assert_eq!(estimate(&calibration, &english), before);
        record(&mut calibration, &english, 150, 1);
        let after = estimate(&calibration, &english);
        assert_eq!(after.low, before.low, "a lower bound is not calibrated");
        assert!(after.typical > before.typical * 14 / 10, "{after:?}");
    }

    #[test]
    fn no_estimate_exceeds_a_token_for_each_byte() {
        for text in ["x9-", "語", "\u{1f600}", "ÀÈ", "{\"a\":[1,2]}", "    \n"] {
            let size = message(text, 100);
            let mut calibration = Calibration::default();
            for _ in 0..2 {
                let Estimate { low, typical, high } = estimate(&calibration, &size);
                assert!(low <= typical && typical <= high && high <= size.text_bytes + 80, "{text}");
                record(&mut calibration, &size, 500, 10);
            }
        }
    }

    #[test]
    fn denser_and_sparser_tokenizers_are_followed_within_bounds() {
        for (percent, expected) in [(40, 70), (70, 70), (100, 100), (140, 140), (200, 200), (400, 200)] {
            let mut calibration = Calibration::default();
            for times in [3, 10, 30, 100] {
                record(&mut calibration, &message(ENGLISH, times), percent, 25);
            }
            let size = message(ENGLISH, 200);
            let Estimate { typical, high, .. } = estimate(&calibration, &size);
            let expected = size.text.typical() * expected / 100;
            assert!((expected * 98 / 100..expected * 104 / 100 + 4).contains(&typical), "{percent}: {typical} for {expected}");
            let reported = (size.text.typical() * percent / 100).clamp(size.text.high() * 87 / 100, size.text.high() * 2);
            assert!((reported..reported * 120 / 100 + 80).contains(&high), "{percent}: {high} for {reported}");
        }
    }

    #[test]
    fn a_twentieth_of_the_prompts_changes_little_for_the_others() {
        let prompts = [1, 2, 3, 5, 10, 20, 50].map(|times| message(ENGLISH, 2 * times));
        let long = message(ENGLISH, 10_000 / message(ENGLISH, 1).text.typical() as usize);
        let (dense, blank) = (message("\u{fdfa}x", 1000), message(" ", 10_000));
        // The limit that a cap of 32,000 leaves beside a prompt of 10,000 tokens.
        let limit = |calibration: &Calibration| 32_000 - estimate(calibration, &long).high;
        for density in [80, 100, 120] {
            for (size, tokens) in [(&dense, dense.text_bytes), (&blank, blank.text_bytes / 100)] {
                let (mut with, mut without) = (Calibration::default(), Calibration::default());
                for (at, prompt) in prompts.iter().cycle().take(1000).enumerate() {
                    // The density of prompts differs by a third.
                    let percent = density * (84 + at as u64 * 7 % 33) / 100;
                    record(&mut without, prompt, percent, 1);
                    if at % 20 == 7 {
                        with.record(size, tokens);
                    } else {
                        record(&mut with, prompt, percent, 1);
                    }
                    if at % 10 == 9 {
                        let (with, without) = (limit(&with), limit(&without));
                        assert!(with.abs_diff(without) <= without / 5, "{density} after {at}: {with}, not {without}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_strict_estimate_is_a_token_for_each_byte_and_not_calibrated() {
        let mut calibration = Calibration::default();
        let size = PromptSize { parts: 1, token_ids: 10, ..message(ENGLISH, 10) };
        let strict = |calibration: &Calibration| calibration.factors().estimate(&size, PromptEstimate::Strict).high;
        let expected = size.text_bytes + 10 + 16 + 64 + DEFAULT_PART_TOKENS;
        assert_eq!(strict(&calibration), expected);
        record(&mut calibration, &message(ENGLISH, 10), 70, 50);
        calibration.record(&size, 300);
        assert_eq!(strict(&calibration), expected);
        calibration.record(&size, 10_000);
        assert!(strict(&calibration) > expected + 4096, "a part that has been larger is no surprise");
    }

    #[test]
    fn truncated_prompts_are_no_samples() {
        let mut calibration = Calibration::default();
        let cut = PromptSize { truncated: true, cut: Some(10), ..message(ENGLISH, 100) };
        assert!(!calibration.record(&cut, 10));
        assert_eq!(estimate(&calibration, &cut).low, 10);
        let low = estimate(&calibration, &message(ENGLISH, 100)).low;
        for cut in [PromptSize { cut: Some(100_000), ..cut }, PromptSize { cut: None, ..cut }] {
            assert_eq!(estimate(&calibration, &cut).low, low);
        }
        assert!(!calibration.record(&message(ENGLISH, 1), 30), "a short prompt");
        assert!(!calibration.record(&message(ENGLISH, 100), 0), "no prompt has no tokens");
    }

    #[test]
    fn token_ids_and_parts_are_estimated() {
        let mut calibration = Calibration::default();
        let ids = PromptSize { token_ids: 500, ..PromptSize::default() };
        assert_eq!(estimate(&calibration, &ids), Estimate { low: 500, typical: 500, high: 564 });
        let image = PromptSize { parts: 2, ..message(ENGLISH, 12) };
        assert!(estimate(&calibration, &image).high > 8192);
        calibration.record(&image, image.text.typical() + 4 + 2 * 600);
        let Estimate { typical, high, .. } = estimate(&calibration, &image);
        assert!((1454..2400).contains(&high) && (1400..2200).contains(&typical), "{typical} {high}");
    }

    #[test]
    fn extreme_reports_are_handled() {
        let mut calibration = Calibration::default();
        let english = message(ENGLISH, 10);
        for tokens in [0, 1, u64::MAX, 1 << 53] {
            let parts = PromptSize { parts: u64::MAX, messages: 1 << 40, ..english };
            for size in [PromptSize { text_bytes: u64::MAX, ..english }, message("", 0), english, parts] {
                calibration.record(&size, tokens);
                estimate(&calibration, &size);
            }
        }
        assert_eq!(Calibration::decode(&calibration.encode()), calibration);
        for bytes in [&b"invalid"[..], &[1; 132], &[], &[0; 1000]] {
            assert_eq!(Calibration::decode(bytes), Calibration::default(), "{} bytes", bytes.len());
        }
    }
}
