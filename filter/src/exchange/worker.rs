//! The state of one instance of the filter: the VM of one worker.

use std::cell::Cell;
use std::rc::Rc;

use crate::budget::ledger::{Heartbeat, Permit, Recent};
use crate::clock::Time;
use crate::exchange::live_workers::Version;
use crate::identity::peer_identity::VerifiedCertificates;
use crate::metrics::Batch;

/// The state of one instance of the filter: the VM of one worker.
#[derive(Debug)]
pub struct Worker {
    /// The heartbeat of this instance.
    pub heartbeat: Heartbeat,
    /// The client certificates that were verified.
    pub verified: VerifiedCertificates,
    /// The account that was read last.
    pub recent: Rc<Recent>,
    /// Where Envoy can retry a failed request.
    pub retries: Retries,
    /// The version of the configuration that was loaded last.
    pub configuration: Version,
    /// The counts that were not sent to the host yet.
    pub counts: Batch,
    /// When this instance last read the clock.
    pub last_time: Cell<Time>,
    /// The permits that could not be settled, with their charges in tokens.
    unsettled: Vec<(Permit, u64)>,
}

/// Where a failed request can be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// Nowhere: no attempt filter would rewrite the request.
    None,
    /// At the same provider: Envoy is older than 1.39, or its route does not select the cluster again for a retry.
    SameProvider,
    /// At any provider.
    AnyProvider,
}

// === impl Retries ===

impl Retries {
    /// Returns whether a request that has failed at provider `from` can be retried at provider `to`.
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
    /// Creates the state of the instance with this random id.
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

    /// Stores a permit that could not be settled, to be tried again.
    pub fn keep(&mut self, permit: Permit, charge: u64) {
        self.unsettled.push((permit, charge));
    }

    /// Removes and returns the permits that are still to be settled.
    pub fn take_unsettled(&mut self) -> Vec<(Permit, u64)> {
        std::mem::take(&mut self.unsettled)
    }
}
