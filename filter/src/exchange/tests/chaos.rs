//! Random tests of exchanges: for any actions of clients, providers and Envoy, in any order, no budget is exceeded, each charge is made
//! once, and no provider receives data that is meant for another.
//!
//! Two workers share a ledger. Callbacks are made as Envoy makes them, and also in wrong clusters, repeatedly, or late.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::*;
use crate::budget::subject::Subject;

const ME: &str = "td/me";
/// The providers. The last one has no credential.
const NAMES: [&str; 3] = ["one", "two", "three"];
/// The number of requests in flight. It is small, so that each request makes progress.
const AT_ONCE: usize = 3;
const DAY: u64 = 86_400_000_000_000;

#[derive(Debug, Clone)]
enum Op {
    /// Makes the next callback that Envoy would make. An attempt gets a response of this status, or ends without one.
    Next {
        active: Index,
        status: Option<u16>,
        connected: bool,
        usage: Option<u64>,
    },
    /// Starts a request at a worker with its headers.
    Headers {
        worker: usize,
        model: Index,
        limit: Option<u64>,
        text: &'static str,
        members: &'static str,
    },
    /// Receives more of the body, its end, or the trailers.
    Body {
        active: Index,
        end: bool,
        trailers: bool,
    },
    /// The body does not arrive.
    Timeout {
        active: Index,
    },
    /// Starts an attempt: in the cluster where it is due, or in another.
    Start {
        active: Index,
        elsewhere: Option<usize>,
    },
    /// The attempt gets a response. `off` is added to its number.
    Response {
        active: Index,
        status: u16,
        hostile: bool,
        off: u32,
    },
    /// The attempt ends without a response.
    End {
        active: Index,
        connected: bool,
        off: u32,
    },
    /// The gate receives response headers: of the provider, or of a local reply with this status and these details.
    ResponseHeaders {
        active: Index,
        local: Option<(u16, &'static str)>,
        hostile: bool,
    },
    /// The gate receives the response's body, whose usage is this per mille of the reservation.
    ResponseBody {
        active: Index,
        usage: Option<u64>,
    },
    /// Ends the request.
    Close {
        active: Index,
        connected: bool,
    },
    AdvanceClock {
        nanoseconds: u64,
    },
    /// Sets where a worker assumes that Envoy can retry.
    SetRetries {
        worker: usize,
        retries: Retries,
    },
}

/// A request in flight, and its expected state.
struct ActiveRequest {
    worker: usize,
    exchange: Exchange,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    limit: Option<u64>,
    unread: bool,
    /// The provider of the current attempt, the tokens reserved at the provider and for the agent, and the day of the reservation.
    candidate_provider: Option<usize>,
    tokens: [u64; 2],
    day: u64,
    /// Whether a reservation was just made.
    fresh: bool,
    /// Whether the next attempt is at the same provider, which has not received the previous one.
    again: bool,
    /// Whether the gate has rewritten the request for its provider, and no attempt was rejected.
    by_gate: bool,
    /// Whether an attempt may start: none is in flight, and a candidate remains.
    due: bool,
    /// Whether the current attempt may still be charged.
    open: bool,
    started: u32,
    sent: Vec<(usize, String)>,
    /// The status of the current attempt's response, and whether it makes Envoy retry.
    answer: Option<(u16, bool)>,
    /// Whether the response that the gate has received is the provider's; `None` before a response.
    passed: Option<bool>,
    usage: Option<u64>,
    ended: bool,
    charged: u64,
}

/// The expected charge of an operation, at the provider of the current attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Charge {
    Exactly(u64),
    /// The estimate of the prompt.
    Prompt,
}

const NOTHING: Charge = Charge::Exactly(0);

/// Two workers, and their requests in flight.
struct Simulation {
    worlds: [World; 2],
    gates: [Rc<Gate>; 2],
    store: Memory,
    requests: Vec<ActiveRequest>,
}

/// The used and reserved tokens of each provider and of the agent, and the tokens charged for each provider by the metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Balances {
    providers: [(u64, u64); 3],
    agent: Option<(u64, u64)>,
    charged: [u64; 3],
}

fn today(now: Time) -> u64 {
    now.day().0.into()
}

