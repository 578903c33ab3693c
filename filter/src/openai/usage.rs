//! Token counts, as providers report them.

use crate::estimate::text_census::TextTokens;
use crate::json::{Reader, ValueKind, whole_number};

/// The contents of one `usage` object, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `prompt_tokens`
    pub prompt: u64,
    /// `completion_tokens`, or `total_tokens` minus the prompt if that is more.
    pub completion: u64,
}

/// The usage that a response has reported so far, and what has been seen where it reported none.
///
/// vLLM's continuous usage reports each completion separately, with the prompt it belongs to. The last chunk reports the sums. Of
/// several reports about the same tokens, the largest counts.
#[derive(Debug, Clone, Default)]
pub struct UsageCounter {
    /// Completions for each prompt, to derive the prompt from the index of a completion.
    choices: usize,
    /// Completions of all prompts. More are not counted separately.
    sequences: usize,
    prompts: Vec<u64>,
    completions: Vec<u64>,
    sum: Option<Usage>,
    /// Chunks with a part of a completion and no usage, and their text.
    deltas: u64,
    text: TextTokens,
}

/// The ends of the usage that vLLM writes into the chunks of a stream.
const CONTINUOUS_ENDS: [&[u8]; 3] =
    [b"}", b",\"completion_tokens_details\":null}", b",\"prompt_tokens_details\":null,\"completion_tokens_details\":null}"];

/// The number of digits that any number of tokens may have.
const MAX_DIGITS: usize = 15;

/// The maximum number of completions that are counted separately: vLLM's own limit of `n` (`VLLM_MAX_N_SEQUENCES`).
const MAX_SEQUENCES: usize = 16_384;

// === impl Usage ===

impl Usage {
    /// Parses the value of a `usage` member. Returns `None` if it holds no prompt count, or a count that is no number of tokens.
    pub fn parse(value: &[u8]) -> Option<Self> {
        Self::parse_continuous(value).or_else(|| Self::parse_object(value))
    }

    /// Parses the usage as vLLM writes it into each chunk of a stream.
    fn parse_continuous(value: &[u8]) -> Option<Self> {
        let (prompt, rest) = digits_after(b"{\"prompt_tokens\":", value)?;
        let (total, rest) = digits_after(b",\"total_tokens\":", rest)?;
        let (completion, rest) = digits_after(b",\"completion_tokens\":", rest)?;
        CONTINUOUS_ENDS.contains(&rest).then(|| Self::new(prompt, Some(total), Some(completion)))
    }

    fn parse_object(value: &[u8]) -> Option<Self> {
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
            *place = count(&mut reader)?;
        }
        Some(Self::new(prompt?, total, completion))
    }

    fn new(prompt: u64, total: Option<u64>, completion: Option<u64>) -> Self {
        let rest = total.unwrap_or(0).saturating_sub(prompt);
        Self { prompt, completion: rest.max(completion.unwrap_or(0)) }
    }

    /// Returns the larger prompt and the larger completion of two reports.
    fn max(self, other: Self) -> Self {
        Self { prompt: self.prompt.max(other.prompt), completion: self.completion.max(other.completion) }
    }

    /// Returns the sum of prompt and completion.
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// Reads a count; null is none. Returns `None` if the value is neither.
fn count(reader: &mut Reader<'_>) -> Option<Option<u64>> {
    match reader.kind().ok()? {
        ValueKind::Null => reader.literal().ok().map(|()| None),
        ValueKind::Number => u64::try_from(whole_number(reader.number().ok()?)?).ok().map(Some),
        _ => None,
    }
}

/// Returns the number of tokens that follows `before`, and the bytes after it.
fn digits_after<'a, const N: usize>(before: &[u8; N], value: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (start, rest) = value.split_first_chunk()?;
    if !is_same(start, before) {
        return None;
    }
    let (mut number, mut length) = (0, 0);
    while let Some(digit @ b'0'..=b'9') = rest.get(length)
        && length < MAX_DIGITS
    {
        number = number * 10 + u64::from(digit - b'0');
        length += 1;
    }
    let is_number = length == 1 || length > 1 && rest.first() != Some(&b'0');
    is_number.then(|| (number, rest.get(length..).unwrap_or_default()))
}

/// Compares eight bytes at a time. WebAssembly has no instruction that compares more.
fn is_same<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    a.iter().zip(b).all(|(a, b)| u64::from_le_bytes(*a) == u64::from_le_bytes(*b)) && a_rest.iter().eq(b_rest)
}

// === impl UsageCounter ===

impl UsageCounter {
    /// Creates a counter for a request for `sequences` completions, `choices` of each prompt.
    pub fn new(choices: u64, sequences: u64) -> Self {
        let [choices, sequences] = [choices, sequences].map(|count| usize::try_from(count).unwrap_or(usize::MAX).max(1));
        Self { choices, sequences: sequences.min(MAX_SEQUENCES), ..Self::default() }
    }

    /// Records the usage of one chunk: of the completion at `index`, or of all completions.
    pub fn report(&mut self, usage: Usage, index: Option<usize>) {
        let Some(index) = index else {
            self.sum = Some(self.sum.unwrap_or_default().max(usage));
            return;
        };
        // Where there is one completion, its index does not matter.
        let index = if self.sequences == 1 { 0 } else { index };
        if index >= self.sequences {
            return;
        }
        raise(&mut self.completions, index, usage.completion);
        raise(&mut self.prompts, index / self.choices, usage.prompt);
    }

