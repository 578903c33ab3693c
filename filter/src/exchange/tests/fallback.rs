//! Tests of fallback: by budgets before a request is sent, and by failures when Envoy retries.

use std::collections::BTreeMap;

use super::*;
use crate::exchange::step::AttemptStep;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ME: &str = "td/me";

/// Returns the manifests of three providers with these fields, and of an agent that may use a model of each.
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

/// A request in flight. As in Envoy, all attempts share the headers, and each attempt gets the original body.
struct ActiveRequest {
    exchange: Exchange,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// The request that a provider receives.
#[derive(Debug, PartialEq)]
struct Sent {
    authorization: Option<String>,
    path: String,
    authority: String,
    body: String,
}

impl ActiveRequest {
    fn start(gate: &Rc<Gate>, world: &World, body: &str) -> Result<Self, Step> {
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
        let mut active = Self { exchange, headers, body: body.as_bytes().to_vec() };
        active.apply(&forward.headers);
        if let Some(splice) = forward.body {
            active.body = [&splice.bytes, &active.body[splice.length..]].concat();
        }
        Ok(active)
    }

    fn apply(&mut self, edits: &[HeaderEdit]) {
        for edit in edits {
            match edit {
                HeaderEdit::Remove(name) => drop(self.headers.remove(&**name)),
                HeaderEdit::Set(name, value) => drop(self.headers.insert((*name).to_owned(), value.to_string())),
            }
        }
    }

    /// Returns the provider to which Envoy would send the request.
    fn next(&self) -> Option<&str> {
        self.headers.get("x-pai-provider").map(String::as_str)
    }

