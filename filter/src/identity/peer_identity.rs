//! The verified identity of whoever is at the other end of the connection.
//!
//! Hosts tell the certificate that a peer *presented*. Whether its chain was *verified* Envoy tells since 1.39, but not of a
//! resumed TLS session, of which it says no although the session began with a verified certificate. So certificates that were
//! seen verified are remembered, by their digests and until they end, and count again: to resume a session, or to begin another
//! with the same certificate, takes the same private key.

use std::collections::HashMap;

use crate::clock::Time;
use crate::identity::certificate;
use crate::store::Store;

/// What the host tells of the peer.
pub trait Peer {
    /// The peer's principal as a mesh knows it, where the connection ends in front of this proxy (Istio's waypoints).
    fn principal(&self) -> Option<Vec<u8>>;
    /// SHA-256 of the certificate that was presented, in hex.
    fn digest(&self) -> Option<Vec<u8>>;
    /// Whether the certificate was verified in this session's own handshake; `None` from hosts that do not tell. Those refuse
    /// certificates that they cannot verify, unless they are told to accept them.
    fn is_verified(&self) -> Option<bool>;
    /// The certificate in PEM.
    fn certificate(&self) -> Option<Vec<u8>>;
    /// The first URI among its alternative names.
    fn uri(&self) -> Option<Vec<u8>>;
}

/// Certificates that were seen verified, and when they end, in seconds since 1970.
#[derive(Debug, Default)]
pub struct VerifiedCertificates {
    /// What this instance has seen or read.
    known: HashMap<Digest, u64>,
}

/// The first half of a certificate's SHA-256, in hex.
type Digest = [u8; 32];

/// The key of the list that all instances share.
const KEY: &str = "pai/1/peers";
/// Certificates in the shared list; the oldest goes first.
const MAX_SHARED: usize = 512;
/// Certificates that one instance remembers. Past that it begins again.
const MAX_LOCAL: usize = 4096;
/// Races that a write may lose before the certificate is left to be seen again.
const MAX_RACES: u32 = 16;
/// Bytes of one entry of the shared list.
const ENTRY_BYTES: usize = size_of::<Digest>() + 8;

// === impl VerifiedCertificates ===

impl VerifiedCertificates {
    /// The identity of the peer at the moment `now`, if it is verified.
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
    /// It ends on 2031-02-03.
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
        assert!(verified.identity(&certificate(3, None), &store, NOW).is_some(), "a host that does not tell");
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
        assert_eq!(verified.identity(&certificate(2, Some(false)), &store, NOW), None, "nobody knows when it ends");
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
