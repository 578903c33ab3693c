//! Limits of completion tokens: what is reserved for a request, what is injected, and what the headers of the answer report about it. The rules
//! are in `docs/budgets.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use e2e::harness::{
    Answer, Call, Gate, GateBuilder, Key, MODEL, Received, Reply, Request, Upstream, gateway, named_provider, provider, responses,
    until,
};
use serde_json::{Value, json};

const HOSTED: &str = "gpt-4.1-mini";

fn chat(members: &Value) -> Value {
    let mut body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }] });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

/// Returns the limit in a body that was forwarded.
fn limit(forwarded: &Value) -> Option<u64> {
    [&forwarded["max_completion_tokens"], &forwarded["max_tokens"]].into_iter().find_map(Value::as_u64)
}

/// Returns `x-pai-max-tokens` and `x-pai-limited-by`.
fn limited(reply: &Reply) -> Option<(u64, String)> {
    let tokens = reply.header("x-pai-max-tokens")?.parse().unwrap();
    Some((tokens, reply.header("x-pai-limited-by").unwrap().to_owned()))
}

/// A vLLM with this context length, which counts every prompt as `tokens`; it answers a chat with 5 + 3 tokens, or with vLLM's error where
/// the prompt and the limit exceed the context length.
fn counting(context_length: u64, tokens: u64) -> impl Fn(&Received) -> Answer + Send + Sync + 'static {
    move |request| match &*request.path {
        "/v1/models" => Answer::json(&responses::models(context_length)),
        "/tokenize" => {
            Answer::json(&json!({ "count": tokens, "max_model_len": context_length, "tokens": vec![1; 64], "token_strs": null }))
        }
        _ => match limit(&request.json()) {
            Some(limit) if tokens + limit > context_length => {
                Answer::error(400, &responses::too_long(context_length, limit, tokens))
            }
            _ => Answer::json(&responses::chat(tokens, 3)),
        },
    }
}

/// A gateway in front of one vLLM with callouts.
fn with_callouts(spec: &str, upstream: &Upstream) -> GateBuilder {
    Gate::builder()
        .manifests(provider(spec))
        .manifests(gateway("callouts: { vllm-local: vllm-local-callouts }"))
        .upstream("vllm-local", upstream)
}

/// Waits until every worker knows the context length of the model, as operators see it.
async fn until_the_context_length_is_known(gate: &Gate) {
    until("the context length is known", async || {
        let listed = gate.get("/pai/v1/model-providers").send().await.json();
        listed["items"][0]["contextLengths"][MODEL].as_u64().map(|_| ())
    })
    .await;
    // A worker reads what is shared at most 100 ms after another has written it.
    tokio::time::sleep(Duration::from_millis(150)).await;
}

fn counts(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.path == "/tokenize").count()
}

/// A row of the table in `docs/budgets.md`, "Limits by example".
struct Example {
    spec: String,
    context_length: Option<u64>,
    path: &'static str,
    body: Value,
    reserved: String,
    injected: String,
    limited_by: Option<String>,
}

fn examples() -> Vec<Example> {
    let page = include_str!("../../docs/budgets.md");
    let (_, section) = page.split_once("\n## Limits by example\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let code = |cell: &str| cell.split('`').nth(1).map(str::to_owned);
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [_, provider, context_length, request, reserved, injected, limited_by] = cells.try_into().ok()?;
        let (path, mut body) = match request.split(' ').next()? {
            "chat" => ("/v1/chat/completions", json!({ "messages": [{ "role": "user", "content": "Hi" }] })),
            "completion" => ("/v1/completions", json!({ "prompt": "Hi" })),
            "embedding" => ("/v1/embeddings", json!({ "input": "Hi" })),
            _ => return None,
        };
        let members: Value = serde_json::from_str(&code(request)?).unwrap();
        body["model"] = json!(MODEL);
        body.as_object_mut()?.extend(members.as_object()?.clone());
        Some(Example {
            spec: code(provider)?.replace(", ", "\n"),
            context_length: context_length.parse().ok(),
            path,
            body,
            reserved: reserved.to_owned(),
            injected: injected.to_owned(),
            limited_by: code(limited_by),
        })
    };
    section.lines().filter(|line| line.starts_with("| ")).filter_map(row).collect()
}

