//! One Envoy process that runs the filter.

mod artifacts;
mod builder;
mod process;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::certificate::ListenerTls;
use super::client::{Recent, Reply, Request};
use super::envoy::{CONTROL_SOCKET, FilterPosition};
use super::raw::Raw;
use super::upstream::Upstream;
use super::wait::{settled, until};
use process::{Envoy, admin, admin_get};

pub use artifacts::{built, envoy_binary, installed_clients};
pub use builder::GateBuilder;

/// The log lines of a VM trap, and of the module's panic hook before it.
const TRACES: [&str; 2] = ["Uncaught RuntimeError", "panicked at"];
/// The log lines of a trap that [`Gate::trap`] has triggered, one each.
const PROVOKED: [&str; 2] = [
    "Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable",
    "panicked at filter/src/host/envoy/hooks.rs:",
];
/// An Envoy with two workers that runs the filter. Dropping it stops Envoy and fails the test if the module trapped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    admin: SocketAddr,
    recent: Recent,
    builder: GateBuilder,
    version: AtomicU32,
    /// The number of traps that the test has triggered.
    provoked: AtomicU32,
    // Declared last, so that Envoy is still running when the report is written.
    envoy: Envoy,
}

/// An Envoy whose filter rejected its configuration.
#[derive(Debug)]
pub struct RejectedConfig {
    /// The log of Envoy and the filter.
    pub log: String,
}

/// One item of `GET /pai/v1/model-providers`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// `metadata.name`.
    pub name: String,
    /// Tokens settled today.
    pub used_today: u64,
    /// Tokens reserved.
    pub reserved: u64,
    /// The daily cap, if there is one.
    pub max_tokens_per_day: Option<u64>,
    /// When the provider last served a request.
    pub last_used: Option<String>,
    /// Seconds since the provider's ledger record was created.
    pub age: u64,
}

// === impl Gate ===

impl Gate {
    /// Returns a builder.
    pub fn builder() -> GateBuilder {
        GateBuilder::new()
    }

    /// Starts a gateway with these manifests and one provider, `vllm-local`, served by `upstream`.
    pub async fn start(manifests: impl AsRef<str>, upstream: &Upstream) -> Self {
        Self::builder().manifests(manifests).upstream("vllm-local", upstream).start().await
    }

