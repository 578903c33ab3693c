//! Runs one round, then checks its results.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::harness::until;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{self, End, Outcome};
use crate::ledger::{BudgetId, Ledger, Reader};
use crate::ledger_check::LedgerCheck;
use crate::plan::{Client, Event, Form, Plan};
use crate::setup::{SPEED, Scene, manifests};

/// The interval between reads of the ledger.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(3);
/// The documented time from the end of a response to settlement, plus a margin for a busy machine.
const SETTLE_DEADLINE: Duration = Duration::from_secs(2);
/// The time until a trapped VM's reservations are released: a minute of the other VMs' uptime, and two of their ticks.
const RECLAIM_DEADLINE: Duration = Duration::from_secs(60 / SPEED as u64 + 4);
/// The minimum number of served requests and of ledger samples for a meaningful round.
const MIN_SERVED: usize = 50;
const MIN_SAMPLES: u64 = 50;
/// Connections reserved for reading the ledger after the listeners are drained.
const RESERVED_CONNECTIONS: usize = 400;

/// The state of a round besides the clients.
#[derive(Default)]
struct Progress {
    /// The number of finished requests.
    passed: AtomicU64,
    over: AtomicBool,
    drained: Mutex<Option<Instant>>,
    midnight: Mutex<Option<(Instant, Instant)>>,
}

/// The results of the periodic ledger samples.
#[derive(Default)]
struct LedgerSamples {
    count: u64,
    longest_gap: Duration,
    /// The most tokens above the cap of each budget that was ever exceeded.
    overshoots: BTreeMap<BudgetId, u64>,
    faults: Vec<String>,
}

// === impl LedgerSamples ===

impl LedgerSamples {
    /// Keeps the most tokens above the cap of each budget.
    fn note_overshoots(&mut self, ledger: &Ledger) {
        for (budget, above) in ledger.overshoots() {
            let most = self.overshoots.entry(budget).or_default();
            *most = above.max(*most);
        }
    }
}

/// Runs a round. Fails with all violations, or returns a summary in one line.
pub async fn run_round(seed: u64) -> String {
    let plan = Arc::new(Plan::new(seed));
    let scene = Arc::new(Scene::new(&plan).await);
    let progress = Arc::new(Progress::default());
    let mut reader = Reader::default();
    if plan.has(Event::Drain) {
        reader.reserve(&scene.gate, RESERVED_CONNECTIONS).await;
    }
    let sampling = tokio::spawn(sample(Arc::clone(&scene), Arc::clone(&progress), reader));
    let clients: JoinSet<Vec<Outcome>> = plan
        .clients
        .iter()
        .map(|client| run_client(scene.gate.address(), client.clone(), plan.form, Arc::clone(&progress)))
        .collect();
    let (outcomes, ()) = tokio::join!(clients.join_all(), run_events(&scene, &plan, &progress));
    let outcomes = outcomes.concat();
    progress.over.store(true, Ordering::Relaxed);
    let (mut samples, mut reader) = sampling.await.unwrap();
    let mut faults = std::mem::take(&mut samples.faults);
    let traps = scene.gate.logs().matches("a test requested this").count();
    let ledger = wait_until_settled(&scene, &mut reader, &progress, traps, &mut faults).await;
    samples.note_overshoots(&ledger);
    let lines = lines(&scene, &outcomes, traps, &mut faults).await;
    faults.extend(scene.misrouted.lock().unwrap().drain(..));
    let records = scene.records.lock().unwrap().clone();
    let mut ledger_check = LedgerCheck {
        plan: &plan,
        outcomes: &outcomes,
        records: &records,
        lines: &lines,
        ledger: &ledger,
        overshoots: samples.overshoots,
        midnight: *progress.midnight.lock().unwrap(),
        traps,
        drained: *progress.drained.lock().unwrap(),
        faults,
        findings: Vec::new(),
    };
    ledger_check.run();
    let served = outcomes.iter().filter(|outcome| outcome.seen.status == Some(200)).count();
    if served < MIN_SERVED || samples.count < MIN_SAMPLES {
        ledger_check.faults.push(format!("not a meaningful round: {served} served, {} ledger samples", samples.count));
    }
    let summary = summary(&plan, &outcomes, samples.count, samples.longest_gap, traps);
    let summary = std::iter::once(summary).chain(ledger_check.findings).collect::<Vec<_>>().join("; ");
    assert!(
        ledger_check.faults.is_empty(),
        "{summary}\n{} faults:\n  {}\nrepeat it with: scripts/test chaos --seed {seed} --rounds 1",
        ledger_check.faults.len(),
        ledger_check.faults.iter().take(12).cloned().collect::<Vec<_>>().join("\n  ")
    );
    scene.gate.assert_no_trap();
    summary
}