/// Checks a number against `5`, `P`, `P + 5` or `5 − P`, where P is the upper bound of the prompt "Hi".
fn matches(number: u64, expected: &str) -> bool {
    let near = |difference: i64| (60..110).contains(&difference);
    let number = i64::try_from(number).unwrap();
    let parsed = |text: &str| text.parse::<i64>().unwrap();
    match (expected.strip_prefix("P + "), expected.strip_suffix(" − P")) {
        _ if expected == "P" => near(number),
        (Some(more), _) => near(number - parsed(more)),
        (_, Some(whole)) => near(parsed(whole) - number),
        // A share depends on P a little.
        _ => (number - parsed(expected)).abs() <= 5,
    }
}

#[tokio::test]
async fn the_examples_of_the_documentation_hold() {
    let examples = examples();
    assert_eq!(examples.len(), 15);
    for (at, example) in examples.iter().enumerate() {
        let Example { spec, context_length, path, body, reserved, injected, limited_by } = example;
        let at = at + 1;
        let upstream = Upstream::scripted().await;
        let models = Upstream::answering(counting(context_length.unwrap_or(1), 5)).await;
        let manifest =
            provider("").replace("  provider: vllm\n", "") + &spec.lines().map(|line| format!("  {line}\n")).collect::<String>();
        let mut builder = Gate::builder().manifests(manifest).upstream("vllm-local", &upstream);
        if context_length.is_some() {
            builder = builder.manifests(gateway("callouts: { vllm-local: models-callouts }")).upstream("models", &models);
        }
        let gate = builder.start().await;
        if context_length.is_some() {
            until_the_context_length_is_known(&gate).await;
        }
        let request = gate.post(path).json(body).spawn_send();
        let call = upstream.call().await;
        let actual = gate.provider("vllm-local").await.reserved;
        assert!(matches(actual, reserved), "row {at}: reserved {actual}, not {reserved}");
        let forwarded = call.request.json();
        let (told, own) = (limit(&forwarded), limit(body));
        match injected.as_str() {
            "–" => assert_eq!(told, own, "row {at}"),
            expected => assert!(told.is_some_and(|told| matches(told, expected)), "row {at}: injected {told:?}, not {expected}"),
        }
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        let reply = request.await.unwrap();
        reply.ok();
        let expected = limited_by.as_ref().map(|by| (told.unwrap(), by.clone()));
        assert_eq!(limited(&reply), expected, "row {at}");
    }
}

#[tokio::test]
async fn a_named_limit_beside_a_long_prompt_is_left_alone_from_the_first_request_on() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(10_008, 3))).await;
    let gate = Gate::start(provider("maxTokensPerDay: 50000000\nmaxTokensPerRequest: 32000"), &upstream).await;
    let text: String = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while in the shade. ".repeat(455);
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": text }], "max_tokens": 8000 });
    for _ in 0..7 {
        let reply = gate.chat(&body).send().await;
        reply.ok();
        assert_eq!((limited(&reply), limit(&upstream.last().json())), (None, Some(8000)));
    }
}

#[tokio::test]
async fn a_named_limit_is_lowered_to_what_the_cap_leaves_and_the_answer_says_so() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = Gate::start(provider("maxTokensPerRequest: 32000"), &upstream).await;
    for request in [gate.chat(&chat(&json!({ "max_tokens": 32000 }))), gate.chat(&chat(&json!({ "max_tokens": 32000 }))).http2()] {
        let reply = request.send().await;
        reply.ok();
        let told = limit(&upstream.last().json()).unwrap();
        assert!((31_800..32_000).contains(&told), "{told}");
        assert_eq!(limited(&reply), Some((told, "request-cap".to_owned())));
        let line = gate.access_log(|line| line["max_tokens"].as_str().and_then(|tokens| tokens.parse().ok()) == Some(told)).await;
        assert_eq!(line["limited_by"], "request-cap", "{line}");
    }
    until("the metric counts both", async || {
        gate.prometheus().lines().any(|line| line.contains("limited_requests_total") && line.ends_with(" 2")).then_some(())
    })
    .await;
    let reply = gate.chat(&chat(&json!({ "max_tokens": 100 }))).send().await;
    assert_eq!((limited(&reply), limit(&upstream.last().json())), (None, Some(100)));
}

