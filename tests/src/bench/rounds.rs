//! The rounds: every configuration in turn, again and again.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::envoy::Envoy;
use super::load::{Load, Served};
use super::machine::Machine;
use super::report::{Cell, Report, Round, Row};
use super::workload::{Expected, MODEL, REFERENCE, TOKENS, Workload};
use super::{CONNECTIONS, Column, Filter, Plan};
use crate::standin::{Options, StandIn};

/// Requests of the warm-up are this share of a round's, and at least as many.
const WARM_UP: (u64, u64) = (2, 100);
/// Time for an Envoy to come to rest, after which the kernel's numbers are up to date.
const REST: Duration = Duration::from_millis(30);

/// One Envoy and the connections to it.
struct Subject {
    column: Column,
    envoy: Envoy,
    load: Load,
}

/// Measures, telling `progress` how far it is.
pub async fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let standin = start_standin().await?;
    let mut subjects = Vec::with_capacity(plan.columns.len());
    for (place, column) in plan.columns.iter().enumerate() {
        let directory = std::env::temp_dir().join(format!("pai-bench-{}-{place}", std::process::id()));
        subjects.push(Subject::start(column.clone(), &plan.envoy, &standin, directory).await?);
    }
    let mut rows = Vec::with_capacity(plan.workloads.len());
    for workload in &plan.workloads {
        rows.push(row(*workload, &plan, &mut subjects, &mut progress).await?);
    }
    Ok(Report { machine, envoy: version(&plan.envoy)?, connections: CONNECTIONS, columns: plan.columns, rows })
}

/// The stand-in in a runtime of its own, which ends with the process.
async fn start_standin() -> Result<StandIn> {
    let options = Options {
        models: vec![MODEL.to_owned(), REFERENCE.to_owned()],
        max_model_len: 131_072,
        tokens: TOKENS as u64,
        keep_alive: Duration::from_secs(24 * 3600), // an Envoy at rest keeps its connections
        ..Options::default()
    };
    let (started, standin) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("stand-in".to_owned()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let _ = started.send(StandIn::start(options).await);
            std::future::pending::<()>().await;
        });
    })?;
    Ok(standin.await??)
}

async fn row(workload: Workload, plan: &Plan, subjects: &mut [Subject], progress: &mut impl FnMut(&str)) -> Result<Row> {
    let request: Arc<[u8]> = workload.request().into();
    let requests = (workload.requests() / plan.haste).max(CONNECTIONS as u64);
    let (share, least) = WARM_UP;
    let mut expected = Vec::with_capacity(subjects.len());
    for subject in &mut *subjects {
        progress(&format!("{}: {} warms up (process {})", workload.title(), subject.column.name, subject.envoy.pid()));
        let known = subject.examine(workload, &request).await?;
        subject.serve(&request, (requests / share).max(least), known).await?;
        expected.push(known);
    }
    let mut rounds = vec![Vec::with_capacity(plan.rounds); subjects.len()];
    for number in 1..=plan.rounds {
        progress(&format!("{}: round {number} of {}", workload.title(), plan.rounds));
        for ((subject, known), rounds) in subjects.iter_mut().zip(&expected).zip(&mut rounds) {
            rounds.push(subject.round(&request, requests, *known).await?);
        }
    }
    let events = if workload.is_stream() { Some(TOKENS as u64 + 2) } else { None };
    let cells = subjects.iter().zip(rounds).map(|(subject, rounds)| Cell { column: subject.column.name.clone(), rounds });
    Ok(Row { workload: workload.title(), requests, events, cells: cells.collect() })
}

// === impl Subject ===

impl Subject {
    async fn start(column: Column, binary: &std::path::Path, standin: &StandIn, directory: PathBuf) -> Result<Self> {
        let mut envoy = Envoy::start(binary, &column.filter, standin.addr(), directory)?;
        let address = envoy.address().await.with_context(|| column.name.clone())?;
        let load = Load::connect(address, CONNECTIONS).await?;
        Ok(Self { column, envoy, load })
    }

    /// Asks once and looks closely: is the answer right, and is the filter at work?
    async fn examine(&mut self, workload: Workload, request: &[u8]) -> Result<Expected> {
        let answer = self.load.ask(request).await;
        let answer = answer.with_context(|| format!("{}\n{}", self.column.name, self.envoy.log()))?;
        let governed = answer.head.split(|byte| *byte == b'\n').any(|line| line == b"x-pai-provider: vllm-local");
        let right = governed == matches!(self.column.filter, Filter::Gateway(_));
        ensure!(right, "{}: x-pai-provider in the answer: {governed}", self.column.name);
        workload.examine(answer).with_context(|| self.column.name.clone())
    }

    async fn serve(&mut self, request: &Arc<[u8]>, requests: u64, expected: Expected) -> Result<Served> {
        let served = self.load.run(request, requests, expected).await;
        served.with_context(|| format!("{}\n{}", self.column.name, self.envoy.log()))
    }

    async fn round(&mut self, request: &Arc<[u8]>, requests: u64, expected: Expected) -> Result<Round> {
        tokio::time::sleep(REST).await;
        let before = self.envoy.cpu()?;
        let served = self.serve(request, requests, expected).await?;
        tokio::time::sleep(REST).await;
        let used = self.envoy.cpu()?.saturating_sub(before);
        Ok(Round::new(used, &served))
    }
}

fn version(envoy: &std::path::Path) -> Result<String> {
    let output = Command::new(envoy).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_once("version:").map_or(&*text, |(_, version)| version);
    Ok(version.trim().to_owned())
}
