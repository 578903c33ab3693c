//! Ways to get past a model list, a cap or a budget: each row of these tables is something that a caller or a provider may
//! send, the answer that it is to get, and what it is to cost. All of them are run in a real Envoy, against a provider that
//! remembers what reached it.
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
