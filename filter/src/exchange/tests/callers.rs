//! Tests of callers: identification, access to models, and budgets.

use super::*;
use crate::budget::account::Shortfall;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const KEY: &str = "pak_alice";

/// Returns the manifest of a provider with these fields in its spec, in YAML's flow style.
fn provider(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: pai.io/v1, kind: ModelProvider, metadata: {{name: {name}}}, spec: {{provider: vllm, endpoint: 'http://v', {spec}}}}}\n"
    )
}

fn manifest(kind: &str, name: &str, spec: &str) -> String {
    format!("---\n{{apiVersion: pai.io/v1, kind: {kind}, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n")
}

fn access_key(name: &str, key: &str, spec: &str) -> String {
    use sha2::Digest as _;
    let sha256: String = sha2::Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    manifest("AccessKey", name, &format!("sha256: {sha256}, {spec}"))
}

fn agent(name: &str, identity: &str, spec: &str) -> String {
    manifest("Agent", name, &format!("identities: ['{identity}'], {spec}"))
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// Runs a request of a peer until it is admitted or rejected.
fn ask_as(exchange: &mut Exchange, world: &World, identity: Option<&str>, headers: &Headers<'_>, body: &str) -> Step {
    let peer = || identity.map(|identity| identity.as_bytes().to_vec());
    match exchange.on_request_headers(headers, false, &peer, &world.env()) {
        Step::Hold => exchange.on_request_body(body.len(), true, || body.as_bytes().to_vec(), &world.env()),
        step => step,
    }
}

/// Returns status and code of a refusal, or 200 and the caller's subject.
fn outcome(gate: &Rc<Gate>, world: &World, identity: Option<&str>, headers: &Headers<'_>, body: &str) -> (u16, String) {
    let mut exchange = Exchange::new(Rc::clone(gate));
    let step = ask_as(&mut exchange, world, identity, headers, body);
    let entry = exchange.on_log(|| false, &world.env()).unwrap();
    match step {
        Step::Reply(Reply { status: 200, .. }) | Step::Forward(_) => (200, entry.subject),
        step => {
            let (status, code, _) = refused(&step);
            (status, code)
        }
    }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
}

#[test]
fn every_audience_rejects_other_callers() {
    const REFUSED: (u16, &str) = (401, "invalid_api_key");
    const NOT_ALLOWED: (u16, &str) = (403, "caller_not_allowed");
    const ANONYMOUS: (u16, &str) = (200, "anonymous");
    const AGENT: (u16, &str) = (200, "agent/a");
    const ALICE: (u16, &str) = (200, "key/alice");
    let nothing = provider("p", "");
    let block = provider("p", "externalAccess: {enabled: false}");
    let agents = nothing.clone() + &agent("a", "td/a", "models: [p/m]");
    let keys = provider("p", "externalAccess: {enabled: true}") + &access_key("alice", KEY, "");
    let both = keys.clone() + &agent("a", "td/a", "models: [p/m]");
    // For each audience and configuration: no identity, the agent, another identity, a valid key, an unknown key.
    for (audience, manifests, expected) in [
        ("auto", &nothing, [ANONYMOUS, ANONYMOUS, ANONYMOUS, REFUSED, REFUSED]),
        ("auto", &block, [REFUSED, REFUSED, REFUSED, REFUSED, REFUSED]),
        ("auto", &agents, [REFUSED, AGENT, REFUSED, REFUSED, REFUSED]),
        ("auto", &keys, [REFUSED, REFUSED, REFUSED, ALICE, REFUSED]),
        ("auto", &both, [REFUSED, AGENT, REFUSED, ALICE, REFUSED]),
        ("agents", &nothing, [ANONYMOUS, ANONYMOUS, ANONYMOUS, REFUSED, REFUSED]),
        ("agents", &block, [ANONYMOUS, ANONYMOUS, ANONYMOUS, REFUSED, REFUSED]),
        ("agents", &agents, [NOT_ALLOWED, AGENT, NOT_ALLOWED, REFUSED, REFUSED]),
        ("agents", &keys, [ANONYMOUS, ANONYMOUS, ANONYMOUS, REFUSED, REFUSED]),
        ("agents", &both, [NOT_ALLOWED, AGENT, NOT_ALLOWED, REFUSED, REFUSED]),
        ("external", &nothing, [REFUSED, REFUSED, REFUSED, REFUSED, REFUSED]),
        ("external", &agents, [REFUSED, REFUSED, REFUSED, REFUSED, REFUSED]),
        ("external", &both, [REFUSED, REFUSED, REFUSED, ALICE, REFUSED]),
    ] {
        let (world, gate) =
            (World::new(), gate(&format!("{manifests}{}", manifest("Gateway", "g", &format!("audience: {audience}")))));
        let key = bearer(KEY);
        type Case<'a> = (Option<&'a str>, Vec<(&'a str, &'a str)>);
        let cases: [Case<'_>; 5] = [
            (None, vec![("authorization", "Bearer sk-other")]),
            (Some("td/a"), vec![("x-forwarded-client-cert", "URI=td/b"), ("x-agent-id", "td/b")]),
            (Some("td/b"), vec![("x-forwarded-client-cert", "URI=td/a"), ("x-pai-agent", "td/a"), ("x-agent-id", "td/a")]),
            (Some("td/a"), vec![("authorization", &key), ("api-key", KEY)]),
            (Some("td/a"), vec![("x-api-key", "pak_wrong")]),
        ];
        for ((identity, extra), expected) in cases.iter().zip(expected) {
            let headers = post("/v1/chat/completions", extra);
            let outcome = outcome(&gate, &world, *identity, &headers, &chat("p/m", ""));
            assert_eq!((outcome.0, &*outcome.1), expected, "{audience}, {identity:?}, {extra:?}:\n{manifests}");
        }
    }
}

