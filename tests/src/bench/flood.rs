//! The effect of a flood of wrong access keys on valid requests at a fixed rate, without and with the flood.
//!
//! There is one Envoy with two workers for each number of configured keys, and one without a filter, where the flood's requests
//! match no route: the effect of any flood on that machine. The flood uses keep-alive connections and a different key per request,
//! and uses little CPU time, because it shares the machine with Envoy. (Pipelined requests would need less, but Envoy closes HTTP/1
//! connections that pipeline too many requests.)

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::envoy::{self, Envoy, Setup};
use super::fixed_rate::FixedRate;
use super::machine::Machine;
use super::table::{Spread, write_aligned};
use super::upstream;
use super::workload::{Expected, Workload};
use super::{Configuration, Filter};

/// The numbers of configured keys.
const KEYS: [usize; 2] = [100, 10_000];
/// The start and the end of the response to a wrong key, and of the response of an Envoy without a filter.
const UNAUTHORIZED: RejectionPattern = RejectionPattern { start: b"HTTP/1.1 401 ", end: b"\"code\":\"invalid_api_key\"}}" };
const NOT_FOUND: RejectionPattern = RejectionPattern { start: b"HTTP/1.1 404 ", end: b"\r\n\r\n" };
const WORKERS: usize = 2;

/// Valid requests per second, and their connections.
const GOOD: u32 = 300;
const GOOD_CONNECTIONS: usize = 16;

/// Wrong keys per second, and the number of connection groups that send them.
const WRONG: u32 = 10_000;
const CONNECTION_GROUPS: u32 = 16;
/// Connections per group.
const CONNECTIONS_PER_GROUP: u32 = 4;
/// How far a group may fall behind its schedule. Requests missed beyond that are not sent later.
const MAX_LAG: Duration = Duration::from_millis(100);

/// Time for Envoy to become idle.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// The parameters of the measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The filter.
    pub module: PathBuf,
    /// The number of measured rounds.
    pub rounds: usize,
    /// How long valid requests are sent in a round, both without and with the flood.
    pub time: Duration,
}

/// The results of the measurement.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    envoy: String,
    time: Duration,
    rows: Vec<Row>,
}

/// The results of one configuration.
#[derive(Debug)]
struct Row {
    name: String,
    rounds: Vec<Round>,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    quiet: Interval,
    flooded: Interval,
}

/// Valid requests during one interval.
#[derive(Debug, Clone, Copy)]
struct Interval {
    /// Median and 99th percentile of the response time, in milliseconds.
    p50: f64,
    p99: f64,
    /// The number of valid and of rejected requests.
    good: u64,
    refused: u64,
    /// Duration and Envoy's CPU time, in seconds.
    took: f64,
    cpu: f64,
}

/// An Envoy under measurement.
struct Subject {
    envoy: Envoy,
    address: SocketAddr,
    fixed_rate: FixedRate,
    request: Arc<[u8]>,
    expected: Expected,
    refused: RejectionPattern,
}

/// The start and the end of an error response.
#[derive(Debug, Clone, Copy)]
struct RejectionPattern {
    start: &'static [u8],
    end: &'static [u8],
}

/// A running flood.
struct Flood {
    state: Arc<FloodState>,
    ended: oneshot::Receiver<Result<()>>,
}

/// The state shared by a flood and its observer.
#[derive(Debug, Default)]
struct FloodState {
    refused: AtomicU64,
    stopped: AtomicBool,
}

/// Connections that send together and then wait for all responses.
struct ConnectionGroup {
    sockets: Vec<TcpStream>,
    refused: RejectionPattern,
    /// The number of the next key.
    next: u64,
    /// The buffer for a response.
    answer: Vec<u8>,
}

/// Runs the measurement and reports its progress to `progress`.
pub async fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let standin = upstream::start().await?;
    let with_keys = |keys| (format!("{keys} keys"), Filter::Gateway(plan.module.clone(), Configuration::Keys(keys)));
    let mut rows = Vec::new();
    for (name, filter) in std::iter::once(("no filter".to_owned(), Filter::None)).chain(KEYS.map(with_keys)) {
        progress(&format!("{name}: Envoy starts"));
        let setup = Setup { workers: WORKERS, ..Setup::new(&plan.envoy, &filter, standin.addr()) };
        let mut subject = Subject::start(&setup, &format!("flood-{}", rows.len())).await?;
        let mut rounds = Vec::with_capacity(plan.rounds);
        for number in 1..=plan.rounds {
            progress(&format!("{name}: round {number} of {}", plan.rounds));
            rounds.push(subject.round(plan.time).await.with_context(|| subject.envoy.log())?);
        }
        rows.push(Row { name, rounds });
    }
    Ok(Report { machine, envoy: envoy::version(&plan.envoy)?, time: plan.time, rows })
}

