//! What one instance of the filter, the VM of one worker, has to itself.

use std::cell::Cell;
use std::rc::Rc;

use crate::budget::ledger::{Heartbeat, Permit, Recent};
use crate::clock::Time;
use crate::exchange::live_workers::Version;
use crate::identity::peer_identity::VerifiedCertificates;
use crate::metrics::Batch;

/// What one instance of the filter, the VM of one worker, has to itself.
#[derive(Debug)]
pub struct Worker {
    /// Its signs of life.
    pub heartbeat: Heartbeat,
    /// Certificates that it has seen verified.
    pub verified: VerifiedCertificates,
    /// What it has read of the ledger last.
    pub recent: Rc<Recent>,
    /// Where Envoy can send a request again that has failed.
    pub retries: Retries,
    /// The version of the configuration that it serves: the one that was loaded last.
    pub configuration: Version,
    /// Counts that the host has not been told yet.
    pub counts: Batch,
    /// When this instance last read the clock.
    pub last_time: Cell<Time>,
    /// What the ledger could not take when it was due.
    unsettled: Vec<(Permit, u64)>,
}

/// Where a request can go that has failed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// Nowhere: no attempt filter would make it anybody else's.
    None,
    /// To the same provider: Envoy is older than 1.39, or its route does not follow `x-pai-provider`.
    SameProvider,
    /// To any provider.
    AnyProvider,
}

// === impl Retries ===

impl Retries {
    /// Whether a request that has failed at provider `from` can go to provider `to`.
    pub fn lead(self, from: usize, to: usize) -> bool {
        match self {
            Self::None => false,
            Self::SameProvider => from == to,
            Self::AnyProvider => true,
        }
    }
}

// === impl Worker ===

impl Worker {
    /// For the instance with this random id.
    pub fn new(instance: u64) -> Self {
        Self {
            heartbeat: Heartbeat::new(instance),
            verified: VerifiedCertificates::default(),
            recent: Rc::default(),
            retries: Retries::None,
            configuration: Version::default(),
            counts: Batch::default(),
            last_time: Cell::default(),
            unsettled: Vec::new(),
        }
    }

    /// Keeps what could not be settled, to be tried again.
    pub fn keep(&mut self, permit: Permit, charge: u64) {
        self.unsettled.push((permit, charge));
    }

    /// Hands over what is still to be settled.
    pub fn take_unsettled(&mut self) -> Vec<(Permit, u64)> {
        std::mem::take(&mut self.unsettled)
    }
}
