//! One configuration of the filter: loads the policy, renews gauges and heartbeats, asks providers for their models, and answers streams
//! that have waited too long.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use log::{error, info, warn};

use crate::budget::ledger::start;
use crate::config;
use crate::estimate::model_limits::listed_models;
use crate::exchange::gate::Gate;
use crate::exchange::live_workers::hex;
use crate::exchange::step::CalloutRequest;
use crate::exchange::worker::Retries;
use crate::host::attempt::Attempt;
use crate::host::io::{Attribute, Body, HeaderMap, Io};
use crate::host::once;
use crate::host::stream::Stream;
use crate::host::streams::Streams;
use crate::metrics;
use crate::policy::{Cors, Policy};

/// The time to the first tick, which asks for what is not known yet, and between later ones.
pub const FIRST_TICK: Duration = Duration::from_millis(20);
/// The time between later ticks.
pub const TICK: Duration = Duration::from_secs(1);

/// The key under which attempt filters record that this host has some.
const ATTEMPT_FILTERS_KEY: &str = "pai/1/attempts";

/// Bytes of a provider's list of models that are read; of a longer list, the models before that are known.
const MODELS_LIMIT: usize = 1 << 20;
/// How long a provider may take to list its models.
const MODELS_TIMEOUT: Duration = Duration::from_secs(5);

/// One configuration of the filter in one worker.
#[derive(Debug)]
pub struct Root {
    role: Role,
    gate: Rc<Gate>,
    streams: Rc<Streams<Stream>>,
    ticked: bool,
    /// Providers whose models were requested, by the token of the callout.
    asked: HashMap<u32, usize>,
}

/// Where in the host the filter is: its `root_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `gate`, and any other: before the router.
    Gate,
    /// `attempt`: behind the router, in a provider's cluster.
    Attempt,
}

// === impl Root ===

impl Root {
    /// Creates a root that is not configured yet.
    pub fn new(streams: Rc<Streams<Stream>>) -> Self {
        Self { role: Role::Gate, gate: Rc::new(Gate::new(Policy::default())), streams, ticked: false, asked: HashMap::new() }
    }

    /// Configures an attempt filter. Its own configuration is ignored: an attempt follows the policy of its gate.
    pub fn configure_attempt(&mut self, io: &impl Io) {
        if std::mem::replace(&mut self.role, Role::Attempt) == Role::Gate {
            self.streams.add_attempt_filter();
        }
        let env = io.environment();
        env.worker.borrow_mut().retries = retries(io);
        once(&env, ATTEMPT_FILTERS_KEY, b"there");
    }

    /// Configures the gate with these manifests; `secret` looks up an environment variable. Returns `false`, and keeps what is in force,
    /// where they are refused.
    pub fn configure_gate(&mut self, io: &impl Io, manifests: &[u8], secret: &dyn Fn(&str) -> Option<String>) -> bool {
        let policy = match config::load(manifests, secret) {
            Ok(policy) => policy,
            Err(invalid) => {
                for line in invalid.lines() {
                    error!("configuration refused: {line}");
                }
                return false;
            }
        };
        self.gate = Rc::new(Gate::new(policy));
        let env = io.environment();
        env.worker.borrow_mut().configuration = self.gate.policy.version;
        self.streams.set_attempt_filters_may_follow(env.store.get(ATTEMPT_FILTERS_KEY).0.is_some());
        start::record(env.store, env.now());
        self.gate.introduce(&env);
        metrics::build_info(env.meter);
        announce(&self.gate.policy, io);
        true
    }

    /// Returns whether no tick has occurred yet: from now on, ticks follow every [`TICK`].
    pub fn is_first_tick(&mut self) -> bool {
        !std::mem::replace(&mut self.ticked, true)
    }

    /// Does what is due once a second. Leaves the host in the context of a stream, where one has waited too long.
    pub fn on_tick(&mut self, io: &impl Io) {
        let uptime = io.uptime();
        self.streams.tick(uptime);
        let env = io.environment();
        env.settle_again();
        let ledger = env.ledger();
        env.worker.borrow_mut().heartbeat.tick(&ledger, uptime);
        self.gate.show_budgets(&env);
        env.send_counts();
        env.renew_liveness();
        self.ask_for_models(io);
        for stream in self.streams.take_overdue() {
            if io.enter_stream(stream.id()) {
                stream.on_timeout(io);
            }
        }
    }

    /// A provider has answered with its models, or has not.
    pub fn on_callout(&mut self, io: &impl Io, token: u32) {
        let Some(asked) = self.asked.remove(&token) else { return };
        let status = io.headers(HeaderMap::Callout, |headers| headers.get(":status").map(<[u8]>::to_vec));
        // The configuration may be another by now.
        let callout = self.gate.policy.callout(asked);
        let (Some(state), Some(callout)) = (self.gate.providers.get(asked), callout) else { return };
        let name = self.gate.policy.provider_name(asked);
        let env = io.environment();
        if status.as_deref() == Some(b"200") {
            let models = io.body(Body::Callout, MODELS_LIMIT);
            state.model_limits.borrow_mut().update(env.store, |limits| limits.record_model_list(models.as_ref()));
            if let Some(listed) = listed_models(models.as_ref()) {
                state.model_limits.borrow().record_listed(env.store, &listed);
            }
            count_callout(name, "answered", io);
            if env.store.get(&callout_key(name)).0.is_some() {
                once(&env, &callout_key(name), b"answered");
            }
        } else {
            state.model_limits.borrow().retry_poll_soon(env.store, env.now());
            count_callout(name, "failed", io);
            let status = status.as_deref().map(String::from_utf8_lossy);
            let why = match status {
                Some(status) => format!("`GET /models` was answered with status {status}"),
                None => "there was no answer".to_owned(),
            };
            warn_callout(name, &callout.cluster, &why, io);
        }
    }

