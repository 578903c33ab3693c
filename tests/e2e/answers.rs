//! Responses: their charges, and that they reach the client as the provider sent them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Gate, MODEL, Reply, Request, Rng, TextKind, Upstream, gateway, provider, responses, until};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const CAPPED: &str = "maxTokensPerDay: 1000000";

fn hello() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello, world!" }], "max_tokens": 8 })
}

fn streamed() -> Value {
    let mut body = hello();
    body["stream"] = json!(true);
    body
}

async fn capped(upstream: &Upstream) -> Gate {
    Gate::start(provider(CAPPED), upstream).await
}

/// A gateway with a scripted provider; returns the charge of each response.
struct ChargeMeter {
    upstream: Upstream,
    gate: Gate,
}

impl ChargeMeter {
    async fn open() -> Self {
        let upstream = Upstream::scripted().await;
        let gate = capped(&upstream).await;
        Self { upstream, gate }
    }

    /// Returns the charge of one request with this response, and the client's response.
    async fn charged(&self, answer: Answer, ask: impl Fn(&Gate) -> Request) -> (u64, Reply) {
        let before = self.gate.used().await;
        let asked = ask(&self.gate).spawn_send();
        self.upstream.call().await.answer(answer).await;
        let reply = asked.await.unwrap();
        (self.gate.used().await - before, reply)
    }
}

async fn charged(answer: Answer, ask: impl Fn(&Gate) -> Request) -> (u64, Reply) {
    ChargeMeter::open().await.charged(answer, ask).await
}

fn chat(gate: &Gate) -> Request {
    gate.chat(&hello())
}

fn stream(gate: &Gate) -> Request {
    gate.chat(&streamed())
}

// === JSON responses ===

#[tokio::test]
async fn an_answer_is_charged_what_its_usage_says() {
    let meter = ChargeMeter::open().await;
    let tool = json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "call_1", "type": "function",
        "function": { "name": "f", "arguments": "{\"usage\":{\"total_tokens\":999999}}" } }] });
    let mut with_tool = responses::chat(29, 17);
    with_tool["choices"][0]["message"] = tool;
    let mut reasoning = responses::chat(29, 40);
    reasoning["choices"][0]["message"]["reasoning"] = json!("hm \"usage\":{\"prompt_tokens\":1}");
    reasoning["usage"]["completion_tokens_details"] = json!({ "reasoning_tokens": 33 });
    let mut two = responses::chat(29, 16);
    two["choices"] = json!([two["choices"][0], two["choices"][0]]);
    let mut last = responses::chat(7, 2);
    last["logprobs_tail"] = json!("x".repeat(200_000));
    for (answer, total) in [(responses::chat(29, 8), 37), (with_tool, 46), (reasoning, 69), (two, 45), (last, 9)] {
        let (used, reply) = meter.charged(Answer::json(&answer), chat).await;
        assert_eq!(used, total);
        assert_eq!(reply.ok().body, answer.to_string());
    }
    let (used, _) = meter
        .charged(Answer::json(&responses::completion(12, 32)), |gate| {
            gate.post("/v1/completions").json(&json!({ "model": MODEL, "prompt": ["a", "b"], "n": 2, "max_tokens": 8 }))
        })
        .await;
    assert_eq!(used, 44);
    let (used, _) = meter
        .charged(Answer::json(&responses::embedding(11)), |gate| {
            gate.post("/v1/embeddings").json(&json!({ "model": MODEL, "input": ["a", "b"] }))
        })
        .await;
    assert_eq!(used, 11);
}

#[tokio::test]
async fn an_answer_in_chunks_is_charged_the_same() {
    let answer = responses::chat(29, 8).to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
    let upstream = Upstream::scripted().await;
    let gate = capped(&upstream).await;
    let asked = gate.chat(&hello()).spawn_send();
    let mut call = upstream.call().await;
    call.send(&head).await;
    for piece in answer.as_bytes().chunks(3) {
        call.send(piece).await;
    }
    assert_eq!(asked.await.unwrap().ok().text(), answer);
    assert_eq!(gate.used().await, 37);
}

