//! Tests of complete exchanges without a host: with a manual clock, a store in memory, and metrics in a map.

mod browsers;
mod callers;
#[cfg(not(target_arch = "wasm32"))]
mod chaos;
mod fallback;
mod guards;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::*;
use crate::clock::Clock;
use crate::clock::Time;
use crate::exchange::worker::Worker;
use crate::metrics::{Kind, Meter};
use crate::store::Memory;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ONE: &str = "
apiVersion: pai.io/v1
kind: ModelProvider
metadata: { name: vllm-local }
spec:
  provider: vllm
  endpoint: http://vllm:8000/v1
  allowedModels: [org/m, 'family/*']
  deniedModels: [family/bad]
  maxTokensPerDay: 1000
";

struct World {
    now: Cell<Time>,
    store: Memory,
    worker: RefCell<Worker>,
    names: RefCell<Vec<String>>,
    counts: RefCell<BTreeMap<String, u64>>,
}

impl Clock for World {
    fn now(&self) -> Time {
        self.now.get()
    }
}

impl Meter for World {
    fn define(&self, _kind: Kind, name: &str) -> u32 {
        self.names.borrow_mut().push(name.to_owned());
        self.names.borrow().len() as u32 - 1
    }

    fn add(&self, series: u32, by: u64) {
        *self.counts.borrow_mut().entry(self.names.borrow()[series as usize].clone()).or_default() += by;
    }

    fn set(&self, series: u32, value: u64) {
        self.counts.borrow_mut().insert(self.names.borrow()[series as usize].clone(), value);
    }
}

impl World {
    fn new() -> Self {
        Self {
            now: Cell::new(Time(43_200_000_000_000)),
            store: Memory::default(),
            worker: RefCell::new(Worker::new(1)),
            names: RefCell::default(),
            counts: RefCell::default(),
        }
    }

    fn env(&self) -> Environment<'_> {
        Environment::new(self, &self.store, self, &self.worker)
    }

    /// Returns all counts, including those that are sent to the host at the next tick.
    fn counts(&self) -> BTreeMap<String, u64> {
        self.env().send_counts();
        self.counts.borrow().clone()
    }

    /// Returns the used and reserved tokens of the first provider.
    fn ledger(&self, gate: &Gate) -> (u64, u64) {
        let account = self.env().ledger().read(gate.budgets.provider(0).unwrap()).unwrap();
        account.record(0).map(|record| (record.used, record.reserved())).unwrap()
    }
}

fn gate(text: &str) -> Rc<Gate> {
    let secret = |name: &str| (name == "PAI_SECRET_T_K").then(|| "sk-provider".to_owned());
    Rc::new(Gate::new(crate::config::load(text.as_bytes(), &secret).unwrap()))
}

fn post<'a>(path: &'a str, extra: &[(&'a str, &'a str)]) -> Headers<'a> {
    let mut headers = vec![(":method", "POST"), (":path", path), ("content-type", "application/json"), ("content-length", "9")];
    headers.retain(|(name, _)| extra.iter().all(|(other, _)| other != name));
    headers.extend(extra);
    Headers(headers.into_iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect())
}

fn chat(model: &str, members: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{members}}}"#)
}

/// Returns no identity: the peer of a connection without a client certificate.
fn no_identity() -> Option<Vec<u8>> {
    None
}

/// Returns no credential: the proxy adds none.
fn no_credential() -> Option<Vec<u8>> {
    None
}

/// Runs a request until it is admitted or rejected.
fn ask(exchange: &mut Exchange, world: &World, headers: &Headers<'_>, body: &str) -> Step {
    match exchange.on_request_headers(headers, false, &no_identity, &world.env()) {
        Step::Hold => exchange.on_request_body(body.len(), true, || body.as_bytes().to_vec(), &world.env()),
        step => step,
    }
}

