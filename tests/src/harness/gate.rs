//! One Envoy process that runs the filter.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::certificate::{Authority, ListenerTls, Peers};
use super::client::{Recent, Reply, Request};
use super::envoy::{self, Environment, EnvoyConfig, FilterPosition};
use super::fallback::{Fallback, Retries};
use super::raw::Raw;
use super::upstream::Upstream;
use super::wait::{settled, until, within};

/// The buffer space beyond the largest body.
const SPARE: u32 = 64 * 1024;
/// How long Envoy may take to start and to compile the module for all workers on a busy machine.
const START: Duration = Duration::from_secs(60);
/// The log lines of a VM trap, and of the module's panic hook before it.
const TRACES: [&str; 2] = ["Uncaught RuntimeError", "panicked at"];
/// The log lines of a trap that [`Gate::trap`] has triggered, one each.
const PROVOKED: [&str; 2] = [
    "Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable",
    "panicked at filter/src/host/envoy/hooks.rs:",
];
/// The filter's default `maxRequestBytes`.
const LARGEST_BODY: u32 = 16 * 1024 * 1024;

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

/// Builds a [`Gate`].
#[must_use]
#[derive(Debug, Clone)]
pub struct GateBuilder {
    manifests: String,
    environment: Environment,
    module: Option<PathBuf>,
    config: EnvoyConfig,
    caller: Option<(String, String)>,
    configuration: Option<String>,
    workers: u32,
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

/// The Envoy process and its working directory.
#[derive(Debug)]
struct Envoy {
    process: Child,
    directory: PathBuf,
}

// === impl GateBuilder ===

impl GateBuilder {
    fn new() -> Self {
        Self {
            manifests: String::new(),
            environment: Vec::new(),
            module: None,
            config: EnvoyConfig {
                buffer_limit: LARGEST_BODY + SPARE,
                connect_timeout: Duration::from_millis(500),
                route_timeout: None,
                request_timeout: None,
                stop_iteration: true,
                providers: Vec::new(),
                unrouted: Vec::new(),
                tls: None,
                connection_state: Vec::new(),
                fallback: None,
                provider_labels: Vec::new(),
                bare: Vec::new(),
                full: Vec::new(),
                secured: Vec::new(),
            },
            caller: None,
            configuration: None,
            workers: 2,
        }
    }

    /// Adds manifests to the filter's configuration.
    pub fn manifests(mut self, yaml: impl AsRef<str>) -> Self {
        self.manifests.push_str(yaml.as_ref());
        self
    }

    /// Sets `routing: fixed`, in an Envoy that does not deliver the body to a paused header callback.
    pub fn routing_fixed(mut self) -> Self {
        self.config.stop_iteration = false;
        self.manifests(super::gateway("routing: fixed"))
    }

    /// Leaves `allow_on_headers_stop_iteration` off.
    pub fn without_stop_iteration(mut self) -> Self {
        self.config.stop_iteration = false;
        self
    }

    /// Routes this provider's requests and callouts to `upstream`.
    pub fn upstream(self, provider: &str, upstream: &Upstream) -> Self {
        self.address(provider, upstream.address())
    }

    /// Routes this provider's requests and callouts to an address.
    pub fn address(mut self, provider: &str, address: SocketAddr) -> Self {
        self.config.providers.push((provider.to_owned(), address));
        self
    }

    /// Leaves this provider out of the route table.
    pub fn without_route(mut self, provider: &str) -> Self {
        self.config.unrouted.push(provider.to_owned());
        self
    }

    /// Sets an environment variable of the VM.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets Envoy's per-connection buffer limit.
    pub fn buffer_limit(mut self, bytes: u32) -> Self {
        self.config.buffer_limit = bytes;
        self
    }

    /// Sets the route timeout.
    pub fn route_timeout(mut self, timeout: Duration) -> Self {
        self.config.route_timeout = Some(timeout);
        self
    }

    /// Sets how long clients may take to send a request.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = Some(timeout);
        self
    }

    /// Makes the listener use TLS with a certificate of this authority, and request client certificates.
    pub fn mtls(mut self, peers: Peers, authority: &Authority) -> Self {
        self.config.tls = Some(authority.listener(peers));
        self
    }

