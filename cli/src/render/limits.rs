//! The sizes of Envoy's buffers, which have to hold a whole body.

use serde::Serialize;

/// What a request has beside its body.
const BESIDE_BODY: u64 = 64 * 1024;
/// The largest flow-control window of HTTP/2.
const LARGEST_WINDOW: u64 = (1 << 31) - 1;

/// The sizes of Envoy's buffers.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Limits {
    /// The buffer of a connection, a stream and a request, in bytes.
    buffer: u64,
    /// The HTTP/2 flow-control window of a connection, in bytes.
    connection: u64,
}

// === impl Limits ===

impl Limits {
    /// Returns the sizes for bodies of this size.
    pub(super) fn new(max_request_bytes: u64) -> Self {
        let buffer = max_request_bytes.saturating_add(BESIDE_BODY).min(LARGEST_WINDOW);
        Self { buffer, connection: buffer.saturating_mul(2).min(LARGEST_WINDOW) }
    }
}