fn refused(step: &Step) -> (u16, String, Option<String>) {
    let Step::Reply(reply) = step else { panic!("not refused: {step:?}") };
    let error = &serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap()["error"];
    (reply.status, error["code"].as_str().unwrap().to_owned(), error["param"].as_str().map(str::to_owned))
}

fn answer(exchange: &mut Exchange, world: &World, status: &str, kind: &str, body: &str) -> ResponseStep {
    let headers =
        Headers(vec![(b":status", status.as_bytes()), (b"content-type", kind.as_bytes()), (b"x-ratelimit-limit-tokens", b"9")]);
    let step = exchange.on_response_headers(&headers, false, || Some(b"via_upstream".to_vec()), &world.env());
    exchange.on_response_body(body.as_bytes(), true, &world.env());
    step
}

fn set<'a>(edits: &'a [HeaderEdit], name: &str) -> Option<&'a str> {
    edits.iter().find_map(|edit| match edit {
        HeaderEdit::Set(key, value) if *key == name => Some(&**value),
        _ => None,
    })
}

#[test]
fn a_request_is_admitted_rewritten_and_settled() {
    let (world, gate) = (World::new(), gate(ONE));
    let mut exchange = Exchange::new(Rc::clone(&gate));
    let body = chat("vllm-local/org/m", ",\"max_tokens\":50");
    let headers = post("/v1/chat/completions?x=1", &[("authorization", "Bearer sk-client"), ("x-pai-provider", "evil")]);
    let Step::Forward(forward) = ask(&mut exchange, &world, &headers, &body) else { panic!() };
    assert_eq!(set(&forward.headers, "x-pai-provider"), Some("vllm-local"));
    assert_eq!(set(&forward.headers, ":path"), Some("/v1/chat/completions"));
    assert_eq!(set(&forward.headers, ":authority"), Some("vllm:8000"));
    assert_eq!(set(&forward.headers, "authorization"), None, "no key configured, no header");
    assert!(forward.headers.contains(&HeaderEdit::Remove("authorization".into())));
    let splice = forward.body.unwrap();
    let sent = [&splice.bytes, &body.as_bytes()[splice.length..]].concat();
    assert_eq!(String::from_utf8(sent.clone()).unwrap(), chat("org/m", ",\"max_tokens\":50"));
    assert_eq!(set(&forward.headers, "content-length"), Some(&*sent.len().to_string()));
    let (used, reserved) = world.ledger(&gate);
    assert!(used == 0 && reserved > 50, "{reserved}");
    let usage = r#"{"usage":{"prompt_tokens":9,"total_tokens":14,"completion_tokens":5}}"#;
    let ResponseStep::Edit(edits) = answer(&mut exchange, &world, "200", "application/json", usage) else { panic!() };
    assert_eq!(set(&edits, "x-pai-model"), Some("org/m"));
    assert_eq!(set(&edits, "x-ratelimit-limit-tokens"), Some("1000"));
    assert_eq!(set(&edits, "x-ratelimit-remaining-tokens"), Some(&*(1000 - reserved).to_string()));
    assert_eq!(set(&edits, "x-ratelimit-reset-tokens"), Some("12h0m0s"));
    let entry = exchange.on_log(|| true, &world.env()).unwrap();
    assert_eq!((&*entry.provider, &*entry.model, &*entry.subject, entry.decision), ("vllm-local", "org/m", "anonymous", "allowed"));
    assert_eq!((entry.tokens, world.ledger(&gate)), (Some((9, 5)), (14, 0)));
    assert_eq!(exchange.on_log(|| true, &world.env()), None, "once");
    assert_eq!(world.ledger(&gate), (14, 0));
}

