//! Developers and their access keys: the providers and models that they may use, and the budgets that they are charged to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::harness::{
    Answer, Gate, GateBuilder, Key, MODEL, ProviderBudgets, Reply, Request, Upstream, gateway, named_provider, responses, until,
};
use serde_json::{Value, json};

const OPEN: &str = "externalAccess: { enabled: true }";
const INVALID: &str = "invalid_request_error";

/// The identity that may read the providers' state.
fn operator() -> Key {
    Key::new("operator")
}

fn alice() -> Key {
    Key::new("alice")
}

/// The key `operator` with its manifest, and an identity header of a trusted proxy.
fn operated() -> String {
    gateway("operators: { keys: [operator] }\nidentityHeader: x-agent-id") + &operator().manifest("")
}

fn agent(spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: researcher }}\nspec:\n  identities: [researcher]\n{lines}")
}

fn ask(model: &str, max_tokens: u64) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": max_tokens })
}

async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}

/// A gateway with one provider, `vllm-local`, open to developers.
fn with_one(spec: &str, upstream: &Upstream) -> GateBuilder {
    Gate::builder().manifests(operated()).manifests(named_provider("vllm-local", spec)).upstream("vllm-local", upstream)
}

/// Fails unless this is a 401 whose message contains one of these words, in any case.
#[track_caller]
fn unauthorized(reply: &Reply, words: &[&str]) {
    reply.refused(401, INVALID, "invalid_api_key");
    let message = reply.message().to_lowercase();
    assert!(words.is_empty() || words.iter().any(|word| message.contains(word)), "{message}");
}

// === the key itself ===

#[tokio::test]
async fn a_key_is_read_from_each_of_three_headers() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let bearer = format!("Bearer {}", alice().secret());
    let lower = format!("bearer  {}", alice().secret());
    let secret = alice().secret().to_owned();
    let ways: [&[(&str, &str)]; 7] = [
        &[("authorization", &bearer)],
        &[("authorization", &lower)],
        &[("x-api-key", &secret)],
        &[("api-key", &secret)],
        &[("authorization", &bearer), ("x-api-key", &secret), ("api-key", &secret)],
        &[("authorization", "Bearer sk-something-else"), ("x-api-key", &secret)],
        &[("authorization", &bearer), ("api-key", "another"), ("cookie", "session=1")],
    ];
    for headers in ways {
        for http2 in [false, true] {
            let request = gate.chat(&ask(MODEL, 8));
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            let request = if http2 { request.http2() } else { request };
            request.send().await.ok();
            let seen = String::from_utf8_lossy(&upstream.last().head).into_owned();
            assert!(!seen.contains("pak_") && !seen.contains(&secret), "{headers:?}\n{seen}");
            assert!(!seen.contains("authorization") && !seen.contains("api-key"), "{headers:?}\n{seen}");
        }
    }
    assert_eq!(upstream.requests().len(), 2 * ways.len());
    let line = gate.access_log(|line| line["status"] == 200).await;
    assert_eq!(line["subject"], "key/alice", "{line}");
    assert!(!gate.stats("alice").is_empty(), "the statistics name the key");
}

#[tokio::test]
async fn a_key_counts_only_where_keys_are_sent() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let secret = alice().secret().to_owned();
    let chat = || gate.chat(&ask(MODEL, 8));
    let elsewhere = [
        gate.post(&format!("/v1/chat/completions?api_key={secret}&key={secret}")).json(&ask(MODEL, 8)),
        chat().header("cookie", format!("authorization={secret}; api-key={secret}")),
        chat().header("proxy-authorization", format!("Bearer {secret}")),
        chat().header("x-goog-api-key", &secret),
        chat().header("openai-api-key", &secret),
        chat().header("authorization", format!("Basic {secret}")),
        chat().header("x-pai-subject", "key/alice").header("x-pai-key", &secret),
        chat().http2().trailer("authorization", &format!("Bearer {secret}")),
        chat(),
    ];
    for request in elsewhere {
        unauthorized(&request.send().await, &["key is needed", "access key", "pak_"]);
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn what_is_not_the_key_is_refused() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).manifests(Key::new("bob").manifest("")).start().await;
    let secret = alice().secret().to_owned();
    let garbage = [
        format!("{secret}x"),
        secret[..secret.len() - 1].to_owned(),
        secret.to_uppercase(),
        format!("pak_{}", alice().sha256()),
        alice().sha256(),
        secret.replace("pak_", ""),
        "pak_".to_owned(),
        "pak_*".to_owned(),
        format!("pak_{}", "a".repeat(8 * 1024)),
        format!("pak_{}é", "b".repeat(20)),
    ];
    for value in &garbage {
        for request in [gate.chat(&ask(MODEL, 8)), gate.chat(&ask(MODEL, 8)).http2(), gate.get("/v1/models")] {
            let reply = request.header("authorization", format!("Bearer {value}")).send().await;
            unauthorized(&reply, &[]);
            assert!(value.len() < 6 || !reply.text().contains(value.as_str()), "{}", reply.describe());
        }
    }
    for name in ["authorization", "x-api-key"] {
        let twice = gate.chat(&ask(MODEL, 8)).header(name, alice().secret()).header(name, Key::new("bob").secret()).send().await;
        unauthorized(&twice, &["two", "different", "more than one"]);
    }
    let two = gate.chat(&ask(MODEL, 8)).key(&alice()).header("x-api-key", Key::new("bob").secret()).send().await;
    unauthorized(&two, &["two", "different", "more than one"]);
    let one_good = gate.chat(&ask(MODEL, 8)).key(&alice()).header("api-key", "pak_unknown").send().await;
    unauthorized(&one_good, &["two", "different", "more than one"]);
    assert!(upstream.requests().is_empty());
    gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
}

/// Envoy's own limit of all headers is 60 KiB.
#[tokio::test]
async fn a_key_of_a_megabyte_never_reaches_the_filter() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let mut raw = gate.raw().await;
    raw.write(format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer pak_{}\r\n\r\n", "a".repeat(1 << 20))).await;
    if let Some(reply) = raw.reply().await {
        assert_eq!(reply.status, 431, "{}", reply.describe());
    }
    gate.get("/v1/models").key(&alice()).send().await.ok();
}

