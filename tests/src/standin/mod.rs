//! A stand-in for vLLM 0.32 without a model. Its wire format equals the captures in `tests/fixtures/vllm` byte for byte.
//!
//! Tokens are counted by a rule that a test can compute ([`tokens`]). The stand-in counts the tokens that it sends, records
//! requests, and injects faults on demand ([`Fault`]). To start one in-process:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use e2e::standin::{Options, StandIn};
//! let vllm = StandIn::start(Options { tokens: 8, ..Options::default() }).await?;
//! // … point a gateway at vllm.url() …
//! vllm.set_fault("status=503,times=1".parse().map_err(anyhow::Error::msg)?);
//! vllm.idle().await;
//! assert_eq!(vllm.counters().total.completion_tokens, 8);
//! # Ok(()) }
//! ```

#[cfg(test)]
mod behaviour;
mod completion_length;
#[cfg(test)]
mod conformance;
mod counters;
mod embeddings;
mod error;
mod event_writer;
mod fault;
mod head;
mod json_response;
mod lenient_json;
mod models;
mod options;
mod prompt;
mod recorder;
mod request;
mod response_body;
mod response_plan;
mod route;
mod service;
mod socket;
pub mod tokenize;
mod tokens;

pub use counters::{Counters, MAX_RECORDED_BODY, MAX_RECORDED_REQUESTS, ModelCounters, Outcome, RecordedRequest};
pub use event_writer::FINGERPRINT;
pub use fault::{Every, FAULT_HELP, Fault};
pub use options::{CAPTURED_MODELS, Options};

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use recorder::Recorder;
use service::Server;
use socket::Socket;

/// A running stand-in. Dropping it closes its port and its connections.
pub struct StandIn {
    addr: SocketAddr,
    server: Arc<Server>,
    accepting: tokio::task::JoinHandle<()>,
}

// === impl StandIn ===

impl StandIn {
    /// Starts a stand-in on a free loopback port.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        Self::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await
    }

    /// Starts a stand-in on this address.
    pub async fn listen(addr: SocketAddr, options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let seed = u64::from(addr.port()) << 32 | u64::from(std::process::id());
        let recorder = Arc::new(Recorder::new(&options.models));
        let fault = Mutex::new(options.fault.clone());
        let server = Arc::new(Server { options, recorder, fault, serial: AtomicU64::new(seed ^ event_writer::now()) });
        let accepting = tokio::spawn(accept(listener, server.clone()));
        Ok(Self { addr, server, accepting })
    }

    /// Returns the address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns a snapshot of all counters.
    pub fn counters(&self) -> Counters {
        self.server.recorder.counters()
    }

    /// Returns the last [`MAX_RECORDED_REQUESTS`] requests, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.recorder.recorded()
    }

    /// Returns the last request, if any.
    pub fn last_request(&self) -> Option<RecordedRequest> {
        self.requests().pop()
    }

    /// Clears the recorded requests. The counters are kept.
    pub fn clear_requests(&self) {
        self.server.recorder.clear();
    }

    /// Injects this fault from now on; `Fault::default()` removes it.
    pub fn set_fault(&self, fault: Fault) {
        *self.server.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Waits until no request is in flight, so that every request has its outcome.
    pub async fn idle(&self) {
        self.until(|counters| counters.in_flight == 0).await;
    }

    /// Waits until the counters satisfy a condition: `|counters| counters.requests == 3`. Add a timeout.
    pub async fn until(&self, reached: impl Fn(&Counters) -> bool) {
        loop {
            let changed = self.server.recorder.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable(); // before the check, so that no change is missed
            if reached(&self.counters()) {
                return;
            }
            changed.await;
        }
    }

    /// Runs until the accept task ends, which it does not.
    pub async fn run(mut self) {
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts connections until aborted. Aborting also closes the connections.
async fn accept(listener: TcpListener, server: Arc<Server>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, server.clone()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await, // no file descriptors left: retry later
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, server: Arc<Server>) {
    let _ = stream.set_nodelay(true);
    let _counted = server.recorder.connect();
    let reset = socket::ResetFlag::default();
    let socket = TokioIo::new(Socket { stream, reset: reset.clone() });
    let keep_alive = server.options.keep_alive;
    let service = service_fn(move |request| server.clone().answer(request, reset.clone()));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(keep_alive);
    let _ = builder.serve_connection(socket, service).await; // errors of the peer are ignored
}
