//! One candidate after another: by budgets before anything is sent, by failures as Envoy tries again.

use std::collections::BTreeMap;

use super::*;
use crate::exchange::step::AttemptStep;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ME: &str = "td/me";

/// Three providers, each with these further lines, and an agent who may use a model of each.
fn trio(first: &str, second: &str, third: &str, gateway: &str) -> String {
    let provider = |name: &str, dialect: &str, spec: &str| {
        format!(
            "---\n{{apiVersion: pai.io/v1, kind: ModelProvider, metadata: {{name: {name}}}, spec: {{provider: {dialect}, \
             endpoint: 'http://{name}/{name}', apiKeySecretRef: {{name: {name}, key: k}}, {spec}}}}}\n"
        )
    };
    provider("one", "vllm", first)
        + &provider("two", "vllm", second)
        + &provider("three", "vllm", third)
        + &format!(
            "---\n{{apiVersion: pai.io/v1, kind: Agent, metadata: {{name: me}}, spec: {{identities: [{ME}], models: [one/a, two/b, three/c]}}}}\n"
        )
        + &format!("---\n{{apiVersion: pai.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {{{gateway}}}}}\n")
}

fn gate_of(text: &str) -> Rc<Gate> {
    let secret = |name: &str| Some(format!("sk-{}", name.to_ascii_lowercase().split('_').nth(2)?));
    Rc::new(Gate::new(crate::config::load(text.as_bytes(), &secret).unwrap()))
}

/// A request on its way through Envoy: its headers are one map for all attempts, its body is sent anew for each.
struct Way {
    exchange: Exchange,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What a provider gets.
#[derive(Debug, PartialEq)]
struct Sent {
    authorization: Option<String>,
    path: String,
    authority: String,
    body: String,
}

impl Way {
    fn begin(gate: &Rc<Gate>, world: &World, body: &str) -> Result<Self, Step> {
        let mut exchange = Exchange::new(Rc::clone(gate));
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        let sent = post("/v1/chat/completions", &[("authorization", "Bearer sk-client")]);
        for (name, value) in &sent.0 {
            headers.insert(String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into());
        }
        headers.insert("content-length".into(), body.len().to_string());
        let peer = || Some(ME.as_bytes().to_vec());
        let step = match exchange.on_request_headers(&sent, false, &peer, &world.env()) {
            Step::Hold => exchange.on_request_body(body.len(), true, || body.as_bytes().to_vec(), &world.env()),
            step => step,
        };
        let Step::Forward(forward) = step else { return Err(step) };
        let mut way = Self { exchange, headers, body: body.as_bytes().to_vec() };
        way.apply(&forward.headers);
        if let Some(splice) = forward.body {
            way.body = [&splice.bytes, &way.body[splice.length..]].concat();
        }
        Ok(way)
    }

    fn apply(&mut self, edits: &[HeaderEdit]) {
        for edit in edits {
            match edit {
                HeaderEdit::Remove(name) => drop(self.headers.remove(&**name)),
                HeaderEdit::Set(name, value) => drop(self.headers.insert((*name).to_owned(), value.to_string())),
            }
        }
    }

    /// Where Envoy would send it.
    fn next(&self) -> Option<&str> {
        self.headers.get("x-pai-provider").map(String::as_str)
    }

    /// Begins an attempt in the cluster of this provider; `None` where it is refused.
    fn attempt_at(&mut self, provider: &str, world: &World) -> Option<Sent> {
        let AttemptStep::Forward(edits) = self.exchange.on_attempt(Some(provider.as_bytes()), &world.env()) else { return None };
        self.apply(&edits);
        let reach = self.exchange.attempt_reach();
        let splice = (reach > 0).then(|| self.exchange.on_attempt_body(|| self.body[..reach].to_vec())).flatten();
        let body = splice.map_or_else(|| self.body.clone(), |splice| [&splice.bytes, &self.body[splice.length..]].concat());
        assert_eq!(self.headers.get("content-length"), Some(&body.len().to_string()));
        assert!(self.headers.keys().all(|name| !name.starts_with("x-pai-")), "{:?}", self.headers);
        Some(Sent {
            authorization: self.headers.get("authorization").cloned(),
            path: self.headers[":path"].clone(),
            authority: self.headers[":authority"].clone(),
            body: String::from_utf8(body).unwrap(),
        })
    }

