//! Simulates two workers that share a ledger, and their requests, from a script of bytes.
//!
//! Each operation is a byte, followed by the bytes of its arguments. Callbacks are made in any order, at any provider, with any number
//! and any status; not only as Envoy makes them. Invariants are asserted after each operation and at the end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use pai_filter::budget::subject::Subject;
use pai_filter::clock::{Clock, Time};
use pai_filter::exchange::Exchange;
use pai_filter::exchange::environment::Environment;
use pai_filter::exchange::gate::Gate;
use pai_filter::exchange::step::{AttemptStep, BodyStep, CalloutEnd, ResponseStep, Step};
use pai_filter::exchange::worker::{Retries, Worker};
use pai_filter::http::headers::{HeaderEdit, Headers};
use pai_filter::metrics::{Kind, Meter};
use pai_filter::store::Store;

const NAMES: [&str; 3] = ["one", "two", "three"];
const ME: &[u8] = b"td/me";
const NOON: u64 = 43_200_000_000_000;
const AT_ONCE: usize = 7;
/// The cluster for callouts to the first provider.
const CALLOUTS: &str = "callouts-of-one";
/// The number of requests of one worker that may wait for a count at once.
const COUNTS_AT_ONCE: usize = 4;

const PROVIDERS: &str = r#"
{"apiVersion": "pai.io/v1", "kind": "ModelProvider", "metadata": {"name": "one"}, "spec": {"provider": "vllm",
 "endpoint": "http://one/one", "apiKeySecretRef": {"name": "one", "key": "k"}, "maxTokensPerDay": 2000, "maxTokensPerRequest": 900,
 "guards": [{"name": "g", "type": "pattern", "deny": ["secret"]}]}},
{"apiVersion": "pai.io/v1", "kind": "ModelProvider", "metadata": {"name": "two"}, "spec": {"provider": "openai",
 "endpoint": "http://two/two", "apiKeySecretRef": {"name": "two", "key": "k"}, "maxTokensPerDay": 5000}},
{"apiVersion": "pai.io/v1", "kind": "ModelProvider", "metadata": {"name": "three"}, "spec": {"provider": "anthropic",
 "endpoint": "http://three/three", "apiKeySecretRef": {"name": "three", "key": "k"}, "maxTokensPerDay": 90000}}"#;

const AGENT: &str = r#",
{"apiVersion": "pai.io/v1", "kind": "Agent", "metadata": {"name": "me"}, "spec": {"identities": ["td/me"],
 "models": ["one/a", "two/b", "three/c", "one/d"], "maxTokensPerDay": 6000}}"#;

const PATHS: [&str; 6] =
    ["/v1/chat/completions", "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/model-providers"];

const BODIES: [&str; 8] = [
    r#"{"model":"one/a","messages":[{"role":"user","content":"hi"}],"max_tokens":50}"#,
    r#"{"model":"one/a","messages":[{"role":"user","content":"hi"}],"stream":true,"top_k":4}"#,
    r#"{"model":"two/b","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}"#,
    r#"{"model":"three/c","messages":[{"role":"user","content":"a secret"}],"max_tokens":200}"#,
    r#"{"model":"one/d","prompt":["a","b"],"n":2,"max_tokens":20}"#,
    r#"{"model":"two/b","input":["abc"]}"#,
    r#"{"model":"one/a","messages":[{"role":"user","content":"hi"}],"max_tokens":800,"n":2}"#,
    r#"{"model":"one/a","messages":[]"#,
];

/// Answers of a server that is to count a prompt: right and wrong ones, and beginnings of them.
const COUNTS: [&str; 12] = [
    r#"{"count":20,"max_model_len":4096,"tokens":[1,2]}"#,
    r#"{"count":700,"max_model_len":4096,"tokens":[1,2"#,
    r#"{"max_model_len":500,"count":30}"#,
    r#"{"count":100000}"#,
    r#"{"count":0,"max_model_len":0}"#,
    r#"{"count":9007199254740992}"#,
    r#"{"count":1e999}"#,
    r#"{"count":12"#,
    r#"{"count":"20"}"#,
    r#"{"tokens":[1,2,3]}"#,
    "<html>",
    "",
];

const STATUSES: [&str; 16] =
    ["200", "200", "200", "302", "400", "400", "401", "403", "404", "408", "429", "500", "503", "503", "529", "abc"];