#[tokio::test]
async fn chats_without_a_limit_do_not_lock_each_other_out() {
    let upstream = Upstream::scripted().await;
    let models = Upstream::answering(counting(131_072, 5)).await;
    let key = Key::new("alice");
    let gate = Gate::builder()
        .manifests(named_provider("vllm-local", "externalAccess: { enabled: true }"))
        .manifests(gateway("callouts: { vllm-local: models-callouts }\noperators: { keys: [alice] }\naudience: external"))
        .manifests(key.manifest("maxTokensPerDay: 200000\ntokensPerMinute: 100000"))
        .upstream("vllm-local", &upstream)
        .upstream("models", &models)
        .start()
        .await;
    until("the context length is known", async || {
        let listed = gate.get("/pai/v1/model-providers").key(&key).send().await.json();
        listed["items"][0]["contextLengths"][MODEL].as_u64().map(|_| ())
    })
    .await;
    let mut under_way: Vec<(tokio::task::JoinHandle<Reply>, Call)> = Vec::new();
    for _ in 0..4 {
        let asked = gate.chat(&chat(&json!({}))).key(&key).spawn_send();
        under_way.push((asked, upstream.call().await));
    }
    for (asked, call) in under_way {
        assert!(limit(&call.request.json()).is_some_and(|told| told >= 4096), "{}", call.request.text());
        call.answer(Answer::json(&responses::chat(5, 15))).await;
        let reply = asked.await.unwrap();
        reply.ok();
        assert_eq!(limited(&reply).unwrap().1, "budget");
    }
    let asked = gate.chat(&chat(&json!({ "max_tokens": 10 }))).key(&key).spawn_send();
    let call = upstream.call().await;
    call.answer(Answer::json(&responses::chat(5, 15))).await;
    asked.await.unwrap().ok();
    until_settled(&gate, &key, 100).await;
    let account = gate.get("/pai/v1/access-keys").key(&key).send().await.json();
    assert_eq!(account["items"][0]["remaining"], 199_900);
}

/// Waits until the only key, an operator's, has used these tokens and has none reserved.
async fn until_settled(gate: &Gate, key: &Key, used: u64) {
    until("all is settled", async || {
        let account = gate.get("/pai/v1/access-keys").key(key).send().await.json();
        (account["items"][0]["usedToday"] == used && account["items"][0]["reserved"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_budget_of_four_defaults_holds_four_chats_without_a_limit() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 16900"), &upstream).await;
    let mut under_way = Vec::new();
    for _ in 0..4 {
        let asked = gate.chat(&chat(&json!({}))).spawn_send();
        under_way.push((asked, upstream.call().await));
    }
    gate.chat(&chat(&json!({}))).send().await.refused(429, "tokens", "rate_limit_exceeded");
    for (asked, call) in under_way {
        assert_eq!(limit(&call.request.json()), Some(4096));
        call.answer(Answer::json(&responses::chat(5, 3))).await;
        asked.await.unwrap().ok();
    }
}

#[tokio::test]
async fn an_agent_with_a_large_limit_goes_on_until_less_than_the_default_is_left() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 695))).await;
    let of_provider = Gate::start(provider("maxTokensPerDay: 50000"), &upstream).await;
    goes_on_until_less_than_the_default_is_left(&of_provider, &upstream, None).await;
    let key = Key::new("alice");
    let of_key = Gate::builder()
        .manifests(provider("externalAccess: { enabled: true }"))
        .manifests(gateway("operators: { keys: [alice] }"))
        .manifests(key.manifest("maxTokensPerDay: 50000"))
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    goes_on_until_less_than_the_default_is_left(&of_key, &upstream, Some(&key)).await;
}

