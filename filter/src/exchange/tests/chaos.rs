//! Whatever clients, providers and Envoy do, in whatever order: budgets hold, each charge is made once, and nobody is sent what is not
//! for it.
//!
//! Two workers share a ledger. Callbacks come as Envoy may make them, and as it should not: in wrong clusters, twice, too late.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::*;
use crate::budget::subject::Subject;

const ME: &str = "td/me";
/// The last has no credential.
const NAMES: [&str; 3] = ["one", "two", "three"];
/// Few, so that each gets far.
const AT_ONCE: usize = 3;
const DAY: u64 = 86_400_000_000_000;

#[derive(Debug, Clone)]
enum Op {
    /// What comes next in an orderly world; an attempt is answered so, or breaks off.
    Go {
        way: Index,
        status: Option<u16>,
        connected: bool,
        usage: Option<u64>,
    },
    /// The headers of a request come to a worker.
    Ask {
        worker: usize,
        model: Index,
        limit: Option<u64>,
        text: &'static str,
        members: &'static str,
    },
    /// More of its body, or its end, or its trailers.
    Body {
        way: Index,
        end: bool,
        trailers: bool,
    },
    /// It does not come.
    Timeout {
        way: Index,
    },
    /// An attempt begins: where it is due, or elsewhere.
    Begin {
        way: Index,
        elsewhere: Option<usize>,
    },
    /// It is answered; `off`: by how much its number is wrong.
    Answer {
        way: Index,
        status: u16,
        hostile: bool,
        off: u32,
    },
    /// It ends without an answer.
    End {
        way: Index,
        connected: bool,
        off: u32,
    },
    /// The gate sees an answer's headers, of the provider or of Envoy (whose reason this is).
    Pass {
        way: Index,
        local: Option<(u16, &'static str)>,
        hostile: bool,
    },
    /// The answer's body, with so many per mille of what is reserved as its usage.
    Tail {
        way: Index,
        usage: Option<u64>,
    },
    /// All is over.
    Leave {
        way: Index,
        connected: bool,
    },
    Wait {
        nanoseconds: u64,
    },
    /// A worker learns where Envoy can try again.
    Learn {
        worker: usize,
        retries: Retries,
    },
}

/// A request, as Envoy sees it and as it should be.
struct Way {
    worker: usize,
    exchange: Exchange,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    limit: Option<u64>,
    unread: bool,
    /// Whose turn it is, what the provider and the agent have reserved for it, and on which day.
    holder: Option<usize>,
    tokens: [u64; 2],
    day: u64,
    /// A reservation was just made.
    fresh: bool,
    /// The next attempt is at the same provider, which has not seen the one before.
    again: bool,
    /// The gate has made it its provider's, and no attempt has said otherwise.
    by_gate: bool,
    /// An attempt may begin; `false`: one is on its way, or there are to be no more.
    due: bool,
    /// The current attempt may still be charged.
    open: bool,
    begun: u32,
    sent: Vec<(usize, String)>,
    /// Status of the current attempt's answer, and whether Envoy was told to try again.
    answer: Option<(u16, bool)>,
    /// The gate has seen an answer, and whether it is the provider's.
    passed: Option<bool>,
    usage: Option<u64>,
    ended: bool,
    charged: u64,
}

/// What an operation is to charge the provider that had the request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Charge {
    Exactly(u64),
    /// The estimate of the prompt.
    Prompt,
}

const NOTHING: Charge = Charge::Exactly(0);

/// Two workers, and who is on the way through them.
struct Town {
    worlds: [World; 2],
    gates: [Rc<Gate>; 2],
    store: Memory,
    ways: Vec<Way>,
}

/// Used and reserved of each provider and of the agent, and what metrics say each provider was charged.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Books {
    providers: [(u64, u64); 3],
    agent: Option<(u64, u64)>,
    charged: [u64; 3],
}

fn today(now: Time) -> u64 {
    now.day().0.into()
}

