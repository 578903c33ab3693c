//! Request and response headers as the host gives them: bytes, in their order.

use std::borrow::Cow;

/// Headers of one message. Names are in lower case.
#[derive(Debug, Clone, Default)]
pub struct Headers<'a>(pub Vec<(&'a [u8], &'a [u8])>);

/// A change to the headers of a message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    /// The header goes, however often it is there.
    Remove(Cow<'static, str>),
    /// The header has this value and no other.
    Set(&'static str, Cow<'static, str>),
}

/// Headers that no provider gets: credentials, who the caller is, and what would move cost past the gate
/// (`docs/security.md` has the reason of each).
const STRIPPED_REQUEST_HEADERS: [&str; 24] = [
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
    // Envoy's router would obey these: each try, and each hedged request, is generated and paid for.
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

/// Whether no provider gets a header of this name.
pub fn is_stripped_request_header(name: &str) -> bool {
    STRIPPED_REQUEST_HEADERS.contains(&name) || STRIPPED_REQUEST_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Prefixes of names that no provider gets.
const STRIPPED_REQUEST_PREFIXES: [&str; 2] = ["x-pai-", "x-amzn-sagemaker-"];

/// Headers of a provider that no client gets, and the one by which an attempt keeps Envoy from trying again.
const STRIPPED_RESPONSE_HEADERS: [&str; 3] = ["openai-organization", "set-cookie", "x-envoy-ratelimited"];

/// Prefixes of names that no client gets from a provider.
const STRIPPED_RESPONSE_PREFIXES: [&str; 2] = ["x-ratelimit-", "x-pai-"];

// === impl Headers ===

impl<'a> Headers<'a> {
    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Every value of a header.
    pub fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a [u8]> + 'b {
        self.0.iter().filter(move |(key, _)| *key == name.as_bytes()).map(|(_, value)| *value)
    }

    /// Edits that take away what providers must not see, `also` the header that names the caller, if there is one.
    pub fn strip_request_headers(&self, also: Option<&str>) -> Vec<HeaderEdit> {
        let mut edits = self.removals(&STRIPPED_REQUEST_HEADERS, &STRIPPED_REQUEST_PREFIXES);
        if let Some(name) = also.filter(|name| self.get(name).is_some()) {
            edits.push(HeaderEdit::Remove(Cow::Owned(name.to_owned())));
        }
        edits
    }

    /// Edits that take away what clients must not see.
    pub fn strip_response_headers(&self) -> Vec<HeaderEdit> {
        self.removals(&STRIPPED_RESPONSE_HEADERS, &STRIPPED_RESPONSE_PREFIXES)
    }

    /// Whether a body comes encoded.
    pub fn is_encoded(&self) -> bool {
        self.all("content-encoding")
            .any(|value| !value.trim_ascii().is_empty() && !value.trim_ascii().eq_ignore_ascii_case(b"identity"))
    }

    /// Whether the connection is to speak something else from here on. What comes on it then is no body, and does not end.
    pub fn is_upgrade(&self) -> bool {
        let mut options = self.all("connection").flat_map(|value| value.split(|&b| b == b','));
        self.get("upgrade").is_some() && options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    }

    /// `content-length`, if it is a number.
    pub fn content_length(&self) -> Option<u64> {
        std::str::from_utf8(self.get("content-length")?).ok()?.trim().parse().ok()
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

/// The media type of a `content-type` value in lower case, without its parameters.
pub fn media_type(value: &[u8]) -> Vec<u8> {
    without_parameters(value).trim_ascii().to_ascii_lowercase()
}

/// Whether vLLM takes a `content-type` value for JSON: it does not trim what stands before the parameters.
pub fn is_json_for_vllm(value: &[u8]) -> bool {
    without_parameters(value).eq_ignore_ascii_case(b"application/json")
}

fn without_parameters(value: &[u8]) -> &[u8] {
    value.split(|&b| b == b';').next().unwrap_or_default()
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

    #[test]
    fn encodings_and_media_types_are_told_apart() {
        let encoded = |value: &'static [u8]| Headers(vec![(b"content-encoding", value)]).is_encoded();
        assert!(encoded(b"gzip") && encoded(b"identity, gzip") && encoded(b"\xff"));
        assert!(!encoded(b"identity") && !encoded(b" Identity ") && !encoded(b""));
        let upgrades = |connection: &'static [u8]| Headers(vec![(b"connection", connection), (b"upgrade", b"x")]).is_upgrade();
        assert!(
            upgrades(b"keep-alive, Upgrade")
                && !upgrades(b"keep-alive")
                && !Headers(vec![(b"connection", b"upgrade")]).is_upgrade()
        );
        assert_eq!(media_type(b"Application/JSON ; charset=utf-8"), b"application/json");
        assert_eq!(media_type(b""), b"");
        assert!(is_json_for_vllm(b"Application/json;charset=utf-8") && !is_json_for_vllm(b"application/json ;charset=utf-8"));
    }
}
