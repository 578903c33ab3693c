//! The Envoy configuration of a gateway: a bootstrap with static clusters and one listener, and the wasm filter as a resource of
//! its own (ECDS by file), so that a test can change the filter's configuration while streams are open.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::certificate::{ListenerTls, Peers};
use super::fallback::{self, Fallback};

/// The parameters of a bootstrap.
#[derive(Debug, Clone)]
pub(crate) struct EnvoyConfig {
    pub(crate) buffer_limit: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) route_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) stop_iteration: bool,
    pub(crate) providers: Vec<(String, SocketAddr)>,
    pub(crate) unrouted: Vec<String>,
    pub(crate) tls: Option<ListenerTls>,
    pub(crate) connection_state: Vec<(String, String)>,
    pub(crate) fallback: Option<Fallback>,
    /// Provider names in cluster metadata that differ from the cluster's provider.
    pub(crate) provider_labels: Vec<(String, String)>,
    /// Providers whose clusters have no attempt filter, although fallback is configured.
    pub(crate) bare: Vec<String>,
    /// Providers whose clusters accept no requests (open circuit breaker).
    pub(crate) full: Vec<String>,
    /// Providers behind TLS: the server's name and the trusted authority as PEM.
    pub(crate) secured: Vec<(String, (String, String))>,
    /// Providers whose credential Envoy adds: the header, and the secret as it is at the start.
    pub(crate) injected: Vec<(String, Injected)>,
    /// Whether there is a control listener, at the socket `control.sock`.
    pub(crate) control: bool,
}

/// A credential that Envoy adds to requests in a provider's cluster.
#[derive(Debug, Clone)]
pub(crate) struct Injected {
    pub(crate) header: &'static str,
    pub(crate) secret: String,
    /// Whether requests are forwarded while there is no secret.
    pub(crate) optional: bool,
}

/// The tags in the names of the filter's statistics: `provider=.=vllm-local;.;`.
const TAGS: [&str; 12] =
    ["provider", "model", "decision", "subject", "guard", "action", "kind", "reason", "status_class", "le", "version", "result"];

/// The environment variables that `host_env_keys` passes to the VM.
pub(crate) type Environment = Vec<(String, String)>;

pub(crate) const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM_TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const CONNECTION_STATE: &str = "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config";
const UPSTREAM_CODEC: &str = "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
const INJECTOR: &str = "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector";
const GENERIC: &str = "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";

/// The two filter chains in which the module runs. Each has a resource of its own in `dir/<file>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterPosition {
    /// The listener's HTTP filter chain.
    Listener,
    /// The upstream HTTP filter chains of the providers' clusters.
    Cluster,
}

// === impl EnvoyConfig ===

impl EnvoyConfig {
    /// Returns the filter chains that contain the module.
    pub(crate) fn positions(&self) -> &'static [FilterPosition] {
        if self.fallback.is_some() { &[FilterPosition::Listener, FilterPosition::Cluster] } else { &[FilterPosition::Listener] }
    }

    /// Returns the provider's name in the metadata of its cluster.
    pub(crate) fn provider_label<'a>(&'a self, provider: &'a str) -> &'a str {
        found(&self.provider_labels, provider).map_or(provider, String::as_str)
    }
}

fn found<'a, T>(pairs: &'a [(String, T)], name: &str) -> Option<&'a T> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

// === impl FilterPosition ===

impl FilterPosition {
    /// Returns the name of the resource and of its file.
    pub(crate) fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::Listener => ("pai_filter", "filter.json"),
            Self::Cluster => ("pai_attempt", "attempt.json"),
        }
    }

    fn root(self) -> &'static str {
        match self {
            Self::Listener => "gate",
            Self::Cluster => "attempt",
        }
    }
}