/// The probe comes before every other rule, and counts in no rate.
#[test]
fn the_health_of_the_gate_is_known_to_everybody() {
    let manifests = provider("p", "externalAccess: {enabled: true}") + &access_key("alice", KEY, "requestsPerMinute: 1");
    for audience in ["auto", "agents", "external"] {
        let gate = gate(&(manifests.clone() + &manifest("Gateway", "g", &format!("audience: {audience}"))));
        let world = World::new();
        let key = bearer(KEY);
        for method in ["GET", "HEAD"] {
            for extra in
                [vec![], vec![("authorization", &*key)], vec![("x-api-key", "pak_wrong")], vec![("content-encoding", "gzip")]]
            {
                let headers = post("/health", &[vec![(":method", method)], extra].concat());
                let mut exchange = Exchange::new(Rc::clone(&gate));
                let step = ask(&mut exchange, &world, &headers, "");
                assert_eq!(step, Step::Reply(Reply::empty(200)), "{audience} {headers:?}");
                let entry = exchange.on_log(|| false, &world.env()).unwrap();
                assert_eq!((&*entry.provider, &*entry.subject, entry.decision), ("", "none", "answered"));
            }
        }
        let (status, _) = outcome(&gate, &world, None, &post("/health", &[]), "");
        assert_eq!(status, if audience == "agents" { 404 } else { 401 }, "{audience}: POST");
    }
}

/// The control listener serves what operators read to every caller, and nothing else.
#[test]
fn callers_at_a_control_listener_are_operators() {
    let manifests = provider("p", "externalAccess: {enabled: true}")
        + &access_key("alice", KEY, "requestsPerMinute: 1")
        + &agent("a", "td/a", "models: [p/m]");
    let key = bearer(KEY);
    for audience in ["auto", "agents", "external"] {
        let gate = gate(&(manifests.clone() + &manifest("Gateway", "g", &format!("audience: {audience}"))));
        let world = World::new();
        for extra in [vec![], vec![("authorization", &*key)], vec![("x-api-key", "pak_wrong")]] {
            for (method, path, expected) in [
                ("GET", "/pai/v1/status", None),
                ("GET", "/pai/v1/agents", None),
                ("GET", "/pai/v1/access-keys?limit=1", None),
                ("GET", "/pai/v1/model-providers", None),
                ("GET", "/health", None),
                ("HEAD", "/health", None),
                ("GET", "/pai/v1/access-keys?limit=0", Some((400, "invalid_body"))),
                ("POST", "/pai/v1/status", Some((404, "unknown_url"))),
                ("GET", "/pai/v1/other", Some((404, "unknown_url"))),
                ("POST", "/v1/chat/completions", Some((404, "unknown_url"))),
                ("GET", "/v1/models", Some((404, "unknown_url"))),
                ("GET", "/v1/models/p%2Fm", Some((404, "unknown_url"))),
            ] {
                let mut exchange = Exchange::new(Rc::clone(&gate));
                exchange.enter_control_listener();
                let headers = post(path, &[vec![(":method", method)], extra.clone()].concat());
                let step = ask_as(&mut exchange, &world, Some("td/a"), &headers, &chat("p/m", ""));
                match expected {
                    None => assert!(matches!(&step, Step::Reply(Reply { status: 200, .. })), "{method} {path}: {step:?}"),
                    Some((status, code)) => assert_eq!(refused(&step), (status, code.into(), refused(&step).2), "{method} {path}"),
                }
                let subject = if path == "/health" { "none" } else { "operator" };
                assert_eq!(exchange.on_log(|| false, &world.env()).unwrap().subject, subject, "{method} {path}");
            }
        }
    }
}

