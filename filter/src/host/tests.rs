//! The drivers over a host that remembers every call, in order.

mod fake;

use std::rc::Rc;
use std::time::Duration;

use self::fake::{Fake, call};
use crate::exchange::gate::Gate;
use crate::exchange::step::CalloutRequest;
use crate::exchange::worker::Retries;
use crate::host::attempt::Attempt;
use crate::host::io::{Attribute, Flow};
use crate::host::root::Root;
use crate::host::stream::Stream;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ONE: &str = "
apiVersion: pai.io/v1
kind: ModelProvider
metadata: { name: local }
spec: { provider: vllm, endpoint: 'http://vllm:8000/v1', allowedModels: [org/m], maxTokensPerDay: 1000000 }
";

const TWO: &str = "
apiVersion: pai.io/v1
kind: ModelProvider
metadata: { name: local }
spec: { provider: vllm, endpoint: 'http://vllm:8000/v1', apiKeySecretRef: { name: a, key: k } }
---
apiVersion: pai.io/v1
kind: ModelProvider
metadata: { name: hosted }
spec: { provider: openai, endpoint: 'https://hosted/api', apiKeySecretRef: { name: b, key: k } }
---
apiVersion: pai.io/v1
kind: Agent
metadata: { name: me }
spec: { identities: [td/me], models: [local/m, hosted/x] }
---
apiVersion: pai.io/v1
kind: Gateway
metadata: { name: default }
spec: { identityHeader: x-agent-id }
";

const FIXED: &str = "
apiVersion: pai.io/v1
kind: ModelProvider
metadata: { name: local }
spec: { provider: vllm, endpoint: 'http://vllm:8000/v1' }
---
apiVersion: pai.io/v1
kind: Gateway
metadata: { name: default }
spec: { routing: fixed }
";

const CHAT: &str = r#"{"model":"local/org/m","messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"choices":[{"index":0}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;

fn gate(manifests: &str) -> Rc<Gate> {
    let secret = |name: &str| Some(format!("sk-{}", name.to_lowercase()));
    Rc::new(Gate::new(crate::config::load(manifests.as_bytes(), &secret).unwrap()))
}

fn stream(fake: &Fake, gate: &Rc<Gate>, id: u32) -> Rc<Stream> {
    Stream::new(id, Rc::clone(gate), Rc::clone(&fake.streams))
}

fn callout() -> CalloutRequest {
    CalloutRequest {
        cluster: "callouts".into(),
        method: "GET",
        path: "/tokenize".to_owned(),
        authority: "vllm".into(),
        credential: None,
        body: Vec::new(),
        timeout: Duration::from_millis(250),
    }
}

/// Starts a chat whose body is held, after its evaluation has to wait for a callout.
fn waiting(fake: &Fake, manifests: &str, id: u32) -> Rc<Stream> {
    let stream = stream(fake, &gate(manifests), id);
    stream.exchange().borrow_mut().ask_first(callout());
    fake.request(
        "POST",
        "/v1/chat/completions",
        &[("content-type", "application/json")],
        CHAT.replace("local/org/m", "local/m").as_str(),
    );
    stream.on_request_headers(fake, false);
    assert_eq!(stream.on_request_body(fake, fake.request_size(), true), Flow::Pause);
    stream
}

/// Runs a whole chat with one answer in one chunk.
fn chat(fake: &Fake, stream: &Stream) {
    fake.request("POST", "/v1/chat/completions", &[("content-type", "application/json"), ("content-length", "69")], CHAT);
    assert_eq!(stream.on_request_headers(fake, false), Flow::Pause);
    assert_eq!(stream.on_request_body(fake, fake.request_size(), true), Flow::Continue);
    fake.response("200", &[("content-type", "application/json"), ("content-length", "95")], ANSWER);
    assert_eq!(stream.on_response_headers(fake, false), Flow::Continue);
    assert_eq!(stream.on_response_body(fake, ANSWER.len(), true), Flow::Continue);
    fake.attribute(Attribute::UpstreamLocalAddress, "127.0.0.1:1");
    stream.on_log(fake);
}

