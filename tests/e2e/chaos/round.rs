//! One round: everything at once, then a look at what it left behind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::harness::until;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{self, End, Outcome};
use crate::ledger::{Ledger, Reader};
use crate::ledger_check::Books;
use crate::plan::{Client, Event, Form, Plan};
use crate::setup::{SPEED, Scene, manifests};

/// How often the ledger is looked at.
const EVERY: Duration = Duration::from_millis(3);
/// What the contract allows from the end of an answer to the end of its reservation, and what a busy machine may add.
const REST: Duration = Duration::from_secs(2);
/// How long until a dead VM's reservations are given back: a minute of its observers' uptime, and two of their ticks.
const BURIAL: Duration = Duration::from_secs(60 / SPEED as u64 + 4);
/// Requests that were served, and looks at the ledger, without which nothing is shown.
const LEAST_SERVED: usize = 50;
const LEAST_LOOKS: u64 = 50;
/// Connections that are kept for looking at the ledger when nobody is let in any more.
const KEPT: usize = 400;

/// What goes on in a round besides the clients.
#[derive(Default)]
struct Course {
    /// Requests that are over.
    passed: AtomicU64,
    over: AtomicBool,
    drained: Mutex<Option<Instant>>,
    midnight: Mutex<Option<(Instant, Instant)>>,
}

/// What a look every few milliseconds has shown.
#[derive(Default)]
struct Looks {
    count: u64,
    longest_gap: Duration,
    faults: Vec<String>,
}

/// Plays a round; fails with all that is wrong, or tells in a line what it was.
pub async fn play(seed: u64) -> String {
    let plan = Arc::new(Plan::new(seed));
    let scene = Arc::new(Scene::new(&plan).await);
    let course = Arc::new(Course::default());
    let mut reader = Reader::default();
    if plan.has(Event::Drain) {
        reader.reserve(&scene.gate, KEPT).await;
    }
    let looking = tokio::spawn(look(Arc::clone(&scene), Arc::clone(&course), reader));
    let clients: JoinSet<Vec<Outcome>> =
        plan.clients.iter().map(|client| act(scene.gate.address(), client.clone(), plan.form, Arc::clone(&course))).collect();
    let (outcomes, ()) = tokio::join!(clients.join_all(), happen(&scene, &plan, &course));
    let outcomes = outcomes.concat();
    course.over.store(true, Ordering::Relaxed);
    let (looks, mut reader) = looking.await.unwrap();
    let mut faults = looks.faults;
    let traps = scene.gate.logs().matches("as a test has asked").count();
    let ledger = rest(&scene, &mut reader, &course, traps, &mut faults).await;
    let lines = lines(&scene, &outcomes, traps, &mut faults).await;
    faults.extend(scene.strays.lock().unwrap().drain(..));
    let records = scene.records.lock().unwrap().clone();
    let mut books = Books {
        plan: &plan,
        outcomes: &outcomes,
        records: &records,
        lines: &lines,
        ledger: &ledger,
        midnight: *course.midnight.lock().unwrap(),
        traps,
        drained: *course.drained.lock().unwrap(),
        faults,
    };
    books.audit();
    let served = outcomes.iter().filter(|outcome| outcome.seen.status == Some(200)).count();
    if served < LEAST_SERVED || looks.count < LEAST_LOOKS {
        books.faults.push(format!("that was no round: {served} served, looked {} times", looks.count));
    }
    let told = tell(&plan, &outcomes, looks.count, looks.longest_gap, traps);
    assert!(
        books.faults.is_empty(),
        "{told}\n{} faults:\n  {}\nrepeat it with: scripts/test chaos --seed {seed} --rounds 1",
        books.faults.len(),
        books.faults.iter().take(12).cloned().collect::<Vec<_>>().join("\n  ")
    );
    scene.gate.assert_no_trap();
    told
}

async fn act(gate: std::net::SocketAddr, client: Client, form: Form, course: Arc<Course>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (pause, ask) in client.asks {
        sleep(pause).await;
        outcomes.push(client::ask(gate, ask, form).await);
        course.passed.fetch_add(1, Ordering::Relaxed);
    }
    outcomes
}