    /// Starts an attempt in the cluster of this provider. Returns `None` if it is rejected.
    fn attempt_at(&mut self, provider: &str, world: &World) -> Option<Sent> {
        let injected = self.headers.get("x-pai-credential").map(|secret| secret.clone().into_bytes());
        let step = self.exchange.on_attempt(Some(provider.as_bytes()), &|| injected.clone(), &world.env());
        let AttemptStep::Forward(edits) = step else { return None };
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

    /// Starts an attempt at the provider where it is due.
    fn attempt(&mut self, world: &World) -> Sent {
        let provider = self.next().expect("a provider").to_owned();
        self.attempt_at(&provider, world).expect("the attempt is forwarded")
    }

    /// The attempt gets a response of this status. Returns whether Envoy retries.
    fn responds(&mut self, status: &str, world: &World) -> bool {
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

    /// The attempt succeeds, and the request ends.
    fn succeeds(mut self, world: &World, prompt: u64, completion: u64) -> AccessLogEntry {
        assert!(!self.responds("200", world));
        let usage = format!("{{\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion}}}}}");
        let ResponseStep::Edit(_) = answer(&mut self.exchange, world, "200", "application/json", &usage) else { panic!() };
        self.exchange.on_log(|| true, &world.env()).unwrap()
    }
}

/// Returns the used and reserved tokens of each provider.
fn ledger(gate: &Gate, world: &World) -> [(u64, u64); 3] {
    [0, 1, 2].map(|index| {
        let account = world.env().ledger().read(gate.budgets.provider(index).unwrap()).unwrap();
        account.record(0).map(|record| (record.used, record.reserved())).unwrap()
    })
}

fn world_with_retries() -> World {
    let world = World::new();
    world.worker.borrow_mut().retries = Retries::AnyProvider;
    world
}

const CAP: &str = "maxTokensPerDay: 10000";

#[test]
fn each_attempt_is_rewritten_for_its_provider() {
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
    let body = chat("one/a", ",\"max_tokens\":50");
    let mut active = ActiveRequest::start(&gate, &world, &body).unwrap();
    let sent = |name: &str, model: &str| Sent {
        authorization: Some(format!("Bearer sk-{name}")),
        path: format!("/{name}/chat/completions"),
        authority: name.to_owned(),
        body: chat(model, ",\"max_tokens\":50"),
    };
    assert_eq!(active.headers.get("authorization"), None, "the credential is set when the attempt starts");
    assert_eq!(active.attempt(&world), sent("one", "a"));
    let [(0, reserved), (0, 0), (0, 0)] = ledger(&gate, &world) else { panic!() };
    assert!(active.responds("503", &world));
    assert_eq!(ledger(&gate, &world), [(0, 0), (0, reserved), (0, 0)]);
    assert_eq!((active.next(), active.headers.get("authorization")), (Some("two"), None));
    assert_eq!(active.attempt(&world), sent("two", "b"));
    active.breaks_off(true, &world);
    let [(0, 0), (lost, 0), (0, _)] = ledger(&gate, &world) else { panic!() };
    assert_eq!(lost, reserved - 50, "the prompt");
    assert_eq!(active.attempt(&world), sent("three", "c"));
    let entry = active.succeeds(&world, 9, 5);
    assert_eq!((&*entry.provider, &*entry.model, &*entry.attempts), ("three", "c", "one=503,two=reset"));
    assert_eq!(entry.tokens, Some((9 + lost, 5)));
    assert_eq!(ledger(&gate, &world), [(0, 0), (lost, 0), (14, 0)]);
}

/// Providers `one` and `three` with a reference, `two` without, and a proxy that adds the credentials.
fn trio_of_proxy(gateway: &str) -> Rc<Gate> {
    let manifests = trio(CAP, CAP, CAP, &format!("credentials: proxy, {gateway}"));
    let manifests = manifests.replace("apiKeySecretRef: {name: two, key: k}, ", "");
    Rc::new(Gate::new(crate::config::load(manifests.as_bytes(), &|_| panic!("a variable is read")).unwrap()))
}

#[test]
fn each_attempt_has_the_credential_that_the_proxy_adds_for_its_provider() {
    let (world, gate) = (world_with_retries(), trio_of_proxy(""));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", ",\"max_tokens\":50")).unwrap();
    for (provider, injected, expected) in
        [("one", Some(" sk-1\n"), Some("Bearer sk-1")), ("two", None, None), ("three", Some("sk-3"), Some("Bearer sk-3"))]
    {
        // What an earlier attempt, or a filter of the cluster, may have left.
        for (name, value) in [("authorization", "Bearer sk-0"), ("x-api-key", "sk-0"), ("api-key", "sk-0")] {
            active.headers.insert(name.to_owned(), value.to_owned());
        }
        if let Some(secret) = injected {
            active.headers.insert("x-pai-credential".to_owned(), secret.to_owned());
        }
        let sent = active.attempt(&world);
        assert_eq!((&*sent.authority, sent.authorization.as_deref()), (provider, expected));
        assert!(!active.headers.values().any(|value| value.contains("sk-0")), "{:?}", active.headers);
        assert_eq!(active.responds("503", &world), provider != "three");
    }
}

#[test]
fn the_only_candidate_has_the_credential_too() {
    let (world, gate) = (world_with_retries(), trio_of_proxy("maxAttempts: 1"));
    for (model, injected, expected) in
        [("one/a", Some("sk-1"), Some("Bearer sk-1")), ("two/b", None, None), ("two/b", Some("sk-9"), None)]
    {
        let mut active = ActiveRequest::start(&gate, &world, &chat(model, "")).unwrap();
        assert_eq!(active.headers.get("authorization"), None, "the gate sends no credential");
        if let Some(secret) = injected {
            active.headers.insert("x-pai-credential".to_owned(), secret.to_owned());
        }
        assert_eq!(active.attempt(&world).authorization.as_deref(), expected, "{model}");
        active.succeeds(&world, 1, 1);
    }
}

#[test]
fn a_missing_credential_is_the_gateways_error_and_no_failure_of_the_provider() {
    for (attempts, injected) in [("maxAttempts: 3", None), ("maxAttempts: 1", None), ("", Some("a\r\nx: 1")), ("", Some(" "))] {
        let (world, gate) = (world_with_retries(), trio_of_proxy(attempts));
        for _ in 0..5 {
            let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
            let injected = || injected.map(|secret| secret.as_bytes().to_vec());
            let step = active.exchange.on_attempt(Some(b"one"), &injected, &world.env());
            let AttemptStep::MissingCredential(reply) = step else { panic!("{step:?}") };
            assert_eq!(reply.status, 502);
            let headers = Headers(vec![(b":status", b"502")]);
            let step = active.exchange.on_response_headers(&headers, false, || Some(b"local".to_vec()), &world.env());
            let ResponseStep::Reply(reply) = step else { panic!("{step:?}") };
            assert_eq!(refused(&Step::Reply(reply)), (502, "upstream_auth".to_owned(), None));
            let entry = active.exchange.on_log(|| true, &world.env()).unwrap();
            assert_eq!((&*entry.provider, entry.decision, entry.tokens), ("one", "upstream_auth", Some((0, 0))));
            assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
        }
    }
}

/// Envoy's injector itself, where it may not forward a request without a credential. Its reply comes from the cluster of the candidate.
#[test]
fn an_injector_without_a_secret_is_the_gateways_error() {
    let (world, gate) = (world_with_retries(), trio_of_proxy(""));
    let mut active = ActiveRequest::start(&gate, &world, &chat("two/b", "")).unwrap();
    active.attempt(&world);
    assert!(active.responds("503", &world));
    let headers = Headers(vec![(b":status", b"401")]);
    let details = || Some(b"failed_to_inject_credential".to_vec());
    let ResponseStep::Reply(reply) = active.exchange.on_response_headers(&headers, false, details, &world.env()) else { panic!() };
    assert!(String::from_utf8_lossy(&reply.body).contains("model provider `one`"), "{reply:?}");
    assert_eq!(refused(&Step::Reply(reply)), (502, "upstream_auth".to_owned(), None));
    assert_eq!(active.exchange.on_log(|| true, &world.env()).unwrap().provider, "one");
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn with_fixed_routing_the_credential_goes_ahead_of_the_body() {
    let world = World::new();
    let gate = gate_of(
        "{items: [{apiVersion: pai.io/v1, kind: ModelProvider, metadata: {name: one}, spec: {provider: vllm, endpoint: 'http://one', \
         apiKeySecretRef: {name: one, key: k}}}, {apiVersion: pai.io/v1, kind: Gateway, metadata: {name: g}, spec: {routing: fixed, \
         credentials: proxy}}]}",
    );
    for (injected, sent) in [(Some("sk-1"), true), (None, false)] {
        let mut exchange = Exchange::new(Rc::clone(&gate));
        let headers = post("/v1/chat/completions", &[("authorization", "Bearer sk-client"), ("x-pai-credential", "sk-client")]);
        let Step::Forward(forward) = exchange.on_request_headers(&headers, false, &no_identity, &world.env()) else { panic!() };
        for name in ["authorization", "x-pai-credential"] {
            assert!(forward.headers.contains(&HeaderEdit::Remove(name.into())), "{forward:?}");
        }
        let injected = || injected.map(|secret| secret.as_bytes().to_vec());
        match exchange.on_attempt(Some(b"one"), &injected, &world.env()) {
            AttemptStep::Forward(edits) => assert_eq!((set(&edits, "authorization"), sent), (Some("Bearer sk-1"), true)),
            AttemptStep::MissingCredential(_) => {
                let headers = Headers(vec![(b":status", b"502")]);
                let step = exchange.on_response_headers(&headers, false, || Some(b"local".to_vec()), &world.env());
                let ResponseStep::Reply(reply) = step else { panic!("{step:?}") };
                assert_eq!((refused(&Step::Reply(reply)).1.as_str(), sent), ("upstream_auth", false));
            }
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn the_named_candidate_is_first_and_the_others_follow_in_order() {
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "maxAttempts: 9")));
    let mut active = ActiveRequest::start(&gate, &world, &chat("two/b", "")).unwrap();
    for provider in ["two", "one", "three"] {
        assert_eq!(active.attempt(&world).authority, provider);
        assert_eq!(active.responds("429", &world), provider != "three");
    }
    let ResponseStep::Edit(edits) = answer(&mut active.exchange, &world, "429", "application/json", "{}") else { panic!() };
    assert_eq!(set(&edits, "x-pai-provider"), Some("three"), "the last response is forwarded");
    assert_eq!(active.exchange.on_log(|| true, &world.env()).unwrap().decision, "allowed");
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn other_statuses_are_final() {
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
        let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
        let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
        active.attempt(&world);
        assert_eq!(active.responds(status, &world), follows, "{status}");
    }
}

#[test]
fn attempts_are_bounded() {
    for most in 1..=3 {
        let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, &format!("maxAttempts: {most}"))));
        let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
        let mut attempts = 1;
        active.attempt(&world);
        while active.responds("500", &world) {
            active.attempt(&world);
            attempts += 1;
        }
        assert_eq!(attempts, most);
    }
}