#[tokio::test]
async fn a_key_that_has_expired_or_is_disabled_says_so() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream)
        .manifests(alice().manifest("expires: 2100-01-01T00:00:00Z\ndisabled: false"))
        .manifests(Key::new("old").manifest("expires: 2020-01-01T00:00:00Z"))
        .manifests(Key::new("off").manifest("disabled: true"))
        .manifests(Key::new("both").manifest("expires: 2020-01-01T00:00:00Z\ndisabled: true"))
        .start()
        .await;
    for path in ["/v1/chat/completions", "/v1/models", "/pai/v1/model-providers", "/nowhere"] {
        let send = async |key: &Key| {
            let request = if path.contains("chat") { gate.chat(&ask(MODEL, 8)) } else { gate.get(path) };
            request.key(key).send().await
        };
        let (old, off) = (send(&Key::new("old")).await, send(&Key::new("off")).await);
        unauthorized(&old, &["expired"]);
        assert!(!old.message().contains("disabled"), "{}", old.message());
        unauthorized(&off, &["disabled"]);
        assert!(!off.message().contains("expired"), "{}", off.message());
        unauthorized(&send(&Key::new("both")).await, &["disabled", "expired"]);
        let unknown = send(&Key::new("unknown")).await;
        unauthorized(&unknown, &[]);
        assert!(!unknown.message().contains("expired") && !unknown.message().contains("disabled"), "{}", unknown.message());
    }
    gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
}

/// Formats a time in seconds since 1970 as RFC 3339.
fn rfc3339(seconds: u64) -> String {
    // Howard Hinnant's `civil_from_days`.
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[tokio::test]
async fn a_key_expires_while_the_gate_runs() {
    assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
    let upstream = upstream().await;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let end = now() + 4;
    let with_end = operated() + &named_provider("vllm-local", OPEN) + &alice().manifest(&format!("expires: {}", rfc3339(end)));
    gate.reconfigure(with_end).await.unwrap();
    // The clock before and after the request shows on which side of the expiry the response was sent.
    until("the key has expired", async || {
        let before = now();
        let reply = gate.chat(&ask(MODEL, 8)).key(&alice()).send().await;
        match reply.status {
            200 => assert!(before <= end, "served after the key had expired"),
            _ => {
                unauthorized(&reply, &["expired"]);
                assert!(now() >= end, "refused before the key expires");
            }
        }
        (reply.status == 401).then_some(())
    })
    .await;
    assert!(!upstream.requests().is_empty(), "it was served before");
}

#[tokio::test]
async fn a_key_can_be_withdrawn_by_a_reload() {
    let upstream = upstream().await;
    let config = |spec: &str| operated() + &named_provider("vllm-local", OPEN) + &alice().manifest(spec);
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
    gate.reconfigure(config("disabled: true")).await.unwrap();
    until("the key is disabled", async || (gate.get("/v1/models").key(&alice()).send().await.status == 401).then_some(())).await;
    gate.reconfigure(config("")).await.unwrap();
    until("the key is back", async || (gate.get("/v1/models").key(&alice()).send().await.status == 200).then_some(())).await;
    gate.reconfigure(operated() + &named_provider("vllm-local", OPEN)).await.unwrap();
    until("the key is gone", async || (gate.get("/v1/models").key(&alice()).send().await.status == 401).then_some(())).await;
}

#[tokio::test]
async fn a_developer_may_not_read_what_operators_read() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("")).start().await;
    let state = |request: Request| request.send();
    state(gate.get("/pai/v1/model-providers").key(&operator())).await.ok();
    state(gate.get("/pai/v1/model-providers").key(&alice())).await.refused(403, INVALID, "caller_not_allowed");
    unauthorized(&state(gate.get("/pai/v1/model-providers")).await, &[]);
}

#[tokio::test]
async fn a_manifest_that_makes_no_sense_is_refused() {
    let upstream = upstream().await;
    let base = operated() + &named_provider("vllm-local", OPEN);
    let gate = with_one(OPEN, &upstream).start().await;
    let cases = [
        (alice().manifest("requestsPerMinute: 0"), "spec.requestsPerMinute"),
        (alice().manifest("tokensPerMinute: -5"), "spec.tokensPerMinute"),
        (alice().manifest("maxTokensPerDay: 1.5"), "spec.maxTokensPerDay"),
        (alice().manifest("expires: tomorrow"), "spec.expires"),
        (alice().manifest("disabled: perhaps"), "spec.disabled"),
        (alice().manifest("models: ['nowhere/*']"), "spec.models"),
        (alice().manifest("models: ['*/model']"), "spec.models"),
        (alice().manifest("tokensPerHour: 5"), "tokensPerHour"),
        (alice().manifest("").replace(&alice().sha256(), &alice().sha256()[..63]), "spec.sha256"),
        (alice().manifest("").replace(&alice().sha256(), &"g".repeat(64)), "spec.sha256"),
        (alice().manifest("").replace(&alice().sha256(), alice().secret()), "spec.sha256"),
        (alice().manifest("") + &alice().manifest(""), "alice"),
        (alice().manifest("").replace("alice", "Not_A_Label"), "metadata.name"),
    ];
    for (manifest, named) in cases {
        let log = match gate.reconfigure(base.clone() + &manifest).await {
            Err(log) => log,
            Ok(()) => panic!("was taken:\n{manifest}"),
        };
        let line = log.lines().find(|line| line.contains("wasm log")).unwrap_or_else(|| panic!("nothing was logged:\n{log}"));
        assert!(line.contains("AccessKey") || named == "metadata.name", "{line}");
        assert!(line.contains(named), "`{named}` is not named for\n{manifest}\nbut\n{line}");
        assert!(!log.contains(alice().secret()), "{log}");
    }
    unauthorized(&gate.get("/v1/models").key(&alice()).send().await, &[]);
}