#[test]
fn checks_are_made_in_order() {
    let world = World::new();
    let gate = gate(ONE);
    let ok = chat("org/m", "");
    for (headers, body, expected) in [
        (
            post("/without_provider", &[("authorization", "Bearer pak_x"), ("content-encoding", "gzip")]),
            "",
            (401, "invalid_api_key", None),
        ),
        (post("/v1/chat/completions", &[("x-api-key", "pak_x")]), &*ok, (401, "invalid_api_key", None)),
        (post("/v1/chat/completions", &[("api-key", "pak_x")]), &ok, (401, "invalid_api_key", None)),
        (post("/v1/chat/completions", &[("authorization", "Bearer x,Bearer pak_x")]), &ok, (401, "invalid_api_key", None)),
        (post("/v1/chat/completions", &[("authorization", "bearer  pak_x")]), &ok, (401, "invalid_api_key", None)),
        (post("/without_provider", &[("content-encoding", "gzip")]), "", (404, "unknown_url", None)),
        (
            post("/v1/chat/completions", &[("content-encoding", "gzip"), ("content-length", "99999999999")]),
            "",
            (415, "unsupported_encoding", None),
        ),
        (
            post("/v1/chat/completions", &[("content-length", "99999999999"), ("content-type", "text/plain")]),
            "",
            (413, "request_too_large", None),
        ),
        (post("/v1/chat/completions", &[("content-type", "text/plain")]), &ok, (400, "invalid_body", None)),
        (post("/v1/chat/completions", &[]), "", (400, "invalid_body", None)),
        (post("/v1/chat/completions", &[]), "{\"model\":\"nope\"}", (400, "invalid_body", Some("messages"))),
        (post("/v1/chat/completions", &[]), &chat("nope", ",\"max_tokens\":99999"), (404, "model_not_found", Some("model"))),
        (
            post("/v1/chat/completions", &[]),
            &chat("vllm-local/nope", ",\"max_tokens\":99999"),
            (403, "model_not_allowed", Some("model")),
        ),
        (post("/v1/chat/completions", &[]), &chat("vllm-local/family/bad", ""), (403, "model_not_allowed", Some("model"))),
        (post("/v1/chat/completions", &[]), &chat("vllm-local/", ""), (404, "model_not_found", Some("model"))),
        (post("/v1/chat/completions", &[]), &chat("family/bad", ""), (404, "model_not_found", Some("model"))),
        (
            post("/v1/chat/completions", &[]),
            &chat("org/m", ",\"n\":4,\"max_tokens\":99999"),
            (400, "context_length_exceeded", None),
        ),
    ] {
        let mut exchange = Exchange::new(Rc::clone(&gate));
        let (status, code, param) = refused(&ask(&mut exchange, &world, &headers, body));
        assert_eq!((status, &*code, param.as_deref()), expected, "{headers:?} {body}");
        let entry = exchange.on_log(|| false, &world.env()).unwrap();
        assert_eq!((entry.decision, entry.tokens), (expected.1, None));
        assert_eq!(world.ledger(&gate), (0, 0));
    }
}

#[test]
fn callers_that_need_a_key_are_rejected() {
    let world = World::new();
    for (extra, expected) in [
        ("  externalAccess: { enabled: true, maxTokensPerDay: 5 }\n", true),
        ("  externalAccess: { enabled: false }\n", true),
        ("---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec: { audience: external }\n", true),
        (
            "  externalAccess: { enabled: true }\n---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec: { audience: agents }\n",
            false,
        ),
    ] {
        let mut exchange = Exchange::new(gate(&format!("{ONE}{extra}")));
        let step =
            ask(&mut exchange, &world, &post("/v1/chat/completions", &[("authorization", "Bearer sk-other")]), &chat("org/m", ""));
        assert_eq!(matches!(step, Step::Reply(_)), expected, "{extra}");
        if expected {
            assert_eq!(refused(&step).1, "invalid_api_key");
        }
    }
}