#[test]
fn budgets_select_before_a_request_is_sent() {
    const TOO_SMALL: &str = "maxTokensPerDay: 1";
    for retries in [Retries::AnyProvider, Retries::SameProvider, Retries::None] {
        let world = World::new();
        world.worker.borrow_mut().retries = retries;
        let gate = gate_of(&trio("maxTokensPerDay: 400", TOO_SMALL, CAP, ""));
        let Ok(mut active) = ActiveRequest::start(&gate, &world, &chat("one/a", ",\"max_tokens\":300")) else { panic!() };
        assert_eq!(active.attempt(&world).authority, "one");
        let Ok(mut other) = ActiveRequest::start(&gate, &world, &chat("one/a", ",\"max_tokens\":300")) else { panic!() };
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
        assert_eq!(active.succeeds(&world, 9, 1).attempts, "");
    }
}

#[test]
fn if_all_budgets_are_short_the_most_recoverable_reason_is_returned() {
    let (world, gate) =
        (world_with_retries(), gate_of(&trio("maxTokensPerDay: 400", "maxTokensPerDay: 400", "maxTokensPerDay: 1", "")));
    let body = chat("one/a", ",\"max_tokens\":300");
    let requests = [ActiveRequest::start(&gate, &world, &body).unwrap(), ActiveRequest::start(&gate, &world, &body).unwrap()];
    let Err(step) = ActiveRequest::start(&gate, &world, &body) else { panic!() };
    assert_eq!(refused(&step), (429, "rate_limit_exceeded".to_owned(), None));
    for mut active in requests {
        active.attempt(&world);
        active.succeeds(&world, 99, 250);
    }
    let Err(step) = ActiveRequest::start(&gate, &world, &body) else { panic!() };
    assert_eq!(refused(&step), (429, "insufficient_quota".to_owned(), None));
    let Err(step) = ActiveRequest::start(&gate, &world, &chat("three/c", ",\"n\":2,\"max_tokens\":999")) else { panic!() };
    assert_eq!(refused(&step), (400, "context_length_exceeded".to_owned(), None), "the request exceeds the whole budget");
}

