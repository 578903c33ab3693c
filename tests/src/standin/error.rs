//! Error responses with the messages and shapes of the captures.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::Value;

/// An error response of vLLM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// `{"error":{"message","type","param","code"}}`
    Error {
        /// The HTTP status, repeated as `code`.
        status: StatusCode,
        /// `type`
        kind: &'static str,
        /// `message`
        message: String,
        /// `param`
        param: Option<String>,
    },
    /// `{"detail":"…"}`, an error of the web framework.
    Detail(StatusCode, &'static str),
    /// A missing or wrong API key.
    Unauthorized,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: u16,
}

// === impl ApiError ===

impl ApiError {
    /// An invalid value: `BadRequestError`.
    pub fn bad_request(message: impl Into<String>, param: Option<&str>) -> Self {
        let param = param.map(String::from);
        Self::Error { status: StatusCode::BAD_REQUEST, kind: "BadRequestError", message: message.into(), param }
    }

    /// A value of the wrong type, rejected by the schema.
    pub fn schema(kind: &str, field: &str, message: &str, input: &str) -> Self {
        let loc = if field.is_empty() { String::from("body") } else { format!("body.{field}") };
        let line = format!("{{'type': '{kind}', 'loc': '{loc}', 'msg': '{message}', 'input': '{input}'}}");
        Self::validation(&line, Some(loc))
    }

    /// A body that is not valid JSON.
    pub fn invalid_json(position: usize, error: &str) -> Self {
        let loc = format!("body.{position}");
        let line = format!(
            "{{'type': 'json_invalid', 'loc': '{loc}', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {{'error': '{error}'}}}}"
        );
        Self::validation(&line, Some(loc))
    }

    /// A validation error with one line.
    pub fn validation(line: &str, param: Option<String>) -> Self {
        let message = format!("1 validation error:\n  {line}");
        Self::Error { status: StatusCode::BAD_REQUEST, kind: "Bad Request", message, param }
    }

    /// An unknown model. Names that look like paths are hidden.
    pub fn model_not_found(name: &str, models: &[String]) -> Self {
        let shown = if name.starts_with('/') { "<path>" } else { name };
        let message = format!("The model `{shown}` does not exist. Valid aliases: {}.", models.join(", "));
        Self::Error { status: StatusCode::NOT_FOUND, kind: "NotFoundError", message, param: Some("model".into()) }
    }

    /// The response to a `status=N` fault.
    pub fn injected(status: StatusCode) -> Self {
        let kind = if status.is_client_error() { "BadRequestError" } else { "InternalServerError" };
        let message = format!("The stand-in is configured to return {status}.");
        Self::Error { status, kind, message, param: None }
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Error { status, .. } | Self::Detail(status, _) => *status,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
        }
    }

    /// Returns the body, byte for byte as vLLM writes it.
    pub fn body(&self) -> Bytes {
        match self {
            Self::Error { status, kind, message, param } => {
                let error = Inner { message, kind, param: param.as_deref(), code: status.as_u16() };
                serde_json::to_vec(&Envelope { error }).unwrap_or_default().into()
            }
            Self::Detail(_, text) => format!(r#"{{"detail":"{text}"}}"#).into(),
            Self::Unauthorized => Bytes::from_static(br#"{"error":"Unauthorized"}"#),
        }
    }
}

/// Formats a value as the schema's messages do.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("<list of {} items>", items.len()),
        Value::Object(fields) => format!("<dict of {} items>", fields.len()),
    }
}