async fn goes_on_until_less_than_the_default_is_left(gate: &Gate, upstream: &Upstream, key: Option<&Key>) {
    let by = |request: Request| if let Some(key) = key { request.key(key) } else { request };
    let body = chat(&json!({ "max_tokens": 32000 }));
    let (mut admitted, mut used) = (0, 0);
    let refused = loop {
        let reply = by(gate.chat(&body)).send().await;
        if reply.status != 200 {
            break reply;
        }
        let told = limit(&upstream.last().json()).unwrap();
        assert!(told >= 4096 && told <= 50_000 - used, "{told} after {used}");
        (admitted, used) = (admitted + 1, used + 700);
        match key {
            Some(key) => until_settled(gate, key, used).await,
            None => assert_eq!(gate.used().await, used),
        }
        assert_eq!(limited(&reply).is_some(), told < 32_000, "{told}");
    };
    refused.quota_exhausted();
    assert!(50_000 - used < 4096 + 200, "{used} used by {admitted}");
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some(&*(50_000 - used).to_string()));
    let small = by(gate.chat(&chat(&json!({ "max_tokens": 1000 })))).send().await;
    small.ok();
    assert_eq!(limited(&small), None, "what fits whole is not cut");
}

#[tokio::test]
async fn reservations_of_others_lower_no_named_limit() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 50000"), &upstream).await;
    let body = chat(&json!({ "max_tokens": 32000 }));
    let first = gate.chat(&body).spawn_send();
    let call = upstream.call().await;
    let reply = gate.chat(&body).send().await;
    reply.refused(429, "tokens", "rate_limit_exceeded");
    assert_eq!(reply.header("retry-after"), Some("1"));
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    first.await.unwrap().ok();
}

#[tokio::test]
async fn where_the_estimates_leave_it_open_the_server_counts() {
    let upstream = Upstream::answering(counting(8192, 5000)).await;
    let gate = with_callouts("maxTokensPerDay: 1000000", &upstream).start().await;
    until_the_context_length_is_known(&gate).await;
    let text = "word ".repeat(4000);
    let body = json!({
        "model": format!("vllm-local/{MODEL}"), "messages": [{ "role": "user", "content": text }], "max_tokens": 9_999_999,
        "tools": [{ "type": "function", "function": { "name": "f" } }],
    });
    for request in [
        gate.chat(&body),
        gate.chat(&body).http2(),
        gate.post("/v1/chat/completions").chunked(body.to_string().as_bytes().chunks(999)),
    ] {
        let reply = request.send().await;
        reply.ok();
        assert_eq!(limited(&reply), Some((8192 - 5050, "context-window".to_owned())));
        assert_eq!(limit(&upstream.last().json()), Some(3142));
    }
    let asked: Vec<Received> = upstream.requests().into_iter().filter(|request| request.path == "/tokenize").collect();
    assert_eq!(asked.len(), 3);
    for request in asked {
        let expected = json!({ "model": MODEL, "messages": body["messages"], "tools": body["tools"] });
        assert_eq!((request.method.as_str(), request.json()), ("POST", expected));
    }
    until("the metric counts them", async || {
        let prometheus = gate.prometheus();
        let answered = |line: &str| line.contains("token_counts_total") && line.contains("answered") && line.ends_with(" 3");
        prometheus.lines().any(answered).then_some(())
    })
    .await;
    gate.chat(&chat(&json!({ "max_tokens": 100 }))).send().await.ok();
    gate.chat(&chat(&json!({}))).send().await.ok();
    assert_eq!(counts(&upstream), 3, "ordinary requests make no round trip");
}

#[tokio::test]
async fn a_request_that_the_server_counts_as_too_long_is_refused_and_reserves_nothing() {
    let upstream = Upstream::answering(counting(131_072, 9000)).await;
    let gate = with_callouts("maxTokensPerRequest: 4000", &upstream).start().await;
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "word ".repeat(8000) }], "max_tokens": 500 });
    let reply = gate.chat(&body).send().await;
    reply.refused(400, "invalid_request_error", "context_length_exceeded");
    assert!(reply.message().contains("9346"), "{}", reply.message());
    let state = gate.provider("vllm-local").await;
    assert_eq!((state.used_today, state.reserved), (0, 0));
    assert!(upstream.requests().iter().all(|request| request.path != "/v1/chat/completions"));
}