/// Builds the bootstrap. The filter's resources are built by [`filter`].
pub(crate) fn bootstrap(config: &EnvoyConfig, dir: &Path) -> Value {
    let clusters: Vec<Value> = config
        .providers
        .iter()
        .flat_map(|(name, address)| [provider(name, *address, config, dir), callouts(name, *address, config, dir)])
        .collect();
    json!({
        "node": { "id": "gate", "cluster": "gate" },
        "admin": { "address": socket("127.0.0.1", 0) },
        "stats_flush_interval": "0.5s",
        "stats_config": { "stats_tags": TAGS.map(tag) },
        "static_resources": { "listeners": listeners(config, dir), "clusters": clusters },
    })
}

/// Builds the ECDS response of this version for the wasm filter at this position.
pub(crate) fn filter(
    config: &EnvoyConfig,
    place: FilterPosition,
    version: u32,
    module: &Path,
    environment: &Environment,
    configuration: &str,
) -> Value {
    let (name, _) = place.resource();
    let keys: Vec<&str> = environment.iter().map(|(key, _)| key.as_str()).collect();
    json!({
        "version_info": version.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": name,
            "typed_config": {
                "@type": WASM,
                "config": {
                    "name": place.root(),
                    "root_id": place.root(),
                    "failure_policy": "FAIL_RELOAD",
                    "allow_on_headers_stop_iteration": config.stop_iteration,
                    "vm_config": {
                        "vm_id": "pai",
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": { "local": { "filename": module } },
                        "environment_variables": { "host_env_keys": keys },
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": configuration,
                    },
                },
            },
        }],
    })
}

fn listeners(config: &EnvoyConfig, dir: &Path) -> Vec<Value> {
    let control = config.control.then(|| control_listener(config, dir));
    [listener(config, dir)].into_iter().chain(control).collect()
}

/// The name of the control listener's socket in the gateway's directory.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// Builds a listener with the same filter and the same routes, whose metadata make its callers operators.
fn control_listener(config: &EnvoyConfig, dir: &Path) -> Value {
    json!({
        "name": "control",
        "address": { "pipe": { "path": dir.join(CONTROL_SOCKET), "mode": 0o600 } },
        "metadata": { "filter_metadata": { "pai": { "control": true } } },
        "filter_chains": [{ "filters": [http(config, dir)] }],
    })
}

fn listener(config: &EnvoyConfig, dir: &Path) -> Value {
    let mut chain = json!({ "filters": [connection_state(config), http(config, dir)] });
    if let Some(tls) = &config.tls {
        chain["transport_socket"] = json!({ "name": "tls", "typed_config": downstream_tls(tls) });
    }
    json!({
        "name": "gate",
        "address": socket("127.0.0.1", 0),
        "per_connection_buffer_limit_bytes": config.buffer_limit,
        "filter_chains": [chain],
    })
}

fn connection_state(config: &EnvoyConfig) -> Value {
    let values = config.connection_state.iter().map(|(name, value)| {
        json!({
            "object_key": name,
            "factory_key": "envoy.string",
            "format_string": { "text_format_source": { "inline_string": value } },
        })
    });
    json!({
        "name": "connection_state",
        "typed_config": { "@type": CONNECTION_STATE, "on_new_connection": values.collect::<Vec<_>>() },
    })
}

fn downstream_tls(tls: &ListenerTls) -> Value {
    let untrusted = tls.peers == Peers::AcceptUntrusted;
    json!({
        "@type": TLS,
        "require_client_certificate": tls.peers == Peers::Required,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{
                "certificate_chain": { "inline_string": tls.certificate },
                "private_key": { "inline_string": tls.key },
            }],
            "validation_context": {
                "trusted_ca": { "inline_string": tls.authority },
                "trust_chain_verification": if untrusted { "ACCEPT_UNTRUSTED" } else { "VERIFY_TRUST_CHAIN" },
            },
        },
    })
}