    /// Begins an attempt where it is due.
    fn attempt(&mut self, world: &World) -> Sent {
        let provider = self.next().expect("somebody to ask").to_owned();
        self.attempt_at(&provider, world).expect("taken")
    }

    /// The attempt is answered; says whether Envoy tries again.
    fn fails(&mut self, status: &str, world: &World) -> bool {
        let headers = Headers(vec![(b":status", status.as_bytes())]);
        let ordinal = self.exchange.ordinal();
        let turn = self.exchange.on_attempt_answer(ordinal, &headers, &world.env());
        self.apply(&turn.request);
        let set = |name: &str| set(&turn.response, name).is_some();
        assert!(!(set("x-pai-retry") && set("x-envoy-ratelimited")));
        set("x-pai-retry")
    }

    fn breaks_off(&mut self, connected: bool, world: &World) {
        let ordinal = self.exchange.ordinal();
        let edits = self.exchange.on_attempt_end(ordinal, || connected, &world.env());
        self.apply(&edits);
    }

    /// The provider answers, and all is over.
    fn succeeds(mut self, world: &World, prompt: u64, completion: u64) -> AccessLogEntry {
        assert!(!self.fails("200", world));
        let usage = format!("{{\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion}}}}}");
        let ResponseStep::Edit(_) = answer(&mut self.exchange, world, "200", "application/json", &usage) else { panic!() };
        self.exchange.on_log(|| true, &world.env()).unwrap()
    }
}

/// Used and reserved of each provider.
fn ledger(gate: &Gate, world: &World) -> [(u64, u64); 3] {
    [0, 1, 2].map(|place| {
        let account = world.env().ledger().read(gate.budgets.provider(place).unwrap()).unwrap();
        account.record(0).map(|record| (record.used, record.reserved())).unwrap()
    })
}

fn world_that_follows() -> World {
    let world = World::new();
    world.worker.borrow_mut().retries = Retries::AnyProvider;
    world
}

const CAP: &str = "maxTokensPerDay: 10000";

#[test]
fn each_attempt_is_its_providers_own() {
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
    let body = chat("one/a", ",\"max_tokens\":50");
    let mut way = Way::begin(&gate, &world, &body).unwrap();
    let sent = |name: &str, model: &str| Sent {
        authorization: Some(format!("Bearer sk-{name}")),
        path: format!("/{name}/chat/completions"),
        authority: name.to_owned(),
        body: chat(model, ",\"max_tokens\":50"),
    };
    assert_eq!(way.headers.get("authorization"), None, "not before it is known where it goes");
    assert_eq!(way.attempt(&world), sent("one", "a"));
    let [(0, held), (0, 0), (0, 0)] = ledger(&gate, &world) else { panic!() };
    assert!(way.fails("503", &world));
    assert_eq!(ledger(&gate, &world), [(0, 0), (0, held), (0, 0)]);
    assert_eq!((way.next(), way.headers.get("authorization")), (Some("two"), None));
    assert_eq!(way.attempt(&world), sent("two", "b"));
    way.breaks_off(true, &world);
    let [(0, 0), (lost, 0), (0, _)] = ledger(&gate, &world) else { panic!() };
    assert_eq!(lost, held - 50, "the prompt");
    assert_eq!(way.attempt(&world), sent("three", "c"));
    let entry = way.succeeds(&world, 9, 5);
    assert_eq!((&*entry.provider, &*entry.model, &*entry.attempts), ("three", "c", "one=503,two=reset"));
    assert_eq!(entry.tokens, Some((9 + lost, 5)));
    assert_eq!(ledger(&gate, &world), [(0, 0), (lost, 0), (14, 0)]);
}

#[test]
fn the_named_one_is_first_and_the_others_follow_in_their_order() {
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "maxAttempts: 9")));
    let mut way = Way::begin(&gate, &world, &chat("two/b", "")).unwrap();
    for provider in ["two", "one", "three"] {
        assert_eq!(way.attempt(&world).authority, provider);
        assert_eq!(way.fails("429", &world), provider != "three");
    }
    let ResponseStep::Edit(edits) = answer(&mut way.exchange, &world, "429", "application/json", "{}") else { panic!() };
    assert_eq!(set(&edits, "x-pai-provider"), Some("three"), "its own answer is passed on");
    assert_eq!(way.exchange.on_log(|| true, &world.env()).unwrap().decision, "allowed");
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn what_is_no_failure_is_final() {
    for (status, follows) in [
        ("400", false),
        ("402", false),
        ("413", false),
        ("422", false),
        ("200", false),
        ("302", false),
        ("401", true),
        ("403", true),
        ("404", true),
        ("408", true),
        ("429", true),
        ("500", true),
        ("529", true),
    ] {
        let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
        let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
        way.attempt(&world);
        assert_eq!(way.fails(status, &world), follows, "{status}");
    }
}

