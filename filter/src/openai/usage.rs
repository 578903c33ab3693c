//! Token counts, as providers report them.

use crate::json::{Reader, ValueKind};

/// The contents of one `usage` object, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `prompt_tokens`
    pub prompt: u64,
    /// `completion_tokens`, or `total_tokens` minus the prompt if that is more.
    pub completion: u64,
}

/// The usage that a response has reported so far.
///
/// vLLM's continuous usage reports each completion separately, with the prompt it belongs to. The last chunk reports the sums.
#[derive(Debug, Clone, Default)]
pub struct UsageCounter {
    /// Completions for each prompt, to derive the prompt from the index of a completion.
    choices: usize,
    prompts: Vec<u64>,
    completions: Vec<u64>,
    /// For a request for one completion: the latest usage as written, which is parsed only when needed.
    latest: Vec<u8>,
    sum: Option<Usage>,
    deltas: u64,
}

/// The maximum number of completions that are counted separately: vLLM's own limit of `n` (`VLLM_MAX_N_SEQUENCES`).
const MAX_SEQUENCES: usize = 16_384;

// === impl Usage ===

impl Usage {
    /// Parses the value of a `usage` member. Returns `None` if it is null or holds no prompt count.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(value);
        if reader.kind().ok()? != ValueKind::Object {
            return None;
        }
        let (mut prompt, mut completion, mut total) = (None, None, None);
        let mut object = reader.object().ok()?;
        while let Some(key) = object.next(&mut reader).ok()? {
            let place = match &*key.decode() {
                "prompt_tokens" => &mut prompt,
                "completion_tokens" => &mut completion,
                "total_tokens" => &mut total,
                _ => {
                    reader.skip().ok()?;
                    continue;
                }
            };
            *place = count(&mut reader);
            if place.is_none() {
                reader.skip().ok()?;
            }
        }
        let prompt: u64 = prompt?;
        let rest = total.unwrap_or(0).saturating_sub(prompt);
        Some(Self { prompt, completion: rest.max(completion.unwrap_or(0)) })
    }

    /// Returns the sum of prompt and completion.
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// Reads a count. Returns `None` if the value is not a number; the reader is then still before it.
fn count(reader: &mut Reader<'_>) -> Option<u64> {
    if reader.kind().ok()? != ValueKind::Number {
        return None;
    }
    let digits = reader.number().ok()?;
    // More than 2^53 tokens are not plausible.
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|&n: &u64| n <= 1 << 53)
}

// === impl UsageCounter ===

impl UsageCounter {
    /// Creates a counter for a request for `choices` completions of each prompt.
    pub fn new(choices: u64) -> Self {
        Self { choices: usize::try_from(choices).unwrap_or(usize::MAX).max(1), ..Self::default() }
    }

    /// Records the usage of one chunk: of the completion at `index`, or of all completions.
    pub fn report(&mut self, usage: Usage, index: Option<usize>) {
        let Some(index) = index else {
            self.sum = Some(usage);
            return;
        };
        if index >= MAX_SEQUENCES {
            return;
        }
        raise(&mut self.completions, index, usage.completion);
        raise(&mut self.prompts, index / self.choices, usage.prompt);
    }

    /// Records the usage of one chunk, as written, of a request for one completion.
    pub fn report_latest(&mut self, usage: &[u8]) {
        self.latest.clear();
        self.latest.extend_from_slice(usage);
    }

    /// Records a chunk that holds a part of a completion and no usage.
    pub fn delta(&mut self) {
        self.deltas += 1;
    }

    /// Returns the number of chunks that held a part of a completion and no usage.
    pub fn deltas(&self) -> u64 {
        self.deltas
    }

    /// Returns whether the provider has reported the sums.
    pub fn is_whole(&self) -> bool {
        self.sum.is_some()
    }

    /// Returns the usage of all prompts and completions so far, if any was reported.
    pub fn usage(&self) -> Option<Usage> {
        let seen = || {
            let sum = |counts: &[u64]| counts.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
            (!self.prompts.is_empty()).then(|| Usage { prompt: sum(&self.prompts), completion: sum(&self.completions) })
        };
        self.sum.or_else(|| Usage::parse(&self.latest)).or_else(seen)
    }
}

/// Raises the count at `index` to `value`.
fn raise(counts: &mut Vec<u64>, index: usize, value: u64) {
    if counts.len() <= index {
        counts.resize(index + 1, 0);
    }
    if let Some(count) = counts.get_mut(index) {
        *count = value.max(*count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn usage_is_read_or_left() {
        let table: [(&str, Option<(u64, u64)>); 10] = [
            (r#"{"prompt_tokens":29,"total_tokens":37,"completion_tokens":8}"#, Some((29, 8))),
            (r#"{"prompt_tokens":29,"completion_tokens":8}"#, Some((29, 8))),
            (r#"{"prompt_tokens":5,"total_tokens":5}"#, Some((5, 0))),
            (r#"{"prompt_tokens":5,"total_tokens":50,"completion_tokens":8,"x":{"prompt_tokens":1}}"#, Some((5, 45))),
            (r#"{"prompt_tokens":5,"completion_tokens":null}"#, Some((5, 0))),
            (r#"{"completion_tokens":8}"#, None),
            (r#"{"prompt_tokens":-5,"completion_tokens":8}"#, None),
            (r#"{"prompt_tokens":99999999999999999999,"completion_tokens":8}"#, None),
            ("null", None),
            ("{", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(prompt, completion)| Usage { prompt, completion });
            assert_eq!(Usage::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn continuous_usage_adds_up_over_choices_and_prompts() {
        let mut counter = UsageCounter::new(2);
        assert_eq!(counter.usage(), None);
        for (index, prompt, completion) in [(0, 5, 1), (1, 5, 1), (2, 7, 1), (3, 7, 4), (0, 5, 3), (usize::MAX, 9, 9)] {
            counter.report(Usage { prompt, completion }, Some(index));
        }
        assert_eq!(counter.usage(), Some(Usage { prompt: 12, completion: 9 }));
        counter.report(Usage { prompt: 12, completion: 16 }, None);
        assert_eq!(counter.usage(), Some(Usage { prompt: 12, completion: 16 }));
    }
}
