//! An Envoy with one filter, or none.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Filter;
use super::client::Client;
use super::cpu;
use super::memory;
use super::workload::FIRST;

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const HTTP: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const CODEC: &str = "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
const BY_MATCH: &str = "type.googleapis.com/envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier";
const TO_CLUSTER: &str = "type.googleapis.com/envoy.extensions.router.cluster_specifiers.matcher.v3.ClusterAction";
const BY_HEADER: &str = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput";
const TEXT: &str = "type.googleapis.com/google.protobuf.StringValue";

const NATIVE: &str = "type.googleapis.com/envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager";
const LUA: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";

/// The filter's type URL.
const NAME: &str = "filter";

/// The cluster of the filter's callouts. It must not contain the filter.
pub(super) const CALLOUTS: &str = "callouts";

/// As in `envoy/envoy.yaml`.
const BUFFER: u32 = 16 * 1024 * 1024 + 64 * 1024;
const START: Duration = Duration::from_secs(30);

/// The parameters of an Envoy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) binary: &'a Path,
    pub(super) filter: &'a Filter,
    /// The server of the first provider.
    pub(super) upstream: SocketAddr,
    /// Other providers and their servers. If there are any, each provider's cluster also contains the filter, and failed requests
    /// are retried at another provider.
    pub(super) others: &'a [(&'static str, SocketAddr)],
    /// Whether there is a cluster for callouts to the first provider: [`CALLOUTS`].
    pub(super) callouts: bool,
    pub(super) workers: usize,
    /// Whether the filter is discovered by ECDS, so that [`Envoy::configure`] works.
    pub(super) reloads: bool,
}

// === impl Setup ===

impl<'a> Setup<'a> {
    /// Returns the parameters for one provider and one worker.
    pub(super) fn new(binary: &'a Path, filter: &'a Filter, upstream: SocketAddr) -> Self {
        Self { binary, filter, upstream, others: &[], callouts: false, workers: 1, reloads: false }
    }

    fn providers(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> + '_ {
        std::iter::once((FIRST, self.upstream)).chain(self.others.iter().copied())
    }
}

/// A running Envoy; dropping it stops the process.
#[derive(Debug)]
pub(super) struct Envoy {
    process: Child,
    directory: PathBuf,
}

// === impl Envoy ===

impl Envoy {
    /// Starts an Envoy in a temporary directory with this name.
    pub(super) fn start(setup: &Setup<'_>, name: &str) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("pai-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("envoy.json"), bootstrap(setup, &directory)?.to_string())?;
        if let (true, Some(filter)) = (setup.reloads, configured(setup.filter, "gate")?) {
            publish(&directory, 1, &filter)?;
        }
        let log = fs::File::create(directory.join("envoy.log"))?;
        let process = Command::new(setup.binary)
            .arg("--config-path")
            .arg(directory.join("envoy.json"))
            .arg("--admin-address-path")
            .arg(directory.join("admin"))
            .args(["--concurrency", &setup.workers.to_string()])
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", setup.binary.display()))?;
        Ok(Self { process, directory })
    }

