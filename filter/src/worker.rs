//! What one instance of the filter, the VM of one worker, has to itself.

use std::rc::Rc;

use crate::ledger::{Heartbeat, Permit, Recent};
use crate::peer::Verified;

/// What one instance of the filter, the VM of one worker, has to itself.
#[derive(Debug)]
pub struct Worker {
    /// Its signs of life.
    pub heartbeat: Heartbeat,
    /// Certificates that it has seen verified.
    pub verified: Verified,
    /// What it has read of the ledger last.
    pub recent: Rc<Recent>,
    /// Whether a failed attempt can be followed by one at another provider: the attempt filter is there, and Envoy's retries go where
    /// it says.
    pub follows: bool,
    /// What the ledger could not take when it was due.
    unsettled: Vec<(Permit, u64)>,
}

// === impl Worker ===

impl Worker {
    /// For the instance with this random id.
    pub fn new(instance: u64) -> Self {
        Self {
            heartbeat: Heartbeat::new(instance),
            verified: Verified::default(),
            recent: Rc::default(),
            follows: false,
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
