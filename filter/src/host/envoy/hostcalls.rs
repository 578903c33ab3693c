//! The calls into Envoy for one stream, and the only unsafe code of the adapter.
//!
//! The SDK's wrappers end the VM on any status that they do not expect, and with it every request of the worker. Where a status depends on
//! what a client or a provider did, the host is called directly and a failure is counted.
#![expect(unsafe_code, reason = "host calls")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, StreamType};

use crate::clock::{Clock, Time};
use crate::exchange::environment::Environment;
use crate::exchange::step::CalloutRequest;
use crate::exchange::worker::Worker;
use crate::host::io::{Attribute, Body, HeaderMap, Io};
use crate::http::headers::{HeaderEdit, Headers};
use crate::http::refusal::Reply;
use crate::identity::peer_identity::Peer;
use crate::metrics;

thread_local! {
    static STARTED: Instant = Instant::now();
}

/// Envoy, as the worker of this VM sees it. Its calls concern the context of the callback that is running.
#[derive(Clone)]
pub(super) struct Envoy {
    worker: Rc<RefCell<Worker>>,
}

// === impl Envoy ===

impl Envoy {
    pub(super) fn new(worker: Rc<RefCell<Worker>>) -> Self {
        Self { worker }
    }

    /// Counts a call that Envoy has refused.
    fn expect_ok(&self, status: u32, kind: &'static str) {
        if status != abi::OK {
            metrics::filter_error(self, kind);
        }
    }
}

impl Io for Envoy {
    type Bytes = Vec<u8>;