#[tokio::test]
async fn a_budget_that_holds_the_counted_prompt_admits_it() {
    let upstream = Upstream::answering(counting(131_072, 6000)).await;
    let gate = with_callouts("maxTokensPerDay: 7000", &upstream).start().await;
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "word ".repeat(6000) }], "max_tokens": 500 });
    gate.chat(&body).send().await.ok();
    assert_eq!((counts(&upstream), gate.used().await), (1, 6003));
    gate.chat(&body).send().await.quota_exhausted();
    gate.chat(&chat(&json!({ "max_tokens": 2000 }))).send().await.quota_exhausted();
    assert_eq!(counts(&upstream), 2, "nothing is counted for a budget that is exhausted either way");
}

#[tokio::test]
async fn a_server_that_does_not_count_is_left_alone() {
    let text = "word ".repeat(4000);
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": text }], "max_tokens": 9_999_999 });
    for answer in [
        || Answer::error(404, &json!({ "detail": "Not Found" })),
        || Answer::error(500, &json!({})),
        || Answer::json(&json!({ "tokens": [1, 2, 3] })),
        || Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<htm>"),
    ] {
        let upstream = Upstream::answering(move |request| match &*request.path {
            "/tokenize" => answer(),
            _ => counting(8192, 5000)(request),
        })
        .await;
        let gate = with_callouts("maxTokensPerDay: 1000000", &upstream).workers(1).start().await;
        until_the_context_length_is_known(&gate).await;
        for _ in 0..3 {
            let reply = gate.chat(&body).send().await;
            reply.ok();
            let (told, by) = limited(&reply).unwrap();
            assert!(told >= 256 && by == "context-window", "the estimates decide: {told} {by}");
        }
        assert_eq!(counts(&upstream), 1);
        gate.assert_no_trap();
    }
}

#[tokio::test]
async fn a_count_that_never_comes_holds_nothing_for_long() {
    let upstream = Upstream::answering(|request| match &*request.path {
        "/tokenize" => Answer::raw("").then_hang(),
        _ => counting(8192, 5000)(request),
    })
    .await;
    let gate = with_callouts("maxTokensPerDay: 1000000", &upstream).workers(1).start().await;
    until_the_context_length_is_known(&gate).await;
    let body =
        json!({ "model": MODEL, "messages": [{ "role": "user", "content": "word ".repeat(4000) }], "max_tokens": 9_999_999 });
    for _ in 0..4 {
        gate.chat(&body).send().await.ok();
    }
    assert_eq!(counts(&upstream), 2, "after two timeouts the server is left alone");
    let left = gate.chat(&body).timeout(Duration::from_millis(50)).spawn_send();
    let _ = left.await;
    gate.used().await;
    gate.assert_no_trap();
}

#[tokio::test]
async fn a_hosted_model_is_not_cut_where_there_is_plenty() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let hosted = "maxTokensPerDay: 10000000".to_owned();
    let gate = Gate::start(provider(&hosted).replace("provider: vllm", "provider: openai"), &upstream).await;
    let body = json!({ "model": HOSTED, "messages": [{ "role": "user", "content": "hi" }] });
    let reply = gate.chat(&body).send().await;
    reply.ok();
    assert_eq!((limited(&reply), upstream.last().json()), (None, body));
}

#[tokio::test]
async fn a_limit_that_a_hosted_model_does_not_allow_is_never_the_clients_error() {
    // The model's maximum; what is injected at first, and what after its error.
    for (most, first, then) in [(16_384_u64, 8192, None), (4096, 8192, Some(4096))] {
        let upstream = Upstream::answering(move |request| match limit(&request.json()) {
            Some(limit) if limit > most => Answer::error(
                400,
                &json!({ "error": {
                    "message": format!(
                        "max_tokens is too large: {limit}. This model supports at most {most} completion tokens, whereas you provided {limit}."
                    ),
                    "type": "invalid_request_error", "param": "max_tokens", "code": "invalid_value",
                } }),
            ),
            _ => Answer::json(&responses::chat(5, 3)),
        })
        .await;
        let gate = Gate::builder()
            .manifests(provider("maxTokensPerDay: 200000").replace("provider: vllm", "provider: openai"))
            .upstream("vllm-local", &upstream)
            .workers(1)
            .start()
            .await;
        let body = json!({ "model": HOSTED, "messages": [{ "role": "user", "content": "hi" }] });
        let reply = gate.chat(&body).send().await;
        assert_eq!(upstream.last().json()["max_completion_tokens"], first);
        let Some(then) = then else {
            reply.ok();
            continue;
        };
        reply.refused(503, "server_error", "upstream_unavailable");
        assert_eq!(reply.header("x-should-retry"), Some("true"));
        gate.chat(&body).send().await.ok();
        assert_eq!(upstream.last().json()["max_completion_tokens"], then);
        let own = gate.chat(&json!({ "model": HOSTED, "messages": [], "max_tokens": 9000 })).send().await;
        assert_eq!(own.status, 400, "a limit of the client's own is its own error");
    }
}

