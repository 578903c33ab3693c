//! The effect of many access keys: the time until a changed configuration is in force, and memory.
//!
//! There is one Envoy with two workers for each number of keys. Its filter is a resource of its own (ECDS by file). The file is
//! replaced, and one connection to each worker requests the list of models until it contains the new model. A worker answers no
//! requests while it loads a configuration, so the longest response time shows how long loading takes, and bounds the effect on
//! other requests.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::envoy::{self, Envoy, Setup};
use super::machine::Machine;
use super::table::{Spread, page};
use super::upstream;
use super::{Configuration, Filter};

/// The numbers of configured keys.
const KEYS: [usize; 3] = [0, 1_000, 10_000];
const WORKERS: usize = 2;

/// The pause between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(1);
/// The deadline for a configuration.
const LIMIT: Duration = Duration::from_secs(60);
/// Time for Envoy to become idle.
const REST: Duration = Duration::from_millis(500);

/// The parameters of the measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// The filter.
    pub module: PathBuf,
    /// How often the configuration is replaced.
    pub rounds: usize,
}

/// The results of the measurement.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    envoy: String,
    rows: Vec<Row>,
}

/// The results for one number of keys.
#[derive(Debug)]
struct Row {
    keys: usize,
    /// The size of the configuration in bytes.
    size: usize,
    /// Resident memory in bytes: at first, and after the last change.
    before: u64,
    after: u64,
    changes: Vec<Change>,
}

/// One change of the configuration.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// The time from writing the file until the last worker loaded it, in milliseconds.
    took: f64,
    /// The longest response time meanwhile, in milliseconds.
    stall: f64,
}

/// An Envoy under measurement, and a connection to each worker.
struct Subject<'a> {
    plan: &'a Plan,
    configuration: Configuration,
    envoy: Envoy,
    clients: Vec<Client>,
    request: String,
}

/// Runs the measurement and reports its progress to `progress`.
pub async fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::here();
    let standin = upstream::start().await?;
    let mut rows = Vec::with_capacity(KEYS.len());
    for keys in KEYS {
        progress(&format!("{keys} keys: Envoy starts"));
        let configuration = Configuration::Keys(keys);
        let filter = Filter::Gateway(plan.module.clone(), configuration);
        let setup = Setup { workers: WORKERS, reloads: true, ..Setup::new(&plan.envoy, &filter, standin.addr()) };
        let mut subject = Subject::start(&plan, configuration, &setup, &format!("reload-{keys}")).await?;
        rows.push(subject.row(keys, &mut progress).await.with_context(|| subject.envoy.log())?);
    }
    Ok(Report { machine, envoy: envoy::version(&plan.envoy)?, rows })
}

// === impl Subject ===

impl<'a> Subject<'a> {
    async fn start(plan: &'a Plan, configuration: Configuration, setup: &Setup<'_>, name: &str) -> Result<Self> {
        let mut envoy = Envoy::start(setup, name)?;
        let address = envoy.address().await?;
        let clients = Client::connect_all(address, WORKERS).await?;
        let credentials = configuration.credentials();
        let request = format!("GET /v1/models HTTP/1.1\r\nhost: gateway.test:8080\r\n{credentials}\r\n");
        Ok(Self { plan, configuration, envoy, clients, request })
    }

    async fn row(&mut self, keys: usize, progress: &mut impl FnMut(&str)) -> Result<Row> {
        for client in &mut self.clients {
            client.send(self.request.as_bytes()).await?;
        }
        sleep(REST).await;
        let before = self.envoy.resident()?;
        let mut changes = Vec::with_capacity(self.plan.rounds);
        for (number, version) in (1..=self.plan.rounds).zip(2..) {
            progress(&format!("{keys} keys: change {number} of {}", self.plan.rounds));
            changes.push(self.change(version).await?);
            sleep(REST).await;
        }
        let size = self.configuration.manifests().len();
        Ok(Row { keys, size, before, after: self.envoy.resident()?, changes })
    }

    async fn change(&mut self, version: u32) -> Result<Change> {
        let model = format!("revision-{version}");
        let manifests = self.configuration.revision(&model);
        let start = Instant::now();
        self.envoy.configure(version, &self.plan.module, &manifests)?;
        let mut waits = JoinSet::new();
        for client in self.clients.drain(..) {
            waits.spawn(wait_for(client, self.request.clone(), model.clone(), start));
        }
        let mut change = Change { took: 0.0, stall: 0.0 };
        while let Some(ended) = waits.join_next().await {
            let (client, took, stall) = ended??;
            self.clients.push(client);
            change = Change { took: change.took.max(milliseconds(took)), stall: change.stall.max(milliseconds(stall)) };
        }
        Ok(change)
    }
}

/// Requests the list until it contains `model`. Returns the time since `start` and the longest response time.
async fn wait_for(mut client: Client, request: String, model: String, start: Instant) -> Result<(Client, Duration, Duration)> {
    let (listed, mut longest) = (format!("/{model}\""), Duration::ZERO);
    loop {
        let asked = Instant::now();
        let answer = client.send(request.as_bytes()).await?;
        longest = longest.max(asked.elapsed());
        if String::from_utf8_lossy(&answer.body).contains(&listed) {
            return Ok((client, start.elapsed(), longest));
        }
        ensure!(start.elapsed() < LIMIT, "the configuration is not in force after {LIMIT:?}");
        sleep(PAUSE).await;
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

// === impl Report ===

impl Report {
    /// Formats the results as a table.
    pub fn table(&self) -> String {
        let rounds = self.rows.first().map_or(0, |row| row.changes.len());
        let what = format!("A changed configuration, {WORKERS} workers: median (min–max) of {rounds} changes");
        let titles = ["keys", "KB", "in force after ms", "a worker stalls ms", "Envoy's memory MB", "after the changes MB"];
        page(&what, &self.envoy, &self.machine, titles, self.rows.iter().map(Row::line))
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "envoy": self.envoy,
            "workers": WORKERS,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

// === impl Row ===

impl Row {
    fn line(&self) -> Vec<String> {
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        vec![
            self.keys.to_string(),
            (self.size / 1000).to_string(),
            self.spread(|change| change.took).show(0),
            self.spread(|change| change.stall).show(0),
            megabytes(self.before),
            megabytes(self.after),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "keys": self.keys,
            "configuration_bytes": self.size,
            "in_force_ms": self.spread(|change| change.took).json(),
            "stall_ms": self.spread(|change| change.stall).json(),
            "resident_bytes": { "before": self.before, "after": self.after },
        })
    }

    fn spread(&self, what: fn(&Change) -> f64) -> Spread {
        Spread::of(self.changes.iter().map(what).collect())
    }
}