#[test]
fn budgets_reject_until_tokens_are_released_or_until_midnight() {
    let (world, gate) = (World::new(), gate(ONE));
    let headers = post("/v1/chat/completions", &[]);
    let mut first = Exchange::new(Rc::clone(&gate));
    assert!(matches!(ask(&mut first, &world, &headers, &chat("org/m", ",\"max_tokens\":800")), Step::Forward(_)));
    let mut second = Exchange::new(Rc::clone(&gate));
    let step = ask(&mut second, &world, &headers, &chat("org/m", ",\"max_tokens\":800"));
    assert_eq!(refused(&step).1, "rate_limit_exceeded");
    let Step::Reply(reply) = step else { panic!() };
    assert!(reply.headers.contains(&("retry-after", "1".to_owned())));
    assert!(reply.headers.contains(&("x-ratelimit-limit-tokens", "1000".to_owned())));
    let usage = r#"{"usage":{"prompt_tokens":700,"completion_tokens":100}}"#;
    answer(&mut first, &world, "200", "application/json", usage);
    first.on_log(|| true, &world.env());
    let mut third = Exchange::new(Rc::clone(&gate));
    let step = ask(&mut third, &world, &headers, &chat("org/m", ",\"max_tokens\":800"));
    assert_eq!(refused(&step), (429, "insufficient_quota".to_owned(), None));
    let Step::Reply(reply) = step else { panic!() };
    assert!(reply.headers.contains(&("x-should-retry", "false".to_owned())));
    assert!(reply.headers.iter().all(|(name, _)| *name != "retry-after"));
    world.now.set(Time(86_400_000_000_001));
    let mut fourth = Exchange::new(Rc::clone(&gate));
    assert!(matches!(ask(&mut fourth, &world, &headers, &chat("org/m", ",\"max_tokens\":800")), Step::Forward(_)), "a new day");
}

