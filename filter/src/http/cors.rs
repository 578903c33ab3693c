//! CORS: what browsers need to let a web page read answers.
//!
//! Credentials are never allowed (`access-control-allow-credentials`): an access key is a header that a page sets itself.

use crate::http::headers::Headers;
use crate::http::refusal::Reply;
use crate::http::route::Route;
use crate::policy::Cors;

/// The headers that pages may read.
const EXPOSED: &str = "x-request-id, retry-after, x-should-retry, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, \
                       x-ratelimit-reset-tokens, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
                       x-pai-provider, x-pai-model, x-pai-max-tokens, x-pai-limited-by";

/// The longest list of headers that a preflight may ask for, in bytes.
const MAX_REQUESTED_BYTES: usize = 2048;

/// Returns the headers of every answer to a request with these headers.
pub fn answer_headers(cors: &Cors, request: &Headers<'_>) -> Vec<(&'static str, String)> {
    let mut headers = vec![("vary", "Origin".to_owned())];
    if let Some(origin) = allowed_origin(cors, request) {
        headers.push(("access-control-allow-origin", origin));
        headers.push(("access-control-expose-headers", EXPOSED.to_owned()));
    }
    headers
}

/// Answers a preflight of a served path from an allowed origin. [`answer_headers`] come in addition. Returns `None` for other requests.
pub fn preflight(cors: &Cors, request: &Headers<'_>) -> Option<Reply> {
    let path = request.get(":path").unwrap_or_default();
    let is_served = || [b"GET".as_slice(), b"POST"].iter().any(|method| Route::parse(method, path).is_some());
    let is_preflight =
        request.get(":method") == Some(b"OPTIONS") && request.get("access-control-request-method").is_some() && is_served();
    if !is_preflight {
        return None;
    }
    allowed_origin(cors, request)?;
    let mut reply = Reply::empty(204);
    reply.headers.push(("access-control-allow-methods", "GET, POST".to_owned()));
    if let Some(headers) = cors.headers.as_deref().map(str::to_owned).or_else(|| requested_headers(request)) {
        reply.headers.push(("access-control-allow-headers", headers));
    }
    reply.headers.push(("access-control-max-age", cors.max_age.to_string()));
    Some(reply)
}

/// Returns `vary` of a provider's answer, with the origin added.
pub fn vary(answer: &Headers<'_>) -> String {
    let mut names: Vec<String> = answer.all("vary").filter_map(header_list).collect();
    names.push("Origin".to_owned());
    names.join(", ")
}

fn allowed_origin(cors: &Cors, request: &Headers<'_>) -> Option<String> {
    let mut origins = request.all("origin");
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    cors.allow(origin)
}

fn requested_headers(request: &Headers<'_>) -> Option<String> {
    let names: Vec<String> = request.all("access-control-request-headers").map(header_list).collect::<Option<_>>()?;
    let names = names.join(", ");
    (!names.is_empty() && names.len() <= MAX_REQUESTED_BYTES).then_some(names)
}

/// Returns a list of header names, if it is nothing else: what a message contains becomes a header value only after a check.
fn header_list(value: &[u8]) -> Option<String> {
    let is_listed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(byte);
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    (!text.is_empty() && text.bytes().all(|byte| is_listed(&byte))).then(|| text.to_owned())
}