fn http(config: &EnvoyConfig, dir: &Path) -> Value {
    json!({
        "name": "http",
        "typed_config": {
            "@type": HCM,
            "stat_prefix": "gate",
            "codec_type": "AUTO",
            "request_timeout": seconds(config.request_timeout.unwrap_or_default()),
            "http2_protocol_options": { "initial_stream_window_size": config.buffer_limit.max(65535) },
            "access_log": [{ "name": "file", "typed_config": access_log(dir) }],
            "route_config": { "name": "providers", "virtual_hosts": [virtual_host(config)] },
            "http_filters": [
                {
                    "name": "pai_filter",
                    "config_discovery": {
                        "config_source": {
                            "path_config_source": { "path": dir.join("filter.json") },
                            "resource_api_version": "V3",
                        },
                        "type_urls": [WASM],
                    },
                },
                { "name": "router", "typed_config": { "@type": ROUTER, "suppress_envoy_headers": true } },
            ],
        },
    })
}

fn virtual_host(config: &EnvoyConfig) -> Value {
    let timeout = config.route_timeout.map_or_else(|| "0s".to_owned(), seconds);
    let routed = config.providers.iter().map(|(name, _)| name.as_str());
    let routed: Vec<&str> = routed.filter(|name| !config.unrouted.iter().any(|unrouted| unrouted == name)).collect();
    let mut host = json!({ "name": "all", "domains": ["*"] });
    if let Some(fallback) = &config.fallback {
        host["routes"] = Value::from(fallback.routes(&timeout, &routed));
        host["request_body_buffer_limit"] = json!(fallback.kept);
    } else {
        host["routes"] = Value::from(routes(&timeout, &routed));
    }
    host
}

/// Builds one route for each provider.
pub(crate) fn routes(timeout: &str, clusters: &[&str]) -> Vec<Value> {
    clusters
        .iter()
        .map(|name| {
            json!({
                "match": {
                    "prefix": "/",
                    "headers": [{ "name": "x-pai-provider", "string_match": { "exact": name } }],
                },
                "request_headers_to_remove": ["x-pai-provider"],
                "route": { "cluster": name, "timeout": timeout },
            })
        })
        .collect()
}

fn provider(name: &str, address: SocketAddr, config: &EnvoyConfig, dir: &Path) -> Value {
    let mut cluster = secured_cluster(name, name, address, config);
    let mut filters: Vec<Value> = found(&config.injected, name).map(|injected| injector(name, injected, dir)).into_iter().collect();
    if config.fallback.is_some() && !config.bare.iter().any(|bare| bare == name) {
        cluster["metadata"] = json!({ "filter_metadata": { "pai": { "provider": config.provider_label(name) } } });
        filters.push(fallback::attempt_filter(dir));
    }
    add_filters(&mut cluster, filters);
    if config.full.iter().any(|full| full == name) {
        cluster["circuit_breakers"]["thresholds"][0]["max_requests"] = json!(0);
        cluster["circuit_breakers"]["thresholds"][0]["max_pending_requests"] = json!(0);
    }
    cluster
}

/// Builds the cluster for the filter's callouts to a provider.
fn callouts(provider: &str, address: SocketAddr, config: &EnvoyConfig, dir: &Path) -> Value {
    let name = format!("{provider}-callouts");
    let mut cluster = secured_cluster(&name, provider, address, config);
    add_filters(&mut cluster, found(&config.injected, &name).map(|injected| injector(&name, injected, dir)).into_iter().collect());
    cluster
}

/// Adds upstream filters to a cluster, in front of the codec, which has to be the last.
fn add_filters(cluster: &mut Value, mut filters: Vec<Value>) {
    if filters.is_empty() {
        return;
    }
    filters.push(json!({ "name": "envoy.filters.http.upstream_codec", "typed_config": { "@type": UPSTREAM_CODEC } }));
    cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["http_filters"] =
        json!(filters);
}

/// Returns the file in which Envoy finds the secret of a cluster.
pub(crate) fn secret_file(cluster: &str, dir: &Path) -> PathBuf {
    dir.join(format!("secret-{cluster}.json"))
}

/// Builds the content of that file.
pub(crate) fn secret(cluster: &str, value: &str, version: u32) -> Value {
    json!({
        "version_info": version.to_string(),
        "resources": [{ "@type": SECRET, "name": cluster, "generic_secret": { "secret": { "inline_string": value } } }],
    })
}

