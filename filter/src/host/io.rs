//! What a driver asks of its host: the calls for one stream, and what outlives it.
//!
//! A host implements [`Io`] once. [`Stream`](super::stream::Stream), [`Attempt`](super::attempt::Attempt) and
//! [`Root`](super::root::Root) are written over it, so that the order of calls is tested without a host. A driver borrows no exchange
//! while it calls a method that may call back ([`Io::reply`], [`Io::resume_request`], [`Io::send_callout`]).

use std::time::Duration;

use crate::exchange::environment::Environment;
use crate::exchange::step::CalloutRequest;
use crate::http::headers::{HeaderEdit, Headers};
use crate::http::refusal::Reply;
use crate::identity::peer_identity::Peer;

/// The host, as one callback sees it.
pub trait Io: Peer {
    /// A part of a body. It is lent where the host can lend it.
    type Bytes: AsRef<[u8]>;

    /// Returns the clock, the shared data, the metrics and this worker's own state.
    fn environment(&self) -> Environment<'_>;

    /// Reads the headers (or trailers) of a message.
    fn headers<T>(&self, of: HeaderMap, read: impl FnOnce(&Headers<'_>) -> T) -> T;

    /// Edits the headers (or trailers) of a message.
    fn edit_headers(&self, of: HeaderMap, edits: &[HeaderEdit]);

    /// Returns at most the first `length` bytes of what the host holds of a body.
    fn body(&self, of: Body, length: usize) -> Self::Bytes;

    /// Replaces the first `length` bytes of what the host holds of a body.
    fn replace_body(&self, of: Body, length: usize, bytes: &[u8]);

    /// Answers the stream in place of the provider.
    fn reply(&self, reply: &Reply);

    /// Resumes a request that was paused.
    fn resume_request(&self);

    /// Sets the filter state `wasm.<name>` of the stream, for access logs.
    fn set_filter_state(&self, name: &str, value: &[u8]);

    /// Reads an attribute of the stream, of its connection or of the host.
    fn attribute(&self, attribute: Attribute) -> Option<Vec<u8>>;

    /// Sends a request of the filter's own; its answer arrives in the context that sent it. Returns its token, `None` where the host does
    /// not send it (an unknown cluster, for instance).
    fn send_callout(&self, callout: &CalloutRequest) -> Option<u32>;

    /// Makes the following calls concern the stream of this number. Returns `false` where there is none any more.
    fn enter_stream(&self, stream: u32) -> bool;

    /// Returns the time since this worker began, by a clock that never goes backwards.
    fn uptime(&self) -> Duration;
}

/// Headers and trailers that a driver reads or edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderMap {
    /// The request's headers.
    Request,
    /// The request's trailers.
    RequestTrailers,
    /// The response's headers.
    Response,
    /// The headers of the answer to a callout.
    Callout,
}

/// Bodies that a driver reads or replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The request's.
    Request,
    /// The response's.
    Response,
    /// That of the answer to a callout.
    Callout,
}

/// Attributes that a driver reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// Who made the response: `via_upstream`, or why the host did.
    ResponseDetails,
    /// The host's address on its connection to the provider; absent where none was made.
    UpstreamLocalAddress,
    /// The provider that the metadata of this attempt's cluster name.
    ClusterProvider,
    /// The filter state in which the gate leaves its token for attempt filters.
    ExchangeToken,
    /// Whether the listener is a control listener: `true` in its metadata, which no request can set. Envoy reports it to streams only,
    /// as listeners share a root.
    ListenerControl,
    /// The host's version, as two little-endian 64-bit words: major, minor.
    HostVersion,
}

/// Whether the host lets a message go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It holds the message until more of it has come, or until it is resumed or answered.
    Pause,
}