#[tokio::test]
async fn duplicate_keys_are_rejected() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).start().await;
    let twin = Key::with_secret("twin", alice().secret());
    let config = operated() + &named_provider("vllm-local", OPEN) + &alice().manifest("") + &twin.manifest("");
    let log = gate.reconfigure(config).await.expect_err("whose budget would it be?");
    assert!(log.contains("spec.sha256") && log.contains("twin") && log.contains("alice"), "{log}");
}

#[tokio::test]
async fn an_unauthenticated_caller_is_rejected_before_the_body_arrives() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(Key::new("off").manifest("disabled: true")).start().await;
    for header in ["x-none: 1", "x-api-key: pak_unknown", &format!("x-api-key: {}", Key::new("off").secret())] {
        let mut raw = gate.raw().await;
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n";
        raw.write(format!("{head}{header}\r\n\r\n")).await;
        unauthorized(&raw.reply().await.unwrap(), &[]);
    }
}

/// The first check that fails determines the error.
#[tokio::test]
async fn errors_are_reported_in_their_order() {
    let upstream = upstream().await;
    let gate = with_one(OPEN, &upstream).manifests(alice().manifest("requestsPerMinute: 1")).start().await;
    gate.get("/v1/models").key(&alice()).send().await.ok();
    // Everything is wrong at first; each step corrects what was reported.
    let gzip = |request: Request| request.header("content-encoding", "gzip");
    let bad = |path: &str| gate.post(path).text("{");
    unauthorized(&gzip(bad("/nowhere")).header("x-api-key", "pak_unknown").send().await, &[]);
    gzip(bad("/nowhere")).key(&alice()).send().await.refused(404, INVALID, "unknown_url");
    gate.get("/pai/v1/model-providers").key(&alice()).send().await.refused(403, INVALID, "caller_not_allowed");
    gzip(bad("/v1/chat/completions")).key(&alice()).send().await.refused(415, INVALID, "unsupported_encoding");
    bad("/v1/chat/completions").key(&alice()).send().await.rate_limited("requests");
    bad("/v1/chat/completions").key(&operator()).send().await.invalid_body(None);
}

/// A key is checked first: a caller that sends one is a developer or unauthenticated, whatever else identifies it.
#[tokio::test]
async fn a_key_counts_before_any_identity() {
    let upstream = upstream().await;
    let gate = with_one(&capped(10_000, 9000), &upstream)
        .manifests(agent(&format!("models: [vllm-local/{MODEL}]")))
        .manifests(alice().manifest(""))
        .start()
        .await;
    let identified = || gate.chat(&ask(MODEL, 8)).header("x-agent-id", "researcher");
    identified().key(&alice()).send().await.ok();
    let line = gate.access_log(|line| line["status"] == 200).await;
    assert_eq!(line["subject"], "key/alice", "{line}");
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.used_today, shares.external.used_today), (8, 8));
    unauthorized(&identified().header("x-api-key", "pak_unknown").send().await, &[]);
    identified().header("x-api-key", "sk-another").send().await.ok();
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.used_today, shares.external.used_today), (16, 8));
}

#[tokio::test]
async fn statistics_and_state_contain_each_key() {
    let upstream = upstream().await;
    let gate = with_one(&capped(10_000, 9000), &upstream).manifests(alice().manifest("maxTokensPerDay: 8000")).start().await;
    for _ in 0..2 {
        gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
    }
    gate.chat(&ask("nowhere/m", 8)).key(&alice()).send().await;
    for (parts, value) in [
        (["subject_prompt_tokens", "key/alice"].as_slice(), " 10"),
        (&["subject_completion_tokens", "key/alice"], " 6"),
        (&["subject_requests", "key/alice", "allowed"], " 2"),
        (&["subject_requests", "key/alice", "model_not_found"], " 1"),
        (&["subject_budget", "key/alice", "limit"], " 8000"),
        (&["subject_budget", "key/alice", "used"], " 16"),
        (&["subject_budget", "key/alice", "reserved"], " 0"),
    ] {
        until(&format!("{parts:?} is{value}"), async || {
            let text = gate.prometheus();
            let mut lines = text.lines().filter(|line| line.starts_with("pai_") && parts.iter().all(|part| line.contains(part)));
            lines.any(|line| line.contains("subject=\"key/alice\"") && line.ends_with(value)).then_some(())
        })
        .await;
    }
    let refused = gate.access_log(|line| line["status"] == 404).await;
    assert_eq!(
        (refused["subject"].as_str(), refused["decision"].as_str()),
        (Some("key/alice"), Some("model_not_found")),
        "{refused}"
    );
    gate.chat(&ask(MODEL, 8)).header("x-api-key", "pak_unknown").send().await;
    let unknown = gate.access_log(|line| line["status"] == 401).await;
    assert!(!unknown.to_string().contains("pak_") && unknown["subject"] != "key/alice", "{unknown}");
}

/// With fixed routing the headers are forwarded before the body is evaluated: without the key.
#[tokio::test]
async fn keys_count_with_fixed_routing_too() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 495))).await;
    let gate = Gate::builder()
        .manifests(gateway("routing: fixed\noperators: { keys: [operator] }"))
        .without_stop_iteration()
        .manifests(operator().manifest(""))
        .manifests(named_provider("vllm-local", &capped(10_000, 9000)))
        .manifests(alice().manifest("maxTokensPerDay: 1000\nrequestsPerMinute: 6"))
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    unauthorized(&gate.chat(&ask(MODEL, 400)).header("x-api-key", "pak_unknown").send().await, &[]);
    for nth in 1..=2 {
        let reply = gate.chat(&ask(MODEL, 400)).header("x-api-key", alice().secret()).send().await;
        assert_eq!(reply.ok().rate_limit("requests").unwrap().remaining, 6 - nth);
        let seen = String::from_utf8_lossy(&upstream.last().head).into_owned();
        assert!(!seen.contains("pak_") && !seen.contains("api-key"), "{seen}");
        let shares = gate.settled_budgets(&operator(), "vllm-local").await;
        assert_eq!((shares.provider.used_today, shares.external.used_today), (500 * nth, 500 * nth));
    }
    for _ in 0..4 {
        gate.chat(&ask(MODEL, 400)).key(&alice()).send().await.quota_exhausted();
    }
    gate.chat(&ask(MODEL, 400)).key(&alice()).send().await.rate_limited("requests");
    assert!(upstream.requests().iter().skip(2).all(|request| request.body.is_empty()), "no body has left");
}