#[test]
fn refusals_of_the_named_candidate_are_final() {
    let guard = "guards: [{name: g, type: pattern, deny: [secret]}]";
    for (first, code) in [
        ("maxTokensPerRequest: 10", "context_length_exceeded"),
        ("deniedModels: [a]", "model_not_allowed"),
        (guard, "prompt_rejected"),
    ] {
        let (world, gate) = (world_with_retries(), gate_of(&trio(first, "", "", "")));
        let body = chat("one/a", ",\"max_tokens\":50,\"user\":\"x\"").replace("hi", "secret");
        let Err(step) = ActiveRequest::start(&gate, &world, &body) else { panic!("{first}") };
        assert_eq!(refused(&step).1, code);
    }
}

#[test]
fn others_that_would_reject_are_not_eligible() {
    let guard = "guards: [{name: g, type: pattern, deny: [secret]}]";
    for second in ["maxTokensPerRequest: 10", "deniedModels: [b]", guard] {
        let (world, gate) = (world_with_retries(), gate_of(&trio("", second, "", "")));
        let body = chat("one/a", ",\"max_tokens\":50").replace("hi", "secret");
        let Ok(mut active) = ActiveRequest::start(&gate, &world, &body) else { panic!("{second}") };
        active.attempt(&world);
        assert!(active.responds("500", &world));
        assert_eq!(active.next(), Some("three"), "{second}");
    }
}