impl Simulation {
    fn new(manifests: &str) -> Self {
        let secret = |name: &str| Some(format!("sk-{}", name.to_ascii_lowercase().split('_').nth(2)?));
        let gate = || Rc::new(Gate::new(crate::config::load(manifests.as_bytes(), &secret).unwrap()));
        let world = |instance| World { worker: RefCell::new(Worker::new(instance)), ..World::new() };
        Self { worlds: [world(1), world(2)], gates: [gate(), gate()], store: Memory::default(), requests: Vec::new() }
    }

    fn env(&self, worker: usize) -> Environment<'_> {
        let world = &self.worlds[worker];
        Environment::new(world, &self.store, world, &world.worker)
    }

    /// Returns the agent's account, if it has a budget.
    fn agent(&self) -> Option<Rc<Subject>> {
        let budgets = self.gates[0].budgets.required(Caller::Agent(0), 0);
        (budgets.len() > 1).then(|| Rc::clone(budgets[0].subject))
    }

    fn balances(&self) -> Balances {
        let record = |subject: &Subject| {
            let account = self.env(0).ledger().read(subject).unwrap();
            let record = account.record(0).unwrap();
            let cap = subject.limits[0].cap.unwrap_or(u64::MAX);
            assert!(record.used + record.reserved() <= cap, "the budget of {} is exceeded: {record:?}", subject.key);
            (record.used, record.reserved())
        };
        let charged = |name: &str| {
            let of = |series: &str| series.starts_with(&format!("pai.provider=.={name};")) && series.ends_with("_tokens_total");
            let counts = self.worlds.iter().flat_map(|world| world.counts());
            counts.filter(|(series, _)| of(series) && !series.ends_with("reserved_tokens_total")).map(|(_, count)| count).sum()
        };
        Balances {
            providers: [0, 1, 2].map(|index| record(self.gates[0].budgets.provider(index).unwrap())),
            agent: self.agent().map(|agent| record(&agent)),
            charged: NAMES.map(charged),
        }
    }

    fn now(&self) -> Time {
        self.worlds[0].now.get()
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Next { active, status, connected, usage } => {
                self.on(active, |simulation, active| match (active.passed, active.answer, status) {
                    (Some(_), ..) => simulation.response_body(active, *usage),
                    _ if active.unread => simulation.read(active, true, false),
                    _ if active.due => simulation.start(active, None),
                    (_, None, Some(status)) => simulation.answer(active, *status, *connected, 0),
                    (_, None, None) if active.open => simulation.end(active, *connected, 0),
                    _ => simulation.response_headers(active, None, false),
                })
            }
            Op::Headers { worker, model, limit, text, members } => self.ask(*worker, model, *limit, text, members),
            Op::Body { active, end, trailers } => self.on(active, |simulation, active| simulation.read(active, *end, *trailers)),
            Op::Timeout { active } => self.on(active, |_, active| {
                assert_eq!(active.exchange.on_body_timeout().is_some(), active.unread);
                active.passed = active.passed.or(active.unread.then_some(false));
                active.unread = false;
                NOTHING
            }),
            Op::Start { active, elsewhere } => self.on(active, |simulation, active| simulation.start(active, *elsewhere)),
            Op::Response { active, status, hostile, off } => {
                self.on(active, |simulation, active| simulation.answer(active, *status, *hostile, *off))
            }
            Op::End { active, connected, off } => self.on(active, |simulation, active| simulation.end(active, *connected, *off)),
            Op::ResponseHeaders { active, local, hostile } => {
                self.on(active, |simulation, active| simulation.response_headers(active, *local, *hostile))
            }
            Op::ResponseBody { active, usage } => self.on(active, |simulation, active| simulation.response_body(active, *usage)),
            Op::Close { active, connected } => {
                if !self.requests.is_empty() {
                    let active = self.requests.swap_remove(active.index(self.requests.len()));
                    self.close(active, *connected);
                }
            }
            Op::AdvanceClock { nanoseconds } => {
                let now = Time(self.now().0 + nanoseconds);
                self.worlds.iter().for_each(|world| world.now.set(now));
            }
            Op::SetRetries { worker, retries } => self.worlds[*worker].worker.borrow_mut().retries = *retries,
        }
        self.balances();
    }

    /// Applies an action to one of the requests, and checks its charge.
    fn on(&mut self, active: &Index, act: impl FnOnce(&Self, &mut ActiveRequest) -> Charge) {
        if self.requests.is_empty() {
            return;
        }
        let mut active = self.requests.swap_remove(active.index(self.requests.len()));
        self.audited(&mut active, act);
        assert_eq!(active.headers.contains_key("x-pai-provider"), active.due, "{:?}", active.headers);
        self.requests.push(active);
    }

    fn audited(&self, active: &mut ActiveRequest, act: impl FnOnce(&Self, &mut ActiveRequest) -> Charge) {
        let (before, reserved, candidate_provider) = (self.balances(), active.reserved(), active.candidate_provider);
        let counts = active.day == today(self.now());
        let charge = act(self, active);
        let after = self.balances();
        let mut all = 0;
        for (index, name) in NAMES.iter().enumerate() {
            let charged = after.charged[index] - before.charged[index];
            let used = after.providers[index].0 - before.providers[index].0;
            assert_eq!(used, if counts { charged } else { 0 }, "{name} is charged");
            match charge {
                _ if Some(index) != candidate_provider => assert_eq!(charged, 0, "{name} did nothing"),
                Charge::Exactly(tokens) => assert_eq!(charged, tokens),
                Charge::Prompt => assert!((1..=reserved).contains(&charged), "{charged} of {reserved}"),
            }
            all += charged;
        }
        if let (Some(before), Some(after)) = (before.agent, after.agent) {
            assert_eq!(after.0 - before.0, if counts { all } else { 0 }, "the agent is charged");
        }
        active.charged += all;
        if std::mem::take(&mut active.fresh) {
            active.record_reservation(&before, &after, if counts { candidate_provider } else { None }, self.now());
        }
    }

    fn ask(&mut self, worker: usize, model: &Index, limit: Option<u64>, text: &str, members: &str) {
        if self.requests.len() == AT_ONCE {
            // A request with a response is ended first.
            let Some(done) = self.requests.iter().position(|active| active.passed.is_some()) else { return };
            let done = self.requests.swap_remove(done);
            self.close(done, true);
        }
        let gate = Rc::clone(&self.gates[worker]);
        let agent = gate.policy.agents.get(0).unwrap();
        let named = &agent.models[model.index(agent.models.len())];
        let limit_member = limit.map_or_else(String::new, |limit| format!(",\"max_tokens\":{limit}"));
        let name = format!("{}/{}", gate.policy.provider_name(named.provider), named.model);
        let body = chat(&name, &format!("{limit_member}{members}")).replace("hi", text).into_bytes();
        let length = body.len().to_string();
        let headers = post(
            "/v1/chat/completions",
            &[("authorization", "Bearer sk-client"), ("x-pai-provider", "two"), ("content-length", &length)],
        );
        let mut exchange = Exchange::new(gate);
        let peer = || Some(ME.as_bytes().to_vec());
        assert_eq!(exchange.on_request_headers(&headers, false, &peer, &self.env(worker)), Step::Hold);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut headers: BTreeMap<String, String> = headers.0.iter().map(|(name, value)| (text(name), text(value))).collect();
        headers.remove("x-pai-provider");
        self.requests.push(ActiveRequest {
            worker,
            exchange,
            headers,
            body,
            limit,
            unread: true,
            candidate_provider: None,
            tokens: [0; 2],
            day: 0,
            fresh: false,
            again: false,
            by_gate: false,
            due: false,
            open: false,
            started: 0,
            sent: Vec::new(),
            answer: None,
            passed: None,
            usage: None,
            ended: false,
            charged: 0,
        });
    }

    fn read(&self, active: &mut ActiveRequest, end: bool, trailers: bool) -> Charge {
        let (env, body) = (self.env(active.worker), active.body.clone());
        let step = match (end, trailers) {
            (true, true) => active.exchange.on_request_trailers(|| body, &env),
            _ => active.exchange.on_request_body(body.len(), end, || body, &env),
        };
        if !active.unread || !end {
            assert!(matches!(step, Step::Hold | Step::Continue), "{step:?}");
            return NOTHING;
        }
        active.unread = false;
        match step {
            Step::Forward(forward) => {
                active.apply(&forward.headers);
                if let Some(splice) = forward.body {
                    active.body = [&splice.bytes, &active.body[splice.length..]].concat();
                }
                (active.due, active.open, active.fresh) = (true, true, true);
                active.by_gate = set(&forward.headers, ":authority").is_some();
                active.candidate_provider = active.next();
            }
            Step::Reply(_) => active.passed = Some(false),
            step => panic!("{step:?}"),
        }
        NOTHING
    }

    fn start(&self, active: &mut ActiveRequest, elsewhere: Option<usize>) -> Charge {
        let index = elsewhere.or(active.next()).unwrap_or(0);
        let step =
            active.exchange.on_attempt(NAMES.get(index).map(|name| name.as_bytes()), &no_credential, &self.env(active.worker));
        let expected = active.due && active.passed.is_none() && Some(index) == active.candidate_provider;
        let AttemptStep::Forward(edits) = step else {
            assert!(!expected, "refused: {step:?}");
            active.by_gate &= active.started > 0;
            return NOTHING;
        };
        assert!(expected, "sent to {index}: {edits:?}");
        active.apply(&edits);
        (active.due, active.answer, active.started) = (false, None, active.started + 1);
        assert_eq!(active.exchange.ordinal(), active.started);
        let reach = active.exchange.attempt_reach();
        let splice = (reach > 0).then(|| active.exchange.on_attempt_body(|| active.body[..reach].to_vec())).flatten();
        let body = splice.map_or_else(|| active.body.clone(), |splice| [&splice.bytes, &active.body[splice.length..]].concat());
        self.check_sent(active, index, &body);
        NOTHING
    }

    /// Checks that a provider receives its own path, credential and model, and nothing of another provider.
    fn check_sent(&self, active: &mut ActiveRequest, index: usize, body: &[u8]) {
        let name = NAMES[index];
        assert!(active.headers.keys().all(|name| !name.starts_with("x-pai-")), "{:?}", active.headers);
        let header = |name: &str| active.headers.get(name).map(String::as_str);
        let credential = (index < 2).then(|| format!("Bearer sk-{name}"));
        assert_eq!(header("authorization"), credential.as_deref());
        assert_eq!((header(":authority"), header(":path")), (Some(name), Some(&*format!("/{name}/chat/completions"))));
        assert_eq!(header("content-length"), Some(&*body.len().to_string()), "{}", String::from_utf8_lossy(body));
        let body: Value = serde_json::from_slice(body).unwrap();
        let model = body["model"].as_str().unwrap().to_owned();
        let policy = &self.gates[active.worker].policy;
        let agent = policy.agents.get(0).unwrap();
        assert!(agent.allows(index, &model), "{name} is sent {model}");
        let secret = body["messages"][0]["content"] == "secret";
        assert!(!secret || policy.providers[index].guards.is_empty(), "the guard of {name} rejects this prompt");
        let limit = body.get("max_tokens").or(body.get("max_completion_tokens")).and_then(Value::as_u64);
        assert!(limit.is_none() || active.limit.is_none() || limit <= active.limit);
        let candidate = (index, model);
        if !std::mem::take(&mut active.again) {
            assert!(!active.sent.contains(&candidate), "sent twice: {candidate:?} of {:?}", active.sent);
            active.sent.push(candidate);
        }
        assert!(active.sent.len() <= policy.gateway.max_attempts as usize, "{:?}", active.sent);
    }

    fn answer(&self, active: &mut ActiveRequest, status: u16, hostile: bool, off: u32) -> Charge {
        if active.started == 0 || off == 0 && (active.due || active.answer.is_some()) {
            return NOTHING;
        }
        let text = status.to_string();
        let mut headers = vec![(b":status".as_slice(), text.as_bytes())];
        if hostile {
            headers.extend([(b"x-pai-retry".as_slice(), b"true".as_slice()), (b"x-envoy-ratelimited", b"true")]);
        }
        let turn = active.exchange.on_attempt_answer(active.started.wrapping_add(off), &Headers(headers), &self.env(active.worker));
        let (retry, no_retry) =
            (set(&turn.response, "x-pai-retry").is_some(), set(&turn.response, "x-envoy-ratelimited").is_some());
        let fresh = off == 0 && active.open && active.passed.is_none();
        let failed = matches!(status, 401 | 403 | 404 | 408 | 429 | 500..);
        assert_eq!(retry || no_retry, fresh && failed, "{status}: {turn:?}");
        assert!(!(retry && no_retry) && retry != turn.request.is_empty());
        if hostile && active.passed.is_none() {
            let gone = |name: &'static str| turn.response.contains(&HeaderEdit::Remove(name.into()));
            assert!(gone("x-pai-retry") && gone("x-envoy-ratelimited"));
        }
        if off == 0 {
            active.answer = Some((status, retry));
            active.apply_retry(&turn.request);
        }
        NOTHING
    }

    fn end(&self, active: &mut ActiveRequest, connected: bool, off: u32) -> Charge {
        // The end of an attempt with a response is not reported.
        if active.started == 0 || off == 0 && (active.due || active.answer.is_some()) {
            return NOTHING;
        }
        let edits = active.exchange.on_attempt_end(active.started.wrapping_add(off), || connected, &self.env(active.worker));
        let fresh = off == 0 && active.open && active.passed.is_none();
        if !fresh {
            assert_eq!(edits, []);
            return NOTHING;
        }
        active.open = false;
        active.apply_retry(&edits);
        if connected { Charge::Prompt } else { NOTHING }
    }

    fn response_headers(&self, active: &mut ActiveRequest, local: Option<(u16, &'static str)>, hostile: bool) -> Charge {
        // A response that the attempt has forwarded reaches the gate.
        let local = local.filter(|_| active.answer.is_none_or(|(_, retry)| retry));
        let (status, retry) = active.answer.unwrap_or((200, hostile && active.started == 0));
        let status = local.map_or(status, |(status, _)| status);
        let text = status.to_string();
        let mut headers = vec![(b":status".as_slice(), text.as_bytes()), (b"content-type", b"application/json")];
        if retry && local.is_none() {
            headers.push((b"x-pai-retry", b"true"));
        }
        let details = local.map_or("via_upstream", |(_, details)| details).as_bytes().to_vec();
        let step = active.exchange.on_response_headers(&Headers(headers), false, || Some(details), &self.env(active.worker));
        if active.passed.is_some() {
            assert_eq!(step, ResponseStep::Continue);
            return NOTHING;
        }
        // Responses of clusters without an attempt filter are rejected, unless the gate has rewritten the request for the provider.
        let genuine = active.answer.is_some() || active.started > 0 && !active.due || active.by_gate && active.started == 0;
        active.unread = false;
        match step {
            ResponseStep::Reply(_) => {
                let refused_us = local.is_none() && genuine && matches!(status, 401 | 403);
                assert!(local.is_some() || !genuine || refused_us, "a response is lost");
                active.passed = Some(refused_us);
            }
            ResponseStep::Edit(edits) | ResponseStep::Hold(edits) => {
                assert!(local.is_none());
                if let Some(provider) = set(&edits, "x-pai-provider") {
                    assert!(genuine, "the response is of an unknown provider");
                    let provider_sent =
                        active.sent.last().map(|(index, _)| NAMES[*index]).or(active.next().map(|index| NAMES[index]));
                    assert_eq!(Some(provider), provider_sent);
                    active.passed = Some(true);
                } else {
                    active.passed = Some(false);
                }
            }
            ResponseStep::Continue => panic!("the first response is not handled"),
        }
        if status >= 400 {
            active.usage = Some(0);
        }
        NOTHING
    }

    fn response_body(&self, active: &mut ActiveRequest, usage: Option<u64>) -> Charge {
        let reported = usage.map(|share| active.reserved() * share / 1000);
        let body = reported.map_or_else(
            || "{\"choices\":[".to_owned(),
            |all| format!("{{\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{}}}}}", all / 3, all - all / 3),
        );
        if active.exchange.reads_answer() && !std::mem::replace(&mut active.ended, true) && active.usage.is_none() {
            active.exchange.on_response_body(body.as_bytes(), true, &self.env(active.worker));
            active.usage = reported;
        }
        NOTHING
    }

    fn close(&mut self, mut active: ActiveRequest, connected: bool) {
        if active.answer.is_some_and(|(_, retry)| !retry) {
            // A response that the attempt forwards reaches the gate immediately.
            self.response_headers(&mut active, None, false);
        }
        let mut entry = None;
        self.audited(&mut active, |simulation, active| {
            entry = active.exchange.on_log(|| connected, &simulation.env(active.worker));
            active.final_charge(connected)
        });
        let entry = entry.unwrap();
        assert_eq!(entry.tokens.map_or(0, |(prompt, completion)| prompt + completion), active.charged, "the log");
        if let Some((index, _)) = active.sent.last().filter(|_| active.passed.is_none()) {
            assert_eq!(entry.provider, NAMES[*index], "the log names the provider that was sent the request");
        }
        self.audited(&mut active, |simulation, active| {
            let env = simulation.env(active.worker);
            assert_eq!(active.exchange.on_log(|| true, &env), None);
            for (index, name) in NAMES.into_iter().enumerate() {
                let step = active.exchange.on_attempt(Some(name.as_bytes()), &no_credential, &env);
                assert!(!matches!(step, AttemptStep::Forward(_)), "{index} receives a request that has ended");
            }
            assert_eq!(active.exchange.on_attempt_end(active.started, || true, &env), []);
            NOTHING
        });
    }
}

