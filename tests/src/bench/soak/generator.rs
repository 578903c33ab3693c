//! Sends requests of random kinds at a fixed rate, whether or not previous requests have been answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::client::Client;
use super::client_ledger::{ClientLedger, Outcome, today};
use super::traffic::{Ending, KINDS, Prepared};
use crate::harness::Rng;

/// How far the generator may fall behind its schedule. Requests missed beyond that are not sent later.
const MAX_LAG: Duration = Duration::from_secs(1);
/// A request that is sent within this time counts as punctual: timers tick in milliseconds.
const IN_TIME: Duration = Duration::from_millis(3);
/// The maximum number of requests in flight.
const MAX_IN_FLIGHT: u64 = 2000;
/// The deadline for a response.
const MISSING: Duration = Duration::from_secs(30);

/// The kind of requests whose latency is reported.
const TIMED: &str = "chat";

/// The state shared by all requests.
pub(super) struct Generator {
    address: SocketAddr,
    prepared: Vec<Prepared>,
    client_ledger: Mutex<ClientLedger>,
    idle: Mutex<Vec<Client>>,
    in_flight: AtomicU64,
    sent: AtomicU64,
    missed: AtomicU64,
    stopped: AtomicBool,
}

// === impl Generator ===

impl Generator {
    /// Connects, and measures the charge of responses that do not report usage.
    pub(super) async fn new(address: SocketAddr) -> Result<Self> {
        let (mut client, mut client_ledger) = (Client::connect(address).await?, ClientLedger::default());
        let mut prepared = Vec::with_capacity(KINDS.len());
        for kind in KINDS {
            let (one, cost) = Prepared::new(kind, &mut client).await.context(kind.name)?;
            client_ledger.charge(super::manifests::HEALTHY, cost, today());
            prepared.push(one);
        }
        Ok(Self {
            address,
            prepared,
            client_ledger: Mutex::new(client_ledger),
            idle: Mutex::default(),
            in_flight: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        })
    }

    /// Sends `rate` requests per second until it is [stopped](Self::stop).
    pub(super) async fn run(self: Arc<Self>, rate: u32, mut rng: Rng) {
        let between = Duration::from_secs(1) / rate;
        let mut due = Instant::now();
        while !self.stopped.load(Relaxed) {
            sleep_until(due).await;
            let late = due.elapsed();
            if late > MAX_LAG || self.in_flight() >= MAX_IN_FLIGHT {
                due += between;
                self.missed.fetch_add(1, Relaxed);
                continue;
            }
            self.sent.fetch_add(1, Relaxed);
            self.in_flight.fetch_add(1, Relaxed);
            let start = if late > IN_TIME { due } else { Instant::now() };
            let (kind, lots) = (rng.below(1000), [rng.below(u64::MAX), rng.below(u64::MAX)]);
            tokio::spawn(Arc::clone(&self).run_one(kind, lots, start));
            due += between;
        }
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Returns the number of requests that were due but not sent.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    pub(super) fn client_ledger(&self) -> MutexGuard<'_, ClientLedger> {
        self.client_ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_one(self: Arc<Self>, kind: u64, lots: [u64; 2], start: Instant) {
        if let Some(prepared) = self.prepared(kind) {
            self.send(prepared, lots, start).await;
        }
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Returns the kind for this random number below a thousand.
    fn prepared(&self, mut number: u64) -> Option<&Prepared> {
        self.prepared.iter().find(|prepared| {
            let found = number < prepared.kind.share;
            number = number.wrapping_sub(prepared.kind.share);
            found
        })
    }

    async fn send(&self, prepared: &Prepared, [caller, patience]: [u64; 2], start: Instant) {
        let kind = prepared.kind;
        let Some(request) = prepared.request(caller) else { return };
        let mut client = match self.client().await {
            Ok(client) => client,
            Err(error) => return self.client_ledger().record_unexpected(format!("{}: cannot connect: {error:#}", kind.name)),
        };
        let limit = match kind.ending {
            Ending::Abandoned(milliseconds) => Duration::from_millis(patience % milliseconds),
            _ => MISSING,
        };
        let sent = today();
        let asked = timeout(limit, client.exchange(&request)).await;
        let took = start.elapsed();
        let (outcome, error) = match asked {
            Ok(Ok(answer)) => (Outcome::Status(answer.status()), None),
            Ok(Err(error)) => (Outcome::Broken, Some(error)),
            Err(_) => (Outcome::Abandoned, None),
        };
        let checked = match outcome {
            Outcome::Abandoned if limit == MISSING => Err(anyhow::anyhow!("no answer within {MISSING:?}")),
            _ => prepared.check(outcome, client.last_answer()),
        };
        let mut client_ledger = self.client_ledger();
        client_ledger.record(kind.name, outcome);
        if kind.name == TIMED {
            client_ledger.record_latency(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
        match checked {
            Ok(Some((provider, charge))) => client_ledger.charge(provider, charge, sent),
            Ok(None) => {}
            Err(wrong) => {
                let (head, body) = (&client.last_answer().head, &client.last_answer().body);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..600).unwrap_or(bytes)).into_owned();
                let error = error.map(|error| format!(" ({error:#})")).unwrap_or_default();
                client_ledger.record_unexpected(format!(
                    "{}: {outcome}: {wrong}{error}\n{}\n{}",
                    kind.name,
                    text(head),
                    text(body)
                ));
            }
        }
        drop(client_ledger);
        if matches!(outcome, Outcome::Status(_))
            && kind.ending != Ending::Closing
            && !client.last_answer().has_header("connection: close")
        {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        }
    }

    /// Returns the connection that was used last, so that superfluous connections become idle.
    async fn client(&self) -> Result<Client> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(client) => Ok(client),
            None => Client::connect(self.address).await,
        }
    }
}
