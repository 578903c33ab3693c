//! An Envoy with one worker and one filter, or none.

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
use super::workload::MODEL;

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const TEXT: &str = "type.googleapis.com/google.protobuf.StringValue";

/// As `envoy/envoy.yaml` has it.
const BUFFER: u32 = 16 * 1024 * 1024 + 64 * 1024;
const START: Duration = Duration::from_secs(30);

/// A running Envoy; ends when dropped.
#[derive(Debug)]
pub(super) struct Envoy {
    process: Child,
    directory: PathBuf,
}

// === impl Envoy ===

impl Envoy {
    /// Starts one in a directory of its own.
    pub(super) fn start(binary: &Path, filter: &Filter, upstream: SocketAddr, directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("envoy.json"), bootstrap(filter, upstream)?.to_string())?;
        let log = fs::File::create(directory.join("envoy.log"))?;
        let process = Command::new(binary)
            .arg("--config-path")
            .arg(directory.join("envoy.json"))
            .arg("--admin-address-path")
            .arg(directory.join("admin"))
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { process, directory })
    }

    /// Where it listens, once it does.
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

    /// CPU time of all its threads so far.
    pub(super) fn cpu(&self) -> Result<Duration> {
        cpu::time(self.process.id())
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        fs::read(self.directory.join("envoy.log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    async fn listener(&self) -> Result<SocketAddr> {
        let mut admin = Client::connect(fs::read_to_string(self.directory.join("admin"))?.parse()?).await?;
        admin.ask(b"GET /ready HTTP/1.1\r\nhost: admin\r\n\r\n").await?;
        let listeners = admin.ask(b"GET /listeners?format=json HTTP/1.1\r\nhost: admin\r\n\r\n").await?;
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

/// Alike for all but the filter.
fn bootstrap(filter: &Filter, upstream: SocketAddr) -> Result<Value> {
    let mut filters = Vec::from_iter(wasm(filter)?);
    filters.push(json!({ "name": "router", "typed_config": { "@type": ROUTER, "suppress_envoy_headers": true } }));
    Ok(json!({
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": socket(SocketAddr::from(([127, 0, 0, 1], 0))) },
        "static_resources": {
            "listeners": [{
                "name": "bench",
                "address": socket(SocketAddr::from(([127, 0, 0, 1], 0))),
                "per_connection_buffer_limit_bytes": BUFFER,
                "filter_chains": [{ "filters": [{ "name": "http", "typed_config": {
                    "@type": HCM,
                    "stat_prefix": "bench",
                    "route_config": { "name": "bench", "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{
                            "match": { "prefix": "/", "headers": [{ "name": "x-pai-provider", "string_match": { "exact": "vllm-local" } }] },
                            "request_headers_to_remove": ["x-pai-provider"],
                            "route": { "cluster": "vllm-local", "timeout": "0s" },
                        }],
                    }] },
                    "http_filters": filters,
                } }] }],
            }],
            "clusters": [{
                "name": "vllm-local",
                "type": "STATIC",
                "load_assignment": { "cluster_name": "vllm-local", "endpoints": [{ "lb_endpoints": [{
                    "endpoint": { "address": socket(upstream) },
                }] }] },
            }],
        },
    }))
}

fn wasm(filter: &Filter) -> Result<Option<Value>> {
    let Some(module) = filter.module() else { return Ok(None) };
    let module = module.canonicalize().with_context(|| format!("no module at {}", module.display()))?;
    let configuration = if matches!(filter, Filter::Gateway(_)) { manifests() } else { String::new() };
    Ok(Some(json!({ "name": "filter", "typed_config": { "@type": WASM, "config": {
        "name": "gate",
        "root_id": "gate",
        "failure_policy": "FAIL_RELOAD",
        "allow_on_headers_stop_iteration": true,
        "vm_config": { "vm_id": "pai", "runtime": "envoy.wasm.runtime.v8", "code": { "local": { "filename": module } } },
        "configuration": { "@type": TEXT, "value": configuration },
    } } })))
}

/// Budgets that hold every request, and still have to be asked.
fn manifests() -> String {
    format!(
        "apiVersion: pai.io/v1\n\
         kind: ModelProvider\n\
         metadata: {{ name: vllm-local }}\n\
         spec:\n\
         \x20 provider: vllm\n\
         \x20 endpoint: http://127.0.0.1:8000/v1\n\
         \x20 allowedModels: [{MODEL}]\n\
         \x20 maxTokensPerDay: 1000000000000000\n\
         \x20 maxTokensPerRequest: 131072\n\
         ---\n\
         apiVersion: pai.io/v1\n\
         kind: Gateway\n\
         metadata: {{ name: default }}\n\
         spec: {{ routing: body }}\n"
    )
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