#[test]
fn if_a_budget_is_exhausted_meanwhile_the_last_response_is_forwarded() {
    for connected in [None, Some(true), Some(false)] {
        let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, "maxTokensPerDay: 400", "maxTokensPerDay: 1", "")));
        let body = chat("one/a", ",\"max_tokens\":300");
        let mut active = ActiveRequest::start(&gate, &world, &body).unwrap();
        active.attempt(&world);
        let other = ActiveRequest::start(&gate, &world, &chat("two/b", ",\"max_tokens\":300"));
        assert!(other.is_ok());
        let [(0, reserved), ..] = ledger(&gate, &world) else { panic!() };
        let expected = match connected {
            None => {
                assert!(!active.responds("503", &world), "the budget of two has no room");
                let ResponseStep::Edit(edits) = answer(&mut active.exchange, &world, "503", "application/json", "{}") else {
                    panic!()
                };
                assert_eq!(set(&edits, "x-pai-provider"), Some("one"));
                ("allowed", 0)
            }
            Some(connected) => {
                active.breaks_off(connected, &world);
                assert!(active.next().is_none() && active.attempt_at("one", &world).is_none(), "no attempt is due");
                let headers = Headers(vec![(b":status", b"503")]);
                let step = active.exchange.on_response_headers(&headers, true, || None, &world.env());
                assert!(matches!(step, ResponseStep::Reply(Reply { status: 503, .. })));
                ("upstream_unavailable", if connected { reserved - 300 } else { 0 })
            }
        };
        let entry = active.exchange.on_log(|| true, &world.env()).unwrap();
        assert_eq!((entry.decision, ledger(&gate, &world)[0]), (expected.0, (expected.1, 0)), "{connected:?}");
        assert_eq!(entry.tokens, Some((expected.1, 0)));
    }
}