#[test]
fn attempts_are_bounded() {
    for most in 1..=3 {
        let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, &format!("maxAttempts: {most}"))));
        let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
        let mut attempts = 1;
        way.attempt(&world);
        while way.fails("500", &world) {
            way.attempt(&world);
            attempts += 1;
        }
        assert_eq!(attempts, most);
    }
}

#[test]
fn budgets_choose_before_anything_is_sent() {
    const SPENT: &str = "maxTokensPerDay: 1";
    for retries in [Retries::AnyProvider, Retries::SameProvider, Retries::None] {
        let world = World::new();
        world.worker.borrow_mut().retries = retries;
        let gate = gate_of(&trio("maxTokensPerDay: 400", SPENT, CAP, ""));
        let Ok(mut way) = Way::begin(&gate, &world, &chat("one/a", ",\"max_tokens\":300")) else { panic!() };
        assert_eq!(way.attempt(&world).authority, "one");
        let Ok(mut other) = Way::begin(&gate, &world, &chat("one/a", ",\"max_tokens\":300")) else { panic!() };
        assert_eq!(
            other.attempt(&world),
            Sent {
                authorization: Some("Bearer sk-three".into()),
                path: "/three/chat/completions".into(),
                authority: "three".into(),
                body: chat("c", ",\"max_tokens\":300"),
            }
        );
        let entry = other.succeeds(&world, 9, 1);
        assert_eq!((&*entry.provider, &*entry.attempts), ("three", "one=reserved,two=too_large"));
        assert_eq!(way.succeeds(&world, 9, 1).attempts, "");
    }
}

#[test]
fn where_nobody_has_room_the_most_hopeful_reason_is_told() {
    let (world, gate) =
        (world_that_follows(), gate_of(&trio("maxTokensPerDay: 400", "maxTokensPerDay: 400", "maxTokensPerDay: 1", "")));
    let body = chat("one/a", ",\"max_tokens\":300");
    let ways = [Way::begin(&gate, &world, &body).unwrap(), Way::begin(&gate, &world, &body).unwrap()];
    let Err(step) = Way::begin(&gate, &world, &body) else { panic!() };
    assert_eq!(refused(&step), (429, "rate_limit_exceeded".to_owned(), None));
    for mut way in ways {
        way.attempt(&world);
        way.succeeds(&world, 99, 250);
    }
    let Err(step) = Way::begin(&gate, &world, &body) else { panic!() };
    assert_eq!(refused(&step), (429, "insufficient_quota".to_owned(), None));
    let Err(step) = Way::begin(&gate, &world, &chat("three/c", ",\"max_tokens\":999")) else { panic!() };
    assert_eq!(refused(&step), (400, "context_length_exceeded".to_owned(), None), "no day is long enough");
}

