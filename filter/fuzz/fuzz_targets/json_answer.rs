//! Checks that a JSON response is forwarded unchanged, and that its usage is the same as a reader of the whole body finds, however it is
//! divided into chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;
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
        assert_eq!(whole.0, members.get("usage").and_then(reference));
    }
});

fn read(chunks: &[&[u8]]) -> (Option<Usage>, bool) {
    let mut answer = ResponseBody::json(1);
    for chunk in chunks {
        assert_eq!(answer.feed(chunk, false), None);
    }
    assert_eq!(answer.feed(b"", true), None);
    answer.finish();
    (answer.usage(), answer.started())
}

fn reference(usage: &Value) -> Option<Usage> {
    let count = |name: &str| usage.get(name).and_then(Value::as_u64).filter(|&count| count <= 1 << 53);
    let prompt = count("prompt_tokens")?;
    let rest = count("total_tokens").unwrap_or(0).saturating_sub(prompt);
    Some(Usage { prompt, completion: rest.max(count("completion_tokens").unwrap_or(0)) })
}
