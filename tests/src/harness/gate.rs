//! One Envoy with the filter in it.

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

/// What room beyond the largest body Envoy's buffers keep.
const SPARE: u32 = 64 * 1024;
/// How long Envoy may take to compile the module for all its workers, on a machine that does other things too.
const START: Duration = Duration::from_secs(60);
/// What Envoy logs when a VM traps, and the module's panic hook before it.
const TRACES: [&str; 2] = ["Uncaught RuntimeError", "panicked at"];
/// What they log of a trap that [`Gate::trap`] has provoked, one line each.
const PROVOKED: [&str; 2] = [
    "Function: proxy_on_request_headers failed: Uncaught RuntimeError: unreachable",
    "panicked at filter/src/host/envoy/hooks.rs:",
];
/// The filter's default `maxRequestBytes`.
const LARGEST_BODY: u32 = 16 * 1024 * 1024;

/// An Envoy with two workers, and the filter in it. Ends with its Envoy; fails the test if the module trapped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    admin: SocketAddr,
    recent: Recent,
    builder: GateBuilder,
    version: AtomicU32,
    /// Traps that the test has provoked.
    provoked: AtomicU32,
    // Last, so that it is still running while the others are reported.
    envoy: Envoy,
}

/// How a gate is to be.
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

/// An Envoy that was given a configuration which the filter did not take.
#[derive(Debug)]
pub struct RejectedConfig {
    /// What Envoy and the filter logged.
    pub log: String,
}

/// One line of `GET /pai/v1/model-providers`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// `metadata.name`.
    pub name: String,
    /// Tokens settled today.
    pub used_today: u64,
    /// Tokens admitted and not settled.
    pub reserved: u64,
    /// The daily cap, if there is one.
    pub max_tokens_per_day: Option<u64>,
    /// When it last served anything.
    pub last_used: Option<String>,
    /// Seconds since the ledger first saw it.
    pub age: u64,
}

