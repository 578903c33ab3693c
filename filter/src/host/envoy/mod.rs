//! The plug into Envoy: callbacks in, host calls out, and nothing decided.
//!
//! The SDK's wrappers end the VM on any status that they do not expect, and with it every request of the worker. Where a status
//! depends on what a client or a provider did, the host is called directly and a failure is counted.
#![expect(unsafe_code, reason = "host calls")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, UNIX_EPOCH};

use log::{error, info, warn};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType};

use crate::budget::ledger::start;
use crate::clock::{Clock, Time};
use crate::config;
use crate::exchange::access_log::AccessLogEntry;
use crate::exchange::environment::Environment;
use crate::exchange::gate::Gate;
use crate::exchange::step::{AttemptStep, BodyStep, ResponseStep, Step};
use crate::exchange::worker::{Retries, Worker};
use crate::exchange::{Exchange, no_exchange};
use crate::http::headers::{HeaderEdit, Headers};
use crate::http::refusal::Reply;
use crate::identity::peer_identity::Peer;
use crate::metrics::{self, Kind, Meter};
use crate::policy::{Callout, Policy};
use crate::store::Store;

#[cfg(feature = "test-hooks")]
mod hooks;

/// The first tick, which asks for what is not known yet, and the later ones.
const FIRST_TICK: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_secs(1);

/// How long a request waits for its body before the gate answers in the client's place: 30 seconds at least, as a wait is timed
/// from the tick before it.
const BODY_TIMEOUT: Duration = Duration::from_secs(31);

/// Where attempt filters leave word that this Envoy has some.
const ATTEMPT_FILTERS_KEY: &str = "pai/1/attempts";

/// Bytes of a provider's list of models that are read; a list that breaks off teaches what stood before.
const MODELS_LIMIT: usize = 1 << 20;
/// How long a provider may take to list its models.
const MODELS_TIMEOUT: Duration = Duration::from_secs(5);

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root::default()) });
}}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::new(Worker::new(RandomState::new().build_hasher().finish()));
    static BORN: Instant = Instant::now();
    static SERIES: RefCell<HashMap<(Kind, String), u32>> = RefCell::new(HashMap::new());
    /// The streams of this worker, for their attempts to find.
    static EXCHANGES: RefCell<HashMap<u32, Weak<RefCell<Exchange>>>> = RefCell::default();
    /// Configurations of attempt filters in force.
    static ATTEMPT_FILTERS: Cell<usize> = const { Cell::new(0) };
    /// Attempt filters of this Envoy may not be in this VM yet: it has taken the place of one that died, and each of its plugins follows
    /// when it is first used.
    static ATTEMPT_FILTERS_MAY_FOLLOW: Cell<bool> = const { Cell::new(false) };
    /// When the last tick was: what waiting requests are timed by, so that none has to ask for the time.
    static TICKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static WAITING: RefCell<Vec<Waiting>> = const { RefCell::new(Vec::new()) };
}

/// One configuration of the plugin.
struct Root {
    role: Role,
    gate: Rc<Gate>,
    ticked: bool,
    /// Providers that were asked for their models, by the token of the callout.
    asked: HashMap<u32, usize>,
}

/// Where in Envoy the plugin sits: its `root_id`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// `gate`, and whatever else: before the router.
    Gate,
    /// `attempt`: behind it, in a provider's cluster.
    Attempt,
}

/// One attempt at a provider.
#[derive(Default)]
struct Attempt {
    /// The exchange that it belongs to, and which of its attempts it is.
    of: Option<Rc<RefCell<Exchange>>>,
    ordinal: u32,
    /// The headers wait for the body.
    holds: bool,
    answered: bool,
    /// Its stream had ended before it began: nothing goes on.
    late: bool,
}

/// One HTTP stream.
struct Stream {
    id: u32,
    exchange: Rc<RefCell<Exchange>>,
    waits: Cell<bool>,
}

/// A stream that is held until its body comes.
struct Waiting {
    id: u32,
    since: Duration,
    exchange: Weak<RefCell<Exchange>>,
}

/// The host.
struct Envoy;