#[tokio::test]
async fn an_answer_without_usage_is_charged_an_estimate() {
    let meter = ChargeMeter::open().await;
    let mut silent = responses::chat(0, 0);
    silent.as_object_mut().unwrap().shift_remove("usage");
    let mut null = silent.clone();
    null["usage"] = Value::Null;
    let garbage = json!({ "usage": { "prompt_tokens": "many", "total_tokens": -4, "completion_tokens": 1e99 } });
    for answer in [silent, null, garbage] {
        let (used, reply) = meter.charged(Answer::json(&answer), chat).await;
        assert_eq!(reply.ok().body, answer.to_string());
        assert!((1..200).contains(&used), "{used} for {answer}");
    }
    for body in ["", "not json", "{\"usage\":{\"total_tokens\":", "\0\u{7f}"] {
        let (used, reply) = meter.charged(Answer::new(200, "application/json", body), chat).await;
        assert_eq!(reply.ok().text(), body);
        assert!((1..200).contains(&used), "{used} for {body:?}");
    }
}

#[tokio::test]
async fn the_largest_report_is_charged_also_if_it_is_written_as_a_float() {
    let meter = ChargeMeter::open().await;
    let events =
        [responses::role(None), responses::delta("a", Some((10, 5))), responses::final_usage(0, 0), responses::DONE.to_owned()];
    assert_eq!(meter.charged(Answer::stream(&events), stream).await.0, 15);
    let float = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2000.0,"total_tokens":2010.0}}"#;
    assert_eq!(meter.charged(Answer::new(200, "application/json", float), chat).await.0, 2010);
    assert_eq!(meter.charged(Answer::stream([format!("data: {float}\n\n"), responses::DONE.to_owned()]), stream).await.0, 2010);
}

#[tokio::test]
async fn a_long_answer_without_usage_is_charged_about_what_it_has() {
    let meter = ChargeMeter::open().await;
    let text = TextKind::English.text(38_000, &mut Rng::new(1));
    assert!((7900..8200).contains(&text.split(' ').count()), "about 8,000 words");
    let mut whole = responses::chat_of(&text, Value::Null);
    whole.as_object_mut().unwrap().shift_remove("usage");
    let delta = [responses::role(None), responses::delta(&text, None), responses::finish(None), responses::DONE.to_owned()];
    for (answer, is_stream) in [(Answer::json(&whole), false), (Answer::stream(&delta), true)] {
        let ask = if is_stream { stream } else { chat };
        let (used, reply) = meter.charged(answer, ask).await;
        reply.ok();
        let expected = TextKind::English.tokens(&text);
        assert!((expected * 7 / 10..=expected * 13 / 10).contains(&used), "{used} for {expected}");
    }
}

#[tokio::test]
async fn an_encoded_answer_passes_and_is_charged_an_estimate() {
    let meter = ChargeMeter::open().await;
    let bytes: Vec<u8> = [0x1f, 0x8b, 8, 0].into_iter().chain((0..=255).cycle().take(5000)).collect();
    for media in ["application/json", "text/event-stream"] {
        let answer = Answer::with_headers(200, &[("content-type", media), ("content-encoding", "gzip")], &bytes);
        let (used, reply) = meter.charged(answer, if media == "application/json" { chat } else { stream }).await;
        assert_eq!(reply.ok().body, bytes);
        assert_eq!(reply.header("content-encoding"), Some("gzip"));
        assert!(used >= 1);
    }
}

#[tokio::test]
async fn a_providers_own_refusal_passes_and_costs_nothing() {
    let meter = ChargeMeter::open().await;
    for status in [400, 404, 408, 409, 422, 429, 500, 501, 503] {
        let body = json!({ "error": { "message": "no", "type": "BadRequestError", "param": null, "code": status } });
        let (used, reply) = meter.charged(Answer::error(status, &body), chat).await;
        assert_eq!((used, reply.status), (0, status));
        assert_eq!(reply.body, body.to_string());
    }
}

