//! The headers that the filter strips: from requests before a provider sees them, and from responses before a client does.

use std::borrow::Cow;

use super::headers::{HeaderEdit, Headers};

/// Request headers that no provider receives: credentials, the caller's identity, and headers that would move cost past the checks
/// of the filter. `docs/security.md` gives the reason for each.
const STRIPPED_REQUEST_HEADERS: [&str; 25] = [
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "proxy-authorization",
    "x-forwarded-client-cert",
    "openai-organization",
    "openai-project",
    "x-vllm-priority",
    "x-data-parallel-rank",
    "x-session-id",
    "endpoint-load-metrics-format",
    "accept-encoding",
    // The provider would apply rules of its own to web pages.
    "origin",
    // Envoy's router would apply these: each retried or hedged request is generated and paid for.
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-stream-duration-ms",
    "x-envoy-upstream-alt-stat-name",
];

/// Prefixes of the names of request headers that no provider receives.
const STRIPPED_REQUEST_PREFIXES: [&str; 2] = ["x-pai-", "x-amzn-sagemaker-"];

/// Response headers of a provider that no client receives. `x-envoy-ratelimited` is among them because an attempt sets it to keep
/// Envoy from retrying.
const STRIPPED_RESPONSE_HEADERS: [&str; 3] = ["openai-organization", "set-cookie", "x-envoy-ratelimited"];

/// Prefixes of the names of response headers that no client receives from a provider.
const STRIPPED_RESPONSE_PREFIXES: [&str; 3] = ["x-ratelimit-", "x-pai-", "access-control-"];

/// Returns whether no provider receives a request header of this name.
pub fn is_stripped_request_header(name: &str) -> bool {
    STRIPPED_REQUEST_HEADERS.contains(&name) || STRIPPED_REQUEST_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl Headers<'_> {
    /// Returns the edits that strip a request's headers or trailers. `identity_header` is stripped too.
    pub fn strip_request_headers(&self, identity_header: Option<&str>) -> Vec<HeaderEdit> {
        let mut edits = self.removals(&STRIPPED_REQUEST_HEADERS, &STRIPPED_REQUEST_PREFIXES);
        if let Some(name) = identity_header.filter(|name| self.get(name).is_some()) {
            edits.push(HeaderEdit::Remove(Cow::Owned(name.to_owned())));
        }
        edits
    }

    /// Returns the edits that strip a provider's response headers.
    pub fn strip_response_headers(&self) -> Vec<HeaderEdit> {
        self.removals(&STRIPPED_RESPONSE_HEADERS, &STRIPPED_RESPONSE_PREFIXES)
    }

    fn removals(&self, names: &[&'static str], prefixes: &[&str]) -> Vec<HeaderEdit> {
        let mut edits: Vec<HeaderEdit> = Vec::new();
        for (key, _) in &self.0 {
            let edit = match names.iter().find(|name| name.as_bytes() == *key) {
                Some(name) => HeaderEdit::Remove(Cow::Borrowed(name)),
                None if prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes())) => {
                    HeaderEdit::Remove(Cow::Owned(String::from_utf8_lossy(key).into_owned()))
                }
                None => continue,
            };
            if !edits.contains(&edit) {
                edits.push(edit);
            }
        }
        edits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn what_providers_must_not_see_goes() {
        let headers = Headers(vec![
            (b":path", b"/"),
            (b"authorization", b"Bearer x"),
            (b"authorization", b"Bearer y"),
            (b"x-pai-provider", b"other"),
            (b"x-amzn-sagemaker-adapter-identifier", b"a"),
            (b"x-request-id", b"1"),
            (b"accept-encoding", b"gzip"),
        ]);
        let names: Vec<_> = headers.strip_request_headers(None).into_iter().map(|edit| format!("{edit:?}")).collect();
        assert_eq!(
            names,
            [
                "Remove(\"authorization\")",
                "Remove(\"x-pai-provider\")",
                "Remove(\"x-amzn-sagemaker-adapter-identifier\")",
                "Remove(\"accept-encoding\")"
            ]
        );
    }
}
