//! What operators read under `/pai/v1/`, and what they are warned of, in a real Envoy with two workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Gate, Key, MODEL, Upstream, gateway, named_provider, provider, responses, until};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn hello() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 })
}

async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// Access keys `k00` to `k24` without caps, `ops`, which is an operator's, and two agents.
fn manifests() -> String {
    let keys: String = (0..25).map(|number| Key::new(&format!("k{number:02}")).manifest("disabled: false")).collect();
    let agent = |name: &str, cap: &str| {
        format!(
            "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: {name} }}\nspec:\n  identities: [td/{name}]\n  models: [vllm-local/{MODEL}]\n{cap}"
        )
    };
    provider(&format!("maxTokensPerDay: 1000\nallowedModels: [{MODEL}]\nexternalAccess: {{ enabled: true }}"))
        + &keys
        + &Key::new("ops").manifest("maxTokensPerDay: 500\nexpires: 2099-01-01T00:00:00Z")
        + &agent("one", "  maxTokensPerDay: 300\n")
        + &agent("two", "")
        + &gateway("identityHeader: x-agent-id\noperators: { keys: [ops], identities: [td/two] }")
}

#[tokio::test]
async fn operators_see_who_spends() {
    let upstream = upstream().await;
    let gate = Gate::start(manifests(), &upstream).await;
    let ops = Key::new("ops");
    gate.chat(&hello()).key(&ops).send().await.ok();
    gate.chat(&hello()).header("x-agent-id", "td/one").send().await.ok();
    let read = async |path: &str| gate.get(path).key(&ops).send().await.ok().json();

    let agents = until("the agent is charged", async || {
        let agents = read("/pai/v1/agents").await;
        (agents["items"][0]["usedToday"] == 8 && agents["items"][0]["reserved"] == 0).then_some(agents)
    })
    .await;
    assert_eq!(names(&agents), ["one", "two"]);
    let one = &agents["items"][0];
    assert_eq!((&one["maxTokensPerDay"], &one["remaining"]), (&json!(300), &json!(292)), "{one}");
    assert_eq!(one["models"], json!([format!("vllm-local/{MODEL}")]));
    assert!(one["lastUsed"].is_string() && one["resetsAt"].as_str().unwrap().ends_with("T00:00:00Z"), "{one}");
    let two = &agents["items"][1];
    assert_eq!((&two["remaining"], &two["lastUsed"], &two["usedToday"]), (&Value::Null, &Value::Null, &Value::Null), "{two}");

    let first = read("/pai/v1/access-keys?limit=20").await;
    assert_eq!((names(&first).len(), &first["next"]), (20, &json!("k19")));
    let last = read("/pai/v1/access-keys?limit=20&after=k19").await;
    assert_eq!((names(&last), &last["next"]), (vec!["k20", "k21", "k22", "k23", "k24", "ops"], &Value::Null));
    let key = &last["items"][5];
    assert_eq!((&key["usedToday"], &key["remaining"], &key["expires"]), (&json!(8), &json!(492), &json!("2099-01-01T00:00:00Z")));
    assert!(!last.to_string().contains(&ops.sha256()) && !last.to_string().contains("pak_"), "{last}");
    gate.get("/pai/v1/access-keys?limit=0").key(&ops).send().await.invalid_body(Some("limit"));

    let provider = &read("/pai/v1/model-providers").await["items"][0];
    assert_eq!((&provider["usedToday"], &provider["remaining"]), (&json!(16), &json!(984)), "{provider}");
    assert_eq!((&provider["contextLengths"], &provider["cooldowns"]), (&json!({}), &json!([])), "{provider}");
}

#[tokio::test]
async fn only_operators_see_it() {
    let upstream = upstream().await;
    let gate = Gate::start(manifests(), &upstream).await;
    for path in ["/pai/v1/agents", "/pai/v1/access-keys", "/pai/v1/status"] {
        let refused = |reply: e2e::harness::Reply| reply.refused(403, "invalid_request_error", "caller_not_allowed").message();
        assert!(refused(gate.get(path).key(&Key::new("k00")).send().await).contains("operators.keys"));
        assert!(refused(gate.get(path).header("x-agent-id", "td/one").send().await).contains("operators.identities"));
        gate.get(path).send().await.refused(401, "invalid_request_error", "invalid_api_key");
        // An agent that is an operator too.
        gate.get(path).header("x-agent-id", "td/two").send().await.ok();
        gate.request("POST", path).key(&Key::new("ops")).send().await.refused(404, "invalid_request_error", "unknown_url");
    }
    gate.get("/pai/v1/model-providers").header("x-agent-id", "td/one").send().await.ok();

    gate.reconfigure(provider("")).await.unwrap();
    gate.get("/pai/v1/model-providers").send().await.ok();
    gate.get("/pai/v1/status").send().await.refused(403, "invalid_request_error", "caller_not_allowed");
}