/// For the list only: a bare id of a model that just the server lists is resolved as before.
#[test]
fn models_that_a_server_lists_itself_are_listed_where_patterns_allow_them() {
    let key = bearer(KEY);
    let manifests = provider("exact", "allowedModels: [m], externalAccess: {enabled: true}")
        + &provider("pattern", "allowedModels: [org/a, 'org/*'], deniedModels: [org/bad], externalAccess: {enabled: true}")
        + &provider("open", "deniedModels: [org/b]")
        + &provider("silent", "")
        + &agent("a", "td/a", "models: [pattern/org/a, open/x]")
        + &access_key("alice", KEY, "models: ['pattern/org/b*', exact/m]")
        + &manifest("Gateway", "g", "callouts: {exact: e, pattern: p, open: o}");
    let open =
        manifests.split("---\n{apiVersion: pai.io/v1, kind: Agent").next().unwrap().replace("externalAccess: {enabled: true}", "")
            + &manifest("Gateway", "g", "callouts: {exact: e, pattern: p, open: o}");
    for (text, identity, headers, expected) in [
        (&open, None, vec![], vec!["exact/m", "pattern/org/a", "pattern/org/b", "open/org/a", "open/org/bad"]),
        (&manifests, Some("td/a"), vec![], vec!["pattern/org/a", "open/x"]),
        (&manifests, None, vec![("authorization", &*key)], vec!["exact/m", "pattern/org/b"]),
    ] {
        let (world, gate) = (World::new(), gate(text));
        let ids = ["org/a", "org/b", "org/bad", "other"].map(str::to_owned);
        for (index, listed) in [&ids[..], &ids[..], &ids[..3], &ids[..]].into_iter().enumerate() {
            gate.providers[index].model_limits.borrow().record_listed(&world.store, listed);
        }
        gate.providers[1].model_limits.borrow_mut().update(&world.store, |limits| limits.record_context_length("org/b", 4096));
        let mut exchange = Exchange::new(Rc::clone(&gate));
        let list = post("/v1/models", &[&[(":method", "GET")], &*headers].concat());
        let Step::Reply(reply) = ask_as(&mut exchange, &world, identity, &list, "") else { panic!() };
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        let data = body["data"].as_array().unwrap();
        assert_eq!(data.iter().map(|model| model["id"].as_str().unwrap()).collect::<Vec<_>>(), expected);
        for model in data {
            let length = model.get("max_model_len").and_then(serde_json::Value::as_u64);
            assert_eq!(length, (model["id"] == "pattern/org/b").then_some(4096), "{model}");
        }
        if identity.is_none() && headers.is_empty() {
            let bare = outcome(&gate, &world, None, &post("/v1/chat/completions", &[]), &chat("org/bad", ""));
            assert_eq!(bare.0, 404, "a list that a server sends decides nothing");
        }
    }
}

