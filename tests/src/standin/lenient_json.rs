//! Reads JSON as leniently as vLLM does: the last duplicate is used; `"5"`, `5.0` and `true` are integers; `"yes"` is true.

use serde_json::{Map, Value};

use super::error::{ApiError, shown};

/// The fields of a request.
pub type Fields = Map<String, Value>;

/// Parses a body that must be one JSON object.
pub fn object(body: &[u8]) -> Result<Fields, ApiError> {
    let missing = || ApiError::schema("missing", "", "Field required", "None");
    if body.is_empty() {
        return Err(missing());
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Err(unreadable());
    };
    match serde_json::from_str(text).map_err(|error| invalid(text, &error))? {
        Value::Object(fields) => Ok(fields),
        Value::Null => Err(missing()),
        other => {
            let message = "Input should be a valid dictionary or object to extract fields from";
            Err(ApiError::schema("model_attributes_type", "", message, &shown(&other)))
        }
    }
}

fn unreadable() -> ApiError {
    ApiError::Detail(hyper::StatusCode::BAD_REQUEST, "There was an error parsing the body")
}

/// Returns Python's message and position for a JSON syntax error. The position may differ by one or two.
fn invalid(text: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    let says = |part: &str| message.contains(part);
    if says("recursion limit") {
        return unreadable();
    }
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let position = (before + error.column()).saturating_sub(usize::from(!error.is_eof())).min(text.len());
    let reason = match () {
        () if says("trailing characters") => "Extra data",
        () if says("control character") => "Invalid control character at",
        () if says("trailing comma") || says("key must be a string") => "Expecting property name enclosed in double quotes",
        () => "Expecting value",
    };
    ApiError::invalid_json(position, reason)
}

/// Returns the field, unless it is absent or null.
pub fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

/// Reads an integer field.
pub fn int(fields: &Fields, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(value) = field(fields, name) else {
        return Ok(None);
    };
    let refuse = |kind: &str, message: &str| Err(ApiError::schema(kind, name, message, &shown(value)));
    match value {
        Value::Bool(flag) => Ok(Some(i64::from(*flag))),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Ok(Some(number)),
            (None, Some(float)) if float.fract() == 0.0 => Ok(Some(float as i64)),
            _ => refuse("int_from_float", "Input should be a valid integer, got a number with a fractional part"),
        },
        Value::String(text) => match text.trim().replace('_', "").parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => refuse("int_parsing", "Input should be a valid integer, unable to parse string as an integer"),
        },
        _ => refuse("int_type", "Input should be a valid integer"),
    }
}

/// Reads a boolean field; absent and null are false.
pub fn flag(fields: &Fields, name: &str) -> Result<bool, ApiError> {
    let Some(value) = field(fields, name) else {
        return Ok(false);
    };
    match shown(value).to_ascii_lowercase().as_str() {
        "true" | "1" | "1.0" | "yes" | "on" | "y" | "t" => Ok(true),
        "false" | "0" | "0.0" | "no" | "off" | "n" | "f" => Ok(false),
        _ => {
            let message = "Input should be a valid boolean, unable to interpret input";
            Err(ApiError::schema("bool_parsing", name, message, &shown(value)))
        }
    }
}

/// Reads a string field.
pub fn text<'a>(fields: &'a Fields, name: &str) -> Result<Option<&'a str>, ApiError> {
    match field(fields, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(ApiError::schema("string_type", name, "Input should be a valid string", &shown(other))),
    }
}