/// The same filter at two listeners, which share a root.
#[tokio::test]
async fn callers_of_the_control_listener_are_operators() {
    let upstream = upstream().await;
    let gate = Gate::builder().manifests(manifests()).upstream("vllm-local", &upstream).control_listener().start().await;
    let socket = std::fs::metadata(gate.control_socket()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&socket.permissions()) & 0o777, 0o600);
    let check = async || {
        for path in ["/pai/v1/status", "/pai/v1/agents", "/pai/v1/access-keys", "/pai/v1/model-providers", "/health"] {
            gate.control("GET", path).send().await.ok();
            gate.control("GET", path).key(&Key::new("k00")).http2().send().await.ok();
            let claimed = gate.get(path).header("x-pai-control", "true").header("host", "localhost").send().await;
            assert_eq!(claimed.status, if path == "/health" { 200 } else { 401 }, "{path}: {}", claimed.describe());
        }
        assert_eq!(gate.control("HEAD", "/health").send().await.ok().text(), "");
        for request in [
            gate.control("POST", "/v1/chat/completions").json(&hello()),
            gate.control("POST", "/v1/chat/completions").json(&hello()).key(&Key::new("ops")),
            gate.control("GET", "/v1/models").header("x-agent-id", "td/one"),
            gate.control("POST", "/pai/v1/status"),
            gate.control("GET", "/"),
        ] {
            request.send().await.refused(404, "invalid_request_error", "unknown_url");
        }
        // The other listener serves as before.
        gate.chat(&hello()).key(&Key::new("ops")).send().await.ok();
    };
    check().await;
    gate.reconfigure(manifests() + &Key::new("more").manifest("disabled: true")).await.unwrap();
    check().await;
    assert_eq!(upstream.requests().len(), 2);
    let line = gate.access_log(|line| line["path"] == "/pai/v1/status" && line["status"] == 200).await;
    assert_eq!(line["subject"], "operator", "{line}");
}

#[tokio::test]
async fn the_health_of_the_gate_needs_no_key_and_no_provider() {
    let gate = Gate::builder().manifests(manifests()).address("vllm-local", Upstream::unreachable_address().await).start().await;
    for request in
        [gate.get("/health"), gate.request("HEAD", "/health"), gate.get("/health").http2(), gate.request("HEAD", "/health").http2()]
    {
        let reply = request.send().await;
        assert_eq!((reply.ok().text().as_str(), reply.header("x-pai-provider")), ("", None), "{}", reply.describe());
    }
    gate.post("/health").send().await.refused(401, "invalid_request_error", "invalid_api_key");
    let line = gate.access_log(|line| line["path"] == "/health" && line["method"] == "HEAD").await;
    assert_eq!((&line["decision"], &line["provider"]), (&json!("answered"), &Value::Null), "{line}");
}

#[tokio::test]
async fn the_status_names_versions_and_workers() {
    let upstream = upstream().await;
    let gate = Gate::start(manifests(), &upstream).await;
    let status = async || gate.get("/pai/v1/status").key(&Key::new("ops")).send().await.ok().json();
    let serving = async |manifests: &str| {
        let version: String = Sha256::digest(manifests).iter().map(|byte| format!("{byte:02x}")).collect();
        until("every worker serves the configuration", async || {
            let status = status().await;
            let workers = status["workers"].as_array().unwrap().clone();
            let all = workers.len() >= 2 && workers.iter().all(|worker| worker["version"] == version.as_str());
            (all && status["version"] == version.as_str()).then_some(status)
        })
        .await
    };
    let before = serving(&manifests()).await;
    assert_eq!((&before["access"], &before["moduleVersion"]), (&json!("closed"), &json!(env!("CARGO_PKG_VERSION"))), "{before}");
    assert!(before["started"].as_str().unwrap().ends_with('Z'), "{before}");
    let more = manifests() + &Key::new("more").manifest("disabled: true");
    gate.reconfigure(&more).await.unwrap();
    let after = serving(&more).await;
    assert_eq!(after["started"], before["started"]);
}

