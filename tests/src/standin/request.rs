//! Turns the fields of a request into the plan of its response, or into the error that vLLM would send.

use serde_json::Value;

use super::completion_length::Length;
use super::error::{ApiError, shown};
use super::lenient_json::{self, Fields};
use super::prompt::Prompts;
use super::recorder::RequestFacts;
use super::response_plan::{Api, Choice, ResponsePlan, UsageReporting};
use super::{Fault, Options};

const MAX_N: i64 = 16_384;
/// vLLM's default for `/v1/completions`.
const COMPLETIONS_DEFAULT: i64 = 16;

/// Records the fields of the request, whether or not they are valid.
pub(super) fn record_fields(facts: &mut RequestFacts, fields: &Fields) {
    let limit = |name: &'static str| Some((name, lenient_json::int(fields, name).ok()??));
    facts.model = lenient_json::text(fields, "model").ok().flatten().map(String::from);
    facts.limit = limit("max_completion_tokens").or_else(|| limit("max_tokens"));
    facts.stream = lenient_json::flag(fields, "stream").unwrap_or(false);
    facts.stream_options = fields.get("stream_options").cloned();
    facts.n = lenient_json::int(fields, "n").ok().flatten();
}

/// Plans the response to a chat or a completion.
pub(super) fn plan(api: Api, fields: &Fields, options: &Options, fault: Fault, id: String) -> Result<ResponsePlan, ApiError> {
    let requested = lenient_json::text(fields, "model")?;
    let (field, limit) = limit(api, fields)?;
    let (stream, usage_reporting) = streaming(fields, options, &fault)?;
    let prompts = match api {
        Api::Chat => Prompts::Chat(messages(fields)?),
        Api::Completions => Prompts::Texts(fields),
    };
    served(requested, options)?;
    let n = completions_per_prompt(fields)?;
    let tool = if api == Api::Chat { tool(fields, options)? } else { None };
    let prompts = prompts.count(fields, options)?;
    let length = Length::new(fields, options, &fault, field, limit)?;
    let mut choices = Vec::with_capacity(prompts.len() * n);
    for prompt_tokens in &prompts {
        let (length, finish) = length.of(*prompt_tokens, options)?;
        let finish = if tool.is_some() && finish == "stop" { "tool_calls" } else { finish };
        choices.extend((0..n).map(|_| Choice { prompt_tokens: *prompt_tokens, length, finish }));
    }
    let prompt_tokens = prompts.iter().sum();
    let (model, details) = (options.canonical_model().to_owned(), options.prompt_tokens_details);
    Ok(ResponsePlan { api, id, model, choices, prompt_tokens, stream, usage_reporting, details, tool, fault })
}

/// Checks that a model with this name is served. No name selects the first model.
pub(super) fn served(requested: Option<&str>, options: &Options) -> Result<(), ApiError> {
    match requested {
        Some(name) if !name.is_empty() && !options.models.iter().any(|model| model == name) => {
            Err(ApiError::model_not_found(name, &options.models))
        }
        _ => Ok(()),
    }
}

fn limit(api: Api, fields: &Fields) -> Result<(&'static str, Option<i64>), ApiError> {
    let max_tokens = lenient_json::int(fields, "max_tokens")?;
    if api == Api::Completions {
        return Ok(("max_tokens", Some(max_tokens.unwrap_or(COMPLETIONS_DEFAULT))));
    }
    match lenient_json::int(fields, "max_completion_tokens")? {
        None => Ok(("max_tokens", max_tokens)),
        newer => Ok(("max_completion_tokens", newer)),
    }
}

fn streaming(fields: &Fields, options: &Options, fault: &Fault) -> Result<(bool, UsageReporting), ApiError> {
    let stream = lenient_json::flag(fields, "stream")?;
    let asked = match lenient_json::field(fields, "stream_options") {
        None => None,
        Some(Value::Object(asked)) => Some(asked),
        Some(other) => {
            let message = "Input should be a valid dictionary or object to extract fields from";
            return Err(ApiError::schema("model_attributes_type", "stream_options", message, &shown(other)));
        }
    };
    if !stream && asked.is_some_and(|asked| !asked.is_empty()) {
        let message = "Stream options can only be defined when `stream=True`. (parameter=stream_options)";
        return Err(ApiError::bad_request(message, Some("stream_options")));
    }
    let asked_for = |name| asked.map_or(Ok(false), |asked| lenient_json::flag(asked, name));
    let usage_reporting = match (asked_for("include_usage")?, asked_for("continuous_usage_stats")?) {
        _ if fault.no_usage => UsageReporting::Never,
        _ if options.force_usage => UsageReporting::Continuous,
        (false, _) => UsageReporting::Never,
        (true, false) => UsageReporting::AtEnd,
        (true, true) => UsageReporting::Continuous,
    };
    Ok((stream, usage_reporting))
}

/// Returns the messages of a chat.
pub(super) fn messages(fields: &Fields) -> Result<&[Value], ApiError> {
    match fields.get("messages") {
        Some(Value::Array(messages)) => Ok(messages),
        None => {
            let given = format!("<dict of {} items>", fields.len());
            Err(ApiError::schema("missing", "messages", "Field required", &given))
        }
        Some(other) => Err(ApiError::schema("list_type", "messages", "Input should be a valid list", &shown(other))),
    }
}

fn completions_per_prompt(fields: &Fields) -> Result<usize, ApiError> {
    let n = lenient_json::int(fields, "n")?.unwrap_or(1);
    if n < 1 {
        return Err(ApiError::bad_request(format!("n must be at least 1, got {n}."), None));
    }
    if n > MAX_N {
        let hint = "To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable.";
        return Err(ApiError::bad_request(format!("n must be at most {MAX_N}, got {n}. {hint}"), None));
    }
    Ok(usize::try_from(n).unwrap_or(1))
}

/// Returns the function to call: the named one, otherwise the first.
fn tool(fields: &Fields, options: &Options) -> Result<Option<String>, ApiError> {
    let tools = lenient_json::field(fields, "tools").and_then(Value::as_array);
    let choice = lenient_json::field(fields, "tool_choice");
    let name = |tool: &Value| Some(tool.get("function")?.get("name")?.as_str()?.to_owned());
    let Some(tools) = tools else {
        let message = "When using `tool_choice`, `tools` must be set. (parameter=tool_choice)";
        let wrong = choice.is_some_and(|choice| choice != "none");
        return if wrong { Err(ApiError::bad_request(message, Some("tool_choice"))) } else { Ok(None) };
    };
    let refused = match choice {
        Some(Value::String(word)) if word == "none" => return Ok(None),
        Some(Value::String(word)) if word == "required" => "tool_choice=\"required\" requires --tool-call-parser to be set".into(),
        Some(named @ Value::Object(_)) => {
            format!("tool_choice=function \"{}\" requires --tool-call-parser to be set", name(named).unwrap_or_default())
        }
        _ => "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set".into(),
    };
    if options.no_tools {
        return Err(ApiError::bad_request(refused, None));
    }
    Ok(choice.and_then(|choice| name(choice).or_else(|| name(tools.first()?))))
}
