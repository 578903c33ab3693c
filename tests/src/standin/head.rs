//! Response heads as uvicorn sends them.

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, SERVER, VARY};
use hyper::{Response, StatusCode};

use super::Fault;
use super::response_body::ResponseBody;

/// The media type of a JSON response.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of a stream.
pub(super) const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
/// The header that `--enable-request-id-headers` echoes.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Builds the head of a response; `echo_id` is the request id to return.
pub(super) fn response(
    status: StatusCode,
    content_type: HeaderValue,
    fault: &Fault,
    echo_id: Option<HeaderValue>,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("uvicorn"));
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if fault.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(id) = echo_id {
        headers.insert(REQUEST_ID, id);
    }
    headers.extend(fault.headers.iter().map(|(name, value)| (Some(name.clone()), value.clone())));
    response
}