/// Builds the filter that adds the credential of a cluster.
fn injector(cluster: &str, injected: &Injected, dir: &Path) -> Value {
    json!({
        "name": "credential",
        "typed_config": {
            "@type": INJECTOR,
            "overwrite": true,
            "allow_request_without_credential": injected.optional,
            "credential": { "name": "envoy.http.injected_credentials.generic", "typed_config": {
                "@type": GENERIC,
                "header": injected.header,
                "credential": { "name": cluster, "sds_config": {
                    "path_config_source": { "path": secret_file(cluster, dir) },
                    "resource_api_version": "V3",
                } },
            } },
        },
    })
}

fn secured_cluster(name: &str, provider: &str, address: SocketAddr, config: &EnvoyConfig) -> Value {
    let mut cluster = cluster(name, address, config);
    if let Some((server, authority)) = found(&config.secured, provider) {
        cluster["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": UPSTREAM_TLS,
            "sni": server,
            "auto_sni_san_validation": true,
            "common_tls_context": { "validation_context": { "trusted_ca": { "inline_string": authority } } },
        } });
    }
    cluster
}

fn cluster(name: &str, address: SocketAddr, config: &EnvoyConfig) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(config.connect_timeout),
        "per_connection_buffer_limit_bytes": config.buffer_limit,
        // The default of three concurrent retries would drop requests of a busy gateway when a provider fails.
        "circuit_breakers": { "thresholds": [{ "max_retries": 1024 }] },
        // Without this option Envoy drops the trailers of an HTTP/1 server.
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } },
            // As in the shipped configuration: vLLM closes idle connections after 5 s.
            "common_http_protocol_options": { "idle_timeout": "4s" },
        } },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": socket(&address.ip().to_string(), address.port()) },
        }] }] },
    })
}

fn access_log(dir: &Path) -> Value {
    json!({
        "@type": FILE_LOG,
        "path": dir.join("access.jsonl"),
        "log_format": { "json_format": {
            "start": "%START_TIME(%s.%6f)%",
            "case": "%REQ(X-TEST-CASE)%",
            "peer": "%DOWNSTREAM_PEER_URI_SAN%",
            "verified": "%CEL(connection.peer_certificate_valid)%",
            "method": "%REQ(:METHOD)%",
            // As in the shipped configuration: a query may contain a secret.
            "path": "%PATH(NQ:PATH)%",
            "status": "%RESPONSE_CODE%",
            "details": "%RESPONSE_CODE_DETAILS%",
            "flags": "%RESPONSE_FLAGS%",
            "retry_after": "%RESP(RETRY-AFTER)%",
            "provider": "%FILTER_STATE(wasm.pai.provider:PLAIN)%",
            "model": "%FILTER_STATE(wasm.pai.model:PLAIN)%",
            "subject": "%FILTER_STATE(wasm.pai.subject:PLAIN)%",
            "decision": "%FILTER_STATE(wasm.pai.decision:PLAIN)%",
            "attempts": "%FILTER_STATE(wasm.pai.attempts:PLAIN)%",
            "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
            "guard": "%FILTER_STATE(wasm.pai.guard:PLAIN)%",
            "prompt_tokens": "%FILTER_STATE(wasm.pai.prompt_tokens:PLAIN)%",
            "completion_tokens": "%FILTER_STATE(wasm.pai.completion_tokens:PLAIN)%",
            "max_tokens": "%FILTER_STATE(wasm.pai.max_tokens:PLAIN)%",
            "limited_by": "%FILTER_STATE(wasm.pai.limited_by:PLAIN)%",
            "reserved": "%FILTER_STATE(wasm.pai.test_reserved:PLAIN)%",
        } },
    })
}

fn tag(name: &str) -> Value {
    json!({ "tag_name": name, "regex": format!(r"({name}=\.=(.*?);\.;)") })
}

fn socket(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

pub(crate) fn seconds(duration: Duration) -> String {
    let mut written = String::new();
    let _ = write!(written, "{:.3}s", duration.as_secs_f64());
    written
}