    /// Returns the listener's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Builds a request.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let tls = self.builder.config.tls.as_ref().map(ListenerTls::client);
        let request = Request::new(self.address, tls, Arc::clone(&self.recent), method, path);
        match &self.builder.caller {
            Some((header, value)) => request.header(header, value),
            None => request,
        }
    }

    /// Builds a request to the control listener.
    pub fn control(&self, method: &str, path: &str) -> Request {
        Request::over_socket(self.control_socket(), Arc::clone(&self.recent), method, path)
    }

    /// Returns the path of the control listener's socket.
    pub fn control_socket(&self) -> PathBuf {
        self.envoy.directory.join(CONTROL_SOCKET)
    }

    /// Builds a `GET` request.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// Builds a `POST` request.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }

    /// Builds a chat completion request with this body.
    pub fn chat(&self, body: &Value) -> Request {
        self.post("/v1/chat/completions").json(body)
    }

    /// Opens a connection on which the test writes raw bytes.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// Returns the ledger's state of this provider.
    pub async fn provider(&self, name: &str) -> Provider {
        let mut reply = self.get("/pai/v1/model-providers").send().await.ok().json();
        let items = reply["items"].as_array_mut().expect("items").iter_mut();
        let found = items.map(Value::take).find(|item| item["name"] == name).expect("the provider is listed");
        serde_json::from_value(found).expect("the documented fields")
    }

    /// Waits until nothing is reserved for `vllm-local`, within the documented time, and returns the tokens used.
    pub async fn used(&self) -> u64 {
        self.used_of("vllm-local").await
    }

    /// Like [`Gate::used`], for another provider.
    pub async fn used_of(&self, provider: &str) -> u64 {
        let found = settled("all reservations are settled", async || {
            Some(self.provider(provider).await).filter(|provider| provider.reserved == 0)
        });
        found.await.used_today
    }

    /// Sets the filter's clock, in all workers, to this number of seconds after (or before) the last midnight.
    pub async fn set_clock(&self, since_midnight: i64) -> Reply {
        let now = 86_400 - i64::try_from(super::rate_limit_headers::seconds_to_midnight()).expect("a day");
        self.get("/v1/models").header("x-test-clock", (since_midnight - now).to_string()).send().await
    }

    /// Makes the VM that serves a new connection trap, unless it has trapped already. Returns the client's response.
    pub async fn trap(&self) -> Option<Reply> {
        self.provoked.fetch_add(1, Ordering::Relaxed);
        let mut raw = self.raw().await;
        raw.write("GET /v1/models HTTP/1.1\r\nhost: gate.test\r\nx-test-trap: 1\r\n\r\n").await.reply().await
    }

    /// Drains the listeners: no new connections are accepted.
    pub fn drain(&self) {
        let drained = admin(self.admin, "POST", "/drain_listeners").expect("Envoy's admin interface");
        assert_eq!(drained.trim(), "OK");
    }

    /// Replaces the filter's configuration and waits for the result. `Err` contains what was logged meanwhile.
    pub async fn reconfigure(&self, manifests: impl AsRef<str>) -> Result<(), String> {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.logs().len();
        self.builder.write_filter(&self.envoy.directory, version, manifests.as_ref());
        self.verdict(version).await.map_err(|log| log.get(before..).unwrap_or_default().to_owned())
    }

    /// Replaces the secret that Envoy adds in a cluster, and waits until Envoy has read it.
    pub async fn rotate_secret(&self, cluster: &str, value: &str) {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        builder::write_secret(&self.envoy.directory, cluster, value, version);
        until("Envoy has read the secret", async || {
            self.stats(&format!("sds.{cluster}.update_success")).values().any(|reads| *reads > 1).then_some(())
        })
        .await;
    }

    /// Returns Envoy's counters and gauges whose names contain `part`.
    pub fn stats(&self, part: &str) -> BTreeMap<String, u64> {
        let listing = admin_get(self.admin, "/stats?type=All").unwrap_or_default();
        let numbers = listing.lines().filter_map(|line| line.split_once(": "));
        let numbers = numbers.filter(|(name, _)| name.contains(part));
        numbers.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// Returns all statistics in the Prometheus format.
    pub fn prometheus(&self) -> String {
        admin_get(self.admin, "/stats/prometheus").unwrap_or_default()
    }

    /// Returns the response of Envoy's admin interface for this path.
    pub fn admin(&self, path: &str) -> String {
        admin_get(self.admin, path).unwrap_or_else(|| panic!("Envoy's admin interface has no {path}"))
    }

    /// Returns the resident memory of the Envoy process in bytes, including the VMs.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.envoy.process.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Returns the CPU time that the Envoy process has used.
    pub fn cpu(&self) -> Duration {
        crate::bench::cpu::time(self.envoy.process.id()).expect("a running process")
    }

    /// Returns the log of Envoy and the filter.
    pub fn logs(&self) -> String {
        self.envoy.log()
    }

    /// Waits for a line of the access log that satisfies `wanted`.
    pub async fn access_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until("the access log has the line", async || self.access_lines().into_iter().find(&wanted)).await
    }

    /// Returns all lines of the access log.
    pub fn access_lines(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.envoy.directory.join("access.jsonl")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Fails the test if the module trapped in any VM, except by [`Gate::trap`]. Dropping a gateway checks this, too.
    #[track_caller]
    pub fn assert_no_trap(&self) {
        let log = self.logs();
        let traces = log.lines().filter(|line| TRACES.iter().any(|trace| line.contains(trace)));
        let (provoked, other): (Vec<&str>, Vec<&str>) =
            traces.partition(|line| self.has_provoked() && PROVOKED.iter().any(|known| line.contains(known)));
        assert_eq!(other, Vec::<&str>::new(), "the module trapped");
        let of = |known: &str| provoked.iter().filter(|line| line.contains(known)).count();
        assert_eq!(of(PROVOKED[0]), of(PROVOKED[1]), "a VM trapped without being triggered: {provoked:?}");
        let traps = of(PROVOKED[1]) as u64;
        assert!(traps <= u64::from(self.provoked.load(Ordering::Relaxed)), "more traps than were triggered: {provoked:?}");
        // Each plugin of the VM counts one reload; those of clusters share one name.
        let most = traps * self.builder.config.providers.len() as u64;
        let reloads = self.stats("vm_reload");
        let reloaded =
            |(name, count): (&String, &u64)| if name.ends_with("_backoff") { traps > 0 || *count == 0 } else { *count <= most };
        assert!(reloads.iter().all(reloaded), "a VM was replaced: {reloads:?}");
        assert!(admin_get(self.admin, "/ready").is_some(), "Envoy has stopped");
    }

    fn has_provoked(&self) -> bool {
        self.provoked.load(Ordering::Relaxed) > 0
    }

    /// Returns `Ok` if the configuration of this version was accepted at all positions, else the log.
    async fn verdict(&self, version: u32) -> Result<(), String> {
        if self.builder.configuration.is_some() {
            // Envoy itself rejects an invalid configuration.
            return Ok(());
        }
        for place in self.builder.config.positions() {
            if !self.taken(*place, version).await {
                return Err(self.logs());
            }
        }
        Ok(())
    }

    async fn taken(&self, place: FilterPosition, version: u32) -> bool {
        let (resource, _) = place.resource();
        let path = format!("/stats?filter=http_filter.{resource}&type=All");
        until("the filter has accepted or rejected its configuration", async || {
            let stats = admin_get(self.admin, &path)?;
            let stat = |name: &str| stats.lines().find_map(|line| line.rsplit_once(name)).map_or("", |(_, value)| value);
            let number = |name: &str| stat(name).parse().unwrap_or(0);
            let handled: u32 = number(".update_success: ") + number(".update_rejected: ");
            (handled >= version).then(|| stat(".version_text: ") == format!("\"{version}\""))
        })
        .await
    }

    fn report(&self) -> String {
        let mut text = String::from("\n--- the gate of the failed test ---\n");
        let _ = writeln!(text, "{}", self.builder.manifests);
        for exchange in self.recent.lock().expect("not poisoned").iter() {
            let _ = writeln!(text, "--- {exchange}");
        }
        let _ = writeln!(text, "--- stats");
        for part in ["wasm", "http.gate.downstream_rq_", "upstream_rq_"] {
            for (name, value) in self.stats(part).iter().filter(|(_, value)| **value != 0) {
                let _ = writeln!(text, "{name}: {value}");
            }
        }
        let log = self.logs();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.len().saturating_sub(40);
        let _ = writeln!(text, "--- log\n{}", lines[tail..].join("\n"));
        text
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        } else {
            self.assert_no_trap();
        }
    }
}