#[test]
fn the_named_ones_own_refusals_are_final() {
    let guard = "guards: [{name: g, type: pattern, deny: [secret]}]";
    for (first, code) in [
        ("maxTokensPerRequest: 10", "context_length_exceeded"),
        ("deniedModels: [a]", "model_not_allowed"),
        (guard, "prompt_rejected"),
    ] {
        let (world, gate) = (world_that_follows(), gate_of(&trio(first, "", "", "")));
        let body = chat("one/a", ",\"max_tokens\":50,\"user\":\"x\"").replace("hi", "secret");
        let Err(step) = Way::begin(&gate, &world, &body) else { panic!("{first}") };
        assert_eq!(refused(&step).1, code);
    }
}

#[test]
fn others_that_would_refuse_are_no_candidates() {
    let guard = "guards: [{name: g, type: pattern, deny: [secret]}]";
    for second in ["maxTokensPerRequest: 10", "deniedModels: [b]", guard] {
        let (world, gate) = (world_that_follows(), gate_of(&trio("", second, "", "")));
        let body = chat("one/a", ",\"max_tokens\":50").replace("hi", "secret");
        let Ok(mut way) = Way::begin(&gate, &world, &body) else { panic!("{second}") };
        way.attempt(&world);
        assert!(way.fails("500", &world));
        assert_eq!(way.next(), Some("three"), "{second}");
    }
}

#[test]
fn a_budget_that_runs_out_meanwhile_leaves_the_last_answer() {
    for connected in [None, Some(true), Some(false)] {
        let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, "maxTokensPerDay: 400", "maxTokensPerDay: 1", "")));
        let body = chat("one/a", ",\"max_tokens\":300");
        let mut way = Way::begin(&gate, &world, &body).unwrap();
        way.attempt(&world);
        let other = Way::begin(&gate, &world, &chat("two/b", ",\"max_tokens\":300"));
        assert!(other.is_ok());
        let [(0, held), ..] = ledger(&gate, &world) else { panic!() };
        let expected = match connected {
            None => {
                assert!(!way.fails("503", &world), "two holds no other");
                let ResponseStep::Edit(edits) = answer(&mut way.exchange, &world, "503", "application/json", "{}") else {
                    panic!()
                };
                assert_eq!(set(&edits, "x-pai-provider"), Some("one"));
                ("allowed", 0)
            }
            Some(connected) => {
                way.breaks_off(connected, &world);
                assert!(way.next().is_none() && way.attempt_at("one", &world).is_none(), "nobody is inbound any more");
                let headers = Headers(vec![(b":status", b"503")]);
                let step = way.exchange.on_response_headers(&headers, true, || None, &world.env());
                assert!(matches!(step, ResponseStep::Reply(Reply { status: 503, .. })));
                ("upstream_unavailable", if connected { held - 300 } else { 0 })
            }
        };
        let entry = way.exchange.on_log(|| true, &world.env()).unwrap();
        assert_eq!((entry.decision, ledger(&gate, &world)[0]), (expected.0, (expected.1, 0)), "{connected:?}");
        assert_eq!(entry.tokens, Some((expected.1, 0)));
    }
}

