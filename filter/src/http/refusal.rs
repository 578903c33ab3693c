//! Refusals: what the filter responds instead of a provider, in one table of status, type and code.

use crate::json::write_string;

/// A refusal, sent in OpenAI's error format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The case, which determines status, type and code.
    pub case: Case,
    /// The message for the caller: what is wrong, and what to do.
    pub message: String,
    /// The name of the field at fault.
    pub param: Option<&'static str>,
    /// `retry-after`, in seconds.
    pub retry_after: Option<u64>,
}

/// The cases, in the order in which they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// An access key is required, and is missing or invalid.
    InvalidApiKey,
    /// The path or the method is not governed.
    UnknownUrl,
    /// The caller is unknown, or may not use the endpoint.
    CallerNotAllowed,
    /// The body has a `content-encoding`.
    UnsupportedEncoding,
    /// The body is too large.
    RequestTooLarge,
    /// The body was not received in time.
    RequestTimeout,
    /// The caller has exceeded its requests per minute.
    RequestRate,
    /// The body is invalid.
    InvalidBody,
    /// No model of this name that the caller may know of.
    ModelNotFound,
    /// The caller may not use the model.
    ModelNotAllowed,
    /// The request can never fit a limit.
    ContextLengthExceeded,
    /// A guard rejected the prompt.
    PromptRejected,
    /// Requests in flight hold what is left of a budget, or a rate limit is exceeded.
    BudgetReserved,
    /// A daily budget is exhausted.
    BudgetExhausted,
    /// The ledger is unavailable.
    LedgerUnavailable,
    /// No provider responded.
    UpstreamUnavailable,
    /// No provider responded in time.
    UpstreamTimeout,
    /// The provider rejected the gateway's credential.
    UpstreamAuth,
}

/// Returns at most 256 characters of foreign text, with control characters replaced, for use in a message.
pub fn printable(text: &str) -> String {
    text.chars().take(256).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A complete response that the filter sends itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Headers, `content-type` included.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

// === impl Case ===

impl Case {
    /// Returns status, type and code, as clients see them.
    pub fn answer(self) -> (u16, &'static str, &'static str) {
        const REQUEST: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        match self {
            Self::InvalidApiKey => (401, REQUEST, "invalid_api_key"),
            Self::UnknownUrl => (404, REQUEST, "unknown_url"),
            Self::CallerNotAllowed => (403, REQUEST, "caller_not_allowed"),
            Self::UnsupportedEncoding => (415, REQUEST, "unsupported_encoding"),
            Self::RequestTooLarge => (413, REQUEST, "request_too_large"),
            Self::RequestTimeout => (408, REQUEST, "request_timeout"),
            Self::RequestRate => (429, "requests", "rate_limit_exceeded"),
            Self::InvalidBody => (400, REQUEST, "invalid_body"),
            Self::ModelNotFound => (404, REQUEST, "model_not_found"),
            Self::ModelNotAllowed => (403, REQUEST, "model_not_allowed"),
            Self::ContextLengthExceeded => (400, REQUEST, "context_length_exceeded"),
            Self::PromptRejected => (403, REQUEST, "prompt_rejected"),
            Self::BudgetReserved => (429, "tokens", "rate_limit_exceeded"),
            Self::BudgetExhausted => (429, "insufficient_quota", "insufficient_quota"),
            Self::LedgerUnavailable => (503, SERVER, "ledger_unavailable"),
            Self::UpstreamUnavailable => (503, SERVER, "upstream_unavailable"),
            Self::UpstreamTimeout => (504, SERVER, "upstream_timeout"),
            Self::UpstreamAuth => (502, SERVER, "upstream_auth"),
        }
    }

    /// Returns the code, which metrics and access logs use as the decision.
    pub fn code(self) -> &'static str {
        self.answer().2
    }
}

// === impl Refusal ===

impl Refusal {
    /// Creates a refusal that names no field.
    pub fn new(case: Case, message: impl Into<String>) -> Self {
        Self { case, message: message.into(), param: None, retry_after: None }
    }

    /// Sets the field at fault.
    pub fn about(mut self, param: Option<&'static str>) -> Self {
        self.param = param;
        self
    }