// === impl Subject ===

impl Subject {
    async fn start(setup: &Setup<'_>, name: &str) -> Result<Self> {
        let mut envoy = Envoy::start(setup, name)?;
        let address = envoy.address().await?;
        let mut fixed_rate = FixedRate::connect(address, GOOD_CONNECTIONS).await?;
        let request: Arc<[u8]> = Workload::Chat.request(&setup.filter.credentials()).into();
        let answer = fixed_rate.send(&request).await.with_context(|| envoy.log())?;
        let expected = Workload::Chat.examine(answer)?;
        let refused = if setup.filter == &Filter::None { NOT_FOUND } else { UNAUTHORIZED };
        let mut subject = Self { envoy, address, fixed_rate, request, expected, refused };
        subject.interval(SETTLE_TIME).await?;
        Ok(subject)
    }

    async fn round(&mut self, time: Duration) -> Result<Round> {
        sleep(SETTLE_TIME).await;
        let quiet = self.interval(time).await?;
        let flood = Flood::start(self.address, self.refused).await?;
        sleep(SETTLE_TIME).await;
        let before = flood.refused();
        let mut flooded = self.interval(time).await?;
        flooded.refused = flood.refused() - before;
        flood.stop().await?;
        Ok(Round { quiet, flooded })
    }

    async fn interval(&mut self, time: Duration) -> Result<Interval> {
        let (start, before) = (Instant::now(), self.envoy.cpu()?);
        let latencies = self.fixed_rate.run(&self.request, GOOD, time, self.expected).await?;
        let (took, cpu) = (start.elapsed().as_secs_f64(), self.envoy.cpu()?.saturating_sub(before).as_secs_f64());
        let (p50, p99) = (latencies.percentile(50), latencies.percentile(99));
        Ok(Interval { p50, p99, good: latencies.count() as u64, refused: 0, took, cpu })
    }
}

// === impl Flood ===

impl Flood {
    /// Starts a flood in a thread of its own; returns once it is running.
    async fn start(address: SocketAddr, refused: RejectionPattern) -> Result<Self> {
        let state = Arc::new(FloodState::default());
        let ((end, ended), (begun, begins)) = (oneshot::channel(), oneshot::channel());
        let shared = Arc::clone(&state);
        std::thread::Builder::new().name("flood".to_owned()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            let _ = end.send(runtime.block_on(run_flood(address, refused, begun, &shared)));
        })?;
        if begins.await.is_err() {
            ended.await??;
            bail!("the flood ended before it began");
        }
        Ok(Self { state, ended })
    }

    fn refused(&self) -> u64 {
        self.state.refused.load(Relaxed)
    }

    async fn stop(self) -> Result<()> {
        self.state.stopped.store(true, Relaxed);
        self.ended.await?
    }
}