const DETAILS: [&str; 6] = [
    "via_upstream",
    "via_upstream",
    "upstream_reset_before_response_started{connection_failure}",
    "no_healthy_upstream",
    "upstream_response_timeout",
    "route_not_found",
];

const TYPES: [&str; 4] = ["application/json", "text/event-stream", "text/plain", "text/event-stream; charset=utf-8"];

/// Response bodies whose usage does not exceed any reservation.
const HONEST: [&str; 5] = [
    r#"{"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":0}}\n\n",
    "data: {\"cho",
    "\n\ndata: [DONE]\n\n",
    r#"{"error":{"message":"maximum context length is 4096 tokens","code":400}}"#,
];

const GREEDY: [&str; 5] = [
    r#"{"usage":{"prompt_tokens":100000,"total_tokens":200000}}"#,
    "data: {\"choices\":[{\"index\":3,\"delta\":{\"content\":\"x\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":9000,\"completion_tokens\":9007199254740992}}\n\n",
    r#","usage":{"prompt_tokens":9007199254740992,"completion_tokens":9007199254740992}}"#,
    "data: {\"choices\":[{\"index\":9999,\"delta\":{}}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":7}}\n\n",
];

/// The bytes that determine the operations.
struct Script<'a>(&'a [u8]);

/// The clock, the metrics and the state of one worker.
struct World {
    now: Cell<Time>,
    worker: RefCell<Worker>,
    series: RefCell<HashMap<String, u32>>,
}

/// A store with values and versions in a map. It can lose races.
#[derive(Default)]
struct Flaky {
    values: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    losing: Cell<u8>,
}

/// A request in flight.
struct ActiveRequest {
    worker: usize,
    exchange: Exchange,
    body: Vec<u8>,
    answered: usize,
    /// The gate that it belongs to.
    gate: Rc<Gate>,
    count: Count,
}

/// How far the callout of a request is that counts its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    None,
    Awaited,
    Ended,
}

/// Two workers, and their requests in flight.
pub struct Simulation {
    worlds: [World; 2],
    gates: [Rc<Gate>; 2],
    store: Flaky,
    requests: Vec<ActiveRequest>,
    /// Whether providers report at most the tokens that were reserved.
    honest: bool,
    manifests: String,
    /// Whether the first provider can be requested to count.
    counts: bool,
    /// The tokens charged according to the access log.
    logged: u128,
    /// An upper bound of the tokens that workers had charged without a log entry, or reserved, when they died.
    lost: u128,
    midnights: u64,
    uptime: Duration,
    /// The number of instances created so far.
    born: u64,
}

// === impl Script ===

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<usize> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first.into())
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.byte()? & 1 == 1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        Some(from[self.byte()? % from.len()])
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at(self.byte()?.min(self.0.len()));
        self.0 = rest;
        Some(bytes)
    }
}

// === impl World ===

impl Clock for World {
    fn now(&self) -> Time {
        self.now.get()
    }
}

impl Meter for World {
    fn define(&self, _kind: Kind, name: &str) -> u32 {
        let mut series = self.series.borrow_mut();
        let next = series.len() as u32;
        *series.entry(name.to_owned()).or_insert(next)
    }

    fn add(&self, series: u32, _by: u64) {
        assert!((series as usize) < self.series.borrow().len());
    }

    fn set(&self, series: u32, _value: u64) {
        self.add(series, 0);
    }
}

// === impl Flaky ===

impl Store for Flaky {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, u32) {
        self.values.borrow().get(key).map_or((None, 0), |(value, version)| (Some(value.clone()), *version))
    }

    fn set(&self, key: &str, value: &[u8], version: u32) -> bool {
        let mut values = self.values.borrow_mut();
        let current = values.get(key).map_or(0, |(_, version)| *version);
        if self.losing.get() > 0 {
            self.losing.set(self.losing.get() - 1);
            return false;
        }
        if current == version {
            values.insert(key.to_owned(), (value.to_vec(), version + 1));
        }
        current == version
    }
}

// === impl Simulation ===

impl Simulation {
    /// Runs a script to its end, and checks the balances.
    pub fn play(script: &[u8]) {
        let mut script = Script(script);
        let Some(mut simulation) = Self::start(&mut script) else { return };
        while simulation.act(&mut script).is_some() {
            simulation.audit();
            simulation.check_counts();
        }
        simulation.close();
    }