#[tokio::test]
async fn headers_of_the_provider_that_are_the_gateways_are_dropped() {
    let headers = [
        ("content-type", "application/json"),
        ("x-ratelimit-limit-requests", "5"),
        ("x-ratelimit-remaining-tokens", "999999"),
        ("x-pai-anything", "x"),
        ("x-pai-provider", "other"),
        ("set-cookie", "a=b"),
        ("openai-organization", "org"),
        ("x-request-id", "kept"),
        ("openai-processing-ms", "7"),
    ];
    let body = responses::chat(5, 3).to_string();
    let answer = Answer::with_headers(200, &headers, &body);
    let upstream = Upstream::answering(move |_| answer.clone()).await;
    let gate = Gate::start(provider(""), &upstream).await;
    let reply = gate.chat(&hello()).send().await;
    reply.ok();
    for dropped in
        ["x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens", "x-pai-anything", "set-cookie", "openai-organization"]
    {
        assert_eq!(reply.header(dropped), None);
    }
    assert_eq!((reply.header("x-request-id"), reply.header("openai-processing-ms")), (Some("kept"), Some("7")));
    let provider: Vec<_> = reply.headers.get_all("x-pai-provider").iter().collect();
    assert_eq!(provider, ["vllm-local"]);
    assert_eq!(reply.header("x-pai-model"), Some(MODEL));
}

// === streams ===

#[tokio::test]
async fn usage_that_was_not_asked_for_is_hidden() {
    let words = ["Hel", "lo", " \u{e9}\u{1f600}", " {\"usage\":{\"total_tokens\":5}}", ""];
    let upstream = Upstream::answering(move |_| Answer::stream(responses::stream(&words, 29, true))).await;
    let gate = capped(&upstream).await;
    let plain = responses::stream(&words, 29, false).concat();
    let all = responses::stream(&words, 29, true).concat();
    let last_only = plain.replace(responses::DONE, &(responses::final_usage(29, 5) + responses::DONE));
    let cases = [
        (Value::Null, &plain),
        (json!({}), &plain),
        (json!({ "include_usage": false }), &plain),
        (json!({ "continuous_usage_stats": true }), &plain),
        (json!({ "include_usage": true }), &last_only),
        (json!({ "include_usage": true, "continuous_usage_stats": true }), &all),
    ];
    for (count, (options, expected)) in cases.iter().enumerate() {
        let mut body = streamed();
        body["stream_options"] = options.clone();
        for request in [gate.chat(&body), gate.chat(&body).http2()] {
            // vLLM writes `"usage":null` into no event; neither does the gateway.
            assert_eq!(&&request.send().await.ok().text(), expected, "{options}");
        }
        assert_eq!(gate.used().await, (count as u64 + 1) * 2 * 34);
    }
}

#[tokio::test]
async fn a_stream_may_be_cut_anywhere() {
    let words = ["a\u{e9}", "\u{1f600}b"];
    let sent = responses::stream(&words, 29, true).concat().into_bytes();
    let expected = responses::stream(&words, 29, false).concat();
    let upstream = Upstream::scripted().await;
    let gate = capped(&upstream).await;
    let cuts = (1..sent.len()).step_by(13).map(|at| vec![&sent[..at], &sent[at..]]);
    let all = cuts.chain([sent.chunks(1).collect(), sent.chunks(2).collect(), sent.chunks(7).collect()]);
    let mut total = 0;
    for pieces in all {
        let asked = gate.chat(&streamed()).spawn_send();
        upstream.call().await.answer(Answer::stream(pieces)).await;
        assert_eq!(asked.await.unwrap().ok().text(), expected);
        total += 31;
    }
    assert_eq!(gate.used().await, total);
}

#[tokio::test]
async fn an_event_is_not_held_back() {
    let upstream = Upstream::scripted().await;
    let gate = capped(&upstream).await;
    for http2 in [false, true] {
        let request = gate.chat(&streamed());
        let asked = if http2 { request.http2() } else { request }.spawn_stream();
        let mut call = upstream.call().await;
        call.start_stream().await.chunk(responses::role(Some((5, 0)))).await;
        let mut answer = asked.await.unwrap();
        assert_eq!(answer.event().await, Some(responses::role(None)));
        for count in 1..20 {
            // The next event is not written before the client has received this one.
            call.chunk(responses::delta("x", Some((5, count)))).await;
            assert_eq!(answer.event().await, Some(responses::delta("x", None)));
        }
        // Two and a half events in one chunk: two are forwarded, the half is held until it is complete.
        let half = responses::delta("half", Some((5, 22)));
        let (left, right) = half.split_at(half.len() / 2);
        call.chunk(responses::delta("y", Some((5, 20))) + &responses::delta("z", Some((5, 21))) + left).await;
        assert_eq!(answer.event().await, Some(responses::delta("y", None)));
        assert_eq!(answer.event().await, Some(responses::delta("z", None)));
        call.chunk(right).await.chunk(responses::final_usage(5, 22)).await.chunk(responses::DONE).await;
        call.end().await;
        assert_eq!(answer.rest().await.text(), responses::delta("half", None) + responses::DONE);
    }
    assert_eq!(gate.used().await, 54);
}