/// What the plan has happen, each at its time.
async fn happen(scene: &Scene, plan: &Plan, course: &Course) {
    let mut edition = 0;
    for (when, event) in &plan.events {
        while course.passed.load(Ordering::Relaxed) < *when {
            sleep(EVERY).await;
        }
        match *event {
            Event::Reload => {
                edition += 1;
                scene.gate.reconfigure(manifests(plan, edition)).await.expect("a configuration that is taken");
            }
            Event::Trap => drop(scene.gate.trap().await),
            Event::Midnight => end_the_day(scene, course).await,
            Event::Down(provider, pause) => {
                scene.upstreams[provider].stop().await;
                sleep(pause).await;
                scene.upstreams[provider].restart().await;
            }
            Event::Drain => {
                *course.drained.lock().unwrap() = Some(Instant::now());
                scene.gate.drain();
            }
        }
    }
}

/// Sets the clock to a minute after midnight, and again if the VM that was told is dead.
async fn end_the_day(scene: &Scene, course: &Course) {
    let before = Instant::now();
    until("the clock is set", async || {
        let reply = scene.gate.set_clock(86_400 + 60).await;
        (reply.status != 503).then_some(())
    })
    .await;
    *course.midnight.lock().unwrap() = Some((before, Instant::now()));
}

/// Looks at all budgets until the round is over.
async fn look(scene: Arc<Scene>, course: Arc<Course>, mut reader: Reader) -> (Looks, Reader) {
    let mut looks = Looks::default();
    let mut last = Instant::now();
    while !course.over.load(Ordering::Relaxed) && looks.faults.len() < 5 {
        let drained = course.drained.lock().unwrap().is_some();
        if drained {
            // Each connection may be good for one look only.
            sleep(EVERY * 4).await;
        }
        if let Some(ledger) = reader.look(&scene.gate, drained).await {
            looks.count += 1;
            looks.longest_gap = looks.longest_gap.max(last.elapsed());
            last = Instant::now();
            looks.faults.extend(ledger.fault());
        }
        sleep(EVERY).await;
    }
    (looks, reader)
}

/// Waits until nothing is under way and nothing reserved.
async fn rest(scene: &Scene, reader: &mut Reader, course: &Course, traps: usize, faults: &mut Vec<String>) -> Ledger {
    let limit = if traps > 0 { BURIAL } else { REST };
    let drained = course.drained.lock().unwrap().is_some();
    let start = Instant::now();
    loop {
        if let Some(ledger) = reader.look(&scene.gate, drained).await {
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

/// The access log, by request, once it has all that were answered.
async fn lines(scene: &Scene, outcomes: &[Outcome], traps: usize, faults: &mut Vec<String>) -> BTreeMap<String, Value> {
    let read = || {
        let lines = scene.gate.access_lines().into_iter();
        lines.filter_map(|line| Some((line["case"].as_str()?.to_owned(), line))).collect::<BTreeMap<_, _>>()
    };
    let awaited = |lines: &BTreeMap<String, Value>| {
        let answered = outcomes.iter().filter(|outcome| outcome.seen.status.is_some());
        answered.map(|outcome| &outcome.ask.id).find(|id| !lines.contains_key(*id)).cloned()
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

fn tell(plan: &Plan, outcomes: &[Outcome], looks: u64, longest: Duration, traps: usize) -> String {
    let ended = |end: End| outcomes.iter().filter(|outcome| outcome.end == end).count();
    let status = |status: u16| outcomes.iter().filter(|outcome| outcome.seen.status == Some(status)).count();
    format!(
        "{}; {} whole, {} cut, {} left, {} not let in; 200: {}, 429: {}, 503: {}; {traps} traps; looked {looks} times, {longest:.0?} apart at most",
        plan.describe(),
        ended(End::Whole),
        ended(End::Cut),
        ended(End::Left),
        ended(End::Refused),
        status(200),
        status(429),
        status(503),
    )
}