    /// Returns the listener's address, once it listens.
    pub(super) async fn address(&mut self) -> Result<SocketAddr> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("Envoy ended with {status}:\n{}", self.log());
            }
            match self.listener().await {
                Ok(address) => return Ok(address),
                Err(error) if start.elapsed() > START => bail!("Envoy does not listen: {error:#}\n{}", self.log()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the CPU time of all its threads.
    pub(super) fn cpu(&self) -> Result<Duration> {
        cpu::time(self.process.id())
    }

    /// Returns its resident memory in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        memory::resident(self.process.id())
    }

    /// Replaces the manifests of the gateway's filter by this version.
    pub(super) fn configure(&self, version: u32, module: &Path, manifests: &str) -> Result<()> {
        publish(&self.directory, version, &plugin(module, "gate", manifests)?)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns its log.
    pub(super) fn log(&self) -> String {
        fs::read(self.directory.join("envoy.log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Returns the value of a counter or gauge.
    pub(super) async fn stat(&self, name: &str) -> Result<u64> {
        let request = format!("GET /stats?filter=^{name}$ HTTP/1.1\r\nhost: admin\r\n\r\n");
        let mut admin = self.admin().await?;
        let answer = std::str::from_utf8(&admin.send(request.as_bytes()).await?.body)?;
        answer.trim().rsplit_once(": ").and_then(|(_, value)| value.parse().ok()).with_context(|| format!("no {name}"))
    }

    /// Opens a connection to the admin port.
    pub(super) async fn admin(&self) -> Result<Client> {
        Client::connect(fs::read_to_string(self.directory.join("admin"))?.parse()?).await
    }

    async fn listener(&self) -> Result<SocketAddr> {
        let mut admin = self.admin().await?;
        admin.send(b"GET /ready HTTP/1.1\r\nhost: admin\r\n\r\n").await?;
        let listeners = admin.send(b"GET /listeners?format=json HTTP/1.1\r\nhost: admin\r\n\r\n").await?;
        let listeners: Value = serde_json::from_slice(&listeners.body)?;
        let socket = listeners.pointer("/listener_statuses/0/local_address/socket_address").context("no listener")?;
        let (address, port) = (socket.get("address").and_then(Value::as_str), socket.get("port_value").and_then(Value::as_u64));
        Ok(SocketAddr::new(address.context("no address")?.parse()?, u16::try_from(port.context("no port")?)?))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Builds the bootstrap. All subjects differ only in the filter.
fn bootstrap(setup: &Setup<'_>, directory: &Path) -> Result<Value> {
    let mut filters = Vec::from_iter(if setup.reloads { Some(discovered(directory)) } else { inline(setup.filter, "gate")? });
    filters.push(json!({ "name": "router", "typed_config": { "@type": ROUTER, "suppress_envoy_headers": true } }));
    let mut listener = json!({
        "name": "bench",
        "address": socket(SocketAddr::from(([127, 0, 0, 1], 0))),
        "per_connection_buffer_limit_bytes": BUFFER,
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": {
            "@type": HCM,
            "stat_prefix": "bench",
            "route_config": { "name": "bench", "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [if setup.others.is_empty() { route() } else { moving_route(setup) }],
            }] },
            "http_filters": filters,
        } }] }],
    });
    if let (true, Some(listener)) = (setup.workers > 1, listener.as_object_mut()) {
        // Without it, the number of connections per worker is random.
        listener.insert("connection_balance_config".into(), json!({ "exact_balance": {} }));
    }
    Ok(json!({
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": socket(SocketAddr::from(([127, 0, 0, 1], 0))) },
        "static_resources": {
            "listeners": [listener],
            "clusters": clusters(setup)?,
        },
    }))
}

fn route() -> Value {
    json!({
        "match": { "prefix": "/", "headers": [{ "name": "x-pai-provider", "string_match": { "exact": FIRST } }] },
        "request_headers_to_remove": ["x-pai-provider"],
        "route": { "cluster": FIRST, "timeout": "0s" },
    })
}

/// Builds the route that selects its cluster for each attempt, as in `envoy/fallback.yaml` with shorter back-off.
fn moving_route(setup: &Setup<'_>) -> Value {
    let action =
        |cluster: &str| json!({ "action": { "name": cluster, "typed_config": { "@type": TO_CLUSTER, "cluster": cluster } } });
    let map: serde_json::Map<_, _> = setup.providers().map(|(name, _)| (name.to_owned(), action(name))).collect();
    json!({
        "match": { "prefix": "/", "headers": [{ "name": "x-pai-provider", "present_match": true }] },
        "route": {
            "timeout": "0s",
            "inline_cluster_specifier_plugin": { "extension": { "name": "matcher", "typed_config": {
                "@type": BY_MATCH,
                "cluster_matcher": { "matcher_tree": {
                    "input": { "name": "provider", "typed_config": { "@type": BY_HEADER, "header_name": "x-pai-provider" } },
                    "exact_match_map": { "map": map },
                }, "on_no_match": action("none") },
            } } },
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset,retriable-headers",
                "retriable_headers": [{ "name": "x-pai-retry", "present_match": true }],
                "num_retries": 4,
                "per_try_timeout": "600s",
                "refresh_cluster_on_retry": true,
                "retry_back_off": { "base_interval": "0.001s", "max_interval": "0.002s" },
            },
        },
    })
}