impl Town {
    fn new(manifests: &str) -> Self {
        let secret = |name: &str| Some(format!("sk-{}", name.to_ascii_lowercase().split('_').nth(2)?));
        let gate = || Rc::new(Gate::new(crate::config::load(manifests.as_bytes(), &secret).unwrap()));
        let world = |instance| World { worker: RefCell::new(Worker::new(instance)), ..World::new() };
        Self { worlds: [world(1), world(2)], gates: [gate(), gate()], store: Memory::default(), ways: Vec::new() }
    }

    fn env(&self, worker: usize) -> Environment<'_> {
        let world = &self.worlds[worker];
        Environment::new(world, &self.store, world, &world.worker)
    }

    /// The agent's account, if it has a budget.
    fn agent(&self) -> Option<Rc<Subject>> {
        let claims = self.gates[0].budgets.required(Caller::Agent(0), 0);
        (claims.len() > 1).then(|| Rc::clone(claims[0].subject))
    }

    fn books(&self) -> Books {
        let record = |subject: &Subject| {
            let account = self.env(0).ledger().read(subject).unwrap();
            let record = account.record(0).unwrap();
            let cap = subject.limits[0].cap.unwrap_or(u64::MAX);
            assert!(record.used + record.reserved() <= cap, "{} overdrawn: {record:?}", subject.key);
            (record.used, record.reserved())
        };
        let charged = |name: &str| {
            let of = |series: &str| series.starts_with(&format!("pai.provider=.={name};")) && series.ends_with("_tokens_total");
            let counts = self.worlds.iter().flat_map(|world| world.counts());
            counts.filter(|(series, _)| of(series) && !series.ends_with("reserved_tokens_total")).map(|(_, count)| count).sum()
        };
        Books {
            providers: [0, 1, 2].map(|place| record(self.gates[0].budgets.provider(place).unwrap())),
            agent: self.agent().map(|agent| record(&agent)),
            charged: NAMES.map(charged),
        }
    }

    fn now(&self) -> Time {
        self.worlds[0].now.get()
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Go { way, status, connected, usage } => self.on(way, |town, way| match (way.passed, way.answer, status) {
                (Some(_), ..) => town.tail(way, *usage),
                _ if way.unread => town.read(way, true, false),
                _ if way.due => town.begin(way, None),
                (_, None, Some(status)) => town.answer(way, *status, *connected, 0),
                (_, None, None) if way.open => town.end(way, *connected, 0),
                _ => town.pass(way, None, false),
            }),
            Op::Ask { worker, model, limit, text, members } => self.ask(*worker, model, *limit, text, members),
            Op::Body { way, end, trailers } => self.on(way, |town, way| town.read(way, *end, *trailers)),
            Op::Timeout { way } => self.on(way, |_, way| {
                assert_eq!(way.exchange.on_body_timeout().is_some(), way.unread);
                way.passed = way.passed.or(way.unread.then_some(false));
                way.unread = false;
                NOTHING
            }),
            Op::Begin { way, elsewhere } => self.on(way, |town, way| town.begin(way, *elsewhere)),
            Op::Answer { way, status, hostile, off } => self.on(way, |town, way| town.answer(way, *status, *hostile, *off)),
            Op::End { way, connected, off } => self.on(way, |town, way| town.end(way, *connected, *off)),
            Op::Pass { way, local, hostile } => self.on(way, |town, way| town.pass(way, *local, *hostile)),
            Op::Tail { way, usage } => self.on(way, |town, way| town.tail(way, *usage)),
            Op::Leave { way, connected } => {
                if !self.ways.is_empty() {
                    let way = self.ways.swap_remove(way.index(self.ways.len()));
                    self.leave(way, *connected);
                }
            }
            Op::Wait { nanoseconds } => {
                let now = Time(self.now().0 + nanoseconds);
                self.worlds.iter().for_each(|world| world.now.set(now));
            }
            Op::Learn { worker, retries } => self.worlds[*worker].worker.borrow_mut().retries = *retries,
        }
        self.books();
    }

    /// Does something to one of the requests, and checks what it was charged for that.
    fn on(&mut self, way: &Index, act: impl FnOnce(&Self, &mut Way) -> Charge) {
        if self.ways.is_empty() {
            return;
        }
        let mut way = self.ways.swap_remove(way.index(self.ways.len()));
        self.audited(&mut way, act);
        assert_eq!(way.headers.contains_key("x-pai-provider"), way.due, "{:?}", way.headers);
        self.ways.push(way);
    }

    fn audited(&self, way: &mut Way, act: impl FnOnce(&Self, &mut Way) -> Charge) {
        let (before, held, holder) = (self.books(), way.held(), way.holder);
        let counts = way.day == today(self.now());
        let charge = act(self, way);
        let after = self.books();
        let mut all = 0;
        for (place, name) in NAMES.iter().enumerate() {
            let charged = after.charged[place] - before.charged[place];
            let used = after.providers[place].0 - before.providers[place].0;
            assert_eq!(used, if counts { charged } else { 0 }, "{name} is charged");
            match charge {
                _ if Some(place) != holder => assert_eq!(charged, 0, "{name} did nothing"),
                Charge::Exactly(tokens) => assert_eq!(charged, tokens),
                Charge::Prompt => assert!((1..=held).contains(&charged), "{charged} of {held}"),
            }
            all += charged;
        }
        if let (Some(before), Some(after)) = (before.agent, after.agent) {
            assert_eq!(after.0 - before.0, if counts { all } else { 0 }, "the agent is charged");
        }
        way.charged += all;
        if std::mem::take(&mut way.fresh) {
            way.hold(&before, &after, if counts { holder } else { None }, self.now());
        }
    }

    fn ask(&mut self, worker: usize, model: &Index, limit: Option<u64>, text: &str, members: &str) {
        if self.ways.len() == AT_ONCE {
            // Who has an answer makes room.
            let Some(done) = self.ways.iter().position(|way| way.passed.is_some()) else { return };
            let done = self.ways.swap_remove(done);
            self.leave(done, true);
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
        self.ways.push(Way {
            worker,
            exchange,
            headers,
            body,
            limit,
            unread: true,
            holder: None,
            tokens: [0; 2],
            day: 0,
            fresh: false,
            again: false,
            by_gate: false,
            due: false,
            open: false,
            begun: 0,
            sent: Vec::new(),
            answer: None,
            passed: None,
            usage: None,
            ended: false,
            charged: 0,
        });
    }

    fn read(&self, way: &mut Way, end: bool, trailers: bool) -> Charge {
        let (env, body) = (self.env(way.worker), way.body.clone());
        let step = match (end, trailers) {
            (true, true) => way.exchange.on_request_trailers(|| body, &env),
            _ => way.exchange.on_request_body(body.len(), end, || body, &env),
        };
        if !way.unread || !end {
            assert!(matches!(step, Step::Hold | Step::Continue), "{step:?}");
            return NOTHING;
        }
        way.unread = false;
        match step {
            Step::Forward(forward) => {
                way.apply(&forward.headers);
                if let Some(splice) = forward.body {
                    way.body = [&splice.bytes, &way.body[splice.length..]].concat();
                }
                (way.due, way.open, way.fresh) = (true, true, true);
                way.by_gate = set(&forward.headers, ":authority").is_some();
                way.holder = way.next();
            }
            Step::Reply(_) => way.passed = Some(false),
            step => panic!("{step:?}"),
        }
        NOTHING
    }

    fn begin(&self, way: &mut Way, elsewhere: Option<usize>) -> Charge {
        let place = elsewhere.or(way.next()).unwrap_or(0);
        let step = way.exchange.on_attempt(NAMES.get(place).map(|name| name.as_bytes()), &self.env(way.worker));
        let expected = way.due && way.passed.is_none() && Some(place) == way.holder;
        let AttemptStep::Forward(edits) = step else {
            assert!(!expected, "refused: {step:?}");
            way.by_gate &= way.begun > 0;
            return NOTHING;
        };
        assert!(expected, "sent to {place}: {edits:?}");
        way.apply(&edits);
        (way.due, way.answer, way.begun) = (false, None, way.begun + 1);
        assert_eq!(way.exchange.ordinal(), way.begun);
        let reach = way.exchange.attempt_reach();
        let splice = (reach > 0).then(|| way.exchange.on_attempt_body(|| way.body[..reach].to_vec())).flatten();
        let body = splice.map_or_else(|| way.body.clone(), |splice| [&splice.bytes, &way.body[splice.length..]].concat());
        self.check_sent(way, place, &body);
        NOTHING
    }

    /// What goes out to a provider is its own, and nobody else's.
    fn check_sent(&self, way: &mut Way, place: usize, body: &[u8]) {
        let name = NAMES[place];
        assert!(way.headers.keys().all(|name| !name.starts_with("x-pai-")), "{:?}", way.headers);
        let header = |name: &str| way.headers.get(name).map(String::as_str);
        let credential = (place < 2).then(|| format!("Bearer sk-{name}"));
        assert_eq!(header("authorization"), credential.as_deref());
        assert_eq!((header(":authority"), header(":path")), (Some(name), Some(&*format!("/{name}/chat/completions"))));
        assert_eq!(header("content-length"), Some(&*body.len().to_string()), "{}", String::from_utf8_lossy(body));
        let body: Value = serde_json::from_slice(body).unwrap();
        let model = body["model"].as_str().unwrap().to_owned();
        let policy = &self.gates[way.worker].policy;
        let agent = policy.agents.get(0).unwrap();
        assert!(agent.allows(place, &model), "{name} is sent {model}");
        let secret = body["messages"][0]["content"] == "secret";
        assert!(!secret || policy.providers[place].guards.is_empty(), "{name} does not want to be inbound this");
        let told = body.get("max_tokens").or(body.get("max_completion_tokens")).and_then(Value::as_u64);
        assert!(told.is_none() || way.limit.is_none() || told <= way.limit);
        let candidate = (place, model);
        if !std::mem::take(&mut way.again) {
            assert!(!way.sent.contains(&candidate), "inbound twice: {candidate:?} of {:?}", way.sent);
            way.sent.push(candidate);
        }
        assert!(way.sent.len() <= policy.gateway.max_attempts as usize, "{:?}", way.sent);
    }

    fn answer(&self, way: &mut Way, status: u16, hostile: bool, off: u32) -> Charge {
        if way.begun == 0 || off == 0 && (way.due || way.answer.is_some()) {
            return NOTHING;
        }
        let text = status.to_string();
        let mut headers = vec![(b":status".as_slice(), text.as_bytes())];
        if hostile {
            headers.extend([(b"x-pai-retry".as_slice(), b"true".as_slice()), (b"x-envoy-ratelimited", b"true")]);
        }
        let turn = way.exchange.on_attempt_answer(way.begun.wrapping_add(off), &Headers(headers), &self.env(way.worker));
        let (retry, no_retry) =
            (set(&turn.response, "x-pai-retry").is_some(), set(&turn.response, "x-envoy-ratelimited").is_some());
        let fresh = off == 0 && way.open && way.passed.is_none();
        let failed = matches!(status, 401 | 403 | 404 | 408 | 429 | 500..);
        assert_eq!(retry || no_retry, fresh && failed, "{status}: {turn:?}");
        assert!(!(retry && no_retry) && retry != turn.request.is_empty());
        if hostile && way.passed.is_none() {
            let gone = |name: &'static str| turn.response.contains(&HeaderEdit::Remove(name.into()));
            assert!(gone("x-pai-retry") && gone("x-envoy-ratelimited"));
        }
        if off == 0 {
            way.answer = Some((status, retry));
            way.go_on(&turn.request);
        }
        NOTHING
    }

    fn end(&self, way: &mut Way, connected: bool, off: u32) -> Charge {
        // An attempt that was answered is not told of its end.
        if way.begun == 0 || off == 0 && (way.due || way.answer.is_some()) {
            return NOTHING;
        }
        let edits = way.exchange.on_attempt_end(way.begun.wrapping_add(off), || connected, &self.env(way.worker));
        let fresh = off == 0 && way.open && way.passed.is_none();
        if !fresh {
            assert_eq!(edits, []);
            return NOTHING;
        }
        way.open = false;
        way.go_on(&edits);
        if connected { Charge::Prompt } else { NOTHING }
    }

    fn pass(&self, way: &mut Way, local: Option<(u16, &'static str)>, hostile: bool) -> Charge {
        // What an attempt has let pass comes.
        let local = local.filter(|_| way.answer.is_none_or(|(_, retry)| retry));
        let (status, retry) = way.answer.unwrap_or((200, hostile && way.begun == 0));
        let status = local.map_or(status, |(status, _)| status);
        let text = status.to_string();
        let mut headers = vec![(b":status".as_slice(), text.as_bytes()), (b"content-type", b"application/json")];
        if retry && local.is_none() {
            headers.push((b"x-pai-retry", b"true"));
        }
        let details = local.map_or("via_upstream", |(_, details)| details).as_bytes().to_vec();
        let step = way.exchange.on_response_headers(&Headers(headers), false, || Some(details), &self.env(way.worker));
        if way.passed.is_some() {
            assert_eq!(step, ResponseStep::Continue);
            return NOTHING;
        }
        // Of a cluster without an attempt filter nothing is taken, but the gate may have made the request its provider's.
        let genuine = way.answer.is_some() || way.begun > 0 && !way.due || way.by_gate && way.begun == 0;
        way.unread = false;
        match step {
            ResponseStep::Reply(_) => {
                let refused_us = local.is_none() && genuine && matches!(status, 401 | 403);
                assert!(local.is_some() || !genuine || refused_us, "an answer is lost");
                way.passed = Some(refused_us);
            }
            ResponseStep::Edit(edits) | ResponseStep::Hold(edits) => {
                assert!(local.is_none());
                if let Some(provider) = set(&edits, "x-pai-provider") {
                    assert!(genuine, "from whom?");
                    let inbound = way.sent.last().map(|(place, _)| NAMES[*place]).or(way.next().map(|place| NAMES[place]));
                    assert_eq!(Some(provider), inbound);
                    way.passed = Some(true);
                } else {
                    way.passed = Some(false);
                }
            }
            ResponseStep::Continue => panic!("unseen"),
        }
        if status >= 400 {
            way.usage = Some(0);
        }
        NOTHING
    }

    fn tail(&self, way: &mut Way, usage: Option<u64>) -> Charge {
        let reported = usage.map(|share| way.held() * share / 1000);
        let body = reported.map_or_else(
            || "{\"choices\":[".to_owned(),
            |all| format!("{{\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{}}}}}", all / 3, all - all / 3),
        );
        if way.exchange.reads_answer() && !std::mem::replace(&mut way.ended, true) && way.usage.is_none() {
            way.exchange.on_response_body(body.as_bytes(), true, &self.env(way.worker));
            way.usage = reported;
        }
        NOTHING
    }

    fn leave(&mut self, mut way: Way, connected: bool) {
        if way.answer.is_some_and(|(_, retry)| !retry) {
            // What an attempt lets pass is at the gate at once.
            self.pass(&mut way, None, false);
        }
        let mut entry = None;
        self.audited(&mut way, |town, way| {
            entry = way.exchange.on_log(|| connected, &town.env(way.worker));
            way.bill(connected)
        });
        let entry = entry.unwrap();
        assert_eq!(entry.tokens.map_or(0, |(prompt, completion)| prompt + completion), way.charged, "the log");
        if let Some((place, _)) = way.sent.last().filter(|_| way.passed.is_none()) {
            assert_eq!(entry.provider, NAMES[*place], "who was never inbound is not named");
        }
        self.audited(&mut way, |town, way| {
            let env = town.env(way.worker);
            assert_eq!(way.exchange.on_log(|| true, &env), None);
            for (place, name) in NAMES.into_iter().enumerate() {
                let step = way.exchange.on_attempt(Some(name.as_bytes()), &env);
                assert!(!matches!(step, AttemptStep::Forward(_)), "{place} is inbound for nobody");
            }
            assert_eq!(way.exchange.on_attempt_end(way.begun, || true, &env), []);
            NOTHING
        });
    }
}

impl Way {
    /// Where Envoy would send it.
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

    /// An attempt has failed; the edits say who is next, if it is not the same again.
    fn go_on(&mut self, edits: &[HeaderEdit]) {
        self.apply(edits);
        if let Some(next) = self.next() {
            self.fresh = edits.contains(&HeaderEdit::Remove("authorization".into()));
            self.again = !self.fresh;
            (self.due, self.open, self.holder) = (true, true, Some(next));
        }
    }

    /// Notes what is now reserved for it; `from` is who has just given back what was.
    fn hold(&mut self, before: &Books, after: &Books, from: Option<usize>, now: Time) {
        let Some(place) = self.holder else { return };
        let [provider, agent] = self.tokens;
        let given_back = |tokens: u64, counts: bool| if counts { tokens } else { 0 };
        self.tokens = [
            after.providers[place].1 + given_back(provider, from == Some(place)) - before.providers[place].1,
            after.agent.map_or(0, |(_, reserved)| reserved) + given_back(agent, from.is_some())
                - before.agent.map_or(0, |(_, reserved)| reserved),
        ];
        self.day = today(now);
    }

    /// As much as it may use.
    fn held(&self) -> u64 {
        let [provider, agent] = self.tokens;
        assert!(provider == 0 || agent == 0 || provider == agent, "{provider} and {agent}");
        if provider.max(agent) == 0 { 1 << 40 } else { provider.max(agent) }
    }

    /// What is to be charged at the end.
    fn bill(&self, connected: bool) -> Charge {
        match (self.passed, self.usage) {
            _ if !self.open => NOTHING,
            (Some(true), Some(usage)) => Charge::Exactly(usage),
            (Some(true), None) => Charge::Prompt,
            _ if connected && (!self.due || self.by_gate && self.begun == 0) => Charge::Prompt,
            _ => NOTHING,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let way = any::<Index>;
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
        60 => (way(), prop::option::weighted(0.7, status()), any::<bool>(), usage())
            .prop_map(|(way, status, connected, usage)| Op::Go { way, status, connected, usage }),
        15 => (0..2_usize, way(), limit, select(&["hi", "hi", "secret"][..]), members)
            .prop_map(|(worker, model, limit, text, members)| Op::Ask { worker, model, limit, text, members }),
        2 => (way(), any::<bool>(), any::<bool>()).prop_map(|(way, end, trailers)| Op::Body { way, end, trailers }),
        1 => way().prop_map(|way| Op::Timeout { way }),
        4 => (way(), prop::option::of(0..4_usize)).prop_map(|(way, elsewhere)| Op::Begin { way, elsewhere }),
        3 => (way(), status(), any::<bool>(), off()).prop_map(|(way, status, hostile, off)| Op::Answer { way, status, hostile, off }),
        3 => (way(), any::<bool>(), off()).prop_map(|(way, connected, off)| Op::End { way, connected, off }),
        3 => (way(), prop::option::of(local), any::<bool>()).prop_map(|(way, local, hostile)| Op::Pass { way, local, hostile }),
        2 => (way(), usage()).prop_map(|(way, usage)| Op::Tail { way, usage }),
        3 => (way(), any::<bool>()).prop_map(|(way, connected)| Op::Leave { way, connected }),
        3 => prop_oneof![9 => 0..20_000_000_000_u64, 1 => Just(DAY / 2)].prop_map(|nanoseconds| Op::Wait { nanoseconds }),
        1 => (0..2_usize, select(&[Retries::None, Retries::SameProvider, Retries::AnyProvider, Retries::AnyProvider][..]))
            .prop_map(|(worker, retries)| Op::Learn { worker, retries }),
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
    fn budgets_hold_and_everybody_gets_his_own(manifests in manifests(), ops in proptest::collection::vec(op(), 1..150)) {
        let mut town = Town::new(&manifests);
        town.worlds.iter().for_each(|world| world.worker.borrow_mut().retries = Retries::AnyProvider);
        ops.iter().for_each(|op| town.act(op));
        while let Some(way) = town.ways.pop() {
            town.leave(way, false);
        }
        let books = town.books();
        assert_eq!((books.providers.map(|(_, reserved)| reserved), books.agent.map_or(0, |(_, reserved)| reserved)), ([0; 3], 0), "still reserved");
    }
}