#[test]
fn nobody_is_charged_for_what_was_never_sent() {
    // The client leaves while Envoy waits before it tries again.
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    way.attempt(&world);
    assert!(way.fails("500", &world));
    // Envoy still knows the connection of the attempt before.
    way.exchange.on_log(|| true, &world.env()).unwrap();
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
    way.breaks_off(true, &world);
    assert!(way.attempt_at("two", &world).is_none(), "it is over");
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn an_answer_that_envoy_does_not_follow_up_is_the_last() {
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    way.attempt(&world);
    assert!(way.fails("500", &world));
    let headers = Headers(vec![(b":status", b"500"), (b"x-pai-retry", b"true")]);
    let step = way.exchange.on_response_headers(&headers, true, || Some(b"via_upstream".to_vec()), &world.env());
    let ResponseStep::Edit(edits) = step else { panic!() };
    assert_eq!(set(&edits, "x-pai-provider"), Some("one"));
    assert!(edits.contains(&HeaderEdit::Remove("x-pai-retry".into())));
    assert_eq!(&*way.exchange.on_log(|| true, &world.env()).unwrap().provider, "one");
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn the_wrong_cluster_gets_nothing() {
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(way.attempt_at("two", &world), None);
    assert_eq!(world.worker.borrow().retries, Retries::AnyProvider, "nothing was to be followed");
    // Envoy tries again in the same cluster, whatever the header says.
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    way.attempt(&world);
    assert!(way.fails("500", &world));
    assert_eq!(way.attempt_at("one", &world), None);
    assert_eq!(way.headers.get("authorization"), None);
    assert_eq!(world.worker.borrow().retries, Retries::SameProvider);
    // From now on the gate itself makes requests their provider's.
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(way.headers.get("authorization").map(String::as_str), Some("Bearer sk-one"));
    way.attempt(&world);
    assert!(!way.fails("500", &world));
}

#[test]
fn within_one_cluster_a_request_can_go_to_another_model_of_it() {
    let models = trio(CAP, CAP, CAP, "").replace("models: [one/a, two/b, three/c]", "models: [one/a, two/b, one/c]");
    let (world, gate) = (World::new(), gate_of(&models));
    world.worker.borrow_mut().retries = Retries::SameProvider;
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(way.attempt(&world).body, chat("a", ""));
    assert!(way.fails("404", &world));
    assert_eq!(way.attempt_at("one", &world).unwrap().body, chat("c", ""));
    assert!(!way.fails("404", &world));
}

#[test]
fn a_cluster_without_an_attempt_filter_is_told() {
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    let step = answer(&mut way.exchange, &world, "404", "application/json", "{}");
    assert!(matches!(step, ResponseStep::Reply(Reply { status: 503, .. })));
    assert_eq!(world.counts().get("pai.kind=.=attempt;.;filter_errors_total"), Some(&1));
    way.exchange.on_log(|| true, &world.env());
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn who_has_one_candidate_is_sent_again_only_where_nobody_saw_it() {
    for (connected, again) in [(false, true), (true, false)] {
        let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, "deniedModels: [b]", "deniedModels: [c]", "")));
        let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
        let first = way.attempt(&world);
        way.breaks_off(connected, &world);
        assert_eq!(way.next(), again.then_some("one"));
        let second = way.attempt_at("one", &world);
        assert_eq!(second, again.then_some(first), "{connected}");
        if again {
            let entry = way.succeeds(&world, 9, 1);
            assert_eq!((entry.tokens, &*entry.attempts), (Some((9, 1)), ""));
        }
    }
}

#[test]
fn a_stale_end_changes_nothing() {
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    way.attempt(&world);
    let first = way.exchange.ordinal();
    assert!(way.fails("500", &world));
    way.attempt(&world);
    let before = ledger(&gate, &world);
    assert_eq!(way.exchange.on_attempt_end(first, || true, &world.env()), []);
    let late = Headers(vec![(b":status", b"500".as_slice()), (b"x-pai-retry", b"1"), (b"x-envoy-ratelimited", b"1")]);
    let turn = way.exchange.on_attempt_answer(first, &late, &world.env());
    assert_eq!(turn.request, []);
    assert_eq!(turn.response, [HeaderEdit::Remove("x-pai-retry".into()), HeaderEdit::Remove("x-envoy-ratelimited".into())]);
    assert_eq!(ledger(&gate, &world), before);
}

#[test]
fn a_caller_cannot_send_a_model_to_rest_by_asking_for_what_is_not_there() {
    for (list, rests) in [("", false), (", allowedModels: ['*']", false), (", allowedModels: [a]", true)] {
        for status in ["403", "404"] {
            let (world, gate) = (world_that_follows(), gate_of(&trio(&format!("{CAP}{list}"), CAP, CAP, "")));
            for _ in 0..5 {
                let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
                assert_eq!(way.attempt(&world).authority, "one");
                assert!(way.fails(status, &world));
                way.exchange.on_log(|| true, &world.env());
            }
            let way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
            assert_eq!(way.next() == Some("two"), rests, "{status} {list}");
        }
    }
}

