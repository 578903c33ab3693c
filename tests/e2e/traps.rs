//! Nothing that a client, a provider or a configuration sends traps the VM. Dropping a gateway checks it; these tests provoke it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Gate, MODEL, Upstream, gateway, provider, responses};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 })
}

fn streamed() -> Value {
    json!({ "model": MODEL, "messages": [], "max_tokens": 8, "stream": true })
}

async fn upstream() -> Upstream {
    Upstream::answering(|_| Answer::json(&responses::chat(5, 3))).await
}

/// Checks that both workers still serve.
async fn still_serves(gate: &Gate) {
    for _ in 0..8 {
        gate.chat(&hello()).send().await.ok();
    }
    gate.assert_no_trap();
}

#[tokio::test]
async fn header_values_are_bytes() {
    let upstream = upstream().await;
    let gate = Gate::start(provider("maxTokensPerDay: 100000") + &gateway("identityHeader: x-agent-id"), &upstream).await;
    let odd: [&[u8]; 5] = [b"\xff\xfe", b"\xc3\x28", b"caf\xc3\xa9", b"\x80", b"a\tb"];
    let names = [
        "authorization",
        "x-api-key",
        "api-key",
        "content-type",
        "content-encoding",
        "x-agent-id",
        "x-pai-provider",
        "cookie",
        "x-anything",
        "user-agent",
        "accept",
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-client-cert",
        "x-envoy-original-path",
        "expect-ct",
    ];
    for name in names {
        for value in odd {
            for request in [gate.chat(&hello()), gate.chat(&hello()).http2()] {
                let reply = request.header(name, value).send().await;
                assert!(reply.status < 500, "{name}: {value:?}\n{}", reply.describe());
            }
            gate.get("/v1/models").header(name, value).send().await;
        }
    }
    for path in [
        "/v1/models/%ff",
        "/v1/models/%c3%28",
        "/v1/models/%00",
        "/v1/models/a%0d%0ax-evil:%201",
        "/v1/models/",
        "/v1/models/%",
        "/%ff",
    ] {
        let reply = gate.get(path).send().await;
        assert!([400, 404].contains(&reply.status), "{path}\n{}", reply.describe());
        assert_eq!(reply.header("x-evil"), None);
    }
    let mut raw = gate.raw().await;
    raw.write(b"GET /v1/models/\xff\xfe HTTP/1.1\r\nhost: \xff\r\n\r\n").await;
    let _ = raw.reply().await;
    still_serves(&gate).await;
}

#[tokio::test]
async fn a_line_break_in_a_model_makes_no_header() {
    let upstream = upstream().await;
    let gate = Gate::start(provider("maxTokensPerDay: 100000"), &upstream).await;
    for model in
        ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "vllm-local/a\r\nx-evil: 1", "a\u{0}b", "\u{7f}", "\u{85}", "\u{2028}"]
    {
        let reply = gate.chat(&json!({ "model": model, "messages": [] })).send().await;
        reply.invalid_body(Some("model"));
        assert_eq!(reply.header("x-evil"), None);
    }
    assert!(upstream.requests().is_empty());
    still_serves(&gate).await;
}

#[tokio::test]
async fn answers_may_be_any_bytes() {
    let heads: Vec<Vec<u8>> = [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-type:\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 3\r\n\r\nda\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 700 Odd\r\ncontent-length: 0\r\n\r\n",
        "HTTP/9.9 200\r\n\r\n",
        "\0\0\0\0",
        "\r\n\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        b"HTTP/1.1 200 OK\r\ncontent-type: \xff\xfe\r\ncontent-encoding: \xff\r\nx-pai-\xff: 1\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-ratelimit-x: \xff\r\nset-cookie: \xc3\x28\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 401 No\r\nwww-authenticate: \xff\r\ncontent-length: 1\r\n\r\n\xff".to_vec(),
        b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n\xff\xfe\0\0".to_vec(),
        [b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-many: y\r\n".repeat(90), b"content-length: 2\r\n\r\n{}".to_vec()].concat(),
    ])
    .collect();
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000000"), &upstream).await;
    for head in heads {
        for body in [hello(), streamed()] {
            let asked = gate.chat(&body).spawn_stream();
            upstream.call().await.answer(Answer::raw(&head).then_close()).await;
            asked.await.unwrap().rest().await;
        }
    }
    gate.used().await;
    let asked = gate.chat(&hello()).spawn_send();
    upstream.call().await.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().ok();
}