/// The process and the directory it works in.
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

    /// `routing: fixed`, in an Envoy that does not let a paused header callback see the body.
    pub fn routing_fixed(mut self) -> Self {
        self.config.stop_iteration = false;
        self.manifests(super::gateway("routing: fixed"))
    }

    /// Leaves `allow_on_headers_stop_iteration` off.
    pub fn without_stop_iteration(mut self) -> Self {
        self.config.stop_iteration = false;
        self
    }

    /// Sends what is for this provider to `upstream`; also its callouts.
    pub fn upstream(self, provider: &str, upstream: &Upstream) -> Self {
        self.address(provider, upstream.address())
    }

    /// Sends what is for this provider to an address.
    pub fn address(mut self, provider: &str, address: SocketAddr) -> Self {
        self.config.providers.push((provider.to_owned(), address));
        self
    }

    /// Leaves this provider out of the route table.
    pub fn without_route(mut self, provider: &str) -> Self {
        self.config.unrouted.push(provider.to_owned());
        self
    }

    /// Hands an environment variable to the VM.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Envoy's own buffers hold bodies of this many bytes and little more.
    pub fn buffer_limit(mut self, bytes: u32) -> Self {
        self.config.buffer_limit = bytes;
        self
    }

    /// The routes wait no longer for an answer.
    pub fn route_timeout(mut self, timeout: Duration) -> Self {
        self.config.route_timeout = Some(timeout);
        self
    }

    /// Clients may take no longer to send a request.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = Some(timeout);
        self
    }

    /// The listener speaks TLS, with a certificate of this authority, and asks its peers for theirs.
    pub fn mtls(mut self, peers: Peers, authority: &Authority) -> Self {
        self.config.tls = Some(authority.listener(peers));
        self
    }

    /// Filter state that another part of the proxy gives each connection, as a waypoint does.
    pub fn connection_state(mut self, name: &str, value: &str) -> Self {
        self.config.connection_state.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Every provider's cluster has the attempt filter, and requests that fail go on to the next provider.
    pub fn fallback(mut self) -> Self {
        self.config.fallback = Some(Fallback::new(self.config.buffer_limit));
        self
    }

    /// Envoy tries again by the answer's status, and not by what the attempt filter says.
    pub fn retry_on_status(mut self) -> Self {
        self.fallback_mut().retries = Retries::ByStatus;
        self
    }

    /// An Envoy that chooses the cluster once and stays with it, as those before 1.39 do.
    pub fn without_cluster_refresh(mut self) -> Self {
        self.fallback_mut().refresh = false;
        self
    }

    /// A route for each provider, with which every Envoy stays with its cluster.
    pub fn with_route_per_provider(mut self) -> Self {
        self.fallback_mut().plain = true;
        self.without_cluster_refresh()
    }

    /// A route that says nothing of headers which name no provider: Envoy then stays with the cluster before.
    pub fn without_no_match_cluster(mut self) -> Self {
        self.fallback_mut().dead_end = false;
        self
    }

    /// How long one provider may take until its answer begins.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.fallback_mut().try_timeout = Some(timeout);
        self
    }

    /// About how long Envoy waits before it tries again.
    pub fn back_off(mut self, pause: Duration) -> Self {
        self.fallback_mut().back_off = pause;
        self
    }

    /// Envoy tries again no more often than that.
    pub fn max_retries(mut self, most: u32) -> Self {
        self.fallback_mut().most = most;
        self
    }

    /// Envoy keeps so many bytes of a request for another try.
    pub fn retry_buffer(mut self, bytes: u32) -> Self {
        self.fallback_mut().kept = bytes;
        self
    }

    /// The cluster of this provider has no attempt filter, although the others have one.
    pub fn without_attempt_filter(mut self, provider: &str) -> Self {
        self.config.bare.push(provider.to_owned());
        self
    }

    /// The cluster of this provider is full: its circuit breaker is open.
    pub fn circuit_open(mut self, provider: &str) -> Self {
        self.config.full.push(provider.to_owned());
        self
    }

    /// The cluster of this provider says that it is another's.
    pub fn labelled_as(mut self, provider: &str, another: &str) -> Self {
        self.config.provider_labels.push((provider.to_owned(), another.to_owned()));
        self
    }

    /// This provider is behind TLS: it is to show a certificate of that name, signed by the authority.
    pub fn https(mut self, provider: &str, server: &str, authority: &Authority) -> Self {
        self.config.secured.push((provider.to_owned(), (server.to_owned(), authority.pem())));
        self
    }

    /// Every request that is sent to the gate has this header, the ones that the harness sends for itself too.
    pub fn default_header(mut self, header: &str, value: &str) -> Self {
        self.caller = Some((header.to_owned(), value.to_owned()));
        self
    }

    /// This whole configuration of Envoy, in YAML, and nothing of the harness's own.
    pub fn configuration(mut self, yaml: String) -> Self {
        self.configuration = Some(yaml);
        self
    }

    fn fallback_mut(&mut self) -> &mut Fallback {
        self.config.fallback.as_mut().expect("a gate with fallback")
    }

    /// Envoy has so many workers.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// The filter with what tests may do to it: [`Gate::set_clock`], [`Gate::trap`].
    pub fn with_test_hooks(self) -> Self {
        let module = hooked_module();
        self.module(module)
    }

    /// Another module than the filter.
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// Starts it. Fails the test, with Envoy's log, unless the filter takes its configuration.
    pub async fn start(self) -> Gate {
        let gate = self.launch().await;
        if let Err(refusal) = gate.verdict(1).await {
            panic!("the filter did not take its configuration: {refusal}");
        }
        gate
    }

    /// Starts it with a configuration that is to be refused.
    pub async fn start_rejected(self) -> RejectedConfig {
        let gate = self.launch().await;
        match gate.verdict(1).await {
            Ok(()) => panic!("the filter took a configuration that it had to refuse"),
            Err(log) => RejectedConfig { log },
        }
    }

    async fn launch(self) -> Gate {
        let directory = new_directory();
        let bootstrap = self.configuration.clone().unwrap_or_else(|| envoy::bootstrap(&self.config, &directory).to_string());
        // JSON is YAML.
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
    /// A gate to be described.
    pub fn builder() -> GateBuilder {
        GateBuilder::new()
    }

    /// A gate with these manifests and one provider, `vllm-local`, behind which is `upstream`.
    pub async fn start(manifests: impl AsRef<str>, upstream: &Upstream) -> Self {
        Self::builder().manifests(manifests).upstream("vllm-local", upstream).start().await
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request to be described and sent.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let tls = self.builder.config.tls.as_ref().map(ListenerTls::client);
        let request = Request::new(self.address, tls, Arc::clone(&self.recent), method, path);
        match &self.builder.caller {
            Some((header, value)) => request.header(header, value),
            None => request,
        }
    }

    /// A `GET` to be sent.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// A `POST` to be sent.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }

    /// A chat completion with this body.
    pub fn chat(&self, body: &Value) -> Request {
        self.post("/v1/chat/completions").json(body)
    }

    /// A connection on which the test writes the bytes itself.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// What the ledger says of this provider.
    pub async fn provider(&self, name: &str) -> Provider {
        let mut reply = self.get("/pai/v1/model-providers").send().await.ok().json();
        let items = reply["items"].as_array_mut().expect("items").iter_mut();
        let found = items.map(Value::take).find(|item| item["name"] == name).expect("the provider is listed");
        serde_json::from_value(found).expect("the contract's fields")
    }

    /// Waits, as long as the contract allows, until nothing is reserved for `vllm-local`, and says what was used.
    pub async fn used(&self) -> u64 {
        self.used_of("vllm-local").await
    }

    /// The same of another provider.
    pub async fn used_of(&self, provider: &str) -> u64 {
        let found = settled("all reservations are settled", async || {
            Some(self.provider(provider).await).filter(|provider| provider.reserved == 0)
        });
        found.await.used_today
    }

    /// Sets the clock of the filter, in all its workers, to so many seconds after the last midnight, or before it.
    pub async fn set_clock(&self, since_midnight: i64) -> Reply {
        let now = 86_400 - i64::try_from(super::rate_limit_headers::seconds_to_midnight()).expect("a day");
        self.get("/v1/models").header("x-test-clock", (since_midnight - now).to_string()).send().await
    }

    /// Makes the VM trap that serves a new connection, unless it is dead already. Returns what the client is answered.
    pub async fn trap(&self) -> Option<Reply> {
        self.provoked.fetch_add(1, Ordering::Relaxed);
        let mut raw = self.raw().await;
        raw.write("GET /v1/models HTTP/1.1\r\nhost: gate.test\r\nx-test-trap: 1\r\n\r\n").await.reply().await
    }

    /// Takes no new connections any more.
    pub fn drain(&self) {
        let drained = admin(self.admin, "POST", "/drain_listeners").expect("Envoy's admin interface");
        assert_eq!(drained.trim(), "OK");
    }

    /// Gives the filter another configuration and waits for its verdict: `Err` holds what was logged meanwhile.
    pub async fn reconfigure(&self, manifests: impl AsRef<str>) -> Result<(), String> {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.logs().len();
        self.builder.write_filter(&self.envoy.directory, version, manifests.as_ref());
        self.verdict(version).await.map_err(|log| log.get(before..).unwrap_or_default().to_owned())
    }

    /// Envoy's counters and gauges whose names contain `part`.
    pub fn stats(&self, part: &str) -> BTreeMap<String, u64> {
        let listing = admin_get(self.admin, "/stats?type=All").unwrap_or_default();
        let numbers = listing.lines().filter_map(|line| line.split_once(": "));
        let numbers = numbers.filter(|(name, _)| name.contains(part));
        numbers.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// All statistics in the form of Prometheus.
    pub fn prometheus(&self) -> String {
        admin_get(self.admin, "/stats/prometheus").unwrap_or_default()
    }

    /// What Envoy's admin interface says under this path.
    pub fn admin(&self, path: &str) -> String {
        admin_get(self.admin, path).unwrap_or_else(|| panic!("Envoy's admin interface has no {path}"))
    }

    /// Bytes of memory that Envoy's process has resident, the VMs' included.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.envoy.process.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// CPU time that Envoy's process has used so far.
    pub fn cpu(&self) -> Duration {
        crate::bench::cpu::time(self.envoy.process.id()).expect("a running process")
    }

    /// What Envoy and the filter have logged so far.
    pub fn logs(&self) -> String {
        self.envoy.log()
    }

    /// Waits until a line of the access log satisfies `wanted`.
    pub async fn access_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until("the access log has the line", async || self.access_lines().into_iter().find(&wanted)).await
    }

    /// All lines of the access log so far.
    pub fn access_lines(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.envoy.directory.join("access.jsonl")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Fails the test if the module trapped in any VM, otherwise than by [`Gate::trap`]. Every gate checks it once more when it ends.
    #[track_caller]
    pub fn assert_no_trap(&self) {
        let log = self.logs();
        let traces = log.lines().filter(|line| TRACES.iter().any(|trace| line.contains(trace)));
        let (provoked, other): (Vec<&str>, Vec<&str>) =
            traces.partition(|line| self.has_provoked() && PROVOKED.iter().any(|known| line.contains(known)));
        assert_eq!(other, Vec::<&str>::new(), "the module trapped");
        let of = |known: &str| provoked.iter().filter(|line| line.contains(known)).count();
        assert_eq!(of(PROVOKED[0]), of(PROVOKED[1]), "a VM trapped without a reason: {provoked:?}");
        let traps = of(PROVOKED[1]) as u64;
        assert!(traps <= u64::from(self.provoked.load(Ordering::Relaxed)), "more traps than were provoked: {provoked:?}");
        // Each plugin of the VM says that it was replaced, and those of clusters say so under one name.
        let most = traps * self.builder.config.providers.len() as u64;
        let reloads = self.stats("vm_reload");
        let reloaded =
            |(name, count): (&String, &u64)| if name.ends_with("_backoff") { traps > 0 || *count == 0 } else { *count <= most };
        assert!(reloads.iter().all(reloaded), "a VM was replaced: {reloads:?}");
        assert!(admin_get(self.admin, "/ready").is_some(), "Envoy is gone");
    }

    fn has_provoked(&self) -> bool {
        self.provoked.load(Ordering::Relaxed) > 0
    }

    /// Whether the configuration of that version was taken, at all its positions; if not, the log.
    async fn verdict(&self, version: u32) -> Result<(), String> {
        if self.builder.configuration.is_some() {
            // Envoy has refused a bad one by itself.
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
        until("the filter has judged its configuration", async || {
            let stats = admin_get(self.admin, &path)?;
            let stat = |name: &str| stats.lines().find_map(|line| line.rsplit_once(name)).map_or("", |(_, value)| value);
            let number = |name: &str| stat(name).parse().unwrap_or(0);
            let judged: u32 = number(".update_success: ") + number(".update_rejected: ");
            (judged >= version).then(|| stat(".version_text: ") == format!("\"{version}\""))
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

/// Where the listener named `gate` listens, once it does.
fn listener_address(admin: SocketAddr) -> Option<SocketAddr> {
    if !admin_get(admin, "/ready")?.starts_with("LIVE") {
        return None;
    }
    let listeners: Value = serde_json::from_str(&admin_get(admin, "/listeners?format=json")?).ok()?;
    let socket = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
    Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
}

/// Asks Envoy's admin interface, blocking, so that a failing test can ask too.
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

/// The module with what tests may do to it.
fn hooked_module() -> PathBuf {
    let path = std::env::var_os("PAI_HOOKED_WASM");
    let path = path.map_or_else(|| target("test-hooks/wasm32-wasip1/release/pai_filter.wasm"), PathBuf::from);
    existing(path, "scripts/test e2e, which builds it")
}

/// A module that `remedy` builds, by its path below `target`.
pub fn built(module: &str, remedy: &str) -> PathBuf {
    existing(target(module), remedy)
}

fn target(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(module)
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| panic!("no module at {}: run {remedy}", path.display()))
}

/// The Envoy that the suite runs.
pub fn envoy_binary() -> PathBuf {
    let path = std::env::var_os("PAI_ENVOY").map_or_else(|| cached("envoy-1.40.0/envoy"), PathBuf::from);
    assert!(path.is_file(), "no Envoy at {}: run scripts/install-envoy", path.display());
    path
}

/// Where the official OpenAI clients are installed.
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