#[test]
fn a_chat_is_rewritten_once_its_body_is_whole_and_logged_at_its_end() {
    let fake = Fake::new();
    let gate = gate(ONE);
    let stream = stream(&fake, &gate, 1);
    chat(&fake, &stream);
    assert_eq!(fake.header("x-pai-provider").as_deref(), Some("local"));
    assert_eq!(fake.request_text(), CHAT.replace("local/org/m", "org/m"));
    assert_eq!(fake.header("content-length"), Some(fake.request_size().to_string()));
    assert_eq!(fake.response_header("x-ratelimit-limit-tokens").as_deref(), Some("1000000"));
    assert_eq!(fake.state("pai.decision").as_deref(), Some("allowed"));
    assert_eq!((fake.state("pai.prompt_tokens"), fake.state("pai.completion_tokens")), (Some("3".into()), Some("5".into())));
    assert_eq!(fake.state("pai.exchange"), None, "there is no attempt filter");
}

#[test]
fn the_metadata_of_the_listener_make_an_operator() {
    for (metadata, status) in [(None, 403), (Some(0), 403), (Some(1), 200)] {
        let fake = Fake::new();
        if let Some(value) = metadata {
            fake.attribute_bytes(Attribute::ListenerControl, &[value]);
        }
        fake.request("GET", "/pai/v1/status", &[("x-pai-control", "true")], "");
        stream(&fake, &gate(ONE), 1).on_request_headers(&fake, true);
        assert_eq!((fake.replies(), fake.calls(call::ATTRIBUTE)), (vec![status], 1));
    }
}

#[test]
fn a_body_in_parts_is_held_and_read_once() {
    let fake = Fake::new();
    let stream = stream(&fake, &gate(ONE), 1);
    fake.request("POST", "/v1/chat/completions", &[("content-type", "application/json")], CHAT);
    stream.on_request_headers(&fake, false);
    fake.forget_calls();
    assert_eq!(stream.on_request_body(&fake, 10, false), Flow::Pause);
    assert_eq!(stream.on_request_body(&fake, 30, false), Flow::Pause);
    assert_eq!(fake.calls(call::BODY), 0);
    assert_eq!(stream.on_request_trailers(&fake), Flow::Continue);
    assert_eq!(fake.calls(call::BODY), 1);
}

#[test]
fn a_refusal_is_answered_and_nothing_goes_on() {
    let fake = Fake::new();
    let stream = stream(&fake, &gate(ONE), 1);
    fake.request("POST", "/v1/chat/completions", &[("content-type", "application/json")], "{}");
    stream.on_request_headers(&fake, false);
    assert_eq!(stream.on_request_body(&fake, 2, true), Flow::Pause);
    assert_eq!(fake.replies(), [400]);
    assert_eq!(fake.calls(call::EDIT), 0);
    stream.on_log(&fake);
    assert_eq!(fake.state("pai.decision").as_deref(), Some("invalid_body"));
}

#[test]
fn a_request_without_its_body_is_answered_after_thirty_seconds() {
    let fake = Fake::new();
    let mut root = Root::new(Rc::clone(&fake.streams));
    assert!(root.configure_gate(&fake, ONE.as_bytes(), &|_| None));
    let stream = root.stream(7);
    fake.request("POST", "/v1/chat/completions", &[("content-type", "application/json")], CHAT);
    stream.on_request_headers(&fake, false);
    let tick = |root: &mut Root, at| {
        fake.set_uptime(Duration::from_secs(at));
        root.on_tick(&fake);
    };
    assert!(root.is_first_tick() && !root.is_first_tick());
    tick(&mut root, 30);
    assert!(fake.replies().is_empty());
    tick(&mut root, 31);
    assert_eq!((fake.replies(), fake.entered()), (vec![408], vec![7]));
    tick(&mut root, 62);
    assert_eq!(fake.replies(), [408], "once");
}

#[test]
fn a_stream_that_has_its_body_is_never_overdue() {
    let fake = Fake::new();
    let mut root = Root::new(Rc::clone(&fake.streams));
    root.configure_gate(&fake, ONE.as_bytes(), &|_| None);
    let streams: Vec<_> = (1..=3).map(|id| root.stream(id)).collect();
    fake.request("POST", "/v1/chat/completions", &[("content-type", "application/json")], CHAT);
    for stream in &streams {
        stream.on_request_headers(&fake, false);
    }
    streams[1].on_request_body(&fake, 10, false);
    streams[2].on_log(&fake);
    fake.set_uptime(Duration::from_secs(40));
    root.on_tick(&fake);
    assert_eq!((fake.replies(), fake.entered()), (vec![408], vec![1]));
}

