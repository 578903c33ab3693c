//! The verified identity of whoever is at the other end of the connection.
//!
//! Hosts tell the certificate that a peer *presented*. Whether its chain was *verified* Envoy tells since 1.39, but not of a
//! resumed TLS session, of which it says no although the session began with a verified certificate. So certificates that were
//! seen verified are remembered, by their digests, and count again: to resume a session, or to begin another with the same
//! certificate, takes the same private key.

use std::collections::HashSet;

use crate::ledger::Store;

/// What the host tells of the peer.
pub trait Peer {
    /// The peer's principal as a mesh knows it, where the connection ends in front of this proxy (Istio's waypoints).
    fn principal(&self) -> Option<Vec<u8>>;
    /// SHA-256 of the certificate that was presented, in hex.
    fn digest(&self) -> Option<Vec<u8>>;
    /// Whether the certificate was verified in this session's own handshake; `None` from hosts that do not tell. Those refuse
    /// certificates that they cannot verify, unless they are told to accept them.
    fn is_verified(&self) -> Option<bool>;
    /// The first URI among its alternative names.
    fn uri(&self) -> Option<Vec<u8>>;
}

/// Certificates that were seen verified.
#[derive(Debug, Default)]
pub struct Verified {
    /// What this instance has seen or read.
    known: HashSet<Digest>,
}

/// The first half of a certificate's SHA-256, in hex.
type Digest = [u8; 32];

/// The key of the list that all instances share.
const KEY: &str = "pai/1/peers";
/// Certificates in the shared list; the oldest goes first.
const SHARED: usize = 512;
/// Certificates that one instance remembers. Past that it begins again.
const KNOWN: usize = 4096;
/// Races that a write may lose before the certificate is left to be seen again.
const ATTEMPTS: u32 = 16;

// === impl Verified ===

impl Verified {
    /// The identity of the peer, if it is verified.
    pub fn identity(&mut self, peer: &dyn Peer, store: &dyn Store) -> Option<Vec<u8>> {
        if let Some(principal) = peer.principal().filter(|principal| !principal.is_empty()) {
            return Some(principal);
        }
        let digest = *peer.digest()?.first_chunk()?;
        if self.is_known(digest, peer, store) { peer.uri() } else { None }
    }

    fn is_known(&mut self, digest: Digest, peer: &dyn Peer, store: &dyn Store) -> bool {
        if self.known.contains(&digest) {
            return true;
        }
        match peer.is_verified() {
            None => return true,
            Some(true) => share(digest, store),
            Some(false) if !shared(store).contains(&digest) => return false,
            Some(false) => {}
        }
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        self.known.insert(digest)
    }
}

fn shared(store: &dyn Store) -> Vec<Digest> {
    decode(&store.get(KEY).0.unwrap_or_default())
}

fn decode(bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks_exact(size_of::<Digest>()).filter_map(|digest| digest.try_into().ok()).collect()
}

fn share(digest: Digest, store: &dyn Store) {
    for _ in 0..ATTEMPTS {
        let (bytes, version) = store.get(KEY);
        let mut list = decode(&bytes.unwrap_or_default());
        if list.contains(&digest) {
            return;
        }
        list.push(digest);
        let surplus = list.len().saturating_sub(SHARED);
        if store.set(KEY, &list.split_off(surplus).concat(), version) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Memory;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[derive(Default)]
    struct Seen {
        principal: Option<&'static str>,
        digest: Option<String>,
        verified: Option<bool>,
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
        fn uri(&self) -> Option<Vec<u8>> {
            Some(b"spiffe://td/a".to_vec())
        }
    }

    fn certificate(number: usize, verified: Option<bool>) -> Seen {
        Seen { digest: Some(format!("{number:064x}").chars().rev().collect()), verified, ..Seen::default() }
    }

    #[test]
    fn what_is_only_presented_is_no_identity() {
        let (store, mut verified) = (Memory::default(), Verified::default());
        assert_eq!(verified.identity(&Seen::default(), &store), None, "no certificate");
        assert_eq!(verified.identity(&certificate(1, Some(false)), &store), None);
        assert!(verified.identity(&certificate(1, Some(true)), &store).is_some());
        assert_eq!(verified.identity(&certificate(2, Some(false)), &store), None, "another certificate of the same name");
        assert!(verified.identity(&certificate(3, None), &store).is_some(), "a host that does not tell");
        let waypoint = Seen { principal: Some("spiffe://td/b"), ..certificate(2, Some(false)) };
        assert_eq!(verified.identity(&waypoint, &store), Some(b"spiffe://td/b".to_vec()));
    }

    #[test]
    fn a_resumed_session_counts_for_every_worker() {
        let (store, mut one, mut other) = (Memory::default(), Verified::default(), Verified::default());
        assert!(one.identity(&certificate(1, Some(true)), &store).is_some());
        for worker in [&mut one, &mut other] {
            assert!(worker.identity(&certificate(1, Some(false)), &store).is_some());
            assert_eq!(worker.identity(&certificate(2, Some(false)), &store), None);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (store, mut verified) = (Memory::default(), Verified::default());
        for number in 0..KNOWN + 10 {
            assert!(verified.identity(&certificate(number, Some(true)), &store).is_some());
        }
        assert!(verified.known.len() <= KNOWN);
        assert_eq!(shared(&store).len(), SHARED);
        let mut other = Verified::default();
        assert!(other.identity(&certificate(KNOWN + 9, Some(false)), &store).is_some(), "the youngest are kept");
        assert_eq!(other.identity(&certificate(0, Some(false)), &store), None);
    }
}
