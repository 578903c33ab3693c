//! Attempts to bypass a model list, a cap or a budget. Each row is something that a caller or a provider may send, the expected
//! response, and the expected charge. All rows run in a real Envoy, against a provider that records the requests that reach it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bodies;
mod callers;
mod caps;
mod documentation;
mod fields;
mod framing;
mod headers;
mod http1;
mod http2;
mod models;
mod paths;
mod providers;
mod row;
mod table;
