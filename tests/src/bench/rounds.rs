//! Runs the rounds: all configurations in turn, repeatedly.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::envoy::{self, Envoy, Setup};
use super::load::{Load, Served};
use super::machine::Machine;
use super::report::{Cell, Report, Round, Row};
use super::upstream;
use super::workload::{Expected, SECOND, Workload};
use super::{CONNECTIONS, Column, Configuration, Filter, FilterPositions, Plan};
use crate::standin::StandIn;

/// The warm-up has this share of a round's requests, and at least this number.
const WARM_UP: (u64, u64) = (2, 100);
/// Time for Envoy to become idle, so that the kernel's counters are current.
const REST: Duration = Duration::from_millis(30);

/// An Envoy, its connections, and the server of its first provider.
struct Subject<'a> {
    column: Column,
    first: &'a StandIn,
    envoy: Envoy,
    load: Load,
}

/// Runs the measurement and reports its progress to `progress`.
pub async fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let (standin, failing) = (upstream::start().await?, upstream::start_failing().await?);
    let mut subjects = Vec::with_capacity(plan.columns.len());
    for (place, column) in plan.columns.iter().enumerate() {
        progress(&format!("{} starts", column.name));
        let first = if column.positions == FilterPositions::BothFailing { &failing } else { &standin };
        let others = [(SECOND, standin.addr())];
        let others = if column.positions == FilterPositions::Listener { &[][..] } else { &others };
        let setup = Setup { others, ..Setup::new(&plan.envoy, &column.filter, first.addr()) };
        subjects.push(Subject::start(column.clone(), first, &setup, &place.to_string()).await?);
    }
    let mut rows = Vec::with_capacity(plan.workloads.len());
    for workload in &plan.workloads {
        rows.push(row(*workload, &plan, &mut subjects, &mut progress).await?);
    }
    Ok(Report { machine, envoy: envoy::version(&plan.envoy)?, connections: CONNECTIONS, columns: plan.columns, rows })
}

async fn row(workload: Workload, plan: &Plan, subjects: &mut [Subject<'_>], progress: &mut impl FnMut(&str)) -> Result<Row> {
    let requests = (workload.requests() / plan.haste).max(CONNECTIONS as u64);
    let (share, least) = WARM_UP;
    let mut asked = Vec::with_capacity(subjects.len());
    for subject in &mut *subjects {
        progress(&format!("{}: {} warms up (process {})", workload.title(), subject.column.name, subject.envoy.pid()));
        let request: Arc<[u8]> = workload.request(&subject.column.filter.credentials()).into();
        let known = subject.examine(workload, &request).await?;
        subject.serve(&request, (requests / share).max(least), known).await?;
        asked.push((request, known));
    }
    let mut rounds = vec![Vec::with_capacity(plan.rounds); subjects.len()];
    for number in 1..=plan.rounds {
        progress(&format!("{}: round {number} of {}", workload.title(), plan.rounds));
        for ((subject, (request, known)), rounds) in subjects.iter_mut().zip(&asked).zip(&mut rounds) {
            rounds.push(subject.round(request, requests, *known).await?);
        }
    }
    let cells = subjects.iter().zip(rounds).map(|(subject, rounds)| Cell { column: subject.column.name.clone(), rounds });
    Ok(Row { workload: workload.title(), requests, events: workload.events(), cells: cells.collect() })
}

// === impl Subject ===

impl<'a> Subject<'a> {
    async fn start(column: Column, first: &'a StandIn, setup: &Setup<'_>, name: &str) -> Result<Self> {
        let mut envoy = Envoy::start(setup, name)?;
        let address = envoy.address().await.with_context(|| column.name.clone())?;
        let load = Load::connect(address, CONNECTIONS).await?;
        Ok(Self { column, first, envoy, load })
    }

    /// Sends one request and checks the response, and that the filter is active.
    async fn examine(&mut self, workload: Workload, request: &[u8]) -> Result<Expected> {
        let answer = self.load.send(request).await;
        let answer = answer.with_context(|| format!("{}\n{}", self.column.name, self.envoy.log()))?;
        let governed = answer.has_header("x-pai-provider: ");
        let right = governed == matches!(self.column.filter, Filter::Gateway(..));
        ensure!(right, "{}: x-pai-provider in the answer: {governed}", self.column.name);
        let counted = answer.has_header("x-ratelimit-limit-requests: ");
        let keys = matches!(self.column.filter, Filter::Gateway(_, Configuration::Keys(1..) | Configuration::All(_)));
        let right = counted == keys;
        ensure!(right, "{}: x-ratelimit-limit-requests in the answer: {counted}", self.column.name);
        let read = answer.has_header("x-peer-model: meta-llama/");
        ensure!(read == (self.column.filter == Filter::Lua), "{}: the model in the answer's headers: {read}", self.column.name);
        let expected = workload.examine(answer).with_context(|| self.column.name.clone())?;
        if self.column.filter == Filter::Native {
            let parsed = self.envoy.stat("ai_protocol_manager.request_parsed").await?;
            ensure!(parsed > 0, "{}: it has parsed nothing", self.column.name);
        }
        Ok(expected)
    }

    async fn serve(&mut self, request: &Arc<[u8]>, requests: u64, expected: Expected) -> Result<Served> {
        let served = self.load.run(request, requests, expected).await;
        served.with_context(|| format!("{}\n{}", self.column.name, self.envoy.log()))
    }

    async fn round(&mut self, request: &Arc<[u8]>, requests: u64, expected: Expected) -> Result<Round> {
        tokio::time::sleep(REST).await;
        let before = self.envoy.cpu()?;
        let (asked, failed) = self.asked().await;
        let served = self.serve(request, requests, expected).await?;
        let (asked_since, failed_since) = self.asked().await;
        tokio::time::sleep(REST).await;
        let used = self.envoy.cpu()?.saturating_sub(before);
        let (asked, failed) = (asked_since - asked, failed_since - failed);
        let fail = if self.column.positions == FilterPositions::BothFailing { requests / 2 } else { 0 };
        let right = (asked, failed) == (requests, fail);
        ensure!(right, "{}: {asked} of {requests} requests came to the first provider, {failed} failed there", self.column.name);
        Ok(Round::new(used, &served))
    }

    /// Returns the number of requests to the first provider's server, and of those that it failed.
    async fn asked(&self) -> (u64, u64) {
        self.first.idle().await;
        let counters = self.first.counters();
        (counters.requests, counters.refused)
    }
}
