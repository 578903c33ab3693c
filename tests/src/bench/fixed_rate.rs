//! Sends requests at a fixed rate, whether or not previous requests have been answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::client::{Answer, Client};
use super::workload::Expected;

/// The connections over which the requests are distributed.
pub(super) struct FixedRate {
    clients: Vec<Client>,
}

/// Response times in ascending order.
#[derive(Debug)]
pub(super) struct Latencies(Vec<Duration>);

/// The send times of one connection.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    first: Instant,
    every: Duration,
    end: Instant,
}

// === impl FixedRate ===

impl FixedRate {
    pub(super) async fn connect(address: SocketAddr, connections: usize) -> Result<Self> {
        Ok(Self { clients: Client::connect_all(address, connections).await? })
    }

    /// Sends one request.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<&Answer> {
        self.clients.first_mut().context("no connection")?.send(request).await
    }

    /// Sends `rate` requests per second for this time. Fails if any response differs from the expected one.
    pub(super) async fn run(&mut self, request: &Arc<[u8]>, rate: u32, time: Duration, expected: Expected) -> Result<Latencies> {
        let start = Instant::now();
        let between = Duration::from_secs(1) / rate;
        let every = between * u32::try_from(self.clients.len())?;
        let mut tasks = JoinSet::new();
        for (mut client, turn) in self.clients.drain(..).zip(0..) {
            let request = Arc::clone(request);
            let schedule = Schedule { first: start + between * turn, every, end: start + time };
            tasks.spawn(async move {
                let took = schedule.follow(&mut client, &request, expected).await?;
                anyhow::Ok((client, took))
            });
        }
        let mut latencies = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            let (client, took) = ended??;
            self.clients.push(client);
            latencies.extend(took);
        }
        latencies.sort_unstable();
        Ok(Latencies(latencies))
    }
}

// === impl Schedule ===

impl Schedule {
    /// Sends the requests. If a request is late because the previous one was not answered, its latency starts at the scheduled
    /// time; if only the timer was late, it starts when the request is sent.
    async fn follow(self, client: &mut Client, request: &[u8], expected: Expected) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        let mut due = self.first;
        while due < self.end {
            let late = due < Instant::now();
            sleep_until(due).await;
            let start = if late { due } else { Instant::now() };
            expected.check(client.send(request).await?)?;
            latencies.push(start.elapsed());
            due += self.every;
        }
        Ok(latencies)
    }
}

// === impl Latencies ===

impl Latencies {
    /// Sorts these times, in microseconds.
    pub(super) fn of_micros(micros: &[u32]) -> Self {
        let mut all: Vec<_> = micros.iter().map(|micros| Duration::from_micros(u64::from(*micros))).collect();
        all.sort_unstable();
        Self(all)
    }

    /// Returns the number of times.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns this percentile in milliseconds.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let place = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let latencies = Latencies((1..=200).map(Duration::from_millis).collect());
        for (percent, milliseconds) in [(50, 100.0), (99, 198.0), (100, 200.0), (0, 1.0)] {
            assert_eq!(latencies.percentile(percent), milliseconds, "{percent}");
        }
        assert!(Latencies(Vec::new()).percentile(50).is_nan());
    }
}