#[test]
fn every_outcome_is_charged_as_documented() {
    let headers = post("/v1/chat/completions", &[]);
    let usage = "data: {\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\n";
    let reset = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}\n\n";
    let delta = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let prompt = Some(u64::MAX);
    type Answer<'a> = Option<(&'a str, &'a str, &'a str)>;
    // The response if any, whether the provider was reached, whether the prompt's estimate is charged, and the other tokens charged.
    let table: [(Answer<'_>, bool, Option<u64>, u64); 15] = [
        (Some(("200", "application/json", r#"{"usage":{"prompt_tokens":9,"completion_tokens":3}}"#)), true, None, 12),
        (Some(("200", "text/event-stream", usage)), true, None, 12),
        (Some(("200", "text/event-stream", delta)), true, prompt, 1),
        (Some(("200", "application/json", "{\"choices\":[")), true, prompt, 0),
        (Some(("200", "application/json", r#"{"choices":[{"index":0,"message":{"content":"one two"#)), true, prompt, 2),
        (Some(("200", "text/event-stream", &format!("{usage}{reset}"))), true, None, 12),
        (Some(("200", "text/event-stream", &format!("{usage}{delta}{delta}{delta}{delta}"))), true, None, 12),
        (Some(("200", "application/json", r#"{"usage":{"prompt_tokens":2e1,"completion_tokens":3.0}}"#)), true, None, 23),
        (Some(("200", "application/json", r#"{"usage":{"prompt_tokens":9,"completion_tokens":-3}}"#)), true, prompt, 0),
        (Some(("200", "application/json", r#"{"usage":{"prompt_tokens":900,"completion_tokens":3000}}"#)), true, None, 3900),
        (Some(("400", "application/json", "{\"error\":{}}")), true, None, 0),
        (Some(("500", "application/json", "{\"usage\":{\"prompt_tokens\":9}}")), true, None, 9),
        (Some(("401", "application/json", "{}")), true, None, 0),
        (None, true, prompt, 0),
        (None, false, None, 0),
    ];
    for (given, connected, estimate, tokens) in table {
        let (world, gate) = (World::new(), gate(ONE));
        let mut exchange = Exchange::new(Rc::clone(&gate));
        assert!(matches!(
            ask(&mut exchange, &world, &headers, &chat("org/m", ",\"max_tokens\":50,\"stream\":true")),
            Step::Forward(_)
        ));
        let (_, reserved) = world.ledger(&gate);
        if let Some((status, kind, body)) = given {
            answer(&mut exchange, &world, status, kind, body);
        }
        exchange.on_log(|| connected, &world.env());
        let expected = estimate.map_or(0, |_| reserved - 50) + tokens;
        assert_eq!(world.ledger(&gate), (expected, 0), "{given:?} {connected}");
    }
}

/// A text that today's tokenizers divide into 18 tokens.
const SENTENCE: &str = "The quick brown fox jumps over the lazy dog, and nothing else happens on this page. ";

/// A sentence is a whole answer, a delta, or the text, reasoning and arguments of several deltas.
#[test]
fn text_without_usage_is_charged_what_it_typically_has() {
    let headers = post("/v1/chat/completions", &[]);
    let event = |delta: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n");
    let text = |repeat: usize| SENTENCE.repeat(repeat);
    let message = |text: &str| format!(r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}}}}]}}"#);
    let escaped: String =
        text(100).encode_utf16().map(|unit| if unit == 32 { "\\u0020".into() } else { String::from(unit as u8 as char) }).collect();
    let deltas = |name: &str, repeat: usize| event(&format!("{{\"{name}\":\"{SENTENCE}\"}}")).repeat(repeat);
    let call = format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":"{{\"text\":\"{SENTENCE}\"}}"}}}}]}}"#);
    let call = call.replace(r#""{"text":""#, r#""{\"text\":\""#).replace(r#""}"}}]}"#, r#"\"}"}}]}"#);
    let words: String = SENTENCE.split_inclusive(' ').map(|word| event(&format!("{{\"content\":\"{word}\"}}"))).collect();
    for (kind, body, tokens) in [
        ("application/json", message(&text(500)), 9000),
        ("application/json", message(&escaped), 1800),
        ("application/json", message(&text(500)).split_at(20_000).0.to_owned(), 18 * 20_000 / 84),
        ("application/json", r#"{"choices":[{"text":"TEXT"},{"text":"TEXT"}]}"#.replace("TEXT", &text(50)), 1800),
        ("text/event-stream", event(&format!("{{\"content\":\"{}\"}}", text(500))), 9000),
        ("text/event-stream", event(&format!("{{\"content\":\"{}\"}}", text(5000))), 90_000),
        ("text/event-stream", deltas("content", 10) + &deltas("reasoning", 10) + &deltas("reasoning_content", 10), 540),
        ("text/event-stream", event(&call).repeat(100), 2200),
        ("text/event-stream", words, 17),
        ("text/event-stream", event("{\"content\":\"\"}").repeat(100), 100),
    ] {
        for step in [1000, usize::MAX] {
            let (world, gate) = (World::new(), gate(ONE));
            let mut exchange = Exchange::new(Rc::clone(&gate));
            ask(&mut exchange, &world, &headers, &chat("org/m", ",\"max_tokens\":50"));
            let prompt = world.ledger(&gate).1 - 50;
            let response = Headers(vec![(b":status", b"200"), (b"content-type", kind.as_bytes())]);
            exchange.on_response_headers(&response, false, || Some(b"via_upstream".to_vec()), &world.env());
            for chunk in body.as_bytes().chunks(step) {
                exchange.on_response_body(chunk, false, &world.env());
            }
            exchange.on_log(|| true, &world.env());
            let charged = world.ledger(&gate).0 - prompt;
            let start = &body[..body.len().min(120)];
            assert!((tokens * 7 / 10..=tokens * 13 / 10).contains(&charged), "{start}: {charged} for {tokens} tokens");
        }
    }
}

#[test]
fn local_replies_and_rejected_credentials_are_replaced_by_openai_errors() {
    for (status, details, expected) in [
        ("503", "upstream_reset_before_response_started{connection_failure}", (503, "upstream_unavailable")),
        ("504", "upstream_response_timeout", (504, "upstream_timeout")),
        ("404", "route_not_found", (503, "upstream_unavailable")),
        ("413", "request_payload_too_large", (413, "request_too_large")),
        ("401", "via_upstream", (502, "upstream_auth")),
        ("403", "via_upstream", (502, "upstream_auth")),
    ] {
        let (world, gate) = (World::new(), gate(ONE));
        let mut exchange = Exchange::new(Rc::clone(&gate));
        ask(&mut exchange, &world, &post("/v1/chat/completions", &[]), &chat("org/m", ""));
        let headers = Headers(vec![(b":status", status.as_bytes())]);
        let step = exchange.on_response_headers(&headers, false, || Some(details.as_bytes().to_vec()), &world.env());
        let ResponseStep::Reply(reply) = step else { panic!("{step:?}") };
        let (status, code, _) = refused(&Step::Reply(reply));
        assert_eq!((status, &*code), expected, "{details}");
        let entry = exchange.on_log(|| false, &world.env()).unwrap();
        assert_eq!((entry.decision, world.ledger(&gate).1), (expected.1, 0));
    }
}

#[test]
fn the_context_length_is_recorded_from_an_error() {
    let (world, gate) = (World::new(), gate(&format!("{ONE}  maxTokensPerRequest: 900\n")));
    let headers = post("/v1/chat/completions", &[]);
    let mut exchange = Exchange::new(Rc::clone(&gate));
    ask(&mut exchange, &world, &headers, &chat("org/m", ",\"max_tokens\":600"));
    let refusal =
        r#"{"error":{"message":"max_tokens=600 cannot be greater than max_model_len=512. Please request fewer output tokens."}}"#;
    answer(&mut exchange, &world, "400", "application/json", refusal);
    exchange.on_log(|| true, &world.env());
    let mut exchange = Exchange::new(Rc::clone(&gate));
    let Step::Forward(forward) = ask(&mut exchange, &world, &headers, &chat("org/m", "")) else { panic!() };
    assert_eq!(forward.body, None, "the context length is smaller than the cap: no limit is injected");
    assert_eq!(world.ledger(&gate), (0, 512));
}

#[test]
fn an_error_about_an_injected_limit_does_not_reach_the_client() {
    let (world, gate) = (World::new(), gate(&format!("{ONE}  maxTokensPerRequest: 900\n")));
    let headers = post("/v1/chat/completions", &[]);
    let refusal =
        br#"{"error":{"message":"max_tokens=800 cannot be greater than max_model_len=512. Please request fewer output tokens."}}"#;
    let response = Headers(vec![(b":status", b"400"), (b"content-type", b"application/json")]);
    let other = br#"{"error":{"message":"temperature must be non-negative"}}"#;
    for (body, limit, retried) in [(&refusal[..], "", true), (other, "", false), (refusal, ",\"max_tokens\":600", false)] {
        let gate = if retried { Rc::clone(&gate) } else { self::gate(&format!("{ONE}  maxTokensPerRequest: 900\n")) };
        let world = if retried { &world } else { &World::new() };
        let mut exchange = Exchange::new(gate);
        ask(&mut exchange, world, &headers, &chat("org/m", limit));
        let step = exchange.on_response_headers(&response, false, || Some(b"via_upstream".to_vec()), &world.env());
        assert_eq!(matches!(step, ResponseStep::Hold(_)), limit.is_empty());
        if limit.is_empty() {
            assert_eq!(exchange.on_response_body(&body[..10], false, &world.env()), BodyStep::Hold);
            assert!(exchange.answer_limit() < 4096);
        }
        let step = exchange.on_response_body(body, true, &world.env());
        match step {
            BodyStep::Reply(reply) if retried => {
                assert_eq!(reply.status, 503);
                assert!(reply.headers.contains(&("x-should-retry", "true".to_owned())));
            }
            step => assert!(!retried && step == BodyStep::Continue, "{step:?}"),
        }
        let entry = exchange.on_log(|| true, &world.env()).unwrap();
        assert_eq!((entry.decision, entry.tokens), (if retried { "upstream_unavailable" } else { "allowed" }, Some((0, 0))));
    }
    let mut exchange = Exchange::new(gate);
    let Step::Forward(forward) = ask(&mut exchange, &world, &headers, &chat("org/m", "")) else { panic!() };
    assert_eq!(forward.body, None, "the context length is known now, and is the bound");
}

#[test]
fn an_error_that_cannot_be_read_is_not_held_back() {
    let (world, gate) = (World::new(), gate(&format!("{ONE}  maxTokensPerRequest: 900\n")));
    for unreadable in [(&b"content-encoding"[..], &b"gzip"[..]), (b"content-type", b"text/html")] {
        let mut exchange = Exchange::new(Rc::clone(&gate));
        ask(&mut exchange, &world, &post("/v1/chat/completions", &[]), &chat("org/m", ""));
        let response = Headers(vec![(b":status", b"400"), unreadable, (b"content-type", b"application/json")]);
        let step = exchange.on_response_headers(&response, false, || Some(b"via_upstream".to_vec()), &world.env());
        assert!(matches!(step, ResponseStep::Edit(_)), "{step:?}");
        assert!(!exchange.reads_answer());
        assert_eq!(exchange.on_response_body(b"\x1f\x8b", false, &world.env()), BodyStep::Continue);
        exchange.on_log(|| true, &world.env());
    }
}

#[test]
fn fixed_routing_sends_the_headers_ahead() {
    let text = format!(
        "{ONE}  apiKeySecretRef: {{ name: t, key: k }}\n---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: {{ name: g }}\nspec: {{ routing: fixed }}\n"
    );
    let (world, gate) = (World::new(), gate(&text));
    let mut exchange = Exchange::new(Rc::clone(&gate));
    let headers = post("/v1/chat/completions", &[("authorization", "Bearer sk-client")]);
    let Step::Forward(forward) = exchange.on_request_headers(&headers, false, &no_identity, &world.env()) else { panic!() };
    assert_eq!(set(&forward.headers, "authorization"), Some("Bearer sk-provider"));
    assert!(!forward.headers.contains(&HeaderEdit::Remove("authorization".into())), "replaced, not removed afterwards");
    assert!(forward.headers.contains(&HeaderEdit::Remove("content-length".into())));
    let body = chat("vllm-local/org/m", "");
    assert_eq!(exchange.on_request_body(4, false, Vec::new, &world.env()), Step::Hold);
    let Step::Forward(forward) = exchange.on_request_body(body.len(), true, || body.clone().into_bytes(), &world.env()) else {
        panic!()
    };
    assert!(forward.headers.is_empty() && forward.body.is_some(), "the headers were sent before");
    exchange.on_log(|| true, &world.env());

    let mut exchange = Exchange::new(Rc::clone(&gate));
    exchange.on_request_headers(&headers, false, &no_identity, &world.env());
    assert!(
        matches!(answer(&mut exchange, &world, "401", "application/json", "{}"), ResponseStep::Reply(_)),
        "the body may contain the key"
    );

    let mut exchange = Exchange::new(Rc::clone(&gate));
    exchange.on_request_headers(&headers, false, &no_identity, &world.env());
    assert!(matches!(answer(&mut exchange, &world, "200", "application/json", "{}"), ResponseStep::Edit(_)));
    assert_eq!(exchange.on_request_body(1, true, || b"{".to_vec(), &world.env()), Step::Hold);
    assert_eq!(exchange.on_log(|| true, &world.env()).unwrap().decision, "unjudged");
}

#[test]
fn a_body_that_does_not_arrive_times_out() {
    let (world, gate) = (World::new(), gate(ONE));
    let mut exchange = Exchange::new(gate);
    assert_eq!(exchange.on_body_timeout(), None);
    exchange.on_request_headers(&post("/v1/chat/completions", &[]), false, &no_identity, &world.env());
    let reply = exchange.on_body_timeout().unwrap();
    assert_eq!(refused(&Step::Reply(reply)).1, "request_timeout");
    assert_eq!(exchange.on_body_timeout(), None);
}

#[test]
fn bodies_in_chunks_and_with_trailers_are_evaluated_when_complete() {
    let (world, gate) = (
        World::new(),
        gate(&format!(
            "{ONE}---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: {{ name: g }}\nspec: {{ maxRequestBytes: 100 }}\n"
        )),
    );
    let headers = post("/v1/chat/completions", &[]);
    let body = chat("org/m", "");
    let mut exchange = Exchange::new(Rc::clone(&gate));
    exchange.on_request_headers(&headers, false, &no_identity, &world.env());
    assert_eq!(exchange.on_request_body(10, false, || -> Vec<u8> { panic!("not to be read yet") }, &world.env()), Step::Hold);
    assert!(matches!(exchange.on_request_trailers(|| body.clone().into_bytes(), &world.env()), Step::Forward(_)));
    let mut exchange = Exchange::new(Rc::clone(&gate));
    exchange.on_request_headers(&headers, false, &no_identity, &world.env());
    assert_eq!(exchange.on_request_body(100, false, Vec::new, &world.env()), Step::Hold);
    assert_eq!(refused(&exchange.on_request_body(101, false, Vec::new, &world.env())).1, "request_too_large");
    assert_eq!(exchange.on_request_body(102, true, Vec::new, &world.env()), Step::Hold, "the local reply was sent");
}

#[cfg(not(target_arch = "wasm32"))]
mod any_order {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Callbacks in any order cause no panic, and leave no reservation.
        #[test]
        fn of_callbacks_is_handled(calls in prop::collection::vec((0u8..9, any::<bool>(), 0usize..8), 1..24)) {
            let (world, gate) = (World::new(), gate(ONE));
            let mut exchange = Exchange::new(Rc::clone(&gate));
            let stream = chat("org/m", ",\"stream\":true,\"max_tokens\":20");
            let bodies: [&[u8]; 4] = [stream.as_bytes(), b"", b"{", b"\xff"];
            let chunks: [&[u8]; 4] = [
                b"data: {\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\n", b"data: {\"usa", b"", b"\r\xff\n\n",
            ];
            for (call, flag, pick) in calls {
                let env = world.env();
                match call {
                    0 | 1 => drop(exchange.on_request_headers(&post("/v1/chat/completions", &[]), flag, &no_identity, &env)),
                    2 | 3 => drop(exchange.on_request_body(pick, flag, || bodies[pick % 4].to_vec(), &env)),
                    4 => drop(exchange.on_request_trailers(|| bodies[pick % 4].to_vec(), &env)),
                    5 => {
                        let status: &[u8] = [&b"200"[..], b"400", b"503", b"abc"][pick % 4];
                        let headers = Headers(vec![(b":status", status), (b"content-type", b"text/event-stream"), (b"x-pai-\xff", b"\xff")]);
                        exchange.on_response_headers(&headers, false, || flag.then(|| b"via_upstream".to_vec()), &env);
                    }
                    6 => drop(exchange.on_response_body(chunks[pick % 4], flag, &env)),
                    7 => drop(exchange.on_body_timeout()),
                    _ => drop(exchange.on_log(|| flag, &env)),
                }
            }
            exchange.on_log(|| true, &world.env());
            let used = world.ledger(&gate).0;
            exchange.on_log(|| true, &world.env());
            prop_assert_eq!(world.ledger(&gate), (used, 0));
        }
    }
}