impl ActiveRequest {
    /// Returns the provider to which Envoy would send the request.
    fn next(&self) -> Option<usize> {
        let name = self.headers.get("x-pai-provider")?;
        NAMES.iter().position(|known| known == name)
    }

    fn apply(&mut self, edits: &[HeaderEdit]) {
        for edit in edits {
            match edit {
                HeaderEdit::Remove(name) => drop(self.headers.remove(&**name)),
                HeaderEdit::Set(name, value) => drop(self.headers.insert((*name).to_owned(), value.to_string())),
            }
        }
    }

    /// Applies the edits after a failed attempt. They contain the next provider, or the same one if it was not reached.
    fn apply_retry(&mut self, edits: &[HeaderEdit]) {
        self.apply(edits);
        if let Some(next) = self.next() {
            self.fresh = edits.contains(&HeaderEdit::Remove("authorization".into()));
            self.again = !self.fresh;
            (self.due, self.open, self.candidate_provider) = (true, true, Some(next));
        }
    }

    /// Records the new reservation; `from` is the provider whose reservation was just released.
    fn record_reservation(&mut self, before: &Balances, after: &Balances, from: Option<usize>, now: Time) {
        let Some(index) = self.candidate_provider else { return };
        let [provider, agent] = self.tokens;
        let released = |tokens: u64, counts: bool| if counts { tokens } else { 0 };
        self.tokens = [
            after.providers[index].1 + released(provider, from == Some(index)) - before.providers[index].1,
            after.agent.map_or(0, |(_, reserved)| reserved) + released(agent, from.is_some())
                - before.agent.map_or(0, |(_, reserved)| reserved),
        ];
        self.day = today(now);
    }