#[tokio::test]
async fn streams_may_hold_any_bytes() {
    let mut streams: Vec<Vec<u8>> = [
        "data: {\"usage\":{\"prompt_tokens\":18446744073709551615,\"completion_tokens\":18446744073709551615,\"total_tokens\":5}}\n\n",
        "data: {\"usage\":{\"prompt_tokens\":1e400,\"completion_tokens\":-1}}\n\n",
        "data: {\"usage\":null}\n\ndata: {\"usage\":[]}\n\ndata: {\"usage\":\"\"}\n\n",
        "data: {\"choices\":5,\"usage\":5}\n\n",
        "data: {\"choices\":[{\"delta\":null}],\"usage\":{\n\n",
        "data:\n\ndata\n\n:\n\n\n\n\n\ndata:\r\r\r\n\n",
        "data: [DONE]\n\ndata: [DONE]\n\ndata: {}\n\n",
        "data: {\"a\":\"\\ud800\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\n",
        "\u{feff}data: {}\n\n",
        "data: {}\ndata: {}\n\n",
        "",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    streams.push((0..=255).cycle().take(10_000).collect());
    streams.push(b"data: \xff\xfe{\"usage\":\xff}\n\n".to_vec());
    streams.push(format!("data: {}\n\n", "[".repeat(200_000)).into_bytes());
    streams.push(format!("data: {}\n\n", "{\"usage\":".repeat(50_000)).into_bytes());
    streams.push(b"\n".repeat(100_000));
    streams.push(format!("data: {{\"usage\":{{\"prompt_tokens\":{}}}}}\n\n", "9".repeat(100_000)).into_bytes());
    let upstream = Upstream::scripted().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000000000000"), &upstream).await;
    for stream in &streams {
        for size in [stream.len().max(1), 1000, 17] {
            let asked = gate.chat(&streamed()).spawn_send();
            upstream.call().await.answer(Answer::stream(stream.chunks(size))).await;
            asked.await.unwrap().ok();
        }
        let asked = gate.chat(&hello()).spawn_send();
        upstream.call().await.answer(Answer::new(200, "application/json", stream)).await;
        asked.await.unwrap().ok();
    }
    gate.used().await;
}

#[tokio::test]
async fn a_response_before_the_end_of_the_request_is_no_trap() {
    let upstream = Upstream::scripted().await;
    let gate = Gate::builder()
        .manifests(provider("maxTokensPerDay: 1000"))
        .routing_fixed()
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let body = hello().to_string();
    for at in [0, body.len() / 2, body.len()] {
        let mut raw = gate.raw().await;
        raw.write(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            body.len(),
            &body[..at]
        ))
        .await;
        if at == body.len() {
            upstream.call().await.answer(Answer::error(503, &json!({ "error": {} })).then_close()).await;
            assert_eq!(raw.reply().await.unwrap().status, 503);
        } else {
            raw.reset();
        }
    }
    assert_eq!(gate.used().await, 0);
}

#[tokio::test]
async fn callouts_may_be_answered_anything() {
    let odd = ["", "{", "[]", "{\"data\":5}", "{\"data\":[{\"id\":5,\"max_model_len\":-1},{\"max_model_len\":1e99}]}", "\u{0}"];
    for (status, body) in odd.into_iter().map(|body| (200, body)).chain([(404, "{}"), (401, "{}"), (500, "")]) {
        let callouts = Upstream::answering(move |_| Answer::new(status, "application/json", body)).await;
        let upstream = upstream().await;
        let gate = Gate::builder()
            .manifests(provider("maxTokensPerDay: 100000"))
            .manifests(gateway("callouts: { vllm-local: models-callouts }"))
            .upstream("vllm-local", &upstream)
            .upstream("models", &callouts)
            .start()
            .await;
        e2e::harness::until("the callout was made", async || (!callouts.requests().is_empty()).then_some(())).await;
        still_serves(&gate).await;
    }
    // A cluster that does not exist, and one where nothing listens.
    let upstream = upstream().await;
    let gate = Gate::builder()
        .manifests(provider("maxTokensPerDay: 100000"))
        .manifests(gateway("callouts: { vllm-local: nowhere }"))
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    still_serves(&gate).await;
    let gate = Gate::builder()
        .manifests(provider("maxTokensPerDay: 100000"))
        .manifests(gateway("callouts: { vllm-local: missing-callouts }"))
        .upstream("vllm-local", &upstream)
        .address("anonymous", Upstream::unreachable_address().await)
        .start()
        .await;
    still_serves(&gate).await;
}

#[tokio::test]
async fn clients_may_leave_at_any_time() {
    let upstream = upstream().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000000"), &upstream).await;
    let body = hello().to_string();
    let whole = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for at in (0..=whole.len()).step_by(9) {
        let mut raw = gate.raw().await;
        raw.write(&whole[..at]).await;
        raw.reset();
        let mut raw = gate.raw().await;
        raw.write(&whole[..at]).await;
        let _ = raw.shut().await;
    }
    gate.used().await;
    still_serves(&gate).await;
}

#[tokio::test]
async fn configurations_may_be_anything() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let deep = "[".repeat(5000);
    let aliases = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    for odd in [
        "",
        "---",
        "null",
        "5",
        "\u{0}",
        "{",
        "- a",
        "&a [*a]",
        "!!binary x",
        "? x",
        "%YAML 9.9\n---\n",
        "\t",
        deep.as_str(),
        aliases,
        "{\"items\": 5}",
        "{\"items\": [5]}",
        "{\"items\": []}\n---\n{}",
    ] {
        let _ = gate.reconfigure(odd).await;
    }
    gate.reconfigure(provider("maxTokensPerDay: 7000")).await.unwrap();
    e2e::harness::until("the last configuration is in force", async || {
        (gate.provider("vllm-local").await.max_tokens_per_day == Some(7000)).then_some(())
    })
    .await;
    still_serves(&gate).await;
}
