//! The verified identity of the peer of a connection.
//!
//! Hosts report the certificate that a peer *presented*. Envoy reports since 1.39 whether its chain was *verified*, but answers no
//! for a resumed TLS session although that session started with a verified certificate. So the digests of verified certificates are
//! stored until the certificates expire, and such a certificate counts as verified again. Resuming a session, or starting another
//! with the same certificate, requires the same private key.

use std::collections::HashMap;

use crate::clock::Time;
use crate::identity::certificate;
use crate::store::Store;

/// What the host reports about the peer.
pub trait Peer {
    /// Returns the peer's principal as a mesh reports it, where TLS terminates in front of this proxy (Istio's waypoints).
    fn principal(&self) -> Option<Vec<u8>>;
    /// Returns the SHA-256 of the presented certificate, in hex.
    fn digest(&self) -> Option<Vec<u8>>;
    /// Returns whether the certificate was verified in the handshake of this session; `None` if the host does not report it. Such
    /// hosts reject unverified certificates, unless they are configured to accept them.
    fn is_verified(&self) -> Option<bool>;
    /// Returns the certificate in PEM.
    fn certificate(&self) -> Option<Vec<u8>>;
    /// Returns the first URI among the certificate's alternative names.
    fn uri(&self) -> Option<Vec<u8>>;
}

/// Certificates that were seen verified, with their expiry in seconds since 1970.
#[derive(Debug, Default)]
pub struct VerifiedCertificates {
    /// The certificates that this worker has seen, or read from the shared list.
    known: HashMap<Digest, u64>,
}

/// The first half of a certificate's SHA-256, in hex.
type Digest = [u8; 32];

/// The shared-data key of the list that all workers share.
const KEY: &str = "pai/1/peers";
/// The maximum length of the shared list. The oldest certificate is dropped first.
const MAX_SHARED: usize = 512;
/// The maximum number of certificates that one worker remembers. Above it, the worker starts again with none.
const MAX_LOCAL: usize = 4096;
/// The number of lost races after which a write is given up. The certificate is stored when it is seen again.
const MAX_RACES: u32 = 16;
/// The length of one entry of the shared list.
const ENTRY_BYTES: usize = size_of::<Digest>() + 8;

// === impl VerifiedCertificates ===

impl VerifiedCertificates {
    /// Returns the identity of the peer at the time `now`, if it is verified.
    pub fn identity(&mut self, peer: &dyn Peer, store: &dyn Store, now: Time) -> Option<Vec<u8>> {
        if let Some(principal) = peer.principal().filter(|principal| !principal.is_empty()) {
            return Some(principal);
        }
        let digest = *peer.digest()?.first_chunk()?;
        if self.is_verified(digest, peer, store, now) { peer.uri() } else { None }
    }

    fn is_verified(&mut self, digest: Digest, peer: &dyn Peer, store: &dyn Store, now: Time) -> bool {
        if self.known.get(&digest).is_some_and(|end| now.seconds() < *end) {
            return true;
        }
        let end = match peer.is_verified() {
            None => return true,
            Some(true) => {
                let Some(end) = peer.certificate().and_then(|pem| certificate::not_after(&pem)) else { return true };
                store_shared(digest, end, store);
                end
            }
            Some(false) => match load_shared(store).into_iter().find(|(known, _)| *known == digest) {
                Some((_, end)) if now.seconds() < end => end,
                _ => return false,
            },
        };
        if self.known.len() >= MAX_LOCAL {
            self.known.clear();
        }
        self.known.insert(digest, end);
        true
    }
}

fn load_shared(store: &dyn Store) -> Vec<(Digest, u64)> {
    decode(&store.get(KEY).0.unwrap_or_default())
}

fn decode(bytes: &[u8]) -> Vec<(Digest, u64)> {
    let entry = |bytes: &[u8]| {
        let (digest, end) = bytes.split_first_chunk()?;
        Some((*digest, u64::from_le_bytes(end.try_into().ok()?)))
    };
    bytes.chunks_exact(ENTRY_BYTES).filter_map(entry).collect()
}

