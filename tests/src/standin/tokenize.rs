//! `POST /tokenize`: the number of prompt tokens of a chat or a text, and as many ids.

use serde_json::json;

use super::Options;
use super::error::ApiError;
use super::lenient_json;
use super::prompt::Prompts;
use super::request;

/// Returns the response body.
pub(super) fn answer(body: &[u8], options: &Options) -> Result<Vec<u8>, ApiError> {
    let fields = lenient_json::object(body)?;
    request::served(lenient_json::text(&fields, "model")?, options)?;
    let prompts =
        if fields.contains_key("messages") { Prompts::Chat(request::messages(&fields)?) } else { Prompts::Texts(&fields) };
    let count: u64 = prompts.count(&fields, options)?.iter().sum();
    let ids: Vec<u64> = (0..count).map(|index| index * 7 % 128_000).collect();
    let answer = json!({ "count": count, "max_model_len": options.max_model_len, "tokens": ids, "token_strs": null });
    Ok(answer.to_string().into_bytes())
}