    /// Creates the refusal for a budget that requests in flight have reserved.
    pub fn budget_reserved(message: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(Case::BudgetReserved, message) }
    }

    /// Creates the refusal for a rate limit that admits the request after `wait` nanoseconds. The message starts with `why`.
    pub fn rate_exceeded(case: Case, why: &str, wait: u64) -> Self {
        let seconds = wait.div_ceil(1_000_000_000).max(1);
        Self { retry_after: Some(seconds), ..Self::new(case, format!("{why} Try again in {seconds} s.")) }
    }

    /// Creates the refusal for a ledger that is unavailable.
    pub fn ledger_unavailable() -> Self {
        Self::new(Case::LedgerUnavailable, "Token budgets cannot be checked at the moment. Try again later.")
    }

    /// Creates the refusal for a provider that rejected the gateway's own credential.
    pub fn upstream_auth(who: &str) -> Self {
        Self::new(Case::UpstreamAuth, format!("The gateway's credential was rejected by {who}. Contact the operator."))
    }

    /// Creates the refusal for a provider whose credential the proxy does not have.
    pub fn missing_credential(provider: &str) -> Self {
        let why = format!("The gateway has no credential for model provider `{provider}`. Contact the operator.");
        Self::new(Case::UpstreamAuth, why)
    }

    /// Creates the refusal that replaces a local reply of Envoy's with this status.
    pub fn from_local_reply(status: u16, provider: Option<&str>) -> Self {
        let who = provider.map_or_else(|| "the provider".to_owned(), |name| format!("model provider `{name}`"));
        let (case, why) = match status {
            408 => (Case::RequestTimeout, "The request was not received in time. Send it again.".to_owned()),
            413 => (Case::RequestTooLarge, "The request's body is too large.".to_owned()),
            504 => (Case::UpstreamTimeout, format!("No response from {who} in time. Try again later.")),
            // Envoy has no route to the provider.
            404 => (Case::UpstreamUnavailable, format!("No response from {who}. Try again later.")),
            400..500 => (Case::InvalidBody, "The request was aborted, or is not valid HTTP.".to_owned()),
            _ => (Case::UpstreamUnavailable, format!("No response from {who}. Try again later.")),
        };
        Self::new(case, why)
    }

    /// Returns the response that is sent to the client.
    pub fn reply(&self) -> Reply {
        let (status, kind, code) = self.case.answer();
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if let Some(seconds) = self.retry_after {
            headers.push(("retry-after", seconds.to_string()));
        }
        match self.case {
            // Without this header, the official clients retry at once until midnight. A `retry-after` of hours would put them to sleep.
            Case::BudgetExhausted => headers.push(("x-should-retry", "false".to_owned())),
            Case::InvalidApiKey => headers.push(("www-authenticate", "Bearer".to_owned())),
            _ => {}
        }
        let mut body = b"{\"error\":{\"message\":".to_vec();
        write_string(&mut body, &self.message);
        body.extend_from_slice(format!(",\"type\":\"{kind}\",\"param\":").as_bytes());
        match self.param {
            Some(param) => write_string(&mut body, param),
            None => body.extend_from_slice(b"null"),
        }
        body.extend_from_slice(format!(",\"code\":\"{code}\"}}}}").as_bytes());
        Reply { status, headers, body }
    }
}

// === impl Reply ===

impl Reply {
    /// Creates a response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Creates a JSON response with status 200.
    pub fn json(body: Vec<u8>) -> Self {
        Self { status: 200, headers: vec![("content-type", "application/json".to_owned())], body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_reply_is_json_whatever_the_message() {
        let refusal = Refusal::new(Case::InvalidBody, "a \"quoted\"\n\u{1} name").about(Some("model"));
        let reply = refusal.reply();
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["error"]["message"], "a \"quoted\"\n\u{1} name");
        assert_eq!(body["error"]["param"], "model");
        assert_eq!((reply.status, body["error"]["code"].as_str()), (400, Some("invalid_body")));
    }

    #[test]
    fn who_lacks_a_key_is_told_how_to_send_one() {
        let reply = Refusal::new(Case::InvalidApiKey, "no key").reply();
        assert!(reply.headers.contains(&("www-authenticate", "Bearer".to_owned())));
    }

    #[test]
    fn a_spent_budget_is_not_tried_again_before_midnight() {
        let reply = Refusal::new(Case::BudgetExhausted, "spent").reply();
        let header = |name| reply.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!((reply.status, header("retry-after"), header("x-should-retry")), (429, None, Some("false")));
        let reply = Refusal::budget_reserved("busy").reply();
        assert!(reply.headers.contains(&("retry-after", "1".to_owned())));
        assert!(reply.headers.iter().all(|(name, _)| *name != "x-should-retry"));
    }
}