#[tokio::test]
async fn an_open_gateway_says_so_once_and_what_is_in_force() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    gate.chat(&hello()).send().await.ok();
    let log = gate.logs();
    assert_eq!(log.matches("the gateway is open").count(), 1, "{log}");
    for way in ["add an Agent", "an AccessKey", "`externalAccess`"] {
        assert!(log.contains(way), "{way}: {log}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert!(log.contains(&format!("pai_filter {version}: configuration ")), "{log}");
    assert!(log.contains("1 model provider: vllm-local; 0 agents, 0 access keys; audience: auto, routing: body"), "{log}");
    until("the version is a metric", async || {
        gate.prometheus().contains(&format!("pai_build_info{{version=\"{version}\"}} 1")).then_some(())
    })
    .await;

    let closed = Gate::start(provider("externalAccess: { enabled: false }"), &upstream).await;
    closed.chat(&hello()).send().await.refused(401, "invalid_request_error", "invalid_api_key");
    assert!(!closed.logs().contains("the gateway is open"));
}

#[tokio::test]
async fn a_callout_cluster_that_fails_is_reported_once() {
    let upstream = upstream().await;
    let missing = Gate::start(provider("") + &gateway("callouts: { vllm-local: nowhere }"), &upstream).await;
    until("the metric counts", async || {
        missing
            .prometheus()
            .lines()
            .any(|line| line.starts_with("pai_callouts_total") && line.contains("result=\"not_sent\""))
            .then_some(())
    })
    .await;
    let log = missing.logs();
    assert_eq!(log.matches("through the cluster `nowhere` fails: Envoy did not send it").count(), 1, "{log}");
    missing.chat(&hello()).send().await.ok();

    let silent = Gate::builder()
        .manifests(provider("") + &gateway("callouts: { vllm-local: vllm-local-callouts }"))
        .address("vllm-local", Upstream::unreachable_address().await)
        .start()
        .await;
    until("the warning", async || silent.logs().contains("`GET /models` was answered with status 503").then_some(())).await;
    until("more failures", async || {
        let failed =
            |line: &&str| line.starts_with("pai_callouts_total") && line.contains("result=\"failed\"") && !line.ends_with(" 1");
        silent.prometheus().lines().find(failed).map(drop)
    })
    .await;
    assert_eq!(silent.logs().matches("through the cluster `vllm-local-callouts` fails").count(), 1);
}

#[tokio::test]
async fn a_provider_without_a_route_is_reported_once() {
    let gate = Gate::builder()
        .manifests(provider("") + &named_provider("other", ""))
        .address("vllm-local", Upstream::unreachable_address().await)
        .address("other", Upstream::unreachable_address().await)
        .without_route("vllm-local")
        .start()
        .await;
    for _ in 0..3 {
        gate.chat(&json!({ "model": format!("vllm-local/{MODEL}"), "messages": [] })).send().await;
        gate.chat(&json!({ "model": format!("other/{MODEL}"), "messages": [] })).send().await;
    }
    let log = gate.logs();
    assert_eq!(log.matches("no route matches the header `x-pai-provider: vllm-local`").count(), 1, "{log}");
    assert!(!log.contains("x-pai-provider: other"), "a provider that is down has a route: {log}");
}

#[tokio::test]
async fn a_refused_request_names_the_model_that_was_asked_for() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(&format!("allowedModels: [{MODEL}]")), &upstream).await;
    for (model, status, provider) in
        [("unknown", 404, Value::Null), ("nobody/x", 404, Value::Null), ("vllm-local/other", 403, Value::Null)]
    {
        gate.chat(&json!({ "model": model, "messages": [] })).send().await;
        let line = gate.access_log(|line| line["status"] == status && line["model"] == model).await;
        assert_eq!(line["provider"], provider, "{line}");
    }
}

#[tokio::test]
async fn what_the_provider_answered_is_counted_by_class() {
    let upstream = Upstream::answering(|request| match request.json()["user"].as_str() {
        Some("fail") => Answer::error(500, &json!({ "error": { "message": "no" } })),
        Some("wrong") => Answer::error(400, &json!({ "error": { "message": "no" } })),
        _ => Answer::json(&responses::chat(5, 3)),
    })
    .await;
    let gate = Gate::start(provider(""), &upstream).await;
    for user in ["", "fail", "wrong", "wrong"] {
        let mut body = hello();
        body["user"] = json!(user);
        gate.chat(&body).send().await;
    }
    for (class, count) in [("2xx", 1), ("4xx", 2), ("5xx", 1)] {
        let wanted = format!("status_class=\"{class}\"");
        until(&format!("{count} {class}"), async || {
            let text = gate.prometheus();
            let mut lines = text.lines().filter(|line| line.starts_with("pai_responses_total") && line.contains(&wanted));
            lines.any(|line| line.ends_with(&format!(" {count}"))).then_some(())
        })
        .await;
    }
}