/// The shipped configuration extracts every label of every statistic; an unknown label would remain in the name.
#[tokio::test]
async fn the_shipped_configuration_knows_every_label() {
    let upstream = upstream().await;
    let gate = with_one(&capped(10_000, 9000), &upstream).manifests(alice().manifest("maxTokensPerDay: 8000")).start().await;
    gate.chat(&ask(MODEL, 8)).key(&alice()).send().await.ok();
    gate.chat(&ask("nowhere/m", 8)).key(&alice()).send().await;
    gate.settled_budgets(&operator(), "vllm-local").await;
    until("the statistics name the key's budget", async || {
        gate.stats("wasmcustom.pai").keys().any(|name| name.contains("key/alice") && name.contains("budget")).then_some(())
    })
    .await;
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy/envoy.yaml")).unwrap();
    for name in gate.stats("wasmcustom.pai").keys() {
        let labels = name.split(';').filter_map(|part| part.split_once("=.=")).map(|(label, _)| label.rsplit('.').next().unwrap());
        for label in labels {
            assert!(shipped.contains(&format!("tag_name: {label},")), "`{label}` of {name} is not in envoy/envoy.yaml");
        }
    }
}

// === providers and models ===

#[tokio::test]
async fn only_providers_that_are_opened_are_open() {
    let upstream = upstream().await;
    let models = |more: &str| format!("allowedModels: [{MODEL}, {{}}]\n{more}");
    let provider = |name: &str, more: &str| named_provider(name, &models(more).replace("{}", &format!("only-{name}")));
    let gate = Gate::builder()
        .manifests(operated())
        .manifests(provider("open", OPEN))
        .manifests(provider("shut", "externalAccess: { enabled: false, maxTokensPerDay: 1000 }"))
        .manifests(provider("inside", ""))
        .manifests(alice().manifest(""))
        .manifests(Key::new("all").manifest("models: ['*']"))
        .manifests(Key::new("insider").manifest("models: ['inside/*', 'shut/*']"))
        .manifests(agent(&format!("models: [inside/{MODEL}, open/{MODEL}]")))
        .upstream("open", &upstream)
        .upstream("shut", &upstream)
        .upstream("inside", &upstream)
        .start()
        .await;
    for key in [alice(), Key::new("all")] {
        let chat = async |model: &str| gate.chat(&ask(model, 8)).key(&key).send().await;
        for (model, served) in [(MODEL.to_owned(), MODEL), (format!("open/{MODEL}"), MODEL), ("only-open".to_owned(), "only-open")]
        {
            let reply = chat(&model).await;
            assert_eq!(reply.ok().header("x-pai-provider"), Some("open"), "{model}");
            assert_eq!(reply.header("x-pai-model"), Some(served), "{model}");
        }
        for model in [format!("shut/{MODEL}"), format!("inside/{MODEL}"), "inside/only-inside".to_owned(), "open/other".to_owned()]
        {
            chat(&model).await.refused(403, INVALID, "model_not_allowed");
        }
        for model in ["only-inside", "only-shut", "nowhere/model", "other"] {
            let reply = chat(model).await;
            reply.refused(404, INVALID, "model_not_found");
            assert!(!reply.message().contains("inside/") && !reply.message().contains("shut/"), "{}", reply.message());
        }
        let listed = gate.get("/v1/models").key(&key).send().await.ok().json();
        let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [format!("open/{MODEL}").as_str(), "open/only-open"]);
        gate.get("/v1/models/open%2Fonly-open").key(&key).send().await.ok();
        for closed in ["inside%2Fonly-inside", "shut%2Fonly-shut", "only-inside"] {
            gate.get(&format!("/v1/models/{closed}")).key(&key).send().await.refused(404, INVALID, "model_not_found");
        }
    }
    let insider = Key::new("insider");
    for model in [format!("inside/{MODEL}"), format!("shut/{MODEL}"), format!("open/{MODEL}")] {
        gate.chat(&ask(&model, 8)).key(&insider).send().await.refused(403, INVALID, "model_not_allowed");
    }
    gate.chat(&ask(MODEL, 8)).key(&insider).send().await.refused(404, INVALID, "model_not_found");
    assert_eq!(gate.get("/v1/models").key(&insider).send().await.ok().json()["data"], json!([]));
    // A provider that is closed to developers is open to agents.
    let inside = gate.chat(&ask(&format!("inside/{MODEL}"), 8)).header("x-agent-id", "researcher").send().await;
    assert_eq!(inside.ok().header("x-pai-provider"), Some("inside"));
}

#[tokio::test]
async fn a_keys_patterns_say_which_models() {
    let upstream = upstream().await;
    let lists: [(&str, &str, &[&str], &[&str]); 6] = [
        ("all", "['*']", &["one/a", "one/qwen/b", "two/a", "two/qwen/b"], &[]),
        ("provider", "['one/*']", &["one/a", "one/qwen/b"], &["two/a", "two/qwen/b"]),
        ("prefix", "['one/qwen/*']", &["one/qwen/b"], &["one/a", "two/qwen/b"]),
        ("part", "['two/qw*']", &["two/qwen/b"], &["two/a", "one/qwen/b"]),
        ("reference", "[two/a]", &["two/a"], &["one/a", "two/qwen/b", "two/aa"]),
        ("several", "[two/a, 'one/qwen/*']", &["two/a", "one/qwen/b"], &["one/a", "two/qwen/b"]),
    ];
    let allowed = format!("allowedModels: [a, aa, qwen/b]\n{OPEN}");
    let mut builder = Gate::builder().manifests(operated());
    for name in ["one", "two"] {
        builder = builder.manifests(named_provider(name, &allowed)).upstream(name, &upstream);
    }
    for (name, models, _, _) in lists {
        builder = builder.manifests(Key::new(name).manifest(&format!("models: {models}")));
    }
    let gate = builder.start().await;
    for (name, _, allowed, refused) in lists {
        let key = Key::new(name);
        let listed = gate.get("/v1/models").key(&key).send().await.ok().json().to_string();
        for reference in allowed {
            let reply = gate.chat(&ask(reference, 8)).key(&key).send().await;
            assert_eq!(reply.ok().header("x-pai-provider"), reference.split('/').next(), "{name}: {reference}");
            assert!(listed.contains(&format!("\"{reference}\"")), "{name}: {reference} is not in {listed}");
            gate.get(&format!("/v1/models/{}", reference.replace('/', "%2F"))).key(&key).send().await.ok();
        }
        for reference in refused {
            gate.chat(&ask(reference, 8)).key(&key).send().await.refused(403, INVALID, "model_not_allowed");
            assert!(!listed.contains(&format!("\"{reference}\"")), "{name}: {reference} is in {listed}");
            let path = format!("/v1/models/{}", reference.replace('/', "%2F"));
            gate.get(&path).key(&key).send().await.refused(404, INVALID, "model_not_found");
        }
    }
}