async fn run_flood(
    address: SocketAddr,
    refused: RejectionPattern,
    begun: oneshot::Sender<()>,
    state: &Arc<FloodState>,
) -> Result<()> {
    let mut groups = Vec::new();
    for number in 0..CONNECTION_GROUPS {
        groups.push(ConnectionGroup::connect(address, refused, u64::from(number) << 32).await?);
    }
    let _ = begun.send(());
    let between = Duration::from_secs(1) * CONNECTIONS_PER_GROUP / WRONG;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (group, turn) in groups.into_iter().zip(0..) {
        tasks.spawn(group.run(start + between * turn, between * CONNECTION_GROUPS, Arc::clone(state)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

// === impl ConnectionGroup ===

impl ConnectionGroup {
    /// Sends one request to determine the length of the error response; all are equally long.
    async fn connect(address: SocketAddr, refused: RejectionPattern, first: u64) -> Result<Self> {
        let mut sockets = Vec::new();
        for _ in 0..CONNECTIONS_PER_GROUP {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        let socket = sockets.first_mut().context("no connection")?;
        socket.write_all(wrong(first).as_bytes()).await?;
        let mut answer = Vec::new();
        while !refused.matches(&answer) {
            let read = socket.read_buf(&mut answer).await?;
            ensure!(read > 0 && answer.starts_with(refused.start), "not refused: {}", String::from_utf8_lossy(&answer));
        }
        Ok(Self { sockets, refused, next: first + 1, answer })
    }

    /// Sends at this interval until stopped.
    async fn run(mut self, first: Instant, every: Duration, state: Arc<FloodState>) -> Result<()> {
        let mut due = first;
        while !state.stopped.load(Relaxed) {
            sleep_until(due).await;
            self.send().await?;
            state.refused.fetch_add(u64::from(CONNECTIONS_PER_GROUP), Relaxed);
            due = (due + every).max(Instant::now() - MAX_LAG);
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        for (socket, number) in self.sockets.iter_mut().zip(self.next..) {
            socket.write_all(wrong(number).as_bytes()).await?;
        }
        self.next += u64::from(CONNECTIONS_PER_GROUP);
        for socket in &mut self.sockets {
            socket.read_exact(&mut self.answer).await?;
            ensure!(self.refused.matches(&self.answer), "not refused: {}", String::from_utf8_lossy(&self.answer));
        }
        Ok(())
    }
}

// === impl RejectionPattern ===

impl RejectionPattern {
    fn matches(self, answer: &[u8]) -> bool {
        answer.starts_with(self.start) && answer.ends_with(self.end)
    }
}

/// Returns a request with an unknown key.
fn wrong(number: u64) -> String {
    format!("GET /v1/models HTTP/1.1\r\nhost: gateway.test:8080\r\nauthorization: Bearer pak_wrong{number:038}\r\n\r\n")
}

// === impl Report ===

impl Report {
    /// Formats the results as a table.
    pub fn table(&self) -> String {
        let rounds = self.rows.first().map_or(0, |row| row.rounds.len());
        let mut text = format!(
            "{GOOD} chats a second with a valid key, {WORKERS} workers; without, and with {WRONG} wrong keys a second\n\
             Medians (min–max) of {rounds} rounds of {:?} each; Envoy {}; {}\n\n",
            self.time,
            self.envoy,
            self.machine.line()
        );
        let titles = ["", "", "p50 ms", "p99 ms", "Envoy, cores", "wrong keys/s", "µs per wrong key"];
        let mut lines = vec![titles.map(str::to_owned).to_vec()];
        lines.extend(self.rows.iter().flat_map(Row::lines));
        write_aligned(&mut text, &lines);
        let _ = writeln!(
            text,
            "\nµs: CPU time that Envoy used beyond that of the quiet half of the round. Without a filter, those requests find no route."
        );
        text
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "envoy": self.envoy,
            "workers": WORKERS,
            "good_per_second": GOOD,
            "wrong_per_second_wanted": WRONG,
            "seconds": self.time.as_secs_f64(),
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

// === impl Row ===

impl Row {
    fn lines(&self) -> [Vec<String>; 2] {
        let show = |digits, what: fn(&Round) -> f64| self.spread(what).show(digits);
        let quiet = [
            self.name.clone(),
            "quiet".to_owned(),
            show(2, |round| round.quiet.p50),
            show(2, |round| round.quiet.p99),
            show(3, |round| round.quiet.cores()),
        ];
        let flooded = [
            String::new(),
            "flooded".to_owned(),
            show(2, |round| round.flooded.p50),
            show(2, |round| round.flooded.p99),
            show(3, |round| round.flooded.cores()),
            show(0, |round| round.flooded.refused_rate()),
            show(1, Round::micros),
        ];
        [quiet.to_vec(), flooded.to_vec()]
    }

    fn json(&self) -> Value {
        let show = |what: fn(&Round) -> f64| self.spread(what).json();
        json!({
            "name": self.name,
            "rounds": self.rounds.len(),
            "quiet": {
                "p50_ms": show(|round| round.quiet.p50),
                "p99_ms": show(|round| round.quiet.p99),
                "envoy_cores": show(|round| round.quiet.cores()),
            },
            "flooded": {
                "p50_ms": show(|round| round.flooded.p50),
                "p99_ms": show(|round| round.flooded.p99),
                "envoy_cores": show(|round| round.flooded.cores()),
                "wrong_keys_per_second": show(|round| round.flooded.refused_rate()),
                "micros_per_wrong_key": show(Round::micros),
            },
        })
    }

    fn spread(&self, what: fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(what).collect())
    }
}

// === impl Round ===

impl Round {
    /// Returns microseconds of CPU time per rejected request, assuming that valid requests cost the same as without the flood.
    fn micros(&self) -> f64 {
        let good = self.quiet.cpu / self.quiet.good as f64 * self.flooded.good as f64;
        (self.flooded.cpu - good) * 1e6 / self.flooded.refused as f64
    }
}

// === impl Interval ===

impl Interval {
    fn cores(&self) -> f64 {
        self.cpu / self.took
    }

    fn refused_rate(&self) -> f64 {
        self.refused as f64 / self.took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_of_a_rejection_is_what_the_flood_adds() {
        let quiet = Interval { p50: 1.0, p99: 2.0, good: 100, refused: 0, took: 1.0, cpu: 0.01 };
        let round = Round { quiet, flooded: Interval { good: 200, refused: 1000, cpu: 0.05, ..quiet } };
        assert!((round.micros() - 30.0).abs() < 1e-9, "{}", round.micros());
    }

    #[test]
    fn wrong_keys_are_all_different_and_of_one_length() {
        let (one, other) = (wrong(7), wrong(u64::from(u32::MAX) << 32));
        assert!(one != other && one.len() == other.len());
    }
}