#[test]
fn a_gateway_without_a_provider_has_no_models() {
    let world = World::new();
    let key = bearer(KEY);
    for (manifests, headers) in [
        (manifest("Gateway", "g", ""), vec![]),
        (manifest("Gateway", "g", "audience: agents"), vec![]),
        (manifest("Gateway", "g", "audience: external") + &access_key("alice", KEY, ""), vec![("authorization", &*key)]),
    ] {
        let gate = gate(&manifests);
        for model in ["m", "org/m", "vllm-local/m"] {
            let mut exchange = Exchange::new(Rc::clone(&gate));
            let step = ask(&mut exchange, &world, &post("/v1/chat/completions", &headers), &chat(model, ""));
            assert_eq!(refused(&step), (404, "model_not_found".to_owned(), Some("model".to_owned())));
            let Step::Reply(reply) = step else { panic!() };
            assert!(String::from_utf8_lossy(&reply.body).contains("`pai apply -f FILE`"), "{reply:?}");
        }
        let mut exchange = Exchange::new(gate);
        let list = post("/v1/models", &[&[(":method", "GET")], &*headers].concat());
        let Step::Reply(reply) = ask(&mut exchange, &world, &list, "") else { panic!() };
        assert_eq!(reply.body, br#"{"object":"list","data":[]}"#);
    }
}

#[test]
fn the_error_reports_why_a_known_key_is_rejected() {
    let world = World::new();
    let gate = gate(
        &(provider("p", "externalAccess: {enabled: true}")
            + &access_key("old", "pak_old", "expires: '1970-01-01T12:00:00Z'")
            + &access_key("young", "pak_young", "expires: '1970-01-01T12:00:01Z'")
            + &access_key("off", "pak_off", "disabled: true")),
    );
    for (headers, expected) in [
        (vec![("authorization", "Bearer pak_young")], None),
        (vec![("authorization", "Bearer pak_young"), ("x-api-key", "pak_young"), ("api-key", "sk-other")], None),
        (vec![("authorization", "Bearer pak_old")], Some("has expired (1970-01-01T12:00:00Z)")),
        (vec![("authorization", "Bearer pak_off")], Some("is disabled")),
        (vec![("authorization", "Bearer pak_young"), ("x-api-key", "pak_off")], Some("two different access keys")),
        (vec![("authorization", "Bearer pak_young,Bearer pak_off")], Some("two different access keys")),
        (vec![("authorization", "Bearer pak_")], Some("not known here")),
        (vec![("authorization", "Basic pak_young")], Some("An access key is needed")),
    ] {
        let mut exchange = Exchange::new(Rc::clone(&gate));
        let step = ask(&mut exchange, &world, &post("/v1/chat/completions", &headers), &chat("m", ""));
        match (&step, expected) {
            (Step::Forward(_), None) => {}
            (Step::Reply(reply), Some(expected)) => {
                let text = String::from_utf8_lossy(&reply.body);
                assert!(reply.status == 401 && text.contains(expected), "{headers:?}: {text}");
            }
            _ => panic!("{headers:?}: {step:?}"),
        }
    }
}

#[test]
fn the_identity_header_takes_precedence_over_the_certificate() {
    let world = World::new();
    let gate = gate(
        &(provider("p", "")
            + &agent("a", "id-a", "models: [p/m]")
            + &agent("team", "td/*", "models: [p/m]")
            + &manifest("Gateway", "g", "identityHeader: X-Agent-Id, audience: agents")),
    );
    for (identity, headers, expected) in [
        (None, vec![("x-agent-id", " id-a ")], (200, "agent/a")),
        (Some("td/x"), vec![("x-agent-id", "id-a")], (200, "agent/a")),
        (Some("td/x"), vec![], (200, "agent/team")),
        (Some("td/x"), vec![("x-agent-id", "")], (403, "caller_not_allowed")),
        (Some("td/x"), vec![("x-agent-id", "unknown")], (403, "caller_not_allowed")),
        (None, vec![("x-agent-id", "id-a"), ("x-agent-id", "id-a")], (200, "agent/a")),
        (None, vec![("x-agent-id", "id-a"), ("x-agent-id", "td/x")], (403, "caller_not_allowed")),
        (None, vec![("x-agent-id", "td/x, id-a")], (403, "caller_not_allowed")),
        (None, vec![("x-agent-id", "id-a,id-a")], (200, "agent/a")),
    ] {
        let headers = post("/v1/chat/completions", &headers);
        let outcome = outcome(&gate, &world, identity, &headers, &chat("p/m", ""));
        assert_eq!((outcome.0, &*outcome.1), expected, "{identity:?} {headers:?}");
    }
    let mut exchange = Exchange::new(Rc::clone(&gate));
    let step = ask(&mut exchange, &world, &post("/v1/chat/completions", &[("x-agent-id", "id-a")]), &chat("p/m", ""));
    let Step::Forward(forward) = step else { panic!("{step:?}") };
    assert!(forward.headers.contains(&HeaderEdit::Remove("x-agent-id".into())), "the provider must not receive it");
}

#[test]
fn operators_may_read_the_state_and_developers_may_not() {
    let world = World::new();
    let manifests = provider("p", "externalAccess: {enabled: true}")
        + &agent("a", "td/a", "models: [p/m]")
        + &access_key("alice", KEY, "")
        + &access_key("ops", "pak_ops", "");
    let operators = "operators: {identities: ['td/ops/*'], keys: [ops]}";
    let state = |extra: &[(&'static str, &'static str)]| {
        let mut headers = vec![(":method", "GET"), (":path", "/pai/v1/model-providers")];
        headers.extend(extra);
        Headers(headers.into_iter().map(|(name, value): (&str, &str)| (name.as_bytes(), value.as_bytes())).collect())
    };
    for audience in ["auto", "agents"] {
        let gate = gate(&format!("{manifests}{}", manifest("Gateway", "g", &format!("audience: {audience}, {operators}"))));
        let chat_as_operator = post("/v1/chat/completions", &[]);
        let elsewhere = if audience == "auto" { (401, "invalid_api_key") } else { (403, "caller_not_allowed") };
        let key = if audience == "auto" { (200, "key/ops") } else { (401, "invalid_api_key") };
        let developer = if audience == "auto" { (403, "caller_not_allowed") } else { (401, "invalid_api_key") };
        for (identity, headers, expected) in [
            (Some("td/a"), state(&[]), (200, "agent/a")),
            (Some("td/ops/x"), state(&[]), (200, "operator")),
            (Some("td/other"), state(&[]), elsewhere),
            (Some("td/ops/x"), chat_as_operator, elsewhere),
            (None, state(&[("x-api-key", "pak_ops")]), key),
            (None, state(&[("x-api-key", KEY)]), developer),
        ] {
            let outcome = outcome(&gate, &world, identity, &headers, &chat("p/m", ""));
            assert_eq!((outcome.0, &*outcome.1), expected, "{audience} {identity:?} {headers:?}");
        }
    }
}

#[test]
fn callers_list_the_models_that_they_may_use() {
    let world = World::new();
    let gate = gate(
        &(provider("local", "allowedModels: [org/a, org/b, 'fam/*'], deniedModels: [fam/bad], externalAccess: {enabled: true}")
            + &provider("open", "externalAccess: {enabled: true}")
            + &provider("closed", "allowedModels: [org/a]")
            + &agent("a", "td/a", "models: [closed/org/a, open/x, local/fam/bad, local/fam/good]")
            + &access_key("all", "pak_all", "")
            + &access_key("some", "pak_some", "models: ['local/org/*', open/y, local/fam/good]")
            + &access_key("none", "pak_none", "models: []")),
    );
    let get = |path: &str, who: &str| {
        let headers = vec![(":method", "GET"), (":path", path), ("x-api-key", who)];
        let headers = Headers(headers.into_iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect());
        let mut exchange = Exchange::new(Rc::clone(&gate));
        let Step::Reply(reply) = ask_as(&mut exchange, &world, Some("td/a"), &headers, "") else { panic!() };
        (reply.status, serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap())
    };
    for (who, expected) in [
        ("", vec!["closed/org/a", "open/x", "local/fam/good"]),
        ("pak_all", vec!["local/org/a", "local/org/b"]),
        ("pak_some", vec!["local/org/a", "local/org/b", "open/y", "local/fam/good"]),
        ("pak_none", vec![]),
    ] {
        let (_, list) = get("/v1/models", who);
        let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{who}");
    }
    // The requested model, the caller's key, and the expected reference or status.
    for (name, who, expected) in [
        ("org/a", "", Ok("closed/org/a")),
        ("x", "", Ok("open/x")),
        ("y", "", Err(404)),
        ("local/org/a", "", Err(403)),
        ("local/fam/bad", "", Err(403)),
        ("fam/bad", "", Err(404)),
        ("without_provider/x", "", Err(404)),
        ("org/a", "pak_all", Ok("local/org/a")),
        ("closed/org/a", "pak_all", Err(403)),
        ("fam/good", "pak_all", Ok("local/fam/good")),
        ("fam/bad", "pak_all", Err(404)),
        ("slash/less", "pak_all", Err(404)),
        ("z", "pak_all", Ok("open/z")),
        ("open/slash/less", "pak_all", Ok("open/slash/less")),
        ("y", "pak_some", Ok("open/y")),
        ("z", "pak_some", Err(404)),
        ("open/z", "pak_some", Err(403)),
        ("fam/other", "pak_some", Err(404)),
        ("local/org/b", "pak_none", Err(403)),
    ] {
        let (status, found) = get(&format!("/v1/models/{}", name.replace('/', "%2F")), who);
        match expected {
            Ok(reference) => assert_eq!((status, found["id"].as_str()), (200, Some(reference)), "{name} {who}"),
            Err(_) => assert_eq!(status, 404, "{name} {who}: {found}"),
        }
        let headers = post("/v1/chat/completions", &[("x-api-key", who)]);
        let (status, code) = outcome(&gate, &world, Some("td/a"), &headers, &chat(name, ""));
        assert_eq!(status, expected.err().unwrap_or(200), "{name} {who}: {code}");
    }
}

#[test]
fn requests_per_minute_count_every_request() {
    let world = World::new();
    let gate = gate(&(provider("p", "externalAccess: {enabled: true}") + &access_key("alice", KEY, "requestsPerMinute: 3")));
    let get = |path: &'static str| {
        let headers = Headers(vec![(b":method", b"GET"), (b":path", path.as_bytes()), (b"x-api-key", KEY.as_bytes())]);
        let Step::Reply(reply) = ask(&mut Exchange::new(Rc::clone(&gate)), &world, &headers, "") else { panic!() };
        reply
    };
    let reply = get("/v1/models");
    assert_eq!((reply.status, header(&reply, "x-ratelimit-remaining-requests")), (200, Some("2")));
    assert_eq!(get("/without_provider").status, 404);
    let headers = post("/v1/chat/completions", &[("x-api-key", KEY)]);
    let mut third = Exchange::new(Rc::clone(&gate));
    assert!(matches!(ask(&mut third, &world, &headers, &chat("m", "")), Step::Forward(_)));
    assert_eq!(get("/without_provider").status, 404, "an unknown URL is reported first");
    let reply = get("/v1/models");
    assert_eq!(refused(&Step::Reply(reply.clone())), (429, "rate_limit_exceeded".to_owned(), None));
    assert!(String::from_utf8_lossy(&reply.body).contains("\"type\":\"requests\""));
    let names = ["retry-after", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
    assert_eq!(names.map(|name| header(&reply, name).unwrap()), ["20", "3", "0", "1m0s"]);
    assert_eq!(header(&reply, "x-should-retry"), None);
    world.now.set(Time(world.now.get().0 + 19_999_999_999));
    assert_eq!(get("/v1/models").status, 429);
    world.now.set(Time(world.now.get().0 + 1));
    assert_eq!((get("/v1/models").status, get("/v1/models").status), (200, 429));
    let ResponseStep::Edit(edits) = answer(&mut third, &world, "200", "application/json", "{}") else { panic!() };
    assert_eq!(set(&edits, "x-ratelimit-limit-requests"), Some("3"));
    assert_eq!(set(&edits, "x-ratelimit-limit-tokens"), None, "the key has no token budget");
}

#[test]
fn the_error_names_the_budget() {
    let full = "maxTokensPerDay: 100000, externalAccess: {enabled: true, maxTokensPerDay: 100000}";
    let own = "maxTokensPerDay: 100000, tokensPerMinute: 100000";
    // The specs of the provider and of the key; the error for a request of 900 tokens after one that used 1000.
    for (spec, key, code, named) in [
        (
            "maxTokensPerDay: 1500, externalAccess: {enabled: true}",
            own,
            "insufficient_quota",
            "daily token budget of model provider `p`",
        ),
        (
            "maxTokensPerDay: 100000, externalAccess: {enabled: true, maxTokensPerDay: 1500}",
            own,
            "insufficient_quota",
            "daily token budget for external use of model provider `p`",
        ),
        (full, "maxTokensPerDay: 1500", "insufficient_quota", "daily token budget of access key `alice`"),
        (full, "maxTokensPerDay: 100000, tokensPerMinute: 1500", "rate_limit_exceeded", "tokens per minute of access key `alice`"),
        (full, "maxTokensPerDay: 1500, tokensPerMinute: 1500", "insufficient_quota", "daily token budget of access key `alice`"),
    ] {
        let world = World::new();
        let gate = gate(&(provider("p", spec) + &access_key("alice", KEY, key)));
        let headers = post("/v1/chat/completions", &[("x-api-key", KEY)]);
        let mut first = Exchange::new(Rc::clone(&gate));
        let step = ask(&mut first, &world, &headers, &chat("m", ",\"max_tokens\":900"));
        assert!(matches!(step, Step::Forward(_)), "{step:?}");
        let step = ask(&mut Exchange::new(Rc::clone(&gate)), &world, &headers, &chat("m", ",\"max_tokens\":900"));
        let Step::Reply(reply) = step else { panic!("{step:?}") };
        let text = String::from_utf8_lossy(&reply.body);
        assert!(text.contains("in flight") && text.contains("rate_limit_exceeded"), "{text}");
        assert_eq!(header(&reply, "retry-after"), Some("1"));
        let usage = r#"{"usage":{"prompt_tokens":100,"completion_tokens":900}}"#;
        answer(&mut first, &world, "200", "application/json", usage);
        first.on_log(|| true, &world.env());
        let step = ask(&mut Exchange::new(Rc::clone(&gate)), &world, &headers, &chat("m", ",\"max_tokens\":900"));
        let Step::Reply(reply) = step else { panic!("{step:?}") };
        let text = String::from_utf8_lossy(&reply.body);
        assert!(reply.status == 429 && text.contains(code) && text.contains(named), "{named}: {text}");
        assert!(!text.contains("1000"), "the error must not contain the tokens used: {text}");
        let wait = header(&reply, "retry-after");
        assert_eq!(wait.is_some(), code == "rate_limit_exceeded", "hours put clients to sleep");
        if let Some(wait) = wait {
            let wait: u64 = wait.parse().unwrap();
            world.now.set(Time(world.now.get().0 + (wait - 1) * 1_000_000_000));
            assert_eq!(outcome(&gate, &world, None, &headers, &chat("m", ",\"max_tokens\":900")).0, 429);
            world.now.set(Time(world.now.get().0 + 1_000_000_000));
            assert_eq!(outcome(&gate, &world, None, &headers, &chat("m", ",\"max_tokens\":900")).0, 200);
        }
    }
}

#[test]
fn a_request_above_the_cap_of_a_budget_is_a_bad_request() {
    let full = "maxTokensPerDay: 100000, externalAccess: {enabled: true, maxTokensPerDay: 100000}";
    for (spec, key, named) in [
        ("maxTokensPerDay: 500, externalAccess: {enabled: true}", "", "model provider `p` is 500"),
        ("externalAccess: {enabled: true, maxTokensPerDay: 500}", "", "for external use of model provider `p` is 500"),
        ("maxTokensPerRequest: 500, externalAccess: {enabled: true}", "", "model provider `p` accepts at most 500 per request"),
        (full, "maxTokensPerDay: 500", "the daily token budget of access key `alice` is 500"),
        (full, "tokensPerMinute: 500", "the tokens per minute of access key `alice` is 500"),
    ] {
        let world = World::new();
        let gate = gate(&(provider("p", spec) + &access_key("alice", KEY, key)));
        let headers = post("/v1/chat/completions", &[("x-api-key", KEY)]);
        let step = ask(&mut Exchange::new(Rc::clone(&gate)), &world, &headers, &chat("m", ",\"n\":2,\"max_tokens\":900"));
        assert_eq!(refused(&step).1, "context_length_exceeded");
        let Step::Reply(reply) = step else { panic!() };
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(text.contains(named), "{named}: {text}");
    }
}

#[test]
fn every_response_reports_the_callers_own_budget() {
    let shared = "maxTokensPerDay: 5000, externalAccess: {enabled: true, maxTokensPerDay: 4000}";
    let base = provider("p", shared)
        + &agent("capped", "td/capped", "models: [p/m], maxTokensPerDay: 3000")
        + &agent("free", "td/free", "models: [p/m]")
        + &access_key("day", "pak_day", "maxTokensPerDay: 2000")
        + &access_key("both", "pak_both", "maxTokensPerDay: 9000, tokensPerMinute: 1500")
        + &access_key("none", "pak_none", "");
    for (identity, key, limit) in [
        ("td/capped", "", Some("3000")),
        ("td/free", "", Some("5000")),
        ("", "pak_day", Some("2000")),
        ("", "pak_both", Some("1500")),
        ("", "pak_none", None),
    ] {
        let (world, gate) = (World::new(), gate(&base));
        let headers = post("/v1/chat/completions", &[("x-api-key", key)]);
        let mut exchange = Exchange::new(Rc::clone(&gate));
        let step = ask_as(&mut exchange, &world, Some(identity), &headers, &chat("p/m", ",\"max_tokens\":900"));
        assert!(matches!(step, Step::Forward(_)), "{identity}{key}: {step:?}");
        let ResponseStep::Edit(edits) = answer(&mut exchange, &world, "200", "application/json", "{}") else { panic!() };
        assert_eq!(set(&edits, "x-ratelimit-limit-tokens"), limit, "{identity}{key}");
        assert_eq!(set(&edits, "x-ratelimit-remaining-tokens").is_some(), limit.is_some());
    }
}

#[test]
fn agents_and_keys_are_counted_by_name() {
    let (world, gate) = (
        World::new(),
        gate(&(provider("p", "externalAccess: {enabled: true}") + &access_key("alice", KEY, "maxTokensPerDay: 5000"))),
    );
    let headers = post("/v1/chat/completions", &[("x-api-key", KEY)]);
    let mut exchange = Exchange::new(Rc::clone(&gate));
    ask(&mut exchange, &world, &headers, &chat("m", ",\"max_tokens\":90"));
    answer(&mut exchange, &world, "200", "application/json", r#"{"usage":{"prompt_tokens":9,"completion_tokens":5}}"#);
    assert_eq!(exchange.on_log(|| true, &world.env()).unwrap().subject, "key/alice");
    outcome(&gate, &world, None, &headers, "{");
    gate.show_budgets(&world.env());
    let count = |name: &str| world.counts().get(&format!("pai.subject=.=key/alice;.;{name}")).copied();
    assert_eq!(count("decision=.=allowed;.;subject_requests_total"), Some(1));
    assert_eq!(count("decision=.=invalid_body;.;subject_requests_total"), Some(1));
    assert_eq!(
        (
            count("provider=.=p;.;model=.=*;.;subject_prompt_tokens_total"),
            count("provider=.=p;.;model=.=*;.;subject_completion_tokens_total")
        ),
        (Some(9), Some(5))
    );
    assert_eq!((count("subject_budget_limit_tokens"), count("subject_budget_used_tokens")), (Some(5000), Some(14)));
}

/// Random requests of two keys and an agent, in any interleaving: no budget is exceeded, and at the end nothing is reserved and the
/// budgets contain what was charged.
#[test]
fn every_invariant_holds_for_all_budgets_at_once() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: u64| {
        // xorshift64: the same numbers in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let manifests = provider("p", "maxTokensPerDay: 6000, externalAccess: {enabled: true, maxTokensPerDay: 4000}")
        + &agent("a", "td/a", "models: [p/m], maxTokensPerDay: 3000")
        + &access_key("one", "pak_one", "maxTokensPerDay: 2500, tokensPerMinute: 1200, requestsPerMinute: 600")
        + &access_key("two", "pak_two", "maxTokensPerDay: 2500");
    let mut refusals = [0; 2];
    for _ in 0..20 {
        let (world, gate) = (World::new(), gate(&manifests));
        let mut live: Vec<(Exchange, u64)> = Vec::new();
        for _ in 0..400 {
            world.now.set(Time(world.now.get().0 + below(2_000_000_000)));
            let dice = below(9);
            if dice % 3 > 0 {
                let (identity, key) = [(Some("td/a"), ""), (None, "pak_one"), (None, "pak_two")][(dice / 3 % 3) as usize];
                let limit = 10 + below(400);
                let headers = post("/v1/chat/completions", &[("x-api-key", key)]);
                let mut exchange = Exchange::new(Rc::clone(&gate));
                match ask_as(&mut exchange, &world, identity, &headers, &chat("p/m", &format!(",\"max_tokens\":{limit}"))) {
                    Step::Forward(_) => live.push((exchange, limit)),
                    step => {
                        refusals[usize::from(refused(&step).1 == "insufficient_quota")] += 1;
                        exchange.on_log(|| false, &world.env());
                    }
                }
            } else if !live.is_empty() {
                let (mut exchange, limit) = live.swap_remove(below(live.len() as u64) as usize);
                finish(&mut exchange, &world, limit * below(101) / 100);
            }
            for caller in [Caller::Agent(0), Caller::Developer(0), Caller::Developer(1)] {
                for of_subject in gate.budgets.required(caller, 0) {
                    let account = world.env().ledger().read(of_subject.subject).unwrap();
                    for (index, cap) in of_subject.capped() {
                        let record = account.record(index).unwrap();
                        assert!(record.used + record.reserved() <= cap, "{caller:?} {index}: {record:?}");
                    }
                }
            }
        }
        for (mut exchange, limit) in live {
            finish(&mut exchange, &world, limit);
        }
        let account = |subject: &crate::budget::subject::Subject| world.env().ledger().read(subject).unwrap();
        let own = |caller| account(gate.budgets.required(caller, 0)[0].subject).record(0).cloned().unwrap();
        let callers = [Caller::Agent(0), Caller::Developer(0), Caller::Developer(1)].map(own);
        let provider = account(gate.budgets.provider(0).unwrap());
        let [agent, one, two] = callers.each_ref().map(|record| record.used);
        assert_eq!(provider.record(0).unwrap().used, agent + one + two);
        assert_eq!(provider.record(1).unwrap().used, one + two, "external tokens only");
        assert!(callers.iter().chain([0, 1].map(|index| provider.record(index).unwrap())).all(|record| record.reserved() == 0));
    }
    assert!(refusals.iter().all(|count| *count > 100), "{refusals:?}: the budgets rejected too few requests");
}

fn finish(exchange: &mut Exchange, world: &World, completion: u64) {
    let usage = format!("{{\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{completion}}}}}");
    answer(exchange, world, "200", "application/json", &usage);
    exchange.on_log(|| true, &world.env());
}

#[test]
fn a_ledger_that_cannot_be_read_admits_no_request_with_a_rate() {
    let (world, gate) = (
        World::new(),
        gate(&(provider("p", "externalAccess: {enabled: true}") + &access_key("alice", KEY, "requestsPerMinute: 3"))),
    );
    assert!(crate::store::Store::set(&world.store, "pai/1/account/key/alice", b"invalid", 0));
    let headers = post("/v1/chat/completions", &[("x-api-key", KEY)]);
    assert_eq!(outcome(&gate, &world, None, &headers, &chat("m", "")), (503, "ledger_unavailable".to_owned()));
    let order = [Shortfall::Reserved, Shortfall::Drains(5), Shortfall::Drains(6), Shortfall::Exhausted];
    assert!(order.is_sorted(), "from the least serious to the most");
}