fn clusters(setup: &Setup<'_>) -> Result<Vec<Value>> {
    let own = setup.callouts.then(|| cluster(CALLOUTS, setup.upstream));
    if setup.others.is_empty() {
        return Ok(std::iter::once(cluster(FIRST, setup.upstream)).chain(own).collect());
    }
    let filtered = setup.providers().map(|(name, address)| filtered_cluster(name, address, setup.filter));
    filtered.chain(own.map(Ok)).collect()
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(address) } }] }] },
    })
}

/// Builds a cluster with the filter in its upstream chain.
fn filtered_cluster(name: &str, address: SocketAddr, filter: &Filter) -> Result<Value> {
    let mut filters = Vec::from_iter(inline(filter, "attempt")?);
    filters.push(json!({ "name": "codec", "typed_config": { "@type": CODEC } }));
    let more = json!({
        "metadata": { "filter_metadata": { "pai": { "provider": name } } },
        "circuit_breakers": { "thresholds": [{ "max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192, "max_retries": 8192 }] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": HTTP,
            "explicit_http_config": { "http_protocol_options": {} },
            "http_filters": filters,
        } },
    });
    let mut cluster = cluster(name, address);
    if let (Some(cluster), Value::Object(more)) = (cluster.as_object_mut(), more) {
        cluster.extend(more);
    }
    Ok(cluster)
}

fn inline(filter: &Filter, root: &str) -> Result<Option<Value>> {
    Ok(configured(filter, root)?.map(|filter| json!({ "name": NAME, "typed_config": filter })))
}

/// References the filter that [`publish`] writes.
fn discovered(directory: &Path) -> Value {
    json!({ "name": NAME, "config_discovery": {
        "config_source": { "path_config_source": { "path": directory.join("filter.json") }, "resource_api_version": "V3" },
        "type_urls": [WASM],
    } })
}

fn publish(directory: &Path, version: u32, filter: &Value) -> Result<()> {
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": NAME,
        "typed_config": filter,
    });
    let draft = directory.join("filter.draft");
    fs::write(&draft, json!({ "version_info": version.to_string(), "resources": [resource] }).to_string())?;
    Ok(fs::rename(draft, directory.join("filter.json"))?)
}

fn configured(filter: &Filter, root: &str) -> Result<Option<Value>> {
    Ok(match filter {
        Filter::None => None,
        Filter::Empty(module) => Some(plugin(module, root, "")?),
        Filter::Holding(module) => Some(plugin(module, root, "hold")?),
        Filter::Gateway(module, configuration) => Some(plugin(module, root, &configuration.manifests())?),
        Filter::Native => Some(native()),
        Filter::Lua => Some(json!({ "@type": LUA, "default_source_code": { "inline_string": include_str!("peer.lua") } })),
    })
}

/// The cheapest configuration of the filter: on a route with an API type it validates requests against a schema and parses streams,
/// and it rewrites bodies unless that is disabled.
fn native() -> Value {
    json!({
        "@type": NATIVE,
        "request_handling": { "parse_unconfigured_routes": true, "reserialize_body": "DISABLE" },
        "response_handling": { "token_usage": { "include_unconfigured_routes": true } },
    })
}

/// Both positions share one VM: only the root id differs.
fn plugin(module: &Path, root: &str, manifests: &str) -> Result<Value> {
    let module = module.canonicalize().with_context(|| format!("no module at {}", module.display()))?;
    Ok(json!({ "@type": WASM, "config": {
        "name": root,
        "root_id": root,
        "failure_policy": "FAIL_RELOAD",
        "allow_on_headers_stop_iteration": true,
        "vm_config": { "vm_id": "pai", "runtime": "envoy.wasm.runtime.v8", "code": { "local": { "filename": module } } },
        "configuration": { "@type": TEXT, "value": manifests },
    } }))
}

/// Returns the version that the Envoy binary reports.
pub(super) fn version(binary: &Path) -> Result<String> {
    let output = Command::new(binary).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_once("version:").map_or(&*text, |(_, version)| version);
    Ok(version.trim().to_owned())
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
