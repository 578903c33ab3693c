//! Checks that a JSON response is forwarded unchanged, and that its usage and its text are the same however it is divided into chunks;
//! and that the usage is what a reader of the whole body finds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pai_filter::estimate::text_census::TextTokens;
use pai_filter::openai::{ResponseBody, Usage};
use pai_filter_fuzz::chunks;
use serde_json::Value;

/// The filter does not store longer values.
const USAGE_LIMIT: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let body = chunks::expanded(bytes);
    let whole = read(&[&body]);
    for cut in chunks::divisions(&body) {
        assert_eq!(read(&cut), whole);
    }
    // The filter compares keys as written, without decoding escapes.
    if memchr::memmem::find(&body, b"\\u").is_none()
        && body.len() <= USAGE_LIMIT
        && let Ok(Value::Object(members)) = serde_json::from_slice(&body)
    {
        let usage = members.get("usage");
        if !usage.is_some_and(is_rounded) {
            assert_eq!(whole.0, usage.and_then(reference));
        }
    }
});

fn read(chunks: &[&[u8]]) -> (Option<Usage>, bool, TextTokens) {
    let mut answer = ResponseBody::json();
    for chunk in chunks {
        assert_eq!(answer.feed(chunk, false), None);
    }
    assert_eq!(answer.feed(b"", true), None);
    answer.finish();
    (answer.usage(), answer.started(), answer.text())
}

const COUNTS: [&str; 3] = ["prompt_tokens", "total_tokens", "completion_tokens"];

/// Returns whether a count is a float that is whole as `serde_json` reads it. It may have been rounded, which the filter does not do.
fn is_rounded(usage: &Value) -> bool {
    let float = |name: &&str| usage.get(name).filter(|count| count.as_u64().is_none()).and_then(Value::as_f64);
    COUNTS.iter().filter_map(float).any(|count| count.fract() == 0.0)
}

fn reference(usage: &Value) -> Option<Usage> {
    let count = |name: &str| match usage.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(count) => count.as_u64().filter(|&count| count <= 1 << 53).map(Some),
    };
    let [prompt, total, completion] = COUNTS.map(count);
    let prompt = prompt??;
    let rest = total?.unwrap_or(0).saturating_sub(prompt);
    Some(Usage { prompt, completion: rest.max(completion?.unwrap_or(0)) })
}
