//! Sends a fixed number of requests over a fixed number of connections. Each connection sends its next request after the response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::client::{Answer, Client};
use super::workload::Expected;

/// The connections to one Envoy.
pub(super) struct Load {
    address: SocketAddr,
    clients: Vec<Client>,
}

/// The results of a number of requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Served {
    /// Requests with the expected response.
    pub(super) requests: u64,
    /// The chunks of all responses.
    pub(super) chunks: u64,
    /// The time from the first byte to the last.
    pub(super) took: Duration,
}

// === impl Load ===

impl Load {
    pub(super) async fn connect(address: SocketAddr, connections: usize) -> Result<Self> {
        Ok(Self { address, clients: Client::connect_all(address, connections).await? })
    }

    /// Sends one request on a separate connection.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<&Answer> {
        let client = self.clients.first_mut().context("no connection")?;
        *client = Client::connect(self.address).await?;
        client.exchange(request).await
    }

    /// Sends `requests` requests. Fails if any response differs from the expected one. Reconnects if a response ends its
    /// connection.
    pub(super) async fn run(&mut self, request: &Arc<[u8]>, requests: u64, expected: Expected) -> Result<Served> {
        let left = Arc::new(AtomicU64::new(requests));
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for mut client in self.clients.drain(..) {
            let (request, left, address) = (Arc::clone(request), Arc::clone(&left), self.address);
            tasks.spawn(async move {
                let mut chunks = 0;
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let answer = client.exchange(&request).await?;
                    expected.check(answer)?;
                    chunks += answer.chunks;
                    if answer.has_header("connection: close") {
                        client = Client::connect(address).await?;
                    }
                }
                anyhow::Ok((client, chunks))
            });
        }
        let mut served = Served { requests, ..Served::default() };
        while let Some(ended) = tasks.join_next().await {
            let (client, chunks) = ended??;
            self.clients.push(client);
            served.chunks += chunks;
        }
        served.took = start.elapsed();
        Ok(served)
    }
}