#[test]
fn an_attempt_that_was_not_sent_is_not_charged() {
    // The client disconnects while Envoy waits before a retry.
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    active.attempt(&world);
    assert!(active.responds("500", &world));
    // Envoy still has the connection of the previous attempt.
    active.exchange.on_log(|| true, &world.env()).unwrap();
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
    active.breaks_off(true, &world);
    assert!(active.attempt_at("two", &world).is_none(), "the request has ended");
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn a_response_that_envoy_does_not_retry_is_the_last() {
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    active.attempt(&world);
    assert!(active.responds("500", &world));
    let headers = Headers(vec![(b":status", b"500"), (b"x-pai-retry", b"true")]);
    let step = active.exchange.on_response_headers(&headers, true, || Some(b"via_upstream".to_vec()), &world.env());
    let ResponseStep::Edit(edits) = step else { panic!() };
    assert_eq!(set(&edits, "x-pai-provider"), Some("one"));
    assert!(edits.contains(&HeaderEdit::Remove("x-pai-retry".into())));
    assert_eq!(&*active.exchange.on_log(|| true, &world.env()).unwrap().provider, "one");
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn the_wrong_cluster_receives_no_request() {
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(active.attempt_at("two", &world), None);
    assert_eq!(world.worker.borrow().retries, Retries::AnyProvider, "no retry was due");
    // Envoy retries in the same cluster, although the header names another.
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    active.attempt(&world);
    assert!(active.responds("500", &world));
    assert_eq!(active.attempt_at("one", &world), None);
    assert_eq!(active.headers.get("authorization"), None);
    assert_eq!(world.worker.borrow().retries, Retries::SameProvider);
    // From now on the gate rewrites requests for their provider.
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(active.headers.get("authorization").map(String::as_str), Some("Bearer sk-one"));
    active.attempt(&world);
    assert!(!active.responds("500", &world));
}

#[test]
fn a_retry_in_the_same_cluster_can_use_another_model() {
    let plenty = "maxTokensPerDay: 1000000";
    let models = trio(plenty, plenty, plenty, "").replace("models: [one/a, two/b, three/c]", "models: [one/a, two/b, one/c]");
    let (world, gate) = (World::new(), gate_of(&models));
    world.worker.borrow_mut().retries = Retries::SameProvider;
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(active.attempt(&world).body, chat("a", ""));
    assert!(active.responds("404", &world));
    assert_eq!(active.attempt_at("one", &world).unwrap().body, chat("c", ""));
    assert!(!active.responds("404", &world));
}

#[test]
fn a_cluster_without_an_attempt_filter_is_reported() {
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    let step = answer(&mut active.exchange, &world, "404", "application/json", "{}");
    assert!(matches!(step, ResponseStep::Reply(Reply { status: 503, .. })));
    assert_eq!(world.counts().get("pai.kind=.=attempt;.;filter_errors_total"), Some(&1));
    active.exchange.on_log(|| true, &world.env());
    assert_eq!(ledger(&gate, &world), [(0, 0); 3]);
}

#[test]
fn the_only_candidate_is_retried_if_it_was_not_reached() {
    for (connected, again) in [(false, true), (true, false)] {
        let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, "deniedModels: [b]", "deniedModels: [c]", "")));
        let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
        let first = active.attempt(&world);
        active.breaks_off(connected, &world);
        assert_eq!(active.next(), again.then_some("one"));
        let second = active.attempt_at("one", &world);
        assert_eq!(second, again.then_some(first), "{connected}");
        if again {
            let entry = active.succeeds(&world, 9, 1);
            assert_eq!((entry.tokens, &*entry.attempts), (Some((9, 1)), ""));
        }
    }
}

#[test]
fn a_stale_end_changes_nothing() {
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    active.attempt(&world);
    let first = active.exchange.ordinal();
    assert!(active.responds("500", &world));
    active.attempt(&world);
    let before = ledger(&gate, &world);
    assert_eq!(active.exchange.on_attempt_end(first, || true, &world.env()), []);
    let late = Headers(vec![(b":status", b"500".as_slice()), (b"x-pai-retry", b"1"), (b"x-envoy-ratelimited", b"1")]);
    let turn = active.exchange.on_attempt_answer(first, &late, &world.env());
    assert_eq!(turn.request, []);
    assert_eq!(turn.response, [HeaderEdit::Remove("x-pai-retry".into()), HeaderEdit::Remove("x-envoy-ratelimited".into())]);
    assert_eq!(ledger(&gate, &world), before);
}

#[test]
fn requests_for_missing_models_start_no_cooldown_of_a_wildcard() {
    for (list, cools_down) in [("", false), (", allowedModels: ['*']", false), (", allowedModels: [a]", true)] {
        for status in ["403", "404"] {
            let (world, gate) = (world_with_retries(), gate_of(&trio(&format!("{CAP}{list}"), CAP, CAP, "")));
            for _ in 0..5 {
                let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
                assert_eq!(active.attempt(&world).authority, "one");
                assert!(active.responds(status, &world));
                active.exchange.on_log(|| true, &world.env());
            }
            let active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
            assert_eq!(active.next() == Some("two"), cools_down, "{status} {list}");
        }
    }
}