fn store_shared(digest: Digest, end: u64, store: &dyn Store) {
    for _ in 0..MAX_RACES {
        let (bytes, version) = store.get(KEY);
        let mut bytes = bytes.unwrap_or_default();
        if decode(&bytes).iter().any(|(known, _)| *known == digest) {
            return;
        }
        bytes.extend_from_slice(&digest);
        bytes.extend_from_slice(&end.to_le_bytes());
        let surplus = bytes.len().saturating_sub(MAX_SHARED * ENTRY_BYTES);
        if store.set(KEY, &bytes.split_off(surplus), version) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: Time = Time(1_800_000_000_000_000_000);
    /// It expires on 2031-02-03.
    const PEM: &str = certificate::tests::UTC;

    #[derive(Default)]
    struct Seen {
        principal: Option<&'static str>,
        digest: Option<String>,
        verified: Option<bool>,
        certificate: Option<&'static str>,
    }

    impl Peer for Seen {
        fn principal(&self) -> Option<Vec<u8>> {
            self.principal.map(Into::into)
        }
        fn digest(&self) -> Option<Vec<u8>> {
            self.digest.clone().map(Into::into)
        }
        fn is_verified(&self) -> Option<bool> {
            self.verified
        }
        fn certificate(&self) -> Option<Vec<u8>> {
            self.certificate.map(Into::into)
        }
        fn uri(&self) -> Option<Vec<u8>> {
            Some(b"spiffe://td/a".to_vec())
        }
    }

    fn certificate(number: usize, verified: Option<bool>) -> Seen {
        Seen { digest: Some(format!("{number:064x}").chars().rev().collect()), verified, certificate: Some(PEM), ..Seen::default() }
    }

    #[test]
    fn what_is_only_presented_is_no_identity() {
        let (store, mut verified) = (Memory::default(), VerifiedCertificates::default());
        assert_eq!(verified.identity(&Seen::default(), &store, NOW), None, "no certificate");
        assert_eq!(verified.identity(&certificate(1, Some(false)), &store, NOW), None);
        assert!(verified.identity(&certificate(1, Some(true)), &store, NOW).is_some());
        assert_eq!(verified.identity(&certificate(2, Some(false)), &store, NOW), None, "another certificate of the same name");
        assert!(verified.identity(&certificate(3, None), &store, NOW).is_some(), "a host that does not report it");
        let waypoint = Seen { principal: Some("spiffe://td/b"), ..certificate(2, Some(false)) };
        assert_eq!(verified.identity(&waypoint, &store, NOW), Some(b"spiffe://td/b".to_vec()));
    }

    #[test]
    fn a_resumed_session_counts_for_every_worker() {
        let (store, mut one, mut other) = (Memory::default(), VerifiedCertificates::default(), VerifiedCertificates::default());
        assert!(one.identity(&certificate(1, Some(true)), &store, NOW).is_some());
        for worker in [&mut one, &mut other] {
            assert!(worker.identity(&certificate(1, Some(false)), &store, NOW).is_some());
            assert_eq!(worker.identity(&certificate(2, Some(false)), &store, NOW), None);
        }
    }

    #[test]
    fn a_certificate_that_has_ended_counts_only_where_the_handshake_verified_it() {
        let (store, mut verified, mut other) =
            (Memory::default(), VerifiedCertificates::default(), VerifiedCertificates::default());
        let ended = Time(2_000_000_000_000_000_000);
        assert!(verified.identity(&certificate(1, Some(true)), &store, NOW).is_some());
        for verified in [&mut verified, &mut other] {
            assert!(verified.identity(&certificate(1, Some(false)), &store, NOW).is_some());
            assert_eq!(verified.identity(&certificate(1, Some(false)), &store, ended), None);
            assert!(verified.identity(&certificate(1, Some(true)), &store, ended).is_some(), "a connection that goes on");
        }
        let unreadable = Seen { certificate: Some("rubbish"), ..certificate(2, Some(true)) };
        assert!(verified.identity(&unreadable, &store, NOW).is_some());
        assert_eq!(verified.identity(&certificate(2, Some(false)), &store, NOW), None, "its end is not known");
    }

    #[test]
    fn memory_is_bounded() {
        let (store, mut verified) = (Memory::default(), VerifiedCertificates::default());
        for number in 0..MAX_LOCAL + 10 {
            assert!(verified.identity(&certificate(number, Some(true)), &store, NOW).is_some());
        }
        assert!(verified.known.len() <= MAX_LOCAL);
        assert_eq!(load_shared(&store).len(), MAX_SHARED);
        let mut other = VerifiedCertificates::default();
        assert!(other.identity(&certificate(MAX_LOCAL + 9, Some(false)), &store, NOW).is_some(), "the youngest are kept");
        assert_eq!(other.identity(&certificate(0, Some(false)), &store, NOW), None);
    }
}
