//! HTTP: headers, routes, refusals, event streams, and the endpoints that the filter serves itself.

pub mod api;
pub mod cors;
pub mod headers;
pub mod refusal;
pub mod route;
pub mod sse;
pub mod stripped_headers;