#[test]
fn a_model_that_fails_repeatedly_is_skipped_during_its_cooldown() {
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, "deniedModels: [c]", "")));
    let first_attempt = |world: &World| {
        let mut active = ActiveRequest::start(&gate, world, &chat("one/a", "")).unwrap();
        let sent = active.attempt(world);
        (active, sent.authority)
    };
    for _ in 0..5 {
        let (mut active, first) = first_attempt(&world);
        assert_eq!(first, "one");
        assert!(active.responds("503", &world));
        active.attempt(&world);
        active.succeeds(&world, 9, 1);
    }
    let (active, first) = first_attempt(&world);
    assert_eq!(first, "two");
    assert_eq!(active.succeeds(&world, 9, 1).attempts, "one=cooldown");
    // It is still selected if no other candidate can serve the request.
    let (mut reserved, _) = (Vec::new(), ());
    loop {
        let mut active = ActiveRequest::start(&gate, &world, &chat("two/b", ",\"max_tokens\":3000")).unwrap();
        let first = active.attempt(&world).authority;
        reserved.push(active);
        if first == "one" {
            break;
        }
    }
    drop(reserved);
    world.now.set(Time(world.now.get().0 + 5_000_000_000));
    let (active, first) = first_attempt(&world);
    assert_eq!(first, "one", "one request probes it");
    assert_eq!(first_attempt(&world).1, "two", "only one");
    active.succeeds(&world, 9, 1);
    assert_eq!(first_attempt(&world).1, "one");
}

#[test]
fn content_length_matches_the_body_of_each_attempt() {
    // The model ids of this provider look like references to another one.
    let manifests = trio("", "", "", "").replace("models: [one/a, two/b, three/c]", "models: [one/a, two/one/a]");
    let (world, gate) = (world_with_retries(), gate_of(&manifests));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(active.attempt(&world).body, chat("a", ""));
    assert!(active.responds("500", &world));
    assert_eq!(active.attempt(&world).body, chat("one/a", ""));
}