/// An exact entry of a key also represents a model of a provider without a model list.
#[tokio::test]
async fn a_keys_exact_entries_are_listed() {
    let upstream = upstream().await;
    let gate = Gate::builder()
        .manifests(operated())
        .manifests(named_provider("one", &format!("deniedModels: [bad]\n{OPEN}")))
        .manifests(named_provider("two", &format!("allowedModels: [a, 'b*']\n{OPEN}")))
        .manifests(named_provider("shut", "allowedModels: [a]"))
        .manifests(alice().manifest("models: [one/meta/x, one/bad, two/a, two/bb, two/c, shut/a, 'one/q*']"))
        .upstream("one", &upstream)
        .upstream("two", &upstream)
        .start()
        .await;
    let listed = gate.get("/v1/models").key(&alice()).send().await.ok().json();
    let mut ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["one/meta/x", "two/a", "two/bb"]);
    for (model, status) in [
        ("one/meta/x", 200),
        ("two/bb", 200),
        ("one/qq", 200),
        ("one/bad", 403),
        ("two/c", 403),
        ("shut/a", 403),
        ("one/other", 403),
    ] {
        let reply = gate.chat(&ask(model, 8)).key(&alice()).send().await;
        assert_eq!(reply.status, status, "{model}: {}", reply.describe());
    }
}

#[tokio::test]
async fn a_bare_id_is_resolved_among_the_keys_models() {
    let upstream = upstream().await;
    let mut builder = Gate::builder().manifests(operated());
    for name in ["one", "two", "three", "four", "five", "six", "seven"] {
        builder = builder.manifests(named_provider(name, &format!("allowedModels: [{MODEL}]\n{OPEN}"))).upstream(name, &upstream);
    }
    builder = builder.manifests(alice().manifest("models: ['two/*']")).manifests(Key::new("all").manifest(""));
    let gate = builder.start().await;
    let found = gate.chat(&ask(MODEL, 8)).key(&alice()).send().await;
    assert_eq!(found.ok().header("x-pai-provider"), Some("two"));
    let unclear = gate.chat(&ask(MODEL, 8)).key(&Key::new("all")).send().await;
    unclear.refused(404, INVALID, "model_not_found");
    let message = unclear.message();
    assert_eq!(message.matches(&format!("/{MODEL}")).count(), 5, "{message}");
    let unknown = gate.chat(&ask("unknown", 8)).key(&alice()).send().await;
    unknown.refused(404, INVALID, "model_not_found");
    assert!(!unknown.message().contains("one/"), "{}", unknown.message());
}

// === budgets ===

/// Caps of the provider, of its external share and of the key, in this order, and what the message must contain.
const CAPS: [(&str, u64, u64, u64, &str); 3] =
    [("provider", 1000, 2000, 3000, "vllm-local"), ("external", 3000, 1000, 2000, "external"), ("key", 2000, 3000, 1000, "key")];

fn capped(provider: u64, external: u64) -> String {
    format!("maxTokensPerDay: {provider}\nexternalAccess: {{ enabled: true, maxTokensPerDay: {external} }}")
}