    fn start(script: &mut Script<'_>) -> Option<Self> {
        let kind = script.byte()?;
        let agent = if kind & 2 == 0 { AGENT } else { "" };
        let most = 1 + (kind >> 2) % 4;
        let counts = kind & 0x40 != 0;
        let callouts = if counts { format!(r#", "callouts": {{"one": "{CALLOUTS}"}}"#) } else { String::new() };
        let gateway = format!(
            r#"{{"apiVersion": "pai.io/v1", "kind": "Gateway", "metadata": {{"name": "g"}}, "spec": {{"maxAttempts": {most}{callouts}}}}}"#
        );
        let manifests = format!(r#"{{"items": [{PROVIDERS}{agent}, {gateway}]}}"#);
        let world =
            |instance| World { now: Cell::new(Time(NOON)), worker: RefCell::new(worker(instance)), series: RefCell::default() };
        let simulation = Self {
            worlds: [world(1), world(2)],
            gates: [gate(&manifests), gate(&manifests)],
            store: Flaky::default(),
            requests: Vec::new(),
            honest: kind & 1 == 0,
            manifests,
            counts,
            logged: 0,
            lost: 0,
            midnights: 0,
            uptime: Duration::ZERO,
            born: 2,
        };
        [0, 1].into_iter().for_each(|worker| simulation.gates[worker].introduce(&simulation.env(worker)));
        Some(simulation)
    }

    /// Performs the next operation. Returns `None` at the end of the script.
    fn act(&mut self, script: &mut Script<'_>) -> Option<()> {
        match script.byte()? % 20 {
            0..3 => self.ask(script),
            3 => {
                let by = script.byte()? as u64;
                self.set(Time(self.worlds[0].now.get().0 + by * 40_000_000));
                self.wait(by);
                Some(())
            }
            4 => {
                self.midnights += u64::from(script.byte()? == 0);
                self.set(Time(NOON + self.midnights * 2 * NOON));
                Some(())
            }
            5 => {
                let retries = script.pick(&[Retries::None, Retries::SameProvider, Retries::AnyProvider])?;
                self.worlds[script.byte()? % 2].worker.borrow_mut().retries = retries;
                Some(())
            }
            6 => {
                // The configuration is reloaded. Requests in flight keep the old gate.
                self.configure(script.byte()? % 2);
                Some(())
            }
            7 => {
                self.store.losing.set(script.byte()? as u8);
                Some(())
            }
            8 => {
                let what = script.byte()?;
                if what & 0x40 == 0 {
                    self.tick(what % 2)
                } else {
                    self.die(what % 2)
                }
                Some(())
            }
            9 => {
                let at = script.byte()?;
                if !self.requests.is_empty() {
                    let request = self.requests.swap_remove(at % self.requests.len());
                    self.close_request(request, at & 0x80 == 0);
                }
                Some(())
            }
            what => {
                let at = script.byte()?;
                if self.requests.is_empty() {
                    return Some(());
                }
                let mut request = self.requests.swap_remove(at % self.requests.len());
                let done = self.on(&mut request, what, script);
                self.requests.push(request);
                done
            }
        }
    }

    fn configure(&mut self, worker: usize) {
        self.gates[worker] = gate(&self.manifests);
        self.gates[worker].introduce(&self.env(worker));
    }

    /// Runs the tick of a worker, which Envoy calls every second.
    fn tick(&self, worker: usize) {
        let env = self.env(worker);
        env.settle_again();
        let ledger = env.ledger();
        env.worker.borrow_mut().heartbeat.tick(&ledger, self.uptime);
    }

    /// Advances the monotonic clock, with a heartbeat of each worker every 20 seconds.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds.div_ceil(20) {
            self.uptime += Duration::from_secs(20);
            [0, 1].into_iter().for_each(|worker| self.tick(worker));
        }
    }

    /// Replaces a worker that dies with all its requests. These are not logged.
    fn die(&mut self, worker: usize) {
        // Logged charges are settled first, because the dead worker cannot settle them.
        self.store.losing.set(0);
        self.env(worker).settle_again();
        self.lost += u128::from(self.audit().1);
        // Charges of failed attempts remain. Ending the requests against a copy of the store returns their tokens.
        let (world, nowhere) = (&self.worlds[worker], RefCell::new(self::worker(0)));
        let store = Flaky { values: self.store.values.clone(), losing: Cell::new(0) };
        for request in self.requests.extract_if(.., |request| request.worker == worker) {
            let entry = { request }.exchange.on_log(|| true, &Environment::new(world, &store, world, &nowhere)).unwrap();
            let (prompt, completion) = entry.tokens.unwrap_or_default();
            self.lost += u128::from(prompt) + u128::from(completion);
        }
        self.born += 1;
        self.worlds[worker].worker.replace(self::worker(self.born));
        self.configure(worker);
    }

    fn set(&self, now: Time) {
        self.worlds.iter().for_each(|world| world.now.set(now.max(world.now.get())));
    }

    fn ask(&mut self, script: &mut Script<'_>) -> Option<()> {
        if self.requests.len() == AT_ONCE {
            let request = self.requests.remove(0);
            self.close_request(request, true);
        }
        let (kind, path) = (script.byte()?, script.pick(&PATHS)?);
        let body = if kind & 2 == 0 { self.body(script.byte()?) } else { script.bytes()?.to_vec() };
        let worker = kind & 1;
        let mut headers: Vec<(&[u8], &[u8])> = vec![
            (b":method", if kind & 4 == 0 { b"POST" } else { b"GET" }),
            (b":path", path.as_bytes()),
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer sk-client"),
            (b"x-pai-provider", b"two"),
        ];
        if kind & 8 != 0 {
            headers.push((b"x-api-key", script.bytes()?));
        }
        let peer = || (kind & 16 == 0).then(|| ME.to_vec());
        let mut exchange = Exchange::new(Rc::clone(&self.gates[worker]));
        let step = exchange.on_request_headers(&Headers(headers), kind & 32 != 0, &peer, &self.env(worker));
        let gate = Rc::clone(&self.gates[worker]);
        let mut request = ActiveRequest { worker, exchange, body, answered: 0, gate, count: Count::None };
        request.take(&step);
        self.requests.push(request);
        Some(())
    }

    /// Returns a body. Where a server can count, every other one is that of a long prompt, whose bounds differ much.
    fn body(&self, which: usize) -> Vec<u8> {
        if !self.counts || which < 128 {
            return BODIES[which % BODIES.len()].into();
        }
        let (text, limit) = ("x".repeat(1600), 40 * (which % 16));
        format!(r#"{{"model":"one/a","messages":[{{"role":"user","content":"{text}"}}],"max_tokens":{limit}}}"#).into()
    }

    /// Checks the requests that wait for a count.
    fn check_counts(&self) {
        let waiting = || self.requests.iter().filter(|request| request.is_waiting());
        for request in waiting() {
            assert_eq!(request.exchange.provider_name(), None, "it is not admitted while it waits");
            let of_gate = waiting().filter(|other| Rc::ptr_eq(&other.gate, &request.gate)).count();
            assert!(of_gate <= COUNTS_AT_ONCE, "{of_gate} wait at once");
        }
    }

    fn on(&self, request: &mut ActiveRequest, what: usize, script: &mut Script<'_>) -> Option<()> {
        let env = self.env(request.worker);
        let (exchange, body) = (&mut request.exchange, &request.body);
        match what {
            10 => {
                let step = exchange.on_request_body(body.len(), script.flag()?, || body.clone(), &env);
                request.take(&step);
            }
            // A count that is awaited, or one that comes too late.
            13 if request.count != Count::None => {
                let answer = script.byte()?;
                request.end_count(answer, &env);
            }
            11 => match script.byte()? % 4 {
                0 => {
                    let step = exchange.on_request_trailers(|| body.clone(), &env);
                    request.take(&step);
                }
                1 => assert!(exchange.on_body_timeout().is_none_or(|reply| reply.status == 408)),
                2 => drop(exchange.on_response_trailers(Vec::new, &env)),
                _ => {
                    let reach = exchange.attempt_reach();
                    assert!(reach <= body.len());
                    if let Some(splice) = exchange.on_attempt_body(|| body[..reach].to_vec()) {
                        assert!(splice.length <= body.len());
                    }
                }
            },
            12 | 13 => self.attempt(exchange, script.pick(&NAMES)?, &env),
            14 => {
                let (status, off) = (script.pick(&STATUSES)?, script.byte()?);
                let mut headers: Vec<(&[u8], &[u8])> = vec![(b":status", status.as_bytes())];
                if off & 4 != 0 {
                    headers.extend([(&b"x-pai-retry"[..], &b"true"[..]), (b"x-envoy-ratelimited", b"true")]);
                }
                let turn = exchange.on_attempt_answer(wrong_by(exchange.ordinal(), off), &Headers(headers), &env);
                assert!(turn.request.is_empty() || set(&turn.response, "x-pai-retry").is_some());
                check_next(&turn.request);
            }
            15 => {
                let off = script.byte()?;
                check_next(&exchange.on_attempt_end(wrong_by(exchange.ordinal(), off), || off & 4 == 0, &env));
            }
            16 | 17 => {
                let (status, details, kind) = (script.pick(&STATUSES)?, script.pick(&DETAILS)?, script.byte()?);
                let mut headers: Vec<(&[u8], &[u8])> =
                    vec![(b":status", status.as_bytes()), (b"content-type", TYPES[kind % TYPES.len()].as_bytes())];
                if kind & 16 != 0 {
                    headers.push((b"x-pai-retry", b"true"));
                }
                if kind & 32 != 0 {
                    headers.push((b"content-encoding", b"gzip"));
                }
                let step = exchange.on_response_headers(&Headers(headers), kind & 64 != 0, || Some(details.into()), &env);
                if let ResponseStep::Edit(edits) | ResponseStep::Hold(edits) = step {
                    assert_eq!(set(&edits, "authorization"), None);
                }
            }
            _ => {
                let (which, end) = (script.byte()?, script.flag()?);
                let chunk = match self.honest {
                    true => HONEST[which % HONEST.len()].as_bytes(),
                    false if which < 128 => GREEDY[which % GREEDY.len()].as_bytes(),
                    false => script.bytes()?,
                };
                let read = exchange.reads_answer();
                let step = exchange.on_response_body(chunk, end, &env);
                assert!(read || step == BodyStep::Continue, "{step:?}");
                request.answered += chunk.len();
                if let BodyStep::Replace(bytes) = step {
                    assert!(bytes.len() <= request.answered, "the output is longer than the input");
                }
            }
        }
        Some(())
    }

    fn attempt(&self, exchange: &mut Exchange, name: &str, env: &Environment<'_>) {
        let step = exchange.on_attempt(Some(name.as_bytes()), &|| None, env);
        if let AttemptStep::Forward(edits) = step {
            assert!(edits.contains(&HeaderEdit::Remove("x-pai-provider".into())));
            check_credential(&edits, name);
        }
    }

    fn close_request(&mut self, mut request: ActiveRequest, connected: bool) {
        let env = self.env(request.worker);
        let entry = request.exchange.on_log(|| connected, &env).unwrap();
        assert_eq!(request.exchange.on_log(|| connected, &env), None, "once");
        if request.count != Count::None {
            request.end_count(request.answered, &env);
        }
        for name in NAMES {
            let step = request.exchange.on_attempt(Some(name.as_bytes()), &|| None, &env);
            assert!(!matches!(step, AttemptStep::Forward(_)), "{name} receives a request that has ended");
        }
        let (prompt, completion) = entry.tokens.unwrap_or_default();
        self.logged += u128::from(prompt) + u128::from(completion);
    }

    fn env(&self, worker: usize) -> Environment<'_> {
        let world = &self.worlds[worker];
        Environment::new(world, &self.store, world, &world.worker)
    }

    /// Returns the used and reserved tokens of a subject today.
    fn record(&self, subject: &Subject) -> (u64, u64) {
        let account = self.env(0).ledger().read(subject).unwrap();
        let record = account.record(0).unwrap();
        let cap = subject.limits[0].cap.unwrap();
        assert!(
            !self.honest || record.used.saturating_add(record.reserved()) <= cap,
            "the budget of {} is exceeded: {record:?}",
            subject.key
        );
        (record.used, record.reserved())
    }

    fn audit(&self) -> (u128, u64) {
        let records = self.gates[0].budgets.providers().map(|subject| self.record(subject));
        records.fold((0, 0), |(used, reserved), record| (used + u128::from(record.0), reserved + record.1))
    }

    /// Ends all requests, and checks that nothing is reserved and that the charges in the ledger match the log.
    fn close(mut self) {
        while let Some(request) = self.requests.pop() {
            self.close_request(request, false);
        }
        self.store.losing.set(0);
        self.wait(120);
        let (used, reserved) = self.audit();
        assert_eq!(reserved, 0, "still reserved");
        if self.midnights == 0 {
            let (least, most) = (self.logged, self.logged + self.lost);
            assert!(
                least <= used && used <= most,
                "charged {used}, logged {least}, at most {most} with the reservations of dead workers"
            );
        }
    }
}

// === impl ActiveRequest ===

impl ActiveRequest {
    /// Checks a step, and notes the callout that it requests.
    fn take(&mut self, step: &Step) {
        check_step(step);
        let Step::Ask(callout) = step else { return };
        assert_eq!((self.count, &*callout.cluster, &*callout.path), (Count::None, CALLOUTS, "/one/tokenize"), "once for a request");
        let credential = callout.credential.as_ref().map(|credential| credential.expose());
        assert!(credential.is_some_and(|value| value.ends_with("sk-one")), "{credential:?}");
        assert!(callout.body.starts_with(br#"{"model":"#) && callout.body.ends_with(b"}"));
        self.count = Count::Awaited;
    }

    /// Returns whether the exchange waits for a count.
    fn is_waiting(&self) -> bool {
        self.count == Count::Awaited && self.exchange.awaits_decision() && !self.exchange.awaits_body()
    }

    /// Ends the callout.
    fn end_count(&mut self, answer: usize, env: &Environment<'_>) {
        let status = [200, 200, 200, 404, 504, 500][answer % 6];
        let end = match answer {
            250.. => CalloutEnd::NotSent,
            240..250 => CalloutEnd::Unanswered,
            _ => CalloutEnd::Answered { status, body: COUNTS[answer % COUNTS.len()].as_bytes() },
        };
        let was_awaited = std::mem::replace(&mut self.count, Count::Ended) == Count::Awaited;
        let step = self.exchange.on_callout(end, || self.body.clone(), env);
        assert!(!matches!(step, Step::Ask(_)), "once for a request");
        assert!(was_awaited || step == Step::Hold, "{step:?} for a count that nothing waits for");
        check_step(&step);
    }
}

fn worker(instance: u64) -> Worker {
    let mut worker = Worker::new(instance);
    worker.retries = Retries::AnyProvider;
    worker
}

fn gate(manifests: &str) -> Rc<Gate> {
    let secret = |name: &str| Some(format!("sk-{}", name.to_ascii_lowercase().split('_').nth(2)?));
    Rc::new(Gate::new(pai_filter::config::load(manifests.as_bytes(), &secret).unwrap()))
}

/// Returns the number itself in half of the cases, and a neighbouring one otherwise.
fn wrong_by(ordinal: u32, off: usize) -> u32 {
    match off % 4 {
        0..2 => ordinal,
        2 => ordinal.wrapping_sub(1),
        _ => ordinal.wrapping_add(1),
    }
}

fn set<'a>(edits: &'a [HeaderEdit], name: &str) -> Option<&'a str> {
    edits.iter().rev().find_map(|edit| match edit {
        HeaderEdit::Set(key, value) if *key == name => Some(&**value),
        _ => None,
    })
}

/// Checks that a forwarded request has a provider, and no credential of another.
fn check_step(step: &Step) {
    if let Step::Forward(forward) = step {
        check_credential(&forward.headers, set(&forward.headers, "x-pai-provider").unwrap());
    }
}

fn check_credential(edits: &[HeaderEdit], provider: &str) {
    assert!(NAMES.contains(&provider));
    let credential = ["authorization", "x-api-key"].into_iter().find_map(|name| set(edits, name));
    assert!(credential.is_none_or(|value| value.ends_with(&format!("sk-{provider}"))), "{provider} gets {credential:?}");
}

/// Checks that the edits for a next attempt set its provider, and no credential. The attempt itself sets that.
fn check_next(edits: &[HeaderEdit]) {
    assert!(edits.is_empty() || NAMES.contains(&set(edits, "x-pai-provider").unwrap()));
    assert_eq!(set(edits, "authorization"), None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reaches_counts_that_are_awaited_and_late() {
        // A start with callouts and without the agent; two requests with long prompts; their bodies; and the answer for the first one.
        let script = [0x42, 0, 0, 0, 207, 1, 0, 0, 207, 10, 0, 1, 10, 0, 1, 13, 0, 0];
        let mut script = Script(&script);
        let mut simulation = Simulation::start(&mut script).unwrap();
        while simulation.act(&mut script).is_some() {
            simulation.audit();
            simulation.check_counts();
        }
        let counts: Vec<Count> = simulation.requests.iter().map(|request| request.count).collect();
        assert!(counts.contains(&Count::Awaited) && counts.contains(&Count::Ended), "{counts:?}");
        simulation.close();
    }
}