#[test]
fn a_model_that_fails_everybody_is_passed_over_for_a_while() {
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, "deniedModels: [c]", "")));
    let asked_first = |world: &World| {
        let mut way = Way::begin(&gate, world, &chat("one/a", "")).unwrap();
        let sent = way.attempt(world);
        (way, sent.authority)
    };
    for _ in 0..5 {
        let (mut way, first) = asked_first(&world);
        assert_eq!(first, "one");
        assert!(way.fails("503", &world));
        way.attempt(&world);
        way.succeeds(&world, 9, 1);
    }
    let (way, first) = asked_first(&world);
    assert_eq!(first, "two");
    assert_eq!(way.succeeds(&world, 9, 1).attempts, "one=cooldown");
    // It is asked all the same where nobody else can serve.
    let (mut held, _) = (Vec::new(), ());
    loop {
        let mut way = Way::begin(&gate, &world, &chat("two/b", ",\"max_tokens\":3000")).unwrap();
        let first = way.attempt(&world).authority;
        held.push(way);
        if first == "one" {
            break;
        }
    }
    drop(held);
    world.now.set(Time(world.now.get().0 + 5_000_000_000));
    let (way, first) = asked_first(&world);
    assert_eq!(first, "one", "one request tries it");
    assert_eq!(asked_first(&world).1, "two", "one only");
    way.succeeds(&world, 9, 1);
    assert_eq!(asked_first(&world).1, "one");
}

#[test]
fn a_length_is_that_of_the_body_that_goes_with_it() {
    // A provider whose model ids look like references of another.
    let manifests = trio("", "", "", "").replace("models: [one/a, two/b, three/c]", "models: [one/a, two/one/a]");
    let (world, gate) = (world_that_follows(), gate_of(&manifests));
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(way.attempt(&world).body, chat("a", ""));
    assert!(way.fails("500", &world));
    assert_eq!(way.attempt(&world).body, chat("one/a", ""));
}

#[test]
fn who_was_not_asked_is_not_blamed() {
    for after_reset in [false, true] {
        for end in [Some((504, "upstream_response_timeout")), Some((503, "no_healthy_upstream")), None] {
            let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, "deniedModels: [c]", "")));
            for _ in 0..5 {
                let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
                let first = way.attempt(&world).authority;
                if after_reset {
                    way.breaks_off(true, &world);
                } else {
                    assert!(way.fails("404", &world));
                }
                // Envoy waits before it tries again, and something else comes first.
                if let Some((status, details)) = end {
                    let status: String = status.to_string();
                    let headers = Headers(vec![(b":status", status.as_bytes())]);
                    let details = || Some(details.as_bytes().to_vec());
                    way.exchange.on_response_headers(&headers, true, details, &world.env());
                }
                let gone = matches!(end, Some((503, _)));
                let entry = way.exchange.on_log(|| true, &world.env()).unwrap();
                assert_eq!(entry.provider, if gone { "two" } else { &*first }, "{end:?}");
                assert_eq!(gate.providers[1].models[0].cooldown.allows(world.now.get()), !gone);
                if gone {
                    break;
                }
            }
            assert_eq!(ledger(&gate, &world).map(|(_, reserved)| reserved), [0; 3]);
        }
    }
}

#[test]
fn a_provider_without_an_attempt_filter_cannot_pretend_to_have_one() {
    let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    let headers = Headers(vec![(b":status", b"200"), (b"x-pai-retry", b"true")]);
    let step = way.exchange.on_response_headers(&headers, true, || None, &world.env());
    assert!(matches!(step, ResponseStep::Reply(Reply { status: 503, .. })), "{step:?}");
    assert_eq!(way.attempt_at("one", &world), None, "it is answered");
}