/// Returns the numbers in a message.
fn numbers(message: &str) -> Vec<u64> {
    message.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Sends a request with alice's key, and returns what it reserved and the provider's side of it.
async fn in_flight(
    gate: &Gate,
    upstream: &Upstream,
    max_tokens: u64,
) -> (tokio::task::JoinHandle<Reply>, e2e::harness::Call, ProviderBudgets) {
    let asked = gate.chat(&ask(MODEL, max_tokens)).key(&alice()).spawn_send();
    let call = upstream.call().await;
    (asked, call, gate.provider_budgets(&operator(), "vllm-local").await)
}

#[tokio::test]
async fn each_of_three_budgets_may_be_exhausted() {
    for (which, provider, external, key, named) in CAPS {
        let upstream = Upstream::scripted().await;
        let spec = alice().manifest(&format!("maxTokensPerDay: {key}"));
        let gate = with_one(&capped(provider, external), &upstream).manifests(spec).start().await;
        let (asked, call, during) = in_flight(&gate, &upstream, 600).await;
        assert!((601..800).contains(&during.provider.reserved), "{which}: {during:?}");
        assert_eq!(during.provider.reserved, during.external.reserved, "{which}: {during:?}");
        call.answer(Answer::json(&responses::chat(5, 932))).await;
        let reply = asked.await.unwrap();
        let tokens = reply.ok().rate_limit("tokens").expect("the key has a budget");
        assert_eq!((tokens.limit, tokens.remaining), (key, key - during.provider.reserved), "{which}");
        let shares = gate.settled_budgets(&operator(), "vllm-local").await;
        assert_eq!((shares.provider.used_today, shares.external.used_today), (937, 937), "{which}");

        for request in [gate.chat(&ask(MODEL, 100)), gate.chat(&ask(MODEL, 100)).http2()] {
            let reply = request.key(&alice()).send().await;
            reply.quota_exhausted();
            let message = reply.message();
            assert!(message.to_lowercase().contains(named), "{which}: {message}");
            assert!(message.contains("UTC"), "{which}: {message}");
            assert!(
                numbers(&message).iter().all(|forwarded| ![937, 63].contains(forwarded)),
                "{which}: it reveals what was used: {message}"
            );
            let tokens = reply.rate_limit("tokens").expect("the key has a budget");
            assert_eq!((tokens.limit, tokens.remaining), (key, key - 937), "{which}");
        }
        assert_eq!(gate.provider_budgets(&operator(), "vllm-local").await, shares, "{which}: all or none");
        assert_eq!(upstream.requests().len(), 1, "{which}");
    }
}

#[tokio::test]
async fn each_of_three_budgets_may_be_reserved() {
    for (which, provider, external, key, named) in CAPS {
        let upstream = Upstream::scripted().await;
        let spec = alice().manifest(&format!("maxTokensPerDay: {key}"));
        let gate = with_one(&capped(provider, external), &upstream).manifests(spec).start().await;
        let (asked, call, during) = in_flight(&gate, &upstream, 700).await;
        for _ in 0..8 {
            let reply = gate.chat(&ask(MODEL, 400)).key(&alice()).send().await;
            reply.rate_limited("tokens");
            assert_eq!(reply.retry_after(), 1, "{which}");
            assert!(reply.message().to_lowercase().contains(named), "{which}: {}", reply.message());
            let tokens = reply.rate_limit("tokens").expect("the key has a budget");
            assert_eq!(tokens.remaining, key - during.provider.reserved, "{which}: all or none");
        }
        assert_eq!(gate.provider_budgets(&operator(), "vllm-local").await, during, "{which}: all or none");
        // A request that fits beside it is admitted.
        let (beside, second, both) = in_flight(&gate, &upstream, 50).await;
        assert!(both.provider.reserved > during.provider.reserved && both.provider.reserved <= 1000, "{which}: {both:?}");
        assert_eq!(both.provider.reserved, both.external.reserved, "{which}: {both:?}");
        for (call, asked) in [(call, asked), (second, beside)] {
            call.answer(Answer::json(&responses::chat(5, 3))).await;
            asked.await.unwrap().ok();
        }
        let shares = gate.settled_budgets(&operator(), "vllm-local").await;
        assert_eq!((shares.provider.used_today, shares.external.used_today), (16, 16), "{which}");
        let (asked, call, _) = in_flight(&gate, &upstream, 400).await;
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        let tokens = asked.await.unwrap().ok().rate_limit("tokens").unwrap();
        assert!((key - 16 - 600..key - 16 - 400).contains(&tokens.remaining), "{which}: {tokens:?}");
        gate.settled_budgets(&operator(), "vllm-local").await;
    }
}

#[tokio::test]
async fn a_request_larger_than_a_whole_budget_is_a_bad_request() {
    let upstream = upstream().await;
    for (provider, external, key) in [(1000, 5000, 5000), (5000, 1000, 5000), (5000, 5000, 1000)] {
        let spec = alice().manifest(&format!("maxTokensPerDay: {key}"));
        let gate = with_one(&capped(provider, external), &upstream).manifests(spec).start().await;
        for limit in [1000, 4000, 1_000_000_000] {
            let reply = gate.chat(&ask(MODEL, limit)).key(&alice()).send().await;
            reply.refused(400, INVALID, "context_length_exceeded");
        }
        let shares = gate.provider_budgets(&operator(), "vllm-local").await;
        assert_eq!((shares.provider.reserved, shares.external.reserved), (0, 0));
    }
    assert!(upstream.requests().is_empty());
    // A request that is too large for developers is not too large for agents.
    let gate = with_one(&capped(5000, 1000), &upstream)
        .manifests(agent(&format!("models: [vllm-local/{MODEL}]")))
        .manifests(alice().manifest(""))
        .start()
        .await;
    gate.chat(&ask(MODEL, 3000)).key(&alice()).send().await.refused(400, INVALID, "context_length_exceeded");
    gate.chat(&ask(MODEL, 3000)).header("x-agent-id", "researcher").send().await.ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
}

#[tokio::test]
async fn a_limit_that_the_request_does_not_name_shrinks_with_the_tightest_budget() {
    let without = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }] });
    for (provider, external, key, minute) in
        [(900, 50_000, 60_000, 40_000), (60_000, 900, 50_000, 40_000), (50_000, 60_000, 900, 40_000), (50_000, 60_000, 40_000, 900)]
    {
        let upstream = Upstream::scripted().await;
        let spec = alice().manifest(&format!("maxTokensPerDay: {key}\ntokensPerMinute: {minute}"));
        let gate = with_one(&capped(provider, external), &upstream).manifests(spec).start().await;
        let asked = gate.chat(&without).key(&alice()).spawn_send();
        let call = upstream.call().await;
        let forwarded = call.request.json();
        let limit = [&forwarded["max_tokens"], &forwarded["max_completion_tokens"]].into_iter().find_map(Value::as_u64);
        assert!(limit.is_some_and(|limit| (256..900).contains(&limit)), "{forwarded}");
        let shares = gate.provider_budgets(&operator(), "vllm-local").await;
        assert!(shares.provider.reserved <= 900 && shares.external.reserved <= 900, "{shares:?}");
        assert_eq!(shares.provider.reserved, shares.external.reserved);
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        asked.await.unwrap().ok();
        gate.settled_budgets(&operator(), "vllm-local").await;
    }
}