#[tokio::test]
async fn a_stream_that_the_client_aborts_is_charged_what_was_generated() {
    let upstream = Upstream::scripted().await;
    let gate = capped(&upstream).await;
    for (round, http2) in [false, true].into_iter().enumerate() {
        let request = gate.chat(&streamed());
        let asked = if http2 { request.http2() } else { request }.spawn_stream();
        let mut call = upstream.call().await;
        call.start_stream().await.chunk(responses::role(Some((29, 0)))).await.chunk(responses::delta("a", Some((29, 1)))).await;
        let mut answer = asked.await.unwrap();
        answer.event().await.unwrap();
        answer.event().await.unwrap();
        assert!(gate.provider("vllm-local").await.reserved >= 30);
        answer.abort().await;
        call.aborted().await;
        assert_eq!(gate.used().await, 30 * (round as u64 + 1));
    }
}

#[tokio::test]
async fn a_request_that_the_client_cuts_before_an_answer_is_charged_its_prompt() {
    let upstream = Upstream::scripted().await;
    let gate = capped(&upstream).await;
    let asked = gate.chat(&hello()).http2().spawn_stream();
    let call = upstream.call().await;
    let mut raw = gate.raw().await;
    let body = hello().to_string();
    raw.write(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let second = upstream.call().await;
    raw.reset();
    second.aborted().await;
    let half = until("one request is settled", async || {
        let state = gate.provider("vllm-local").await;
        (state.used_today > 0).then_some(state.used_today)
    })
    .await;
    assert!(half < 100, "{half} for the prompt");
    call.answer(Answer::json(&responses::chat(5, 3))).await;
    asked.await.unwrap().rest().await.ok();
    assert_eq!(gate.used().await, half + 8);
}

#[tokio::test]
async fn a_stream_that_the_provider_cuts_off_is_charged_what_was_generated() {
    let meter = ChargeMeter::open().await;
    let events = || responses::stream(&["a", "b", "c"], 29, true);
    let half = responses::delta("half", Some((29, 4)));
    let half = &half[..half.len() / 2];
    for (answer, whole) in [
        (Answer::stream(&events()[..3]).unfinished().then_close(), "closed"),
        (Answer::stream(&events()[..3]).unfinished().then_reset(), "reset"),
        (Answer::stream([events()[..3].concat().as_str(), half]).unfinished().then_close(), "closed in an event"),
    ] {
        let (used, reply) = meter.charged(answer, stream).await;
        assert_eq!(used, 31, "{whole}");
        assert!(responses::stream(&["a", "b", "c"], 29, false).concat().starts_with(&reply.text()), "{}", reply.describe());
    }
    let (used, reply) = meter.charged(Answer::stream([&events()[..3].concat(), half]), stream).await;
    assert_eq!((used, reply.cut), (31, false), "ended in an event");
}

#[tokio::test]
async fn a_provider_that_closes_without_a_response_is_charged_the_prompt() {
    let (used, reply) = charged(Answer::raw("").then_close(), chat).await;
    reply.refused(503, "server_error", "upstream_unavailable");
    assert!((1..100).contains(&used), "{used}");
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_passes() {
    let events = |usage: bool| {
        let at = |count| usage.then_some((29, count));
        [
            responses::role(at(0)),
            responses::delta("a", at(1)),
            responses::stream_error("CUDA \"usage\" error"),
            responses::DONE.to_owned(),
        ]
    };
    let (used, reply) = charged(Answer::stream(events(true)), stream).await;
    assert_eq!(reply.ok().text(), events(false).concat());
    assert_eq!(used, 30);
}

#[tokio::test]
async fn a_stream_without_usage_is_charged_the_forwarded_deltas() {
    let (used, reply) = charged(Answer::stream(responses::stream(&["a", "b", "c"], 29, false)), stream).await;
    assert_eq!(reply.ok().text(), responses::stream(&["a", "b", "c"], 29, false).concat());
    assert!((4..200).contains(&used), "{used}");
}

#[tokio::test]
async fn tool_calls_and_reasoning_count_like_text() {
    let event = |delta: Value, count: u64| {
        let event = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
        let usage = json!({ "prompt_tokens": 29, "total_tokens": 29 + count, "completion_tokens": count });
        let mut with = event.clone();
        with["usage"] = usage;
        (format!("data: {with}\n\n"), format!("data: {event}\n\n"))
    };
    let events = [
        event(json!({ "reasoning": "hm" }), 1),
        event(
            json!({ "tool_calls": [{ "index": 0, "id": "x", "type": "function", "function": { "name": "f", "arguments": "" } }] }),
            2,
        ),
        event(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{\"usage\":null}" } }] }), 3),
    ];
    let sent: Vec<&String> = events.iter().map(|(with, _)| with).collect();
    let expected: String = events.iter().map(|(_, without)| without.as_str()).collect();
    let (used, reply) = charged(Answer::stream(sent), stream).await;
    assert_eq!(reply.ok().text(), expected);
    assert_eq!(used, 32);
}