    /// Records a chunk that holds a part of a completion and no usage.
    pub fn delta(&mut self, text: TextTokens) {
        self.deltas += 1;
        self.text.add(text);
    }

    /// Records the text of completions whose number of chunks is not known.
    pub fn seen(&mut self, text: TextTokens) {
        self.text.add(text);
    }

    /// Returns the number of chunks that held a part of a completion and no usage.
    pub fn deltas(&self) -> u64 {
        self.deltas
    }

    /// Returns the tokens of completions that came without usage, by their text.
    pub fn text(&self) -> TextTokens {
        self.text
    }

    /// Returns whether the provider has reported the sums.
    pub fn is_whole(&self) -> bool {
        self.sum.is_some()
    }

    /// Returns the usage of all prompts and completions so far, if any was reported.
    pub fn usage(&self) -> Option<Usage> {
        let sum = |counts: &[u64]| counts.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
        let continuous = Usage { prompt: sum(&self.prompts), completion: sum(&self.completions) };
        match self.sum {
            Some(sum) => Some(sum.max(continuous)),
            None => (!self.prompts.is_empty()).then_some(continuous),
        }
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
    use crate::estimate::text_census::TextCensus;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn usage_is_read_or_left() {
        let details =
            r#"{"prompt_tokens":29,"total_tokens":37,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":16}}"#;
        let table: [(&str, Option<(u64, u64)>); 25] = [
            (details, Some((29, 8))),
            (r#"{"prompt_tokens":29,"total_tokens":37,"completion_tokens":8,"completion_tokens_details":null}"#, Some((29, 8))),
            (r#"{"prompt_tokens":29,"total_tokens":37,"completion_tokens":8,"completion_tokens":9}"#, Some((29, 9))),
            (r#"{"prompt_tokens":2000.0,"total_tokens":2.01e3,"completion_tokens":1e1}"#, Some((2000, 10))),
            (r#"{"prompt_tokens":9007199254740992,"completion_tokens":0}"#, Some((1 << 53, 0))),
            (r#"{"prompt_tokens":9007199254740993,"completion_tokens":0}"#, None),
            (r#"{"prompt_tokens":29.5,"completion_tokens":8}"#, None),
            (r#"{"prompt_tokens":29,"completion_tokens":8.5}"#, None),
            (r#"{"prompt_tokens":29,"completion_tokens":-8}"#, None),
            (r#"{"prompt_tokens":29,"completion_tokens":"8"}"#, None),
            (r#"{"prompt_tokens":29,"completion_tokens":8,"total_tokens":1e99}"#, None),
            (r#"{"prompt_tokens":"29","completion_tokens":8}"#, None),
            (r#"{"prompt_tokens":029,"total_tokens":37,"completion_tokens":8}"#, None),
            (r#"{"prompt_tokens":,"total_tokens":37,"completion_tokens":8}"#, None),
            (r#"{"prompt_tokens":999999999999999999,"total_tokens":37,"completion_tokens":8}"#, None),
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
        let mut counter = UsageCounter::new(2, 4);
        assert_eq!(counter.usage(), None);
        for (index, prompt, completion) in [(0, 5, 1), (1, 5, 1), (2, 7, 1), (3, 7, 4), (0, 5, 3), (usize::MAX, 9, 9)] {
            counter.report(Usage { prompt, completion }, Some(index));
        }
        assert_eq!(counter.usage(), Some(Usage { prompt: 12, completion: 9 }));
        assert!(!counter.is_whole());
        counter.report(Usage { prompt: 12, completion: 16 }, None);
        assert_eq!(counter.usage(), Some(Usage { prompt: 12, completion: 16 }));
        assert!(counter.is_whole());
    }

    #[test]
    fn what_came_without_usage_adds_up() {
        let mut word = TextCensus::default();
        word.count_run(b"Words ", 0..6);
        let mut counter = UsageCounter::new(1, 1);
        (0..100).for_each(|_| counter.delta(word.tokens()));
        assert_eq!((counter.usage(), counter.deltas()), (None, 100));
        let rounded = counter.text().typical();
        assert!((100..200).contains(&rounded) && rounded < 100 * word.tokens().typical(), "{rounded}");
    }

    #[test]
    fn of_several_reports_the_largest_counts() {
        let report = |reports: &[(Option<usize>, u64, u64)]| {
            let mut counter = UsageCounter::new(1, 1);
            for &(index, prompt, completion) in reports {
                counter.report(Usage { prompt, completion }, index);
            }
            counter.usage().map(|usage| (usage.prompt, usage.completion))
        };
        for (reports, expected) in [
            (&[(Some(0), 10, 5), (None, 0, 0)][..], (10, 5)),
            (&[(None, 10, 5), (None, 0, 0)], (10, 5)),
            (&[(None, 10, 0), (None, 0, 5)], (10, 5)),
            (&[(Some(0), 10, 5), (Some(0), 9, 7), (Some(0), 10, 6)], (10, 7)),
            (&[(Some(0), 10, 5), (None, 10, 6)], (10, 6)),
            (&[(Some(0), 10, 5), (Some(usize::MAX), 10, 6)], (10, 6)),
        ] {
            assert_eq!(report(reports), Some(expected), "{reports:?}");
        }
    }
}