#[tokio::test]
async fn agents_and_developers_share_the_providers_budget_but_not_the_external_one() {
    let upstream = Upstream::answering(|request| {
        let tokens = request.json()["max_tokens"].as_u64().unwrap();
        Answer::json(&responses::chat(5, tokens - 5))
    })
    .await;
    let gate = with_one(&capped(20_000, 10_000), &upstream)
        .manifests(agent(&format!("models: [vllm-local/{MODEL}]")))
        .manifests(alice().manifest(""))
        .manifests(Key::new("bob").manifest("maxTokensPerDay: 50000"))
        .start()
        .await;
    let as_agent = |tokens| gate.chat(&ask(MODEL, tokens)).header("x-agent-id", "researcher").send();
    let as_key = |key: Key, tokens| gate.chat(&ask(MODEL, tokens)).key(&key).send();
    let used = async || {
        let shares = gate.settled_budgets(&operator(), "vllm-local").await;
        (shares.provider.used_today, shares.external.used_today)
    };

    as_agent(5000).await.ok();
    assert_eq!(used().await, (5000, 0));
    as_key(alice(), 4000).await.ok();
    assert_eq!(used().await, (9000, 4000));
    as_key(Key::new("bob"), 5000).await.ok();
    assert_eq!(used().await, (14_000, 9000));
    // The external share is exhausted for all developers, whoever used it; the provider's budget is not.
    for key in [alice(), Key::new("bob")] {
        let reply = as_key(key, 2000).await;
        reply.quota_exhausted();
        let message = reply.message();
        assert!(message.to_lowercase().contains("external"), "{message}");
        assert!(
            numbers(&message).iter().all(|forwarded| ![9000, 4000, 5000, 1000].contains(forwarded)),
            "reveals what others used: {message}"
        );
    }
    as_agent(3000).await.ok();
    assert_eq!(used().await, (17_000, 9000));
    as_agent(2500).await.ok();
    assert_eq!(used().await, (19_500, 9000));
    // Now the provider's own budget has the least left.
    let reply = as_key(alice(), 600).await;
    reply.quota_exhausted();
    assert!(reply.message().contains("vllm-local"), "{}", reply.message());
    as_agent(600).await.quota_exhausted();
    assert_eq!(used().await, (19_500, 9000));
}

#[tokio::test]
async fn a_keys_budget_is_its_own_over_all_providers() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 295))).await;
    let gate = Gate::builder()
        .manifests(operated())
        .manifests(named_provider("one", &format!("{OPEN}\nmaxTokensPerDay: 10000")))
        .manifests(named_provider("two", &format!("{OPEN}\nmaxTokensPerDay: 20000")))
        .manifests(alice().manifest("maxTokensPerDay: 1000"))
        .manifests(Key::new("bob").manifest("maxTokensPerDay: 1000"))
        .upstream("one", &upstream)
        .upstream("two", &upstream)
        .start()
        .await;
    let chat = async |key: &Key, provider: &str| {
        let reply = gate.chat(&ask(&format!("{provider}/{MODEL}"), 300)).key(key).send().await;
        gate.settled_budgets(&operator(), provider).await;
        reply
    };
    for provider in ["one", "two", "one"] {
        chat(&alice(), provider).await.ok();
    }
    for provider in ["one", "two"] {
        let reply = chat(&alice(), provider).await;
        reply.quota_exhausted();
        assert_eq!(reply.rate_limit("tokens").unwrap().remaining, 100);
        assert!(reply.message().to_lowercase().contains("key"), "{}", reply.message());
    }
    let bob = chat(&Key::new("bob"), "one").await;
    assert!(bob.ok().rate_limit("tokens").unwrap().remaining > 500, "bob has used nothing");
    let used = async |provider: &str| gate.provider_budgets(&operator(), provider).await.provider.used_today;
    assert_eq!((used("one").await, used("two").await), (900, 300));
}

#[tokio::test]
async fn a_developer_sees_the_keys_own_budgets_only() {
    let upstream = Upstream::scripted().await;
    let keys: [(&str, &str, Option<u64>); 5] = [
        ("neither", "", None),
        ("rated", "requestsPerMinute: 600", None),
        ("day", "maxTokensPerDay: 5000", Some(5000)),
        ("minute", "tokensPerMinute: 4000\nmaxTokensPerDay: 5000", Some(4000)),
        ("both", "tokensPerMinute: 5000\nmaxTokensPerDay: 4000", Some(4000)),
    ];
    let mut builder = with_one(&capped(3000, 2000), &upstream);
    for (name, spec, _) in keys {
        builder = builder.manifests(Key::new(name).manifest(spec));
    }
    let gate = builder.start().await;
    for (name, _, limit) in keys {
        for stream in [false, true] {
            let mut body = ask(MODEL, 50);
            body["stream"] = json!(stream);
            let asked = gate.chat(&body).key(&Key::new(name)).spawn_send();
            let call = upstream.call().await;
            let reserved = gate.provider_budgets(&operator(), "vllm-local").await.provider.reserved;
            call.answer(if stream {
                Answer::stream(responses::stream(&["a"], 5, true))
            } else {
                Answer::json(&responses::chat(5, 1))
            })
            .await;
            let reply = asked.await.unwrap();
            let tokens = reply.ok().rate_limit("tokens");
            assert_eq!(tokens.map(|tokens| tokens.limit), limit, "{name}\n{}", reply.describe());
            if let (Some(tokens), Some(limit)) = (tokens, limit) {
                let before = if stream { 6 } else { 0 };
                let remaining = limit - reserved - before;
                // A rate's bucket refills meanwhile.
                assert!((remaining..=remaining + before).contains(&tokens.remaining), "{name}\n{}", reply.describe());
            }
            gate.settled_budgets(&operator(), "vllm-local").await;
        }
    }
    // If other budgets reject the request, a key without limits reveals nothing of them.
    let asked = gate.chat(&ask(MODEL, 1500)).key(&Key::new("day")).spawn_send();
    let call = upstream.call().await;
    let reply = gate.chat(&ask(MODEL, 1500)).key(&Key::new("neither")).send().await;
    reply.rate_limited("tokens");
    assert_eq!(reply.rate_limit("tokens"), None, "{}", reply.describe());
    call.answer(Answer::json(&responses::chat(5, 2000))).await;
    asked.await.unwrap().ok();
    gate.settled_budgets(&operator(), "vllm-local").await;
    let reply = gate.chat(&ask(MODEL, 500)).key(&Key::new("neither")).send().await;
    reply.quota_exhausted();
    assert_eq!(reply.rate_limit("tokens"), None, "{}", reply.describe());
}