#[tokio::test]
async fn any_line_ending_will_do() {
    let meter = ChargeMeter::open().await;
    for (ending, prefix) in [("\r\n", "data: "), ("\r", "data: "), ("\n", "data:"), ("\r\n", "data:")] {
        let write = |events: Vec<String>| events.concat().replace("data: ", prefix).replace('\n', ending);
        let sent = write(responses::stream(&["a", "b"], 29, true));
        let (used, reply) = meter.charged(Answer::stream(sent.as_bytes().chunks(5)), stream).await;
        assert_eq!(used, 31, "{ending:?} {prefix:?}");
        assert_eq!(reply.ok().text(), write(responses::stream(&["a", "b"], 29, false)), "{ending:?} {prefix:?}");
    }
}

#[tokio::test]
async fn comments_and_other_fields_pass() {
    let sent = [
        ": keep-alive\n\n",
        "event: x\nid: 7\nretry: 5\n",
        &responses::delta("a", Some((29, 1))),
        ":\n",
        "unknown\n\n",
        responses::DONE,
    ]
    .concat();
    let expected = sent.replace(&responses::delta("a", Some((29, 1))), &responses::delta("a", None));
    let (used, reply) = charged(Answer::stream([sent]), stream).await;
    assert_eq!(reply.ok().text(), expected);
    assert_eq!(used, 30);
}

#[tokio::test]
async fn a_very_long_event_is_not_gathered() {
    let long = responses::delta(&"x".repeat(1_000_000), None);
    let upstream = Upstream::scripted().await;
    let gate = capped(&upstream).await;
    let asked = gate.chat(&streamed()).spawn_stream();
    let mut call = upstream.call().await;
    let (left, right) = long.split_at(900_000);
    call.start_stream().await.chunk(left).await;
    let mut answer = asked.await.unwrap();
    let mut got = Vec::new();
    while got.len() < 500_000 {
        got.extend_from_slice(&answer.next().await.expect("the line passes while it comes"));
    }
    call.chunk(right).await.chunk(responses::final_usage(29, 3)).await.chunk(responses::DONE).await;
    call.end().await;
    got.extend_from_slice(&answer.rest().await.body);
    assert!(got == (long + responses::DONE).as_bytes(), "the line was changed: {} bytes", got.len());
    assert_eq!(gate.used().await, 32);
}

#[tokio::test]
async fn response_trailers_pass_and_drop_what_is_unfinished() {
    let upstream = Upstream::scripted().await;
    let gate = capped(&upstream).await;
    let asked = gate.chat(&streamed()).http2().spawn_send();
    let mut call = upstream.call().await;
    call.start_stream().await.chunk(responses::delta("a", Some((29, 1)))).await.chunk("data: {\"choi").await;
    call.end_with_trailer("x-end", "yes").await;
    let reply = asked.await.unwrap();
    assert_eq!(reply.ok().text(), responses::delta("a", None));
    assert_eq!(reply.trailers.unwrap()["x-end"], "yes");
    assert_eq!(gate.used().await, 30);

    let asked = gate.chat(&hello()).http2().spawn_send();
    let mut call = upstream.call().await;
    let answer = responses::chat(29, 8).to_string();
    call.start(200, "application/json").await.chunk(&answer).await;
    call.end_with_trailer("x-end", "yes").await;
    assert_eq!(asked.await.unwrap().ok().text(), answer);
    assert_eq!(gate.used().await, 67);
}