    /// Creates the stream of this number at the gate.
    pub fn stream(&self, id: u32) -> Rc<Stream> {
        Stream::new(id, Rc::clone(&self.gate), Rc::clone(&self.streams))
    }

    /// Creates an attempt, where this is an attempt filter.
    pub fn attempt(&self) -> Option<Attempt> {
        (self.role == Role::Attempt).then(|| Attempt::new(Rc::clone(&self.streams)))
    }

    /// Ends the configuration.
    pub fn end(&self, io: &impl Io) {
        let env = io.environment();
        env.send_counts();
        if self.role == Role::Attempt && self.streams.remove_attempt_filter() {
            // From now on the gate rewrites requests for their provider.
            env.worker.borrow_mut().retries = Retries::None;
        }
    }

    /// Asks providers for their models, where it is this worker's turn.
    fn ask_for_models(&mut self, io: &impl Io) {
        let env = io.environment();
        for callout in &self.gate.policy.gateway.callouts {
            let Some(state) = self.gate.providers.get(callout.provider) else { continue };
            if !state.model_limits.borrow().claim_poll(env.store, env.now()) {
                continue;
            }
            match list_models(&self.gate.policy, callout.provider).and_then(|request| io.send_callout(&request)) {
                Some(token) => drop(self.asked.insert(token, callout.provider)),
                None => {
                    state.model_limits.borrow().retry_poll_soon(env.store, env.now());
                    let name = self.gate.policy.provider_name(callout.provider);
                    count_callout(name, "not_sent", io);
                    warn_callout(
                        name,
                        &callout.cluster,
                        "Envoy did not send it, as there is no cluster of this name, or no healthy server in it",
                        io,
                    );
                }
            }
        }
    }
}

/// Returns the request that lists a provider's models.
fn list_models(policy: &Policy, provider: usize) -> Option<CalloutRequest> {
    CalloutRequest::to_provider(policy, provider, "GET", |base_path| format!("{base_path}/models"), Vec::new(), MODELS_TIMEOUT)
}

/// Returns where retries of this host can go: since Envoy 1.39, to another cluster (`refresh_cluster_on_retry`).
fn retries(io: &impl Io) -> Retries {
    let Some((major, minor)) = version(io) else { return Retries::AnyProvider };
    if (major, minor) >= (1, 39) {
        return Retries::AnyProvider;
    }
    if once(&io.environment(), "pai/1/retries", b"within") {
        warn!(
            "Envoy {major}.{minor} retries within one cluster only: a provider that fails is not followed by another (1.39 does that)"
        );
    }
    Retries::SameProvider
}

/// Returns the host's version, major and minor.
fn version(io: &impl Io) -> Option<(u64, u64)> {
    let words = io.attribute(Attribute::HostVersion)?;
    let (major, minor) = words.split_first_chunk()?;
    Some((u64::from_le_bytes(*major), u64::from_le_bytes(minor.try_into().ok()?)))
}

/// Logs, once for all workers, which configuration is in force, and warns where it admits everybody.
fn announce(policy: &Policy, io: &impl Io) {
    if !once(&io.environment(), "pai/1/configuration", &policy.version) {
        return;
    }
    let version = hex(&policy.version);
    let providers: Vec<&str> = policy.providers.iter().map(|provider| &*provider.name).collect();
    info!(
        "pai_filter {}: configuration {} in force: {}; {}, {}; audience: {}, routing: {}",
        env!("CARGO_PKG_VERSION"),
        version.get(..12).unwrap_or_default(),
        listed(&providers),
        counted(policy.agents.iter().count(), "agent"),
        counted(policy.keys.iter().count(), "access key"),
        policy.gateway.audience.name(),
        policy.gateway.routing.name(),
    );
    if policy.admits_anonymous() && !providers.is_empty() {
        warn!(
            "the gateway is open: every caller that reaches it may use every model without a key or an identity. To close it, add an Agent, or an \
             AccessKey, or `externalAccess` to a ModelProvider (see docs/callers.md)"
        );
        warn_of_pages(policy);
    }
}

/// Warns where every web page may use every model.
fn warn_of_pages(policy: &Policy) {
    if policy.gateway.cors.as_ref().is_some_and(Cors::allows_any) {
        warn!(
            "`cors.allowOrigins` contains `*` and the gateway is open: every web page that a user of this network opens may use every \
             model. List the origins of your pages, or close the gateway (see docs/callers.md)"
        );
    }
}

fn listed(providers: &[&str]) -> String {
    let count = counted(providers.len(), "model provider");
    if providers.is_empty() { count } else { format!("{count}: {}", providers.join(", ")) }
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Counts how a callout went.
fn count_callout(provider: &str, result: &'static str, io: &impl Io) {
    metrics::callout(io.environment().meter, provider, result);
}

/// Notes that a callout to a provider has failed, and warns once until one succeeds again.
fn warn_callout(provider: &str, cluster: &str, why: &str, io: &impl Io) {
    if once(&io.environment(), &callout_key(provider), b"failing") {
        warn!(
            "the callout to provider `{provider}` through the cluster `{cluster}` fails: {why}. Context lengths stay unknown until it \
             succeeds (see docs/configuration.md, `callouts`)"
        );
    }
}

fn callout_key(provider: &str) -> String {
    format!("pai/1/callout/{provider}")
}
