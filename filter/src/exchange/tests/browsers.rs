//! Tests of CORS: preflights, and the headers of every answer.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const PAGE: &str = "https://chat.example.com";
const GATEWAY: &str = "---\napiVersion: pai.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec:\n  audience: external\n";

fn gate_with(cors: &str) -> Rc<Gate> {
    gate(&format!("{ONE}  externalAccess: {{ enabled: true }}\n{GATEWAY}{cors}"))
}

fn open_gate_with(cors: &str) -> Rc<Gate> {
    gate(&format!("{ONE}{GATEWAY}{cors}").replace("external", "auto"))
}

const CORS: &str = "  cors: { allowOrigins: ['https://chat.example.com', 'https://*.test:8443'] }\n";

fn preflight<'a>(path: &'a str, extra: &[(&'a str, &'a str)]) -> Headers<'a> {
    let preflight = [(":method", "OPTIONS"), ("origin", PAGE), ("access-control-request-method", "POST")];
    let kept = preflight.into_iter().filter(|(name, _)| extra.iter().all(|(other, _)| other != name));
    let all: Vec<_> = kept.chain(extra.iter().copied().filter(|(_, value)| !value.is_empty())).collect();
    post(path, &all)
}

fn reply(gate: &Rc<Gate>, headers: &Headers<'_>) -> Reply {
    let world = World::new();
    match ask(&mut Exchange::new(Rc::clone(gate)), &world, headers, &chat("m", "")) {
        Step::Reply(reply) => reply,
        step => panic!("{step:?}"),
    }
}

fn value<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let mut values = reply.headers.iter().filter(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice");
    value
}

#[test]
fn a_preflight_from_an_allowed_origin_needs_no_key() {
    let gate = gate_with(CORS);
    for path in [
        "/v1/chat/completions",
        "/v1/completions?x=1",
        "/v1/%65mbeddings",
        "/v1/models",
        "/v1/models/a%2Fb",
        "/pai/v1/status",
        "/health",
    ] {
        let requested = ("access-control-request-headers", "authorization,content-type, x-stainless-os");
        let reply = reply(&gate, &preflight(path, &[requested]));
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{path}");
        for (name, expected) in [
            ("access-control-allow-origin", Some(PAGE)),
            ("access-control-allow-methods", Some("GET, POST")),
            ("access-control-allow-headers", Some("authorization,content-type, x-stainless-os")),
            ("access-control-max-age", Some("600")),
            ("access-control-allow-credentials", None),
            ("vary", Some("Origin")),
        ] {
            assert_eq!(value(&reply, name), expected, "{path} {name}");
        }
    }
    let reply = |extra: &[(&str, &str)]| reply(&gate, &preflight("/v1/models", extra));
    for bad in ["a\r\nx-evil: 1", "schl\u{fc}ssel", "a;b", &"a".repeat(3000)] {
        let reply = reply(&[("access-control-request-headers", bad)]);
        assert_eq!((reply.status, value(&reply, "access-control-allow-headers")), (204, None), "{bad}");
    }
    assert_eq!(value(&reply(&[("origin", "https://a.b.test:8443")]), "access-control-allow-origin"), Some("https://a.b.test:8443"));
    let listed = gate_with("  cors: { allowOrigins: ['*'], allowHeaders: [Authorization], maxAge: 5m }\n");
    let reply = self::reply(&listed, &preflight("/v1/models", &[("access-control-request-headers", "x-other")]));
    assert_eq!(value(&reply, "access-control-allow-headers"), Some("authorization"));
    assert_eq!((value(&reply, "access-control-allow-origin"), value(&reply, "access-control-max-age")), (Some("*"), Some("300")));
}

/// Everything else is decided by the other rules.
#[test]
fn other_preflights_are_ordinary_requests() {
    let (gate, without) = (gate_with(CORS), gate_with(""));
    for (gate, path, extra) in [
        (&gate, "/v1/models", ("origin", "https://evil.test")),
        (&gate, "/v1/models", ("origin", "null")),
        (&gate, "/v1/models", ("origin", "")),
        (&gate, "/v1/models", ("access-control-request-method", "")),
        (&gate, "/v1/other", ("x", "1")),
        (&gate, "/", ("x", "1")),
        (&without, "/v1/models", ("x", "1")),
    ] {
        let reply = reply(gate, &preflight(path, &[extra]));
        assert_eq!((reply.status, value(&reply, "access-control-allow-methods")), (401, None), "{path} {extra:?}");
    }
    let open = open_gate_with(CORS);
    let reply = reply(&open, &preflight("/v1/models", &[("origin", "https://evil.test")]));
    assert_eq!((reply.status, value(&reply, "access-control-allow-origin")), (404, None));
}