#[tokio::test]
async fn a_key_gets_no_error_of_a_hosted_model_for_a_limit_that_the_gateway_chose() {
    const MOST: u64 = 16_384;
    let upstream = Upstream::answering(|request| match limit(&request.json()) {
        Some(limit) if limit > MOST => Answer::error(400, &json!({ "error": { "message": "max_tokens is too large" } })),
        told => Answer::json(&responses::chat(5, told.map_or(MOST, |told| told.min(7000)))),
    })
    .await;
    let key = Key::new("alice");
    let gate = Gate::builder()
        .manifests(provider("externalAccess: { enabled: true }").replace("provider: vllm", "provider: openai"))
        .manifests(gateway("operators: { keys: [alice] }"))
        .manifests(key.manifest("maxTokensPerDay: 200000"))
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let body = json!({ "model": HOSTED, "messages": [{ "role": "user", "content": "hi" }] });
    let (mut served, mut used) = (0, 0);
    let refused = loop {
        let reply = gate.chat(&body).key(&key).send().await;
        if reply.status != 200 {
            break reply;
        }
        let told = limit(&upstream.last().json()).unwrap();
        assert_eq!(limited(&reply), Some((told, "budget".to_owned())));
        assert!(told <= 8192, "{told}");
        (served, used) = (served + 1, used + 5 + told.min(7000));
        until_settled(&gate, &key, used).await;
    };
    refused.quota_exhausted();
    assert!(served >= 25, "{served} served until the budget was exhausted");
}

#[tokio::test]
async fn the_field_of_an_injected_limit_can_be_chosen() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    for (dialect, spec, field) in [
        ("vllm", "", "max_tokens"),
        ("vllm", "limitField: max_completion_tokens", "max_completion_tokens"),
        ("openai", "", "max_completion_tokens"),
        ("openai", "limitField: max_tokens", "max_tokens"),
        ("anthropic", "", "max_tokens"),
    ] {
        let manifest =
            provider(&format!("maxTokensPerRequest: 2000\n{spec}")).replace("provider: vllm", &format!("provider: {dialect}"));
        let gate = Gate::start(manifest, &upstream).await;
        gate.chat(&chat(&json!({}))).send().await.ok();
        let forwarded = upstream.last().json();
        assert!(forwarded[field].as_u64().is_some_and(|told| told > 1800), "{dialect} {spec}: {forwarded}");
    }
}

#[tokio::test]
async fn whole_numbers_and_zero_pass_as_vllm_takes_them() {
    let upstream = Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000000"), &upstream).await;
    let floats = r#"{"model":"MODEL","messages":[],"max_tokens":4096.0,"n":1e0}"#.replace("MODEL", MODEL);
    gate.post("/v1/chat/completions").text(&floats).send().await.ok();
    assert_eq!(upstream.last().text(), floats.replace("4096.0", "4096").replace("1e0", "1"));
    let zero = json!({ "model": MODEL, "prompt": "a", "max_tokens": 0, "echo": true, "logprobs": 1 });
    gate.post("/v1/completions").json(&zero).send().await.ok();
    assert_eq!(upstream.last().json(), zero);
    gate.chat(&chat(&json!({ "max_tokens": 0 }))).send().await.refused(400, "invalid_request_error", "invalid_body");
    let marked = format!("\u{feff}{}", chat(&json!({})));
    let reply = gate.post("/v1/chat/completions").text(&marked).send().await;
    reply.refused(400, "invalid_request_error", "invalid_body");
    assert!(reply.message().contains("byte order mark"), "{}", reply.message());
}