#[test]
fn a_callout_is_answered_before_the_request_goes_on() {
    let fake = Fake::new();
    let stream = waiting(&fake, ONE.replace("org/m", "m").as_str(), 1);
    assert_eq!(fake.callouts(), ["/tokenize"]);
    assert_eq!(stream.on_request_trailers(&fake), Flow::Pause, "trailers wait too");
    stream.on_callout(&fake, 99);
    assert_eq!(fake.calls(call::RESUME), 0, "another callout's answer");
    stream.on_callout(&fake, 1);
    assert_eq!(fake.header("x-pai-provider").as_deref(), Some("local"));
    assert!(fake.request_text().contains(r#""model":"m""#));
    assert_eq!(fake.calls(call::RESUME), 1);
    stream.on_callout(&fake, 1);
    assert_eq!(fake.calls(call::RESUME), 1, "once");
}

#[test]
fn a_callout_that_cannot_be_sent_holds_nothing_up() {
    let fake = Fake::new();
    fake.refuse_callouts();
    let stream = stream(&fake, &gate(ONE), 1);
    stream.exchange().borrow_mut().ask_first(callout());
    fake.request("POST", "/v1/chat/completions", &[("content-type", "application/json")], CHAT);
    stream.on_request_headers(&fake, false);
    assert_eq!(stream.on_request_body(&fake, fake.request_size(), true), Flow::Continue);
    assert_eq!(fake.calls(call::RESUME), 0);
    assert_eq!(fake.header("x-pai-provider").as_deref(), Some("local"));
}

#[test]
fn a_callout_without_an_answer_is_given_up_at_a_tick() {
    let fake = Fake::new();
    let mut root = Root::new(Rc::clone(&fake.streams));
    root.configure_gate(&fake, ONE.as_bytes(), &|_| None);
    let stream = waiting(&fake, ONE.replace("org/m", "m").as_str(), 5);
    fake.set_uptime(Duration::from_secs(1));
    root.on_tick(&fake);
    assert_eq!(fake.calls(call::RESUME), 0);
    fake.set_uptime(Duration::from_secs(2));
    root.on_tick(&fake);
    assert_eq!((fake.entered(), fake.calls(call::RESUME)), (vec![5], 1));
    assert_eq!(fake.header("x-pai-provider").as_deref(), Some("local"));
    stream.on_callout(&fake, 1);
    assert_eq!(fake.calls(call::RESUME), 1, "an answer that is late changes nothing");
}

#[test]
fn a_refusal_after_a_callout_is_answered_and_not_resumed() {
    let fake = Fake::new();
    let stream = waiting(&fake, ONE, 1);
    stream.on_callout(&fake, 1);
    assert_eq!((fake.replies(), fake.calls(call::RESUME)), (vec![403], 0));
}

#[test]
fn a_client_that_leaves_during_a_callout_leaves_nothing_behind() {
    let fake = Fake::new();
    let gate = gate(ONE.replace("org/m", "m").as_str());
    let stream = stream(&fake, &gate, 1);
    stream.exchange().borrow_mut().ask_first(callout());
    fake.request("POST", "/v1/chat/completions", &[("content-type", "application/json")], CHAT);
    stream.on_request_headers(&fake, false);
    stream.on_request_body(&fake, fake.request_size(), true);
    stream.on_log(&fake);
    assert_eq!(fake.state("pai.decision").as_deref(), Some("aborted"));
    stream.on_callout(&fake, 1);
    assert_eq!((fake.calls(call::RESUME), fake.replies()), (0, Vec::new()));
    assert_eq!(fake.reserved(&gate), 0);
    fake.streams.tick(Duration::from_secs(100));
    assert!(fake.streams.take_overdue().is_empty());
}

#[test]
fn with_fixed_routing_headers_go_ahead_and_the_body_waits_for_a_callout() {
    let fake = Fake::new();
    let stream = stream(&fake, &gate(FIXED), 1);
    stream.exchange().borrow_mut().ask_first(callout());
    fake.request("POST", "/v1/chat/completions", &[("content-type", "application/json")], &CHAT.replace("local/org/m", "local/m"));
    assert_eq!(stream.on_request_headers(&fake, false), Flow::Continue);
    assert_eq!(stream.on_request_body(&fake, fake.request_size(), true), Flow::Pause);
    fake.response("500", &[], "");
    fake.attribute(Attribute::ResponseDetails, "via_upstream");
    stream.on_callout(&fake, 1);
    assert_eq!(fake.calls(call::RESUME), 1);
    assert!(fake.request_text().contains(r#""model":"m""#));
}

#[test]
fn an_attempt_finds_its_stream_and_moves_it_on() {
    let fake = Fake::new();
    fake.streams.add_attempt_filter();
    fake.worker.borrow_mut().retries = Retries::AnyProvider;
    let stream = stream(&fake, &gate(TWO), 3);
    fake.request(
        "POST",
        "/v1/chat/completions",
        &[("content-type", "application/json"), ("x-agent-id", "td/me"), ("authorization", "Bearer mine")],
        &CHAT.replace("local/org/m", "local/m"),
    );
    stream.on_request_headers(&fake, false);
    assert_eq!(stream.on_request_body(&fake, fake.request_size(), true), Flow::Continue);
    assert_eq!(fake.header("authorization"), None, "the gate knows no provider yet");
    assert_eq!(fake.state("pai.exchange").map(|token| token.len() >= 12), Some(true));

    let first = fake.attempt_at("local");
    assert_eq!(first.on_request_headers(&fake, false), Flow::Pause);
    assert_eq!(fake.header("authorization").as_deref(), Some("Bearer sk-pai_secret_a_k"));
    assert_eq!(first.on_request_body(&fake, false), Flow::Pause, "nothing is forwarded before the body is whole");
    assert_eq!(first.on_request_body(&fake, true), Flow::Continue);
    assert!(fake.request_text().contains(r#""model":"m""#));
    fake.response("500", &[], "");
    assert_eq!(first.on_response_headers(&fake), Flow::Continue);
    assert_eq!(fake.response_header("x-pai-retry").as_deref(), Some("true"));
    assert_eq!((fake.header("x-pai-provider").as_deref(), fake.header("authorization")), (Some("hosted"), None));
    first.on_done(&fake);

    fake.restore_body(&CHAT.replace("local/org/m", "local/m"));
    let second = fake.attempt_at("hosted");
    assert_eq!(second.on_request_headers(&fake, false), Flow::Pause);
    assert_eq!(fake.header("authorization").as_deref(), Some("Bearer sk-pai_secret_b_k"));
    assert_eq!(second.on_request_trailers(&fake), Flow::Continue);
    assert!(fake.request_text().contains(r#""model":"x""#));
    fake.response("200", &[("content-type", "application/json")], ANSWER);
    second.on_response_headers(&fake);
    stream.on_response_headers(&fake, false);
    stream.on_response_body(&fake, ANSWER.len(), true);
    stream.on_log(&fake);
    assert_eq!(fake.state("pai.provider").as_deref(), Some("hosted"));
    assert_eq!(fake.state("pai.attempts").as_deref(), Some("local=500"));
}

#[test]
fn an_attempt_that_is_reset_is_followed_by_another() {
    let fake = Fake::new();
    fake.streams.add_attempt_filter();
    fake.worker.borrow_mut().retries = Retries::AnyProvider;
    let stream = stream(&fake, &gate(TWO), 3);
    let headers = [("content-type", "application/json"), ("x-agent-id", "td/me")];
    fake.request("POST", "/v1/chat/completions", &headers, &CHAT.replace("local/org/m", "local/m"));
    stream.on_request_headers(&fake, false);
    stream.on_request_body(&fake, fake.request_size(), true);
    let first = fake.attempt_at("local");
    first.on_request_headers(&fake, false);
    first.on_request_body(&fake, true);
    first.on_done(&fake);
    assert_eq!(fake.header("x-pai-provider").as_deref(), Some("hosted"));
    first.on_done(&fake);
    assert_eq!(fake.replies(), Vec::<u16>::new());
}

#[test]
fn an_attempt_of_no_stream_is_refused_and_one_of_an_ended_stream_is_silent() {
    let fake = Fake::new();
    fake.request("POST", "/v1/chat/completions", &[], CHAT);
    let stranger = fake.attempt_at("local");
    assert_eq!(stranger.on_request_headers(&fake, false), Flow::Pause);
    assert_eq!(fake.replies(), [503]);
    let other_instance = Attempt::new(Rc::clone(&fake.streams));
    fake.attribute_bytes(Attribute::ExchangeToken, &[7; 12]);
    assert_eq!(other_instance.on_request_headers(&fake, false), Flow::Pause);
    assert_eq!(fake.replies(), [503, 503]);
    fake.attribute_bytes(Attribute::ExchangeToken, &fake.streams.token(44));
    let late = Attempt::new(Rc::clone(&fake.streams));
    assert_eq!(late.on_request_headers(&fake, false), Flow::Pause);
    assert_eq!((late.on_request_body(&fake, true), late.on_request_trailers(&fake)), (Flow::Pause, Flow::Pause));
    assert_eq!(fake.replies(), [503, 503], "no second answer");
}

#[test]
fn an_attempt_at_another_providers_cluster_gets_no_credential() {
    let fake = Fake::new();
    fake.streams.add_attempt_filter();
    let stream = stream(&fake, &gate(TWO), 3);
    let headers = [("content-type", "application/json"), ("x-agent-id", "td/me")];
    fake.request("POST", "/v1/chat/completions", &headers, &CHAT.replace("local/org/m", "local/m"));
    stream.on_request_headers(&fake, false);
    stream.on_request_body(&fake, fake.request_size(), true);
    let before = fake.header("authorization");
    assert_eq!(fake.attempt_at("hosted").on_request_headers(&fake, false), Flow::Pause);
    assert_eq!((fake.replies(), fake.header("authorization")), (vec![503], before));
}

#[test]
fn a_refused_configuration_leaves_the_one_before_in_force() {
    let fake = Fake::new();
    let mut root = Root::new(Rc::clone(&fake.streams));
    assert!(root.configure_gate(&fake, ONE.as_bytes(), &|_| None));
    assert!(!root.configure_gate(&fake, b"kind: Nonsense", &|_| None));
    let stream = root.stream(1);
    chat(&fake, &stream);
    assert_eq!(fake.state("pai.decision").as_deref(), Some("allowed"));
    assert!(root.attempt().is_none());
}

#[test]
fn a_provider_with_callouts_is_asked_for_its_models_by_one_worker() {
    let fake = Fake::new();
    let manifests = format!(
        "{ONE}---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: {{ name: default }}\nspec: {{ callouts: {{ local: twin }} }}\n"
    );
    let mut roots: Vec<Root> = (0..2).map(|_| Root::new(Rc::clone(&fake.streams))).collect();
    for root in &mut roots {
        assert!(root.configure_gate(&fake, manifests.as_bytes(), &|_| None));
        root.on_tick(&fake);
    }
    assert_eq!(fake.callouts(), ["/v1/models"]);
    fake.callout_answer("200", r#"{"data":[{"id":"org/m","max_model_len":4096}]}"#);
    roots[1].on_callout(&fake, 1);
    roots[0].on_callout(&fake, 1);
    let stream = roots[1].stream(9);
    chat(&fake, &stream);
    assert_eq!(fake.state("pai.decision").as_deref(), Some("allowed"));
}

#[test]
fn retries_stay_within_a_cluster_of_an_old_envoy() {
    for (version, expected) in
        [(Some((1, 38)), Retries::SameProvider), (Some((1, 39)), Retries::AnyProvider), (None, Retries::AnyProvider)]
    {
        let fake = Fake::new();
        if let Some((major, minor)) = version {
            fake.attribute_bytes(Attribute::HostVersion, &[u64::to_le_bytes(major), u64::to_le_bytes(minor)].concat());
        }
        let mut root = Root::new(Rc::clone(&fake.streams));
        root.configure_attempt(&fake);
        assert!(root.attempt().is_some());
        assert_eq!(fake.worker.borrow().retries, expected, "{version:?}");
        root.end(&fake);
        assert_eq!(fake.worker.borrow().retries, Retries::None);
    }
}

/// The calls of a warm chat, as docs/performance.md lists them. A call into Envoy costs 0.2 to 0.8 µs.
#[test]
fn a_chat_makes_these_calls_and_no_others() {
    let fake = Fake::new();
    let gate = gate(ONE);
    for id in 0..40 {
        chat(&fake, &stream(&fake, &gate, id));
    }
    let warm = stream(&fake, &gate, 40);
    fake.forget_calls();
    chat(&fake, &warm);
    let kinds = [
        (call::HEADERS, 2),
        (call::EDIT, 8),
        (call::BODY, 2),
        (call::REPLACE, 1),
        (call::GET, 2),
        (call::SET, 2),
        (call::CLOCK, 2),
        (call::STATE, 6),
        (call::METRIC, 0),
        // Whether the listener is a control listener.
        (call::ATTRIBUTE, 1),
        (call::REPLY, 0),
        (call::RESUME, 0),
    ];
    for (kind, count) in kinds {
        assert_eq!(fake.calls(kind), count, "{kind}: {:?}", fake.all_calls());
    }
    assert_eq!(fake.all_calls().len(), 26, "every call is of one of these kinds");
}