#[test]
fn only_an_envoy_that_does_not_follow_is_not_expected_to() {
    for (cluster, expected) in
        [(Some("one"), Retries::SameProvider), (Some("three"), Retries::AnyProvider), (None, Retries::AnyProvider)]
    {
        let (world, gate) = (world_that_follows(), gate_of(&trio(CAP, CAP, CAP, "")));
        let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
        way.attempt(&world);
        assert!(way.fails("500", &world));
        let step = way.exchange.on_attempt(cluster.map(str::as_bytes), &world.env());
        assert!(matches!(step, AttemptStep::Misrouted(_)));
        assert_eq!(world.worker.borrow().retries, expected, "{cluster:?}");
    }
}

#[test]
fn who_stands_in_the_list_twice_is_asked_once() {
    let manifests = trio("", "", "", "").replace("models: [one/a, two/b, three/c]", "models: [two/b, one/a, two/b, one/a]");
    let (world, gate) = (world_that_follows(), gate_of(&manifests));
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    for (provider, follows) in [("one", true), ("two", false)] {
        assert_eq!(way.attempt(&world).authority, provider);
        assert_eq!(way.fails("500", &world), follows);
    }
}

#[test]
fn with_fixed_routing_nothing_is_left_to_attempts() {
    const ONE: &str = "---\n{apiVersion: pai.io/v1, kind: ModelProvider, metadata: {name: one}, spec: {provider: vllm, endpoint: 'http://one'}}\n\
        ---\n{apiVersion: pai.io/v1, kind: Agent, metadata: {name: me}, spec: {identities: [td/me], models: [one/a, one/b]}}\n\
        ---\n{apiVersion: pai.io/v1, kind: Gateway, metadata: {name: g}, spec: {routing: fixed}}\n";
    let (world, gate, body) = (world_that_follows(), gate_of(ONE), chat("one/a", ""));
    let mut exchange = Exchange::new(gate);
    let peer = || Some(ME.as_bytes().to_vec());
    let ahead = exchange.on_request_headers(&post("/v1/chat/completions", &[]), false, &peer, &world.env());
    assert!(matches!(ahead, Step::Forward(_)));
    assert!(
        matches!(exchange.on_attempt(Some(b"one"), &world.env()), AttemptStep::Forward(_)),
        "it begins before the body is there"
    );
    let step = exchange.on_request_body(body.len(), true, || body.clone().into_bytes(), &world.env());
    let Step::Forward(Forward { body: Some(splice), .. }) = step else { panic!("{step:?}") };
    assert_eq!([&splice.bytes, &body.as_bytes()[splice.length..]].concat(), chat("a", "").into_bytes());
    let turn = exchange.on_attempt_answer(exchange.ordinal(), &Headers(vec![(b":status", b"500")]), &world.env());
    assert_eq!(turn.request, []);
}

#[test]
fn a_request_without_room_does_not_take_the_turn_of_one_that_could_try() {
    // The second agent has no budget to try anything with.
    let poor = "---\n{apiVersion: pai.io/v1, kind: Agent, metadata: {name: poor}, spec: {identities: [td/poor], models: [one/a, two/b], \
        maxTokensPerDay: 1}}\n";
    let (world, gate) = (world_that_follows(), gate_of(&(trio(CAP, CAP, CAP, "") + poor)));
    for _ in 0..5 {
        let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
        way.attempt(&world);
        way.fails("503", &world);
        way.exchange.on_log(|| true, &world.env());
    }
    world.now.set(Time(world.now.get().0 + 5_000_000_000));
    let mut exchange = Exchange::new(Rc::clone(&gate));
    let (peer, body) = (|| Some(b"td/poor".to_vec()), chat("two/b", ""));
    exchange.on_request_headers(&post("/v1/chat/completions", &[]), false, &peer, &world.env());
    let step = exchange.on_request_body(body.len(), true, || body.clone().into_bytes(), &world.env());
    assert_eq!(refused(&step).1, "context_length_exceeded");
    let mut way = Way::begin(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(way.attempt(&world).authority, "one");
}
