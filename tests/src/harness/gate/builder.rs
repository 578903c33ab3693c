//! Builds a gateway: its manifests, providers, listener and fallback.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::super::certificate::{Authority, Peers};
use super::super::envoy::{self, Environment, EnvoyConfig, Injected};
use super::super::fallback::{Fallback, Retries};
use super::super::upstream::Upstream;
use super::super::wait::within;
use super::artifacts::{built_module, hooked_module};
use super::process::{Envoy, listener_address, new_directory};
use super::{Gate, RejectedConfig};

/// The buffer space beyond the largest body.
const SPARE: u32 = 64 * 1024;
/// How long Envoy may take to start and to compile the module for all workers on a busy machine.
const START: Duration = Duration::from_secs(60);
/// The filter's default `maxRequestBytes`.
const LARGEST_BODY: u32 = 16 * 1024 * 1024;

/// Builds a [`Gate`].
#[must_use]
#[derive(Debug, Clone)]
pub struct GateBuilder {
    pub(super) manifests: String,
    environment: Environment,
    module: Option<PathBuf>,
    pub(super) config: EnvoyConfig,
    pub(super) caller: Option<(String, String)>,
    pub(super) configuration: Option<String>,
    workers: u32,
}

// === impl GateBuilder ===

impl GateBuilder {
    pub(super) fn new() -> Self {
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
                injected: Vec::new(),
                control: false,
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
        self.manifests(crate::harness::gateway("routing: fixed"))
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

    /// Makes Envoy write this secret into a header of requests in a cluster: a provider's, or `<provider>-callouts`. Without a secret,
    /// `optional` requests are forwarded, and others are answered by Envoy.
    pub fn injected(mut self, cluster: &str, header: &'static str, secret: &str, optional: bool) -> Self {
        self.config.injected.push((cluster.to_owned(), Injected { header, secret: secret.to_owned(), optional }));
        self
    }

    /// Adds a control listener: [`Gate::control`].
    pub fn control_listener(mut self) -> Self {
        self.config.control = true;
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
        for (cluster, injected) in &self.config.injected {
            write_secret(&directory, cluster, &injected.secret, 1);
        }
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

    pub(super) fn write_filter(&self, directory: &Path, version: u32, manifests: &str) {
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

/// Writes the secret of a cluster where Envoy finds it, by a rename.
pub(super) fn write_secret(directory: &Path, cluster: &str, value: &str, version: u32) {
    let (draft, file) = (directory.join("secret-draft"), envoy::secret_file(cluster, directory));
    fs::write(&draft, envoy::secret(cluster, value, version).to_string()).expect("a writable directory");
    fs::rename(draft, file).expect("a writable directory");
}