    fn environment(&self) -> Environment<'_> {
        Environment::new(self, self, self, &self.worker)
    }

    fn headers<T>(&self, of: HeaderMap, read: impl FnOnce(&Headers<'_>) -> T) -> T {
        let (mut data, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: the host writes a pointer to memory that it got from this module's allocator, or leaves the null.
        let status = unsafe { abi::proxy_get_header_map_pairs(map_type(of) as u32, &raw mut data, &raw mut size) };
        let bytes = if status == abi::OK && !data.is_null() {
            // SAFETY: as above; `size` bytes were allocated and are now this vector's.
            unsafe { Vec::from_raw_parts(data, size, size) }
        } else {
            Vec::new()
        };
        read(&Headers(pairs(&bytes).unwrap_or_default()))
    }

    fn edit_headers(&self, of: HeaderMap, edits: &[HeaderEdit]) {
        let map = map_type(of) as u32;
        for edit in edits {
            // SAFETY: the pointers are of live slices with their lengths.
            let status = match edit {
                HeaderEdit::Remove(name) => unsafe { abi::proxy_remove_header_map_value(map, name.as_ptr(), name.len()) },
                HeaderEdit::Set(name, value) => unsafe {
                    abi::proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
                },
            };
            self.expect_ok(status, "headers");
        }
    }

    fn body(&self, of: Body, length: usize) -> Vec<u8> {
        if length == 0 {
            return Vec::new();
        }
        hostcalls::get_buffer(buffer_type(of), 0, length).ok().flatten().unwrap_or_default()
    }

    fn replace_body(&self, of: Body, length: usize, bytes: &[u8]) {
        // SAFETY: the pointer is of a live slice with its length.
        let status = unsafe { abi::proxy_set_buffer_bytes(buffer_type(of) as u32, 0, length, bytes.as_ptr(), bytes.len()) };
        self.expect_ok(status, "body");
    }

    fn reply(&self, reply: &Reply) {
        let headers = reply.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        if hostcalls::send_http_response(u32::from(reply.status), headers, Some(&reply.body)).is_err() {
            metrics::filter_error(self, "reply");
        }
    }

    fn resume_request(&self) {
        // SAFETY: a call without pointers.
        let status = unsafe { abi::proxy_continue_stream(StreamType::HttpRequest as u32) };
        self.expect_ok(status, "resume");
    }

    fn set_filter_state(&self, name: &str, value: &[u8]) {
        // SAFETY: the pointers are of live slices with their lengths.
        let status = unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
        self.expect_ok(status, "filter_state");
    }

    fn attribute(&self, attribute: Attribute) -> Option<Vec<u8>> {
        match attribute {
            Attribute::ResponseDetails => property(&["response", "code_details"]),
            Attribute::UpstreamLocalAddress => property(&["upstream", "local_address"]),
            Attribute::ClusterProvider => property(&["xds", "cluster_metadata", "filter_metadata", "pai", "provider"]),
            Attribute::ExchangeToken => property(&["filter_state", "wasm.pai.exchange"]),
            Attribute::ListenerControl => property(&["xds", "listener_metadata", "filter_metadata", "pai", "control"]),
            Attribute::HostVersion => {
                let part = |part| property(&["xds", "node", "user_agent_build_version", "version", part]);
                Some([part("major_number")?, part("minor_number")?].concat())
            }
        }
    }

    fn send_callout(&self, callout: &CalloutRequest) -> Option<u32> {
        let mut headers = vec![(":method", callout.method), (":path", &*callout.path), (":authority", &*callout.authority)];
        if let Some(credential) = &callout.credential {
            headers.push(("authorization", credential.expose()));
        }
        let body = (!callout.body.is_empty()).then_some(&*callout.body);
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        hostcalls::dispatch_http_call(&callout.cluster, headers, body, vec![], callout.timeout).ok()
    }

    fn enter_stream(&self, stream: u32) -> bool {
        hostcalls::set_effective_context(stream).is_ok()
    }

    fn uptime(&self) -> Duration {
        let uptime = STARTED.with(Instant::elapsed);
        #[cfg(feature = "test-hooks")]
        let uptime = super::hooks::hasten(uptime);
        uptime
    }
}

impl Clock for Envoy {
    fn now(&self) -> Time {
        let now = hostcalls::get_current_time().ok().and_then(|now| now.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        #[cfg(feature = "test-hooks")]
        let now = super::hooks::shift(now);
        Time(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Peer for Envoy {
    fn principal(&self) -> Option<Vec<u8>> {
        property(&["filter_state", "io.istio.peer_principal"])
    }

    fn digest(&self) -> Option<Vec<u8>> {
        property(&["connection", "sha256_peer_certificate_digest"])
    }

    fn is_verified(&self) -> Option<bool> {
        property(&["connection", "peer_certificate_valid"]).map(|value| value == [1])
    }

    fn certificate(&self) -> Option<Vec<u8>> {
        property(&["connection", "peer_certificate"])
    }

    fn uri(&self) -> Option<Vec<u8>> {
        property(&["connection", "uri_san_peer_certificate"])
    }
}

/// Reads a property.
pub(super) fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

fn map_type(of: HeaderMap) -> MapType {
    match of {
        HeaderMap::Request => MapType::HttpRequestHeaders,
        HeaderMap::RequestTrailers => MapType::HttpRequestTrailers,
        HeaderMap::Response => MapType::HttpResponseHeaders,
        HeaderMap::Callout => MapType::HttpCallResponseHeaders,
    }
}

fn buffer_type(of: Body) -> BufferType {
    match of {
        Body::Request => BufferType::HttpRequestBody,
        Body::Response => BufferType::HttpResponseBody,
        Body::Callout => BufferType::HttpCallResponseBody,
    }
}

/// Parses the host's form of a header map: the count, the lengths of all names and values, then those, each with a NUL.
fn pairs(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (count, mut lengths) = word(bytes)?;
    let mut text = lengths.get(count.checked_mul(8)?..)?;
    let mut pairs = Vec::with_capacity(count);
    let mut next = || {
        let (length, rest) = word(lengths)?;
        lengths = rest;
        let (value, rest) = text.split_at_checked(length)?;
        text = rest.get(1..)?;
        Some(value)
    };
    for _ in 0..count {
        pairs.push((next()?, next()?));
    }
    Some(pairs)
}

fn word(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*word)).ok()?, rest))
}

/// Host calls of the proxy-wasm ABI 0.2.1 whose every status is handled here.
mod abi {
    pub const OK: u32 = 0;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
        pub fn proxy_set_buffer_bytes(buffer: u32, start: usize, length: usize, data: *const u8, size: usize) -> u32;
        pub fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
        pub fn proxy_continue_stream(stream: u32) -> u32;
    }
}
