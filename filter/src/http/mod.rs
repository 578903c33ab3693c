//! HTTP: headers, routes, refusals, event streams, and what the filter answers by itself.

pub mod api;
pub mod headers;
pub mod refusal;
pub mod route;
pub mod sse;