#[test]
fn a_candidate_that_was_not_reached_has_no_failure() {
    for after_reset in [false, true] {
        for end in [Some((504, "upstream_response_timeout")), Some((503, "no_healthy_upstream")), None] {
            let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, "deniedModels: [c]", "")));
            for _ in 0..5 {
                let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
                let first = active.attempt(&world).authority;
                if after_reset {
                    active.breaks_off(true, &world);
                } else {
                    assert!(active.responds("404", &world));
                }
                // Envoy waits before a retry, and another event occurs first.
                if let Some((status, details)) = end {
                    let status: String = status.to_string();
                    let headers = Headers(vec![(b":status", status.as_bytes())]);
                    let details = || Some(details.as_bytes().to_vec());
                    active.exchange.on_response_headers(&headers, true, details, &world.env());
                }
                let gone = matches!(end, Some((503, _)));
                let entry = active.exchange.on_log(|| true, &world.env()).unwrap();
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
fn a_retry_header_of_a_provider_without_an_attempt_filter_is_ignored() {
    let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    let headers = Headers(vec![(b":status", b"200"), (b"x-pai-retry", b"true")]);
    let step = active.exchange.on_response_headers(&headers, true, || None, &world.env());
    assert!(matches!(step, ResponseStep::Reply(Reply { status: 503, .. })), "{step:?}");
    assert_eq!(active.attempt_at("one", &world), None, "the request has a local reply");
}

#[test]
fn only_a_retry_in_the_same_cluster_changes_the_retries() {
    for (cluster, expected) in
        [(Some("one"), Retries::SameProvider), (Some("three"), Retries::AnyProvider), (None, Retries::AnyProvider)]
    {
        let (world, gate) = (world_with_retries(), gate_of(&trio(CAP, CAP, CAP, "")));
        let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
        active.attempt(&world);
        assert!(active.responds("500", &world));
        let step = active.exchange.on_attempt(cluster.map(str::as_bytes), &no_credential, &world.env());
        assert!(matches!(step, AttemptStep::Misrouted(_)));
        assert_eq!(world.worker.borrow().retries, expected, "{cluster:?}");
    }
}

#[test]
fn a_duplicate_candidate_is_tried_once() {
    let manifests = trio("", "", "", "").replace("models: [one/a, two/b, three/c]", "models: [two/b, one/a, two/b, one/a]");
    let (world, gate) = (world_with_retries(), gate_of(&manifests));
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    for (provider, follows) in [("one", true), ("two", false)] {
        assert_eq!(active.attempt(&world).authority, provider);
        assert_eq!(active.responds("500", &world), follows);
    }
}

#[test]
fn with_fixed_routing_there_is_no_fallback() {
    const ONE: &str = "---\n{apiVersion: pai.io/v1, kind: ModelProvider, metadata: {name: one}, spec: {provider: vllm, endpoint: 'http://one'}}\n\
        ---\n{apiVersion: pai.io/v1, kind: Agent, metadata: {name: me}, spec: {identities: [td/me], models: [one/a, one/b]}}\n\
        ---\n{apiVersion: pai.io/v1, kind: Gateway, metadata: {name: g}, spec: {routing: fixed}}\n";
    let (world, gate, body) = (world_with_retries(), gate_of(ONE), chat("one/a", ""));
    let mut exchange = Exchange::new(gate);
    let peer = || Some(ME.as_bytes().to_vec());
    let ahead = exchange.on_request_headers(&post("/v1/chat/completions", &[]), false, &peer, &world.env());
    assert!(matches!(ahead, Step::Forward(_)));
    assert!(
        matches!(exchange.on_attempt(Some(b"one"), &no_credential, &world.env()), AttemptStep::Forward(_)),
        "the attempt starts before the body is complete"
    );
    let step = exchange.on_request_body(body.len(), true, || body.clone().into_bytes(), &world.env());
    let Step::Forward(Forward { body: Some(splice), .. }) = step else { panic!("{step:?}") };
    assert_eq!([&splice.bytes, &body.as_bytes()[splice.length..]].concat(), chat("a", "").into_bytes());
    let turn = exchange.on_attempt_answer(exchange.ordinal(), &Headers(vec![(b":status", b"500")]), &world.env());
    assert_eq!(turn.request, []);
}

#[test]
fn a_request_that_fits_no_budget_does_not_probe() {
    // The budget of the second agent is too small for any request.
    let poor = "---\n{apiVersion: pai.io/v1, kind: Agent, metadata: {name: poor}, spec: {identities: [td/poor], models: [one/a, two/b], \
        maxTokensPerDay: 1}}\n";
    let (world, gate) = (world_with_retries(), gate_of(&(trio(CAP, CAP, CAP, "") + poor)));
    for _ in 0..5 {
        let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
        active.attempt(&world);
        active.responds("503", &world);
        active.exchange.on_log(|| true, &world.env());
    }
    world.now.set(Time(world.now.get().0 + 5_000_000_000));
    let mut exchange = Exchange::new(Rc::clone(&gate));
    let (peer, body) = (|| Some(b"td/poor".to_vec()), chat("two/b", ""));
    exchange.on_request_headers(&post("/v1/chat/completions", &[]), false, &peer, &world.env());
    let step = exchange.on_request_body(body.len(), true, || body.clone().into_bytes(), &world.env());
    assert_eq!(refused(&step).1, "context_length_exceeded");
    let mut active = ActiveRequest::start(&gate, &world, &chat("one/a", "")).unwrap();
    assert_eq!(active.attempt(&world).authority, "one");
}