#[tokio::test]
async fn an_agent_sees_its_own_budget_or_else_the_providers() {
    let upstream = upstream().await;
    for (own, limit) in [("", 20_000), ("\nmaxTokensPerDay: 30000", 30_000)] {
        let gate = with_one(&capped(20_000, 1000), &upstream)
            .manifests(agent(&format!("models: [vllm-local/{MODEL}]{own}")))
            .manifests(alice().manifest("maxTokensPerDay: 500"))
            .start()
            .await;
        let reply = gate.chat(&ask(MODEL, 8)).header("x-agent-id", "researcher").send().await;
        let tokens = reply.ok().rate_limit("tokens").unwrap();
        assert_eq!(tokens.limit, limit);
        assert!(tokens.remaining < limit && tokens.remaining > limit - 200, "{tokens:?}");
        assert_eq!(reply.rate_limit("requests"), None);
        gate.settled_budgets(&operator(), "vllm-local").await;
    }
}

#[tokio::test]
async fn a_keys_budget_outlives_a_reload() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 495))).await;
    let gate = with_one(&capped(10_000, 9000), &upstream).manifests(alice().manifest("maxTokensPerDay: 1000")).start().await;
    gate.chat(&ask(MODEL, 500)).key(&alice()).send().await.ok();
    let before = gate.settled_budgets(&operator(), "vllm-local").await;
    // The key has a new secret and other limits; its budget belongs to its name.
    let rotated = Key::with_secret("alice", "pak_rotated");
    let config = operated() + &named_provider("vllm-local", &capped(10_000, 9000)) + &rotated.manifest("maxTokensPerDay: 600");
    gate.reconfigure(config).await.unwrap();
    let start = Instant::now();
    until("the new key is in force", async || (gate.get("/v1/models").key(&rotated).send().await.status == 200).then_some(()))
        .await;
    assert!(start.elapsed() < Duration::from_secs(10));
    unauthorized(&gate.chat(&ask(MODEL, 50)).key(&alice()).send().await, &[]);
    let reply = gate.chat(&ask(MODEL, 300)).key(&rotated).send().await;
    reply.quota_exhausted();
    assert_eq!(reply.rate_limit("tokens").map(|tokens| (tokens.limit, tokens.remaining)), Some((600, 100)));
    assert_eq!(gate.provider_budgets(&operator(), "vllm-local").await, before);
}

#[tokio::test]
async fn an_external_share_without_a_cap_is_counted_and_no_more() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 295))).await;
    let gate = with_one(&format!("{OPEN}\nmaxTokensPerDay: 5000"), &upstream)
        .manifests(agent(&format!("models: [vllm-local/{MODEL}]")))
        .manifests(alice().manifest(""))
        .start()
        .await;
    for _ in 0..2 {
        gate.chat(&ask(MODEL, 300)).key(&alice()).send().await.ok();
        gate.chat(&ask(MODEL, 300)).header("x-agent-id", "researcher").send().await.ok();
    }
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.used_today, shares.external.used_today), (1200, 600));
    assert_eq!((shares.provider.max_tokens_per_day, shares.external.max_tokens_per_day), (Some(5000), None));
}

#[tokio::test]
async fn what_is_in_flight_while_a_key_is_withdrawn_is_settled_all_the_same() {
    let upstream = Upstream::scripted().await;
    let base = |caps: &str| operated() + &named_provider("vllm-local", caps);
    let with_alice = |caps: &str, spec: &str| base(caps) + &alice().manifest(spec);
    let gate = Gate::builder()
        .manifests(with_alice(&format!("{OPEN}\nmaxTokensPerDay: 10000"), "maxTokensPerDay: 1000\ntokensPerMinute: 5000"))
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let (asked, call, during) = in_flight(&gate, &upstream, 300).await;
    assert!(during.provider.reserved > 300, "{during:?}");
    // Meanwhile the key is removed, and the external share gets a cap.
    let capped = capped(10_000, 9000);
    gate.reconfigure(base(&capped)).await.unwrap();
    until("the key is gone", async || (gate.get("/v1/models").key(&alice()).send().await.status == 401).then_some(())).await;
    let meanwhile = gate.provider_budgets(&operator(), "vllm-local").await;
    assert_eq!(meanwhile.provider.reserved, during.provider.reserved, "what is in flight stays reserved");
    call.answer(Answer::json(&responses::chat(5, 195))).await;
    asked.await.unwrap().ok();
    let shares = gate.settled_budgets(&operator(), "vllm-local").await;
    assert_eq!((shares.provider.used_today, shares.external.used_today), (200, 200));
    // The key is added again, and keeps its usage.
    gate.reconfigure(with_alice(&capped, "maxTokensPerDay: 1000")).await.unwrap();
    until("the key is back", async || (gate.get("/v1/models").key(&alice()).send().await.status == 200).then_some(())).await;
    let (asked, call, during) = in_flight(&gate, &upstream, 300).await;
    assert_eq!(during.provider.reserved, during.external.reserved);
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    let tokens = asked.await.unwrap().ok().rate_limit("tokens").unwrap();
    assert_eq!(tokens.remaining, 1000 - 200 - during.provider.reserved);
    gate.settled_budgets(&operator(), "vllm-local").await;
}

#[tokio::test]
async fn limits_may_be_as_large_as_numbers_get() {
    let upstream = upstream().await;
    // The largest integer that a float represents exactly, because numbers may have passed through protobuf.
    let largest = 1_u64 << 53;
    let spec = format!("maxTokensPerDay: {largest}\ntokensPerMinute: {largest}\nrequestsPerMinute: 60000000");
    let gate = with_one(&capped(largest, largest), &upstream).manifests(alice().manifest(&spec)).start().await;
    for _ in 0..4 {
        let reply = gate.chat(&ask(MODEL, 8)).key(&alice()).send().await;
        assert_eq!(reply.ok().rate_limit("tokens").unwrap().limit, largest);
        assert_eq!(reply.rate_limit("requests").unwrap().limit, 60_000_000);
    }
    gate.settled_budgets(&operator(), "vllm-local").await;
}