#[tokio::test]
async fn other_dialects_are_asked_for_usage_at_the_end_only() {
    let words = ["a", "b"];
    let finished = move || {
        responses::stream(&words, 29, false).concat().replace(responses::DONE, &(responses::final_usage(29, 2) + responses::DONE))
    };
    let upstream = Upstream::answering(move |_| Answer::stream([finished()])).await;
    let manifest = provider(CAPPED).replace("provider: vllm", "provider: openai");
    let gate = Gate::start(manifest, &upstream).await;
    let reply = gate.chat(&streamed()).send().await;
    assert_eq!(upstream.last().json()["stream_options"], json!({ "include_usage": true }));
    assert_eq!(reply.ok().text(), responses::stream(&words, 29, false).concat());
    assert_eq!(gate.used().await, 31);
    let mut body = streamed();
    body["stream_options"] = json!({ "include_usage": true });
    assert_eq!(gate.chat(&body).send().await.ok().text(), finished());
}

/// The header names that a page at an allowed origin needs, and what it must not see.
#[tokio::test]
async fn a_web_page_reads_answers_if_its_origin_is_allowed() {
    const PAGE: &str = "https://chat.example.com";
    const ALLOWED: &str = "access-control-allow-origin";
    let own = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\nvary: accept\r\n";
    let body = responses::chat(5, 3).to_string();
    let answer = format!("{own}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let upstream = Upstream::answering(move |_| Answer::raw(&answer)).await;
    let gate = Gate::start(provider("") + &gateway(&format!("cors: {{ allowOrigins: ['{PAGE}'], maxAge: 60 }}")), &upstream).await;
    let preflight = |origin: &str| {
        gate.request("OPTIONS", CHAT)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
    };
    for request in [preflight(PAGE), preflight(PAGE).http2()] {
        let reply = request.send().await;
        assert_eq!((reply.status, reply.text().as_str()), (204, ""), "{}", reply.describe());
        for (name, value) in [
            (ALLOWED, PAGE),
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-allow-headers", "authorization,content-type"),
            ("access-control-max-age", "60"),
            ("vary", "Origin"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{}", reply.describe());
        }
    }
    let refused = preflight("https://evil.test").send().await;
    assert_eq!(refused.refused(404, "invalid_request_error", "unknown_url").header(ALLOWED), None);

    for (origin, allowed) in [(PAGE, Some(PAGE)), ("https://evil.test", None), ("null", None)] {
        let served = gate.chat(&hello()).header("origin", origin).send().await;
        assert_eq!(
            (served.ok().header(ALLOWED), served.header("vary")),
            (allowed, Some("accept, Origin")),
            "{}",
            served.describe()
        );
        assert_eq!((served.header("access-control-allow-credentials"), upstream.last().header("origin")), (None, None));
        let exposed = served.header("access-control-expose-headers").unwrap_or_default();
        assert_eq!(exposed.contains("x-pai-provider"), allowed.is_some(), "{}", served.describe());
        for request in [gate.get("/v1/models"), gate.get("/v1/other"), gate.post(CHAT).text("{}")] {
            let reply = request.header("origin", origin).send().await;
            assert_eq!((reply.header(ALLOWED), reply.header("vary")), (allowed, Some("Origin")), "{}", reply.describe());
        }
    }

    gate.reconfigure(provider("")).await.unwrap();
    let served = gate.chat(&hello()).header("origin", PAGE).send().await;
    assert_eq!((served.ok().header(ALLOWED), upstream.last().header("origin")), (None, None), "{}", served.describe());
    gate.reconfigure(provider("") + &gateway("cors: { allowOrigins: ['*'] }")).await.unwrap();
    assert_eq!(gate.chat(&hello()).header("origin", PAGE).send().await.ok().header(ALLOWED), Some("*"));
    assert_eq!(gate.logs().matches("`cors.allowOrigins` contains `*`").count(), 1);
}