#[test]
fn every_answer_of_the_filter_has_the_headers() {
    let (closed, open) = (gate_with(CORS), open_gate_with(CORS));
    for (gate, method, path, status) in [
        (&closed, "POST", "/v1/chat/completions", 401),
        (&open, "POST", "/v1/chat/completions", 404),
        (&open, "GET", "/v1/models", 200),
        (&open, "GET", "/v1/other", 404),
        (&open, "GET", "/pai/v1/status", 403),
        (&closed, "GET", "/health", 200),
    ] {
        let answer = |origin| reply(gate, &post(path, &[(":method", method), ("origin", origin)]));
        let allowed = answer(PAGE);
        assert_eq!((allowed.status, value(&allowed, "access-control-allow-origin")), (status, Some(PAGE)), "{path}");
        let exposed = value(&allowed, "access-control-expose-headers").unwrap();
        for name in ["x-request-id", "retry-after", "x-should-retry", "x-ratelimit-remaining-tokens", "x-pai-provider"] {
            assert!(exposed.split(", ").any(|exposed| exposed == name), "{name}");
        }
        assert_eq!(value(&allowed, "vary"), Some("Origin"));
        let other = answer("https://evil.test");
        assert_eq!(
            (other.status, value(&other, "access-control-allow-origin"), value(&other, "vary")),
            (status, None, Some("Origin"))
        );
    }
    let mut exchange = Exchange::new(Rc::clone(&open));
    exchange.enter_control_listener();
    let headers = post("/pai/v1/status", &[(":method", "GET"), ("origin", PAGE)]);
    let Step::Reply(reply) = ask(&mut exchange, &World::new(), &headers, "") else { panic!() };
    assert_eq!((reply.status, value(&reply, "vary")), (200, None), "no page reaches the control listener");
}

/// The headers of a provider's answer after the edits.
fn edited(gate: &Rc<Gate>, origin: Option<&str>, answer: &[(&str, &str)]) -> BTreeMap<String, String> {
    let world = World::new();
    let mut exchange = Exchange::new(Rc::clone(gate));
    let extra: Vec<_> = origin.into_iter().map(|origin| ("origin", origin)).collect();
    let Step::Forward(forward) = ask(&mut exchange, &world, &post("/v1/chat/completions", &extra), &chat("org/m", "")) else {
        panic!()
    };
    assert_eq!(forward.headers.contains(&HeaderEdit::Remove("origin".into())), origin.is_some(), "the provider gets no origin");
    let headers = answer.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let headers = Headers([(b":status".as_slice(), b"200".as_slice())].into_iter().chain(headers).collect());
    let ResponseStep::Edit(edits) = exchange.on_response_headers(&headers, false, || None, &world.env()) else { panic!() };
    let mut after: BTreeMap<String, String> =
        answer.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for edit in edits {
        match edit {
            HeaderEdit::Remove(name) => drop(after.remove(&*name)),
            HeaderEdit::Set(name, value) => drop(after.insert(name.to_owned(), value.into_owned())),
        }
    }
    after
}

#[test]
fn a_providers_answer_has_the_gateways_rules_and_not_its_own() {
    let own = [("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true"), ("vary", "accept-encoding")];
    let with = open_gate_with(CORS);
    let without = open_gate_with("");
    for (gate, origin, allowed, vary) in [
        (&without, None, None, "accept-encoding"),
        (&without, Some(PAGE), None, "accept-encoding"),
        (&with, None, None, "accept-encoding, Origin"),
        (&with, Some("https://evil.test"), None, "accept-encoding, Origin"),
        (&with, Some(PAGE), Some(PAGE), "accept-encoding, Origin"),
    ] {
        let after = edited(gate, origin, &own);
        assert_eq!(after.get("access-control-allow-origin").map(String::as_str), allowed, "{origin:?}");
        assert_eq!(after.contains_key("access-control-expose-headers"), allowed.is_some());
        assert_eq!((after.get("access-control-allow-credentials"), &*after["vary"]), (None, vary));
    }
    assert_eq!(edited(&with, Some(PAGE), &[])["vary"], "Origin");
    assert_eq!(edited(&with, Some(PAGE), &[("vary", "a\r\nx: 1")])["vary"], "Origin");
}

#[test]
fn what_replaces_an_answer_has_the_headers_too() {
    for (status, details) in [("503", "upstream_reset_before_response_started"), ("401", "via_upstream")] {
        let (world, mut exchange) = (World::new(), Exchange::new(open_gate_with(CORS)));
        let headers = post("/v1/chat/completions", &[("origin", PAGE)]);
        assert!(matches!(ask(&mut exchange, &world, &headers, &chat("org/m", "")), Step::Forward(_)));
        let headers = Headers(vec![(b":status", status.as_bytes())]);
        let step = exchange.on_response_headers(&headers, false, || Some(details.as_bytes().to_vec()), &world.env());
        let ResponseStep::Reply(reply) = step else { panic!("{step:?}") };
        assert_eq!(value(&reply, "access-control-allow-origin"), Some(PAGE), "{status}");
    }
    let (world, mut exchange) = (World::new(), Exchange::new(open_gate_with(CORS)));
    exchange.on_request_headers(&post("/v1/chat/completions", &[("origin", PAGE)]), false, &no_identity, &world.env());
    assert_eq!(value(&exchange.on_body_timeout().unwrap(), "access-control-allow-origin"), Some(PAGE));
}
