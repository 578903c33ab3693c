//! An Envoy under load: its connections, its workload, and the expected response.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::envoy::{Envoy, Setup};
use super::load::Load;
use super::workload::{Expected, Workload};

/// The warm-up has one in this number of a round's requests.
const WARM_UP: u64 = 8;

/// An Envoy after its warm-up.
pub(super) struct Subject {
    pub(super) envoy: Envoy,
    pub(super) address: SocketAddr,
    pub(super) load: Load,
    pub(super) request: Arc<[u8]>,
    pub(super) expected: Expected,
}

// === impl Subject ===

impl Subject {
    pub(super) async fn start(setup: &Setup<'_>, workload: Workload, connections: usize, name: &str) -> Result<Self> {
        let mut envoy = Envoy::start(setup, name)?;
        let address = envoy.address().await?;
        let mut load = Load::connect(address, connections).await?;
        let request: Arc<[u8]> = workload.request(&setup.filter.credentials()).into();
        let expected = workload.examine(load.send(&request).await?).with_context(|| envoy.log())?;
        load.run(&request, workload.requests() / WARM_UP, expected).await?;
        Ok(Self { envoy, address, load, request, expected })
    }
}