    /// Sets a filter state object on each connection, as a waypoint does.
    pub fn connection_state(mut self, name: &str, value: &str) -> Self {
        self.config.connection_state.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds the attempt filter to each provider's cluster, and retries failed requests at the next provider.
    pub fn fallback(mut self) -> Self {
        self.config.fallback = Some(Fallback::new(self.config.buffer_limit));
        self
    }

    /// Retries by response status instead of by the header that the attempt filter sets.
    pub fn retry_on_status(mut self) -> Self {
        self.fallback_mut().retries = Retries::ByStatus;
        self
    }

    /// Selects the cluster once per request, as Envoys before 1.39 do.
    pub fn without_cluster_refresh(mut self) -> Self {
        self.fallback_mut().refresh = false;
        self
    }

    /// Configures one route per provider, so that a retry stays in its cluster.
    pub fn with_route_per_provider(mut self) -> Self {
        self.fallback_mut().plain = true;
        self.without_cluster_refresh()
    }

    /// Omits `on_no_match` from the route: for headers that name no provider, Envoy keeps the previous cluster.
    pub fn without_no_match_cluster(mut self) -> Self {
        self.fallback_mut().dead_end = false;
        self
    }

    /// Sets the timeout of one attempt.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.fallback_mut().try_timeout = Some(timeout);
        self
    }

    /// Sets the approximate back-off before a retry.
    pub fn back_off(mut self, pause: Duration) -> Self {
        self.fallback_mut().back_off = pause;
        self
    }

    /// Sets the maximum number of retries.
    pub fn max_retries(mut self, most: u32) -> Self {
        self.fallback_mut().most = most;
        self
    }

    /// Sets the retry buffer in bytes.
    pub fn retry_buffer(mut self, bytes: u32) -> Self {
        self.fallback_mut().kept = bytes;
        self
    }

    /// Leaves the attempt filter out of this provider's cluster.
    pub fn without_attempt_filter(mut self, provider: &str) -> Self {
        self.config.bare.push(provider.to_owned());
        self
    }

    /// Opens the circuit breaker of this provider's cluster.
    pub fn circuit_open(mut self, provider: &str) -> Self {
        self.config.full.push(provider.to_owned());
        self
    }

    /// Puts another provider's name into the metadata of this provider's cluster.
    pub fn labelled_as(mut self, provider: &str, another: &str) -> Self {
        self.config.provider_labels.push((provider.to_owned(), another.to_owned()));
        self
    }

    /// Connects to this provider by TLS and verifies its name and authority.
    pub fn https(mut self, provider: &str, server: &str, authority: &Authority) -> Self {
        self.config.secured.push((provider.to_owned(), (server.to_owned(), authority.pem())));
        self
    }

    /// Adds this header to every request to the gateway, including the harness's own.
    pub fn default_header(mut self, header: &str, value: &str) -> Self {
        self.caller = Some((header.to_owned(), value.to_owned()));
        self
    }

    /// Uses this Envoy configuration (YAML) instead of the generated one.
    pub fn configuration(mut self, yaml: String) -> Self {
        self.configuration = Some(yaml);
        self
    }

    fn fallback_mut(&mut self) -> &mut Fallback {
        self.config.fallback.as_mut().expect("a gate with fallback")
    }

    /// Sets the number of workers.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Uses the module built with test hooks: [`Gate::set_clock`], [`Gate::trap`].
    pub fn with_test_hooks(self) -> Self {
        let module = hooked_module();
        self.module(module)
    }

    /// Uses another module than the filter.
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// Starts the gateway. Fails the test, with Envoy's log, unless the filter accepts its configuration.
    pub async fn start(self) -> Gate {
        let gate = self.launch().await;
        if let Err(refusal) = gate.verdict(1).await {
            panic!("the filter rejected its configuration: {refusal}");
        }
        gate
    }

    /// Starts the gateway with a configuration that the filter must reject.
    pub async fn start_rejected(self) -> RejectedConfig {
        let gate = self.launch().await;
        match gate.verdict(1).await {
            Ok(()) => panic!("the filter accepted a configuration that it had to reject"),
            Err(log) => RejectedConfig { log },
        }
    }

    async fn launch(self) -> Gate {
        let directory = new_directory();
        let bootstrap = self.configuration.clone().unwrap_or_else(|| envoy::bootstrap(&self.config, &directory).to_string());
        // JSON is valid YAML.
        fs::write(directory.join("envoy.yaml"), bootstrap).expect("a writable directory");
        self.write_filter(&directory, 1, &self.manifests);
        let mut envoy = Envoy::spawn(directory, &self.environment, self.workers);
        let admin = envoy.admin_address().await;
        let address = within(START, "Envoy listens", async || listener_address(admin)).await;
        Gate {
            address,
            admin,
            recent: Arc::default(),
            builder: self,
            version: AtomicU32::new(1),
            provoked: AtomicU32::new(0),
            envoy,
        }
    }

