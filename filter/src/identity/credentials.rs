//! The credentials of a request: access keys in its headers, and the identity of its peer.

use crate::http::headers::Headers;
use crate::http::route::Readers;
use crate::identity::access_key::KEY_PREFIX;

/// The credentials of a request.
pub struct Credentials<'a> {
    /// The request headers.
    pub headers: &'a Headers<'a>,
    /// Returns the verified identity of the peer. It is called only where that identity matters.
    pub peer: &'a dyn Fn() -> Option<Vec<u8>>,
    /// Who may read the endpoint that the request is for, where it is one under `/pai/v1/`.
    pub readers: Option<Readers>,
}

/// The access keys that a request presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PresentedKeys<'a> {
    None,
    One(&'a [u8]),
    /// Two or more different keys.
    Several,
}

/// Headers in which clients send an access key.
const KEY_HEADERS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

// === impl Credentials ===

impl<'a> Credentials<'a> {
    /// Returns the access keys in the headers. Values that are not access keys, such as a key for another server, are ignored.
    pub(super) fn presented_keys(&self) -> PresentedKeys<'a> {
        let mut presented = PresentedKeys::None;
        for value in KEY_HEADERS.iter().flat_map(|name| self.headers.all(name)) {
            // Hosts join the values of repeated headers with commas.
            for key in value.split(|&b| b == b',').map(without_scheme).filter(|key| key.starts_with(KEY_PREFIX)) {
                presented = match presented {
                    PresentedKeys::None => PresentedKeys::One(key),
                    PresentedKeys::One(other) if other == key => presented,
                    PresentedKeys::One(_) | PresentedKeys::Several => return PresentedKeys::Several,
                };
            }
        }
        presented
    }

    /// Returns the workload identity: the value of the trusted `header` if the request has it, otherwise that of the peer.
    pub(super) fn workload_identity(&self, header: Option<&str>) -> Option<String> {
        // Hosts and proxies join the values of repeated headers with commas.
        let values = header.into_iter().flat_map(|name| self.headers.all(name)).flat_map(|value| value.split(|&b| b == b','));
        let mut values = values.map(<[u8]>::trim_ascii);
        let identity = match values.next() {
            // Different values cannot all be the trusted proxy's: one may be the client's.
            Some(first) => values.all(|value| value == first).then(|| first.to_vec()),
            None => (self.peer)(),
        };
        let identity = String::from_utf8(identity?).ok()?;
        (!identity.is_empty()).then_some(identity)
    }
}

/// Returns what follows the scheme `Bearer`; the whole value if there is no such scheme.
fn without_scheme(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") || scheme.eq_ignore_ascii_case(b"bearer\t") => {
            rest.trim_ascii()
        }
        _ => value,
    }
}