// === impl Root ===

impl Default for Root {
    fn default() -> Self {
        Self { role: Role::Gate, gate: Rc::new(Gate::new(Policy::default())), ticked: false, asked: HashMap::new() }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.role == Role::Attempt {
            ATTEMPT_FILTERS.set(ATTEMPT_FILTERS.get().saturating_sub(1));
            if ATTEMPT_FILTERS.get() == 0 {
                // It is the gate again that makes requests their provider's.
                WORKER.with_borrow_mut(|worker| worker.retries = Retries::None);
            }
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body_size: usize, _trailers: usize) {
        let Some(callout) = self.asked.remove(&token) else { return };
        let ok = with_headers(MapType::HttpCallResponseHeaders, |headers| headers.get(":status") == Some(b"200"));
        let body = if ok { body(BufferType::HttpCallResponseBody, body_size.min(MODELS_LIMIT)) } else { Vec::new() };
        let Some(state) = self.gate.providers.get(callout) else { return };
        with_environment(|env| match ok {
            true => state.context_lengths.borrow_mut().update(env.store, |lengths| lengths.record_model_list(&body)),
            false => state.context_lengths.borrow().retry_poll_soon(env.store, env.now()),
        });
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        if property(&["plugin_root_id"]).as_deref() == Some(b"attempt") {
            // What is configured is the gate's to read: an attempt goes by the policy of its gate.
            if std::mem::replace(&mut self.role, Role::Attempt) == Role::Gate {
                ATTEMPT_FILTERS.set(ATTEMPT_FILTERS.get() + 1);
            }
            WORKER.with_borrow_mut(|worker| worker.retries = retries());
            once(ATTEMPT_FILTERS_KEY, b"there");
            return true;
        }
        let text = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX).ok().flatten().unwrap_or_default();
        match config::load(&text, &|name| std::env::var(name).ok()) {
            Ok(policy) => {
                self.gate = Rc::new(Gate::new(policy));
                ATTEMPT_FILTERS_MAY_FOLLOW.set(Envoy.get(ATTEMPT_FILTERS_KEY).0.is_some());
                with_environment(|env| {
                    start::record(env.store, env.now());
                    self.gate.introduce(env);
                });
                announce(&text, &self.gate.policy);
                hostcalls::set_tick_period(FIRST_TICK).is_ok()
            }
            Err(invalid) => {
                error!("configuration refused: {invalid}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if !std::mem::replace(&mut self.ticked, true) {
            // A tick that stays short costs a little power and nothing else.
            let _ = hostcalls::set_tick_period(TICK);
        }
        let uptime = BORN.with(Instant::elapsed);
        #[cfg(feature = "test-hooks")]
        let uptime = hooks::hasten(uptime);
        TICKED.set(uptime);
        with_environment(|env| {
            env.settle_again();
            let ledger = env.ledger();
            env.worker.borrow_mut().heartbeat.tick(&ledger, TICKED.get());
            self.gate.show_budgets(env);
        });
        self.ask_for_models();
        // The last thing: it leaves the host in the context of a stream.
        answer_overdue();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        if self.role == Role::Attempt {
            return Some(Box::<Attempt>::default());
        }
        let exchange = Rc::new(RefCell::new(Exchange::new(Rc::clone(&self.gate))));
        Some(Box::new(Stream { id, exchange, waits: Cell::new(false) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    /// Asks providers for their models, where it is this worker's turn.
    fn ask_for_models(&mut self) {
        let gate = Rc::clone(&self.gate);
        for callout in &gate.policy.gateway.callouts {
            let Some(state) = gate.providers.get(callout.provider) else { continue };
            with_environment(|env| {
                if state.context_lengths.borrow().claim_poll(env.store, env.now()) {
                    match self.ask(callout) {
                        Some(token) => drop(self.asked.insert(token, callout.provider)),
                        None => state.context_lengths.borrow().retry_poll_soon(env.store, env.now()),
                    }
                }
            });
        }
    }

    fn ask(&self, callout: &Callout) -> Option<u32> {
        let provider = self.gate.policy.providers.get(callout.provider)?;
        let path = format!("{}/models", provider.endpoint.base_path);
        let mut headers = vec![(":method", "GET"), (":path", &*path), (":authority", &*provider.endpoint.authority)];
        if let Some(credential) = &provider.credential {
            headers.push(("authorization", credential.expose()));
        }
        hostcalls::dispatch_http_call(&callout.cluster, headers, None, vec![], MODELS_TIMEOUT).ok()
    }
}

/// Where Envoy's retries can go: since 1.39, to another cluster (`refresh_cluster_on_retry`).
fn retries() -> Retries {
    let number = |part: &str| {
        let bytes = property(&["xds", "node", "user_agent_build_version", "version", part])?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let version = number("major_number").zip(number("minor_number"));
    if let Some((major, minor)) = version.filter(|version| *version < (1, 39))
        && once("pai/1/retries", b"within")
    {
        warn!(
            "Envoy {major}.{minor} retries within one cluster only: a provider that fails is not followed by another (1.39 does that)"
        );
    }
    if version.is_none_or(|version| version >= (1, 39)) { Retries::AnyProvider } else { Retries::SameProvider }
}

/// Says once for all workers which configuration is in force.
fn announce(text: &[u8], policy: &Policy) {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    if once("pai/1/configuration", &hasher.finish().to_le_bytes()) {
        let providers: Vec<&str> = policy.providers.iter().map(|provider| &*provider.name).collect();
        info!(
            "configuration in force: {} model provider(s): {}; {} agent(s), {} access key(s); audience {:?}, routing {:?}",
            providers.len(),
            providers.join(", "),
            policy.agents.iter().count(),
            policy.keys.iter().count(),
            policy.gateway.audience,
            policy.gateway.routing
        );
    }
}

/// Whether this worker is the first to write `value` under `key`.
fn once(key: &str, value: &[u8]) -> bool {
    let (current, version) = Envoy.get(key);
    current.as_deref() != Some(value) && Envoy.set(key, value, version)
}

/// Answers streams whose body has not come in time.
fn answer_overdue() {
    let now = TICKED.get();
    let overdue: Vec<Waiting> = WAITING
        .with_borrow_mut(|waiting| waiting.extract_if(.., |stream| now.saturating_sub(stream.since) >= BODY_TIMEOUT).collect());
    for stream in overdue {
        let Some(exchange) = stream.exchange.upgrade() else { continue };
        let Some(reply) = exchange.borrow_mut().on_body_timeout() else { continue };
        if hostcalls::set_effective_context(stream.id).is_ok() {
            send(&reply);
            if once("pai/1/body-timeout", b"told") {
                warn!(
                    "a request was held for 30 s and its body never came: either its client sent none, or the plugin's \
                     `allow_on_headers_stop_iteration` is not true (see docs/configuration.md, `routing`)"
                );
            }
        }
    }
}

// === impl Stream ===

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        #[cfg(feature = "test-hooks")]
        if let Some(reply) = hooks::obey(&self.exchange.borrow()) {
            send(&reply);
            return Action::Pause;
        }
        let mut exchange = self.exchange.borrow_mut();
        let step = with_headers(MapType::HttpRequestHeaders, |headers| {
            with_environment(|env| {
                let peer = || env.worker.borrow_mut().verified.identity(&Envoy, env.store, env.now());
                exchange.on_request_headers(headers, end_of_stream, &peer, env)
            })
        });
        if exchange.is_reading() {
            self.wait();
        }
        drop(exchange);
        self.take(step)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.stop_waiting();
        let fetch = || body(BufferType::HttpRequestBody, size);
        let step = with_environment(|env| self.exchange.borrow_mut().on_request_body(size, end_of_stream, fetch, env));
        self.take(step)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.stop_waiting();
        // What must not come as a header must not come as a trailer either.
        let edits = with_headers(MapType::HttpRequestTrailers, |trailers| self.exchange.borrow().strip(trailers));
        apply(MapType::HttpRequestTrailers, &edits);
        let fetch = || body(BufferType::HttpRequestBody, usize::MAX);
        let step = with_environment(|env| self.exchange.borrow_mut().on_request_trailers(fetch, env));
        self.take(step)
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        if !self.exchange.borrow().awaits_answer() {
            return Action::Continue;
        }
        let step = with_headers(MapType::HttpResponseHeaders, |headers| {
            with_environment(|env| {
                self.exchange.borrow_mut().on_response_headers(
                    headers,
                    end_of_stream,
                    || property(&["response", "code_details"]),
                    env,
                )
            })
        });
        match step {
            ResponseStep::Continue => Action::Continue,
            ResponseStep::Edit(edits) => {
                apply(MapType::HttpResponseHeaders, &edits);
                Action::Continue
            }
            ResponseStep::Hold(edits) => {
                apply(MapType::HttpResponseHeaders, &edits);
                Action::Pause
            }
            ResponseStep::Reply(reply) => {
                send(&reply);
                Action::Pause
            }
        }
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let mut exchange = self.exchange.borrow_mut();
        if !exchange.reads_answer() {
            return Action::Continue;
        }
        let chunk = body(BufferType::HttpResponseBody, size.min(exchange.answer_limit()));
        match with_environment(|env| exchange.on_response_body(&chunk, end_of_stream, env)) {
            BodyStep::Continue => Action::Continue,
            BodyStep::Replace(bytes) => {
                replace_body(BufferType::HttpResponseBody, size, &bytes);
                Action::Continue
            }
            BodyStep::Hold => Action::Pause,
            BodyStep::Reply(reply) => {
                send(&reply);
                Action::Pause
            }
        }
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        let mut exchange = self.exchange.borrow_mut();
        let limit = exchange.answer_limit();
        let fetch = || body(BufferType::HttpResponseBody, limit);
        match with_environment(|env| exchange.on_response_trailers(fetch, env)) {
            Some(reply) => {
                send(&reply);
                Action::Pause
            }
            None => Action::Continue,
        }
    }

    fn on_log(&mut self) {
        self.stop_waiting();
        EXCHANGES.with_borrow_mut(|exchanges| exchanges.remove(&self.id));
        // Envoy knows its own end of the connection once there is one. (The time to a pooled connection is told of failures too.)
        let connected = || property(&["upstream", "local_address"]).is_some();
        if let Some(entry) = with_environment(|env| self.exchange.borrow_mut().on_log(connected, env)) {
            show(&entry);
        }
    }
}

impl Stream {
    fn take(&self, step: Step) -> Action {
        match step {
            Step::Continue => Action::Continue,
            Step::Hold => Action::Pause,
            Step::Forward(forward) => {
                apply(MapType::HttpRequestHeaders, &forward.headers);
                if let Some(splice) = &forward.body {
                    replace_body(BufferType::HttpRequestBody, splice.length, &splice.bytes);
                }
                self.expect_attempts();
                Action::Continue
            }
            Step::Reply(reply) => {
                send(&reply);
                Action::Pause
            }
        }
    }

    /// Leaves word where the attempts of this stream find its exchange: in filter state, which no client can set, together with who
    /// this instance is, as another may come to serve the worker.
    fn expect_attempts(&self) {
        if ATTEMPT_FILTERS.get() > 0 || ATTEMPT_FILTERS_MAY_FOLLOW.get() {
            EXCHANGES.with_borrow_mut(|exchanges| exchanges.insert(self.id, Rc::downgrade(&self.exchange)));
            set_state("pai.exchange", &token(self.id));
        }
    }

    fn wait(&self) {
        let waiting = Waiting { id: self.id, since: TICKED.get(), exchange: Rc::downgrade(&self.exchange) };
        WAITING.with_borrow_mut(|list| list.push(waiting));
        self.waits.set(true);
    }

    fn stop_waiting(&self) {
        if self.waits.replace(false) {
            WAITING.with_borrow_mut(|list| {
                // Most requests have their body at once, and so stand at the end.
                if let Some(place) = list.iter().rposition(|waiting| waiting.id == self.id) {
                    list.swap_remove(place);
                }
            });
        }
    }
}

fn send(reply: &Reply) {
    let headers = reply.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    if hostcalls::send_http_response(u32::from(reply.status), headers, Some(&reply.body)).is_err() {
        metrics::filter_error(&Envoy, "reply");
    }
}

/// Puts what access logs show into filter state.
fn show(entry: &AccessLogEntry) {
    let (prompt, completion) =
        entry.tokens.map_or_else(Default::default, |(prompt, completion)| (prompt.to_string(), completion.to_string()));
    for (name, value) in [
        ("pai.provider", &*entry.provider),
        ("pai.model", &entry.model),
        ("pai.subject", &entry.subject),
        ("pai.decision", entry.decision),
        ("pai.guard", &entry.guard),
        ("pai.attempts", &entry.attempts),
        ("pai.prompt_tokens", &prompt),
        ("pai.completion_tokens", &completion),
    ] {
        if !value.is_empty() {
            set_state(name, value.as_bytes());
        }
    }
}

/// Sets filter state, which is called `wasm.` and this name.
fn set_state(name: &str, value: &[u8]) {
    // SAFETY: the pointers are of live slices with their lengths.
    let status = unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    expect_ok(status, "filter_state");
}

// === impl Attempt ===

impl Context for Attempt {
    fn on_done(&mut self) -> bool {
        if let Some(exchange) = self.of.take().filter(|_| !self.answered) {
            let connected = || property(&["upstream", "local_address"]).is_some();
            let edits = with_environment(|env| exchange.borrow_mut().on_attempt_end(self.ordinal, connected, env));
            // The stream is still there: there are no edits where it has ended.
            self.edit_request(&edits);
        }
        true
    }
}

impl HttpContext for Attempt {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let provider = property(&["xds", "cluster_metadata", "filter_metadata", "pai", "provider"]);
        let token = property(&["filter_state", "wasm.pai.exchange"]);
        let found = token.as_deref().and_then(find);
        if found.is_none() && token.as_deref().is_some_and(is_ours) {
            // The stream is over: Envoy 1.39 starts an attempt after it has answered that there is no room for it. It crashes on
            // a second answer.
            self.late = true;
            return Action::Pause;
        }
        let step = match &found {
            Some(exchange) => {
                let mut exchange = exchange.borrow_mut();
                self.holds = !end_of_stream && !exchange.is_reading();
                let step = with_environment(|env| exchange.on_attempt(provider.as_deref(), env));
                self.ordinal = exchange.ordinal();
                step
            }
            None => no_exchange(),
        };
        match step {
            AttemptStep::Forward(edits) => {
                self.of = found;
                apply(MapType::HttpRequestHeaders, &edits);
                // Envoy forgets where the headers are if they go on from here; the next attempt's are written into them.
                if self.holds { Action::Pause } else { Action::Continue }
            }
            AttemptStep::Refuse(reply) => {
                send(&reply);
                Action::Pause
            }
            AttemptStep::Misrouted(reply) => {
                warn_misrouted(provider.as_deref(), found.is_some());
                send(&reply);
                Action::Pause
            }
        }
    }

    fn on_http_request_body(&mut self, _size: usize, end_of_stream: bool) -> Action {
        if self.late {
            return Action::Pause;
        }
        if !self.holds {
            return Action::Continue;
        }
        if !end_of_stream {
            // Of a retry, Envoy knows the trailers already: it would send them twice if anything went on before them.
            return Action::Pause;
        }
        self.rewrite_body();
        Action::Continue
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        if self.late {
            return Action::Pause;
        }
        self.rewrite_body();
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        self.answered = true;
        let Some(exchange) = self.of.take() else { return Action::Continue };
        let turn = with_headers(MapType::HttpResponseHeaders, |headers| {
            with_environment(|env| exchange.borrow_mut().on_attempt_answer(self.ordinal, headers, env))
        });
        apply(MapType::HttpResponseHeaders, &turn.response);
        self.edit_request(&turn.request);
        Action::Continue
    }
}

impl Attempt {
    /// The body is whole: makes it fit for the provider.
    fn rewrite_body(&self) {
        let Some(exchange) = self.of.as_ref().filter(|_| self.holds) else { return };
        let exchange = exchange.borrow();
        let reach = exchange.attempt_reach();
        if reach == 0 {
            return;
        }
        if let Some(splice) = exchange.on_attempt_body(|| body(BufferType::HttpRequestBody, reach)) {
            replace_body(BufferType::HttpRequestBody, splice.length, &splice.bytes);
        }
    }

    /// Changes the headers that the next attempt will have: they are one map for all. It must be done from here: where the gate
    /// changes them, Envoy forgets its route, and the retry goes to the old cluster while its metadata are the new one's.
    fn edit_request(&self, edits: &[HeaderEdit]) {
        if self.holds {
            apply(MapType::HttpRequestHeaders, edits);
        }
    }
}

/// Says once that a request has come where it does not belong; `judged`: a gate has let it through.
fn warn_misrouted(provider: Option<&[u8]>, judged: bool) {
    if !once("pai/1/astray", b"told") {
        return;
    }
    let provider = provider.map(String::from_utf8_lossy);
    match (&provider, judged) {
        (None, _) => warn!(
            "an attempt filter does not know its provider: the cluster has no `metadata.filter_metadata.pai.provider` (see docs/fallback.md)"
        ),
        (Some(name), false) => warn!(
            "a request reached the cluster of provider `{name}` that no gate has let through: gate and attempt filter must have one \
             `vm_config`, and the gate must be in every listener that leads there (see docs/fallback.md)"
        ),
        (Some(name), true) => warn!(
            "a request for another provider was sent to the cluster of `{name}`: the route must follow `x-pai-provider`, also when it \
             retries (`refresh_cluster_on_retry`, see docs/fallback.md). Until the attempt filters are configured anew, a provider that \
             fails is not followed by another"
        ),
    }
}

/// What an attempt finds its stream by: this instance, and the stream's number.
fn token(stream: u32) -> [u8; 12] {
    let mut token = [0; 12];
    let (instance, number) = token.split_at_mut(8);
    instance.copy_from_slice(&WORKER.with_borrow(|worker| worker.heartbeat.instance()).to_le_bytes());
    number.copy_from_slice(&stream.to_le_bytes());
    token
}

/// Whether this is the token of a stream of this instance, which may have ended.
fn is_ours(seen: &[u8]) -> bool {
    seen.len() == token(0).len() && seen.first_chunk::<8>() == token(0).first_chunk()
}

/// The stream of this token, if it is one of this instance and has not ended.
fn find(token_seen: &[u8]) -> Option<Rc<RefCell<Exchange>>> {
    let (_, number) = token_seen.split_last_chunk()?;
    let stream = u32::from_le_bytes(*number);
    if token_seen != token(stream) {
        return None;
    }
    EXCHANGES.with_borrow(|exchanges| exchanges.get(&stream)?.upgrade())
}

// === impl Envoy ===

fn with_environment<T>(act: impl FnOnce(&Environment<'_>) -> T) -> T {
    WORKER.with(|worker| act(&Environment::new(&Envoy, &Envoy, &Envoy, worker)))
}

impl Clock for Envoy {
    fn now(&self) -> Time {
        let now = hostcalls::get_current_time().ok().and_then(|now| now.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        #[cfg(feature = "test-hooks")]
        let now = hooks::shift(now);
        Time(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Store for Envoy {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, u32) {
        let (value, version) = hostcalls::get_shared_data(key).unwrap_or_default();
        (value, version.unwrap_or(0))
    }

    fn set(&self, key: &str, value: &[u8], version: u32) -> bool {
        // Version 0 means "whatever is there" to the host. A key that is not there takes any other, and one that is does not take
        // this one, which the host reaches after four billion writes.
        let version = if version == 0 { u32::MAX } else { version };
        hostcalls::set_shared_data(key, Some(value), Some(version)).is_ok()
    }
}

impl Meter for Envoy {
    fn define(&self, kind: Kind, name: &str) -> u32 {
        SERIES.with_borrow_mut(|series| {
            *series.entry((kind, name.to_owned())).or_insert_with(|| {
                let kind = match kind {
                    Kind::Counter => MetricType::Counter,
                    Kind::Gauge => MetricType::Gauge,
                    Kind::Histogram => MetricType::Histogram,
                };
                hostcalls::define_metric(kind, name).unwrap_or_default()
            })
        })
    }

    fn add(&self, series: u32, by: u64) {
        // A metric that cannot be written has nowhere else to be told.
        let _ = hostcalls::increment_metric(series, i64::try_from(by).unwrap_or(i64::MAX));
    }

    fn record(&self, series: u32, value: u64) {
        let _ = hostcalls::record_metric(series, value);
    }
}

impl Peer for Envoy {
    fn principal(&self) -> Option<Vec<u8>> {
        property(&["filter_state", "io.istio.peer_principal"])
    }

    fn digest(&self) -> Option<Vec<u8>> {
        property(&["connection", "sha256_peer_certificate_digest"])
    }

    fn is_verified(&self) -> Option<bool> {
        property(&["connection", "peer_certificate_valid"]).map(|value| value == [1])
    }

    fn certificate(&self) -> Option<Vec<u8>> {
        property(&["connection", "peer_certificate"])
    }

    fn uri(&self) -> Option<Vec<u8>> {
        property(&["connection", "uri_san_peer_certificate"])
    }
}

/// Reads a property.
fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// Fetches what the host holds of a body.
fn body(buffer: BufferType, size: usize) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    hostcalls::get_buffer(buffer, 0, size).ok().flatten().unwrap_or_default()
}

/// Replaces the first `length` bytes of a body.
fn replace_body(buffer: BufferType, length: usize, bytes: &[u8]) {
    // SAFETY: the pointer is of a live slice with its length.
    let status = unsafe { abi::proxy_set_buffer_bytes(buffer as u32, 0, length, bytes.as_ptr(), bytes.len()) };
    expect_ok(status, "body");
}

fn apply(map: MapType, edits: &[HeaderEdit]) {
    for edit in edits {
        // SAFETY: the pointers are of live slices with their lengths.
        let status = match edit {
            HeaderEdit::Remove(name) => unsafe { abi::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) },
            HeaderEdit::Set(name, value) => unsafe {
                abi::proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
            },
        };
        expect_ok(status, "headers");
    }
}

fn expect_ok(status: u32, kind: &'static str) {
    if status != abi::OK {
        metrics::filter_error(&Envoy, kind);
    }
}

/// Shows the headers of a message, which are read with one host call.
fn with_headers<T>(map: MapType, read: impl FnOnce(&Headers<'_>) -> T) -> T {
    let (mut data, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the host writes a pointer to memory that it got from this module's allocator, or leaves the null.
    let status = unsafe { abi::proxy_get_header_map_pairs(map as u32, &raw mut data, &raw mut size) };
    let bytes = if status == abi::OK && !data.is_null() {
        // SAFETY: as above; `size` bytes were allocated and are now this vector's.
        unsafe { Vec::from_raw_parts(data, size, size) }
    } else {
        Vec::new()
    };
    read(&Headers(pairs(&bytes).unwrap_or_default()))
}

/// Takes apart the host's form of a header map: the count, the lengths of all names and values, then those, each with a NUL.
fn pairs(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (count, mut lengths) = word(bytes)?;
    let mut text = lengths.get(count.checked_mul(8)?..)?;
    let mut pairs = Vec::with_capacity(count);
    let mut next = || {
        let (length, rest) = word(lengths)?;
        lengths = rest;
        let (value, rest) = text.split_at_checked(length)?;
        text = rest.get(1..)?;
        Some(value)
    };
    for _ in 0..count {
        pairs.push((next()?, next()?));
    }
    Some(pairs)
}

fn word(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_le_bytes(*word)).ok()?, rest))
}

/// Host calls of the proxy-wasm ABI 0.2.1 whose every status is looked at here.
mod abi {
    pub const OK: u32 = 0;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
        pub fn proxy_set_buffer_bytes(buffer: u32, start: usize, length: usize, data: *const u8, size: usize) -> u32;
        pub fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    }
}