    fn write_filter(&self, directory: &Path, version: u32, manifests: &str) {
        let module = self.module.clone().unwrap_or_else(built_module);
        for place in self.config.positions() {
            let resource = envoy::filter(&self.config, *place, version, &module, &self.environment, manifests);
            let (_, file) = place.resource();
            let (draft, file) = (directory.join("draft"), directory.join(file));
            fs::write(&draft, resource.to_string()).expect("a writable directory");
            fs::rename(draft, file).expect("a writable directory");
        }
    }
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

// === impl Envoy ===

impl Envoy {
    fn spawn(directory: PathBuf, environment: &Environment, workers: u32) -> Self {
        let log = fs::File::create(directory.join("envoy.log")).expect("a writable directory");
        let process = Command::new(envoy_binary())
            .arg("--config-path")
            .arg(directory.join("envoy.yaml"))
            .arg("--admin-address-path")
            .arg(directory.join("admin"))
            .args(["--concurrency", &workers.to_string(), "--disable-hot-restart", "--file-flush-interval-msec", "10"])
            .args(["--log-level", "warning", "--component-log-level", "wasm:debug"])
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Envoy starts");
        Self { process, directory }
    }

    async fn admin_address(&mut self) -> SocketAddr {
        let path = self.directory.join("admin");
        until("Envoy opens its admin port", async || {
            if let Some(status) = self.process.try_wait().expect("a child process") {
                panic!("Envoy ended with {status}:\n{}", self.log());
            }
            fs::read_to_string(&path).ok()?.parse().ok()
        })
        .await
    }

    fn log(&self) -> String {
        fs::read(self.directory.join("envoy.log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::env::var_os("PAI_KEEP").is_some() {
            eprintln!("kept: {}", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Returns the address of the listener named `gate`, once it listens.
fn listener_address(admin: SocketAddr) -> Option<SocketAddr> {
    if !admin_get(admin, "/ready")?.starts_with("LIVE") {
        return None;
    }
    let listeners: Value = serde_json::from_str(&admin_get(admin, "/listeners?format=json")?).ok()?;
    let socket = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
    Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
}

/// Queries Envoy's admin interface, blocking, so that a failing test can use it, too.
fn admin_get(address: SocketAddr, path: &str) -> Option<String> {
    admin(address, "GET", path)
}

fn admin(admin: SocketAddr, method: &str, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect_timeout(&admin, Duration::from_secs(1)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(socket, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&super::raw::parse(&answer)?.body).into_owned())
}

fn new_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("pai-gate-{}-{count}", std::process::id()));
    fs::create_dir_all(&directory).expect("a temporary directory");
    directory
}

fn built_module() -> PathBuf {
    let path = std::env::var_os("PAI_FILTER_WASM");
    existing(path.map_or_else(|| target("wasm32-wasip1/release/pai_filter.wasm"), PathBuf::from), "scripts/build")
}

/// Returns the module built with test hooks.
fn hooked_module() -> PathBuf {
    let path = std::env::var_os("PAI_HOOKED_WASM");
    let path = path.map_or_else(|| target("test-hooks/wasm32-wasip1/release/pai_filter.wasm"), PathBuf::from);
    existing(path, "scripts/test e2e, which builds it")
}

/// Returns a module that `remedy` builds, by its path below `target`.
pub fn built(module: &str, remedy: &str) -> PathBuf {
    existing(target(module), remedy)
}

fn target(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(module)
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| panic!("no module at {}: run {remedy}", path.display()))
}

/// Returns the Envoy binary under test.
pub fn envoy_binary() -> PathBuf {
    let path = std::env::var_os("PAI_ENVOY").map_or_else(|| cached("envoy-1.40.0/envoy"), PathBuf::from);
    assert!(path.is_file(), "no Envoy at {}: run scripts/install-envoy", path.display());
    path
}

/// Returns the directory where the official OpenAI clients are installed.
pub fn installed_clients() -> PathBuf {
    let path = std::env::var_os("PAI_CLIENTS").map_or_else(|| cached("clients"), PathBuf::from);
    assert!(path.join("pins").is_file(), "no clients at {}: run scripts/install-clients", path.display());
    path
}

fn cached(what: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.expect("HOME is set").join("pai").join(what)
}
