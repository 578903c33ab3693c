//! Envoy's memory, and its growth after 100,000 requests.
//!
//! Each column is an Envoy with one worker. A few hundred requests of each kind fill pools and caches. Then memory is measured
//! before and after the remaining requests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::column::{Column, Filter};
use super::envoy::{self, Envoy, Setup};
use super::load::Load;
use super::machine::Machine;
use super::memory;
use super::table::page;
use super::workload::Workload;
use super::{CONNECTIONS, upstream};

/// The workloads and their number of requests.
const REQUESTS: [(Workload, u64); 3] = [(Workload::Chat, 85_000), (Workload::Sse, 14_000), (Workload::Long, 1_000)];
/// The warm-up sends one request in this number.
const WARM_UP: u64 = 20;
/// Time for Envoy to become idle.
const REST: Duration = Duration::from_secs(2);

/// The parameters of the measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The configurations.
    pub columns: Vec<Column>,
    /// Divides the number of requests, for a quick run.
    pub haste: u64,
}

/// The results of the measurement.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    envoy: String,
    requests: u64,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    column: Column,
    before: Snapshot,
    after: Snapshot,
}

/// In bytes.
#[derive(Debug, Clone)]
struct Snapshot {
    resident: u64,
    /// The linear memories of the VMs: of the worker, of Envoy's main thread, and of those in which code was compiled.
    vms: Vec<u64>,
}

/// Runs the measurement and reports its progress to `progress`.
pub async fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let standin = upstream::start().await?;
    let mut rows = Vec::with_capacity(plan.columns.len());
    for column in plan.columns {
        let setup = Setup::new(&plan.envoy, &column.filter, standin.addr());
        let mut envoy = Envoy::start(&setup, "footprint")?;
        let mut load = Load::connect(envoy.address().await?, CONNECTIONS).await?;
        progress(&format!("{}: warm-up", column.name));
        serve(&mut load, &column.filter, plan.haste * WARM_UP).await.with_context(|| envoy.log())?;
        let before = Snapshot::at(&envoy).await?;
        progress(&format!("{}: requests", column.name));
        serve(&mut load, &column.filter, plan.haste).await.with_context(|| envoy.log())?;
        let after = Snapshot::at(&envoy).await?;
        rows.push(Row { column, before, after });
    }
    let requests = REQUESTS.iter().map(|(_, requests)| requests / plan.haste).sum();
    Ok(Report { machine, envoy: envoy::version(&plan.envoy)?, requests, rows })
}

async fn serve(load: &mut Load, filter: &Filter, share: u64) -> Result<()> {
    for (workload, requests) in REQUESTS {
        let request: Arc<[u8]> = workload.request(&filter.credentials()).into();
        let expected = workload.examine(load.send(&request).await?)?;
        load.run(&request, (requests / share).max(1), expected).await?;
    }
    Ok(())
}

// === impl Snapshot ===

impl Snapshot {
    async fn at(envoy: &Envoy) -> Result<Self> {
        sleep(REST).await;
        Ok(Self { resident: envoy.resident()?, vms: memory::linear(envoy.pid()) })
    }

    fn largest(&self) -> u64 {
        self.vms.iter().copied().max().unwrap_or(0)
    }
}

// === impl Report ===

impl Report {
    /// Formats the results as a table.
    pub fn table(&self) -> String {
        let sorts: Vec<&str> = REQUESTS.iter().map(|(workload, _)| workload.title()).collect();
        let what = format!("Memory in MB before and after {} requests ({}), one worker", self.requests, sorts.join("; "));
        let titles = ["", ".wasm KB", "Envoy before", "after", "largest VM before", "after"];
        page(&what, &self.envoy, &self.machine, titles, self.rows.iter().map(Row::line))
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "envoy": self.envoy,
            "workers": 1,
            "requests": self.requests,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

// === impl Row ===

impl Row {
    fn module_bytes(&self) -> Option<u64> {
        Some(self.column.filter.module()?.metadata().ok()?.len())
    }

    fn line(&self) -> Vec<String> {
        let megabytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
        vec![
            self.column.name.clone(),
            self.module_bytes().map_or_else(String::new, |bytes| (bytes / 1000).to_string()),
            megabytes(self.before.resident),
            megabytes(self.after.resident),
            megabytes(self.before.largest()),
            megabytes(self.after.largest()),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "column": self.column.name,
            "module_bytes": self.module_bytes(),
            "resident_bytes": { "before": self.before.resident, "after": self.after.resident },
            "vm_bytes": { "before": self.before.vms, "after": self.after.vms },
        })
    }
}
