//! `POST /v1/embeddings`: vectors that depend only on the position of their input.

use base64::Engine as _;

use super::error::ApiError;
use super::lenient_json::{self, Fields};
use super::{Fault, Options, event_writer, prompt, request};

const DIMENSIONS: i64 = 8;

/// Returns the prompt tokens and the response body.
pub(super) fn answer(fields: &Fields, options: &Options, fault: &Fault, id: &str) -> Result<(u64, Vec<u8>), ApiError> {
    request::served(lenient_json::text(fields, "model")?, options)?;
    let inputs = prompt::texts(lenient_json::field(fields, "input"), options.bytes_per_token)?;
    if let Some(length) = inputs.iter().find(|length| **length > options.max_model_len) {
        let window = options.max_model_len;
        let message = format!(
            "This model's maximum context length is {window} tokens. However, you requested 0 output tokens and your prompt contains {length} input tokens, for a total of {length} tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value={length})"
        );
        return Err(ApiError::bad_request(message, Some("input_tokens")));
    }
    let dimensions = lenient_json::int(fields, "dimensions")?.unwrap_or(DIMENSIONS);
    let dimensions = usize::try_from(dimensions).unwrap_or(1).clamp(1, 4096);
    let base64 = lenient_json::text(fields, "encoding_format")? == Some("base64");
    let data: Vec<_> = (0..inputs.len()).map(|index| item(index, dimensions, base64)).collect();
    let total: u64 = inputs.iter().sum();
    let usage = if fault.no_usage { String::new() } else { usage(total) };
    let (id, model, created) = (event_writer::quoted(id), event_writer::quoted(options.canonical_model()), event_writer::now());
    let text = format!(r#"{{"id":{id},"object":"list","created":{created},"model":{model},"data":[{}]{usage}}}"#, data.join(","));
    Ok((total, text.into_bytes()))
}

fn usage(prompt: u64) -> String {
    format!(
        r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt},"completion_tokens":0,"prompt_tokens_details":null,"completion_tokens_details":null}}"#
    )
}

fn item(index: usize, dimensions: usize, base64: bool) -> String {
    let vector: Vec<f32> = (0..dimensions).map(|k| (((index + k) % 7) as f32 - 3.0) / 8.0).collect();
    let embedding = if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes))
    } else {
        serde_json::to_string(&vector).unwrap_or_default()
    };
    format!(r#"{{"index":{index},"object":"embedding","embedding":{embedding}}}"#)
}