    /// Returns the number of tokens reserved for the request.
    fn reserved(&self) -> u64 {
        let [provider, agent] = self.tokens;
        assert!(provider == 0 || agent == 0 || provider == agent, "{provider} and {agent}");
        if provider.max(agent) == 0 { 1 << 40 } else { provider.max(agent) }
    }

    /// Returns the expected charge at the end.
    fn final_charge(&self, connected: bool) -> Charge {
        match (self.passed, self.usage) {
            _ if !self.open => NOTHING,
            (Some(true), Some(usage)) => Charge::Exactly(usage),
            (Some(true), None) => Charge::Prompt,
            _ if connected && (!self.due || self.by_gate && self.started == 0) => Charge::Prompt,
            _ => NOTHING,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let active = any::<Index>;
    let limit = proptest::option::of(select(&[1, 50, 200, 900][..]));
    let members = select(&["", "", ",\"top_k\":4", ",\"top_k\":4,\"temperature\":9", ",\"min_p\":0,\"stream\":true"][..]);
    let status = || select(&[200, 302, 400, 401, 403, 404, 408, 429, 500, 503, 503, 503, 529][..]);
    let local = select(
        &[
            (503, "upstream_reset_before_response_started{connection_failure}"),
            (503, "no_healthy_upstream"),
            (504, "upstream_response_timeout"),
            (413, "request_payload_too_large"),
            (404, "route_not_found"),
        ][..],
    );
    let off = || prop_oneof![2 => Just(0), 1 => select(&[1, u32::MAX][..])];
    let usage = || prop::option::weighted(0.7, 0..=1000_u64);
    prop_oneof![
        60 => (active(), prop::option::weighted(0.7, status()), any::<bool>(), usage())
            .prop_map(|(active, status, connected, usage)| Op::Next { active, status, connected, usage }),
        15 => (0..2_usize, active(), limit, select(&["hi", "hi", "secret"][..]), members)
            .prop_map(|(worker, model, limit, text, members)| Op::Headers { worker, model, limit, text, members }),
        2 => (active(), any::<bool>(), any::<bool>()).prop_map(|(active, end, trailers)| Op::Body { active, end, trailers }),
        1 => active().prop_map(|active| Op::Timeout { active }),
        4 => (active(), prop::option::of(0..4_usize)).prop_map(|(active, elsewhere)| Op::Start { active, elsewhere }),
        3 => (active(), status(), any::<bool>(), off()).prop_map(|(active, status, hostile, off)| Op::Response { active, status, hostile, off }),
        3 => (active(), any::<bool>(), off()).prop_map(|(active, connected, off)| Op::End { active, connected, off }),
        3 => (active(), prop::option::of(local), any::<bool>()).prop_map(|(active, local, hostile)| Op::ResponseHeaders { active, local, hostile }),
        2 => (active(), usage()).prop_map(|(active, usage)| Op::ResponseBody { active, usage }),
        3 => (active(), any::<bool>()).prop_map(|(active, connected)| Op::Close { active, connected }),
        3 => prop_oneof![9 => 0..20_000_000_000_u64, 1 => Just(DAY / 2)].prop_map(|nanoseconds| Op::AdvanceClock { nanoseconds }),
        1 => (0..2_usize, select(&[Retries::None, Retries::SameProvider, Retries::AnyProvider, Retries::AnyProvider][..]))
            .prop_map(|(worker, retries)| Op::SetRetries { worker, retries }),
    ]
}

fn manifests() -> impl Strategy<Value = String> {
    let spec = || {
        let dialect = select(&["vllm", "vllm", "openai", "anthropic"][..]);
        let cap = select(
            &[
                "",
                "",
                "maxTokensPerDay: 1, ",
                "maxTokensPerDay: 700, ",
                "maxTokensPerDay: 4000, ",
                "maxTokensPerDay: 9000, ",
                "maxTokensPerDay: 90000, ",
            ][..],
        );
        let request = select(&["", "", "", "maxTokensPerRequest: 300, "][..]);
        let guard = select(&["", "", "guards: [{name: g, type: pattern, deny: [secret]}], "][..]);
        (dialect, cap, request, guard)
    };
    let models = Just(vec!["one/a", "one/d", "two/b", "two/one/a", "three/c", "three/c"]).prop_shuffle();
    let agent = (models, 1..=6_usize, select(&["", ", maxTokensPerDay: 700", ", maxTokensPerDay: 3000"][..]));
    ([spec(), spec(), spec()], agent, 1..=4).prop_map(|(specs, (models, count, cap), most)| {
        let provider = |(name, (dialect, cap, request, guard)): (&str, &(&str, &str, &str, &str))| {
            let key = if name == "three" { String::new() } else { format!("apiKeySecretRef: {{name: {name}, key: k}}, ") };
            format!(
                "---\n{{apiVersion: pai.io/v1, kind: ModelProvider, metadata: {{name: {name}}}, spec: {{provider: {dialect}, \
                 endpoint: 'http://{name}/{name}', {key}{cap}{request}{guard}}}}}\n"
            )
        };
        let providers: String = NAMES.into_iter().zip(&specs).map(provider).collect();
        format!(
            "{providers}---\n{{apiVersion: pai.io/v1, kind: Agent, metadata: {{name: me}}, spec: {{identities: [{ME}], models: [{}]{cap}}}}}\n\
             ---\n{{apiVersion: pai.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {{maxAttempts: {most}}}}}\n",
            models[..count].join(", ")
        )
    })
}

proptest! {
    #[test]
    fn budgets_are_not_exceeded_and_requests_reach_their_providers_only(manifests in manifests(), ops in proptest::collection::vec(op(), 1..150)) {
        let mut simulation = Simulation::new(&manifests);
        simulation.worlds.iter().for_each(|world| world.worker.borrow_mut().retries = Retries::AnyProvider);
        ops.iter().for_each(|op| simulation.act(op));
        while let Some(active) = simulation.requests.pop() {
            simulation.close(active, false);
        }
        let balances = simulation.balances();
        assert_eq!((balances.providers.map(|(_, reserved)| reserved), balances.agent.map_or(0, |(_, reserved)| reserved)), ([0; 3], 0), "still reserved");
    }
}