async fn run_client(gate: std::net::SocketAddr, client: Client, form: Form, progress: Arc<Progress>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (pause, planned) in client.requests {
        sleep(pause).await;
        outcomes.push(client::run_request(gate, planned, form).await);
        progress.passed.fetch_add(1, Ordering::Relaxed);
    }
    outcomes
}

/// Runs the planned events.
async fn run_events(scene: &Scene, plan: &Plan, progress: &Progress) {
    let mut edition = 0;
    for (when, event) in &plan.events {
        while progress.passed.load(Ordering::Relaxed) < *when {
            sleep(SAMPLE_INTERVAL).await;
        }
        match *event {
            Event::Reload => {
                edition += 1;
                scene.gate.reconfigure(manifests(plan, edition)).await.expect("a configuration that is accepted");
            }
            Event::Trap => drop(scene.gate.trap().await),
            Event::Midnight => end_the_day(scene, progress).await,
            Event::Outage(provider, pause) => {
                scene.upstreams[provider].stop().await;
                sleep(pause).await;
                scene.upstreams[provider].restart().await;
            }
            Event::Drain => {
                *progress.drained.lock().unwrap() = Some(Instant::now());
                scene.gate.drain();
            }
        }
    }
}

/// Sets the clock to a minute after midnight; retries if the VM that received the request has trapped.
async fn end_the_day(scene: &Scene, progress: &Progress) {
    let before = Instant::now();
    until("the clock is set", async || {
        let reply = scene.gate.set_clock(86_400 + 60).await;
        (reply.status != 503).then_some(())
    })
    .await;
    *progress.midnight.lock().unwrap() = Some((before, Instant::now()));
}

/// Reads all budgets until the round is over.
async fn sample(scene: Arc<Scene>, progress: Arc<Progress>, mut reader: Reader) -> (LedgerSamples, Reader) {
    let mut samples = LedgerSamples::default();
    let mut last = Instant::now();
    while !progress.over.load(Ordering::Relaxed) && samples.faults.len() < 5 {
        let drained = progress.drained.lock().unwrap().is_some();
        if drained {
            // Each reserved connection may be usable only once.
            sleep(SAMPLE_INTERVAL * 4).await;
        }
        if let Some(ledger) = reader.sample(&scene.gate, drained).await {
            samples.count += 1;
            samples.longest_gap = samples.longest_gap.max(last.elapsed());
            last = Instant::now();
            samples.faults.extend(ledger.fault());
            samples.note_overshoots(&ledger);
        }
        sleep(SAMPLE_INTERVAL).await;
    }
    (samples, reader)
}

/// Waits until no request is in flight and nothing is reserved.
async fn wait_until_settled(
    scene: &Scene,
    reader: &mut Reader,
    progress: &Progress,
    traps: usize,
    faults: &mut Vec<String>,
) -> Ledger {
    let limit = if traps > 0 { RECLAIM_DEADLINE } else { SETTLE_DEADLINE };
    let drained = progress.drained.lock().unwrap().is_some();
    let start = Instant::now();
    loop {
        if let Some(ledger) = reader.sample(&scene.gate, drained).await {
            if ledger.reserved() == 0 {
                return ledger;
            }
            if start.elapsed() > limit {
                faults.push(format!("{} tokens are still reserved {limit:?} after the last answer: {ledger:?}", ledger.reserved()));
                return ledger;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Returns the access log by request, once it contains all answered requests.
async fn lines(scene: &Scene, outcomes: &[Outcome], traps: usize, faults: &mut Vec<String>) -> BTreeMap<String, Value> {
    let read = || {
        let lines = scene.gate.access_lines().into_iter();
        lines.filter_map(|line| Some((line["case"].as_str()?.to_owned(), line))).collect::<BTreeMap<_, _>>()
    };
    let awaited = |lines: &BTreeMap<String, Value>| {
        let answered = outcomes.iter().filter(|outcome| outcome.seen.status.is_some());
        answered.map(|outcome| &outcome.planned.id).find(|id| !lines.contains_key(*id)).cloned()
    };
    let start = Instant::now();
    loop {
        let lines = read();
        let Some(missing) = awaited(&lines) else { return lines };
        if start.elapsed() > Duration::from_secs(5) {
            faults.push(format!("{missing} is not in the access log ({traps} traps)"));
            return lines;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn summary(plan: &Plan, outcomes: &[Outcome], samples: u64, longest: Duration, traps: usize) -> String {
    let ended = |end: End| outcomes.iter().filter(|outcome| outcome.end == end).count();
    let status = |status: u16| outcomes.iter().filter(|outcome| outcome.seen.status == Some(status)).count();
    format!(
        "{}; {} complete, {} cut off, {} disconnected, {} not accepted; 200: {}, 429: {}, 503: {}; {traps} traps; {samples} ledger samples, {longest:.0?} apart at most",
        plan.describe(),
        ended(End::Whole),
        ended(End::Cut),
        ended(End::Disconnected),
        ended(End::Refused),
        status(200),
        status(429),
        status(503),
    )
}
