//! Requests: the governed paths, how bodies are parsed, which check rejects them, and how they are rewritten.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use e2e::harness::{Answer, Gate, MODEL, SLASHED, Upstream, gateway, provider, responses};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello, world!" }], "max_tokens": 8 })
}

async fn upstream() -> Upstream {
    Upstream::answering(|request| {
        Answer::json(&match request.path.as_str() {
            "/v1/embeddings" => responses::embedding(5),
            "/v1/completions" => responses::completion(5, 3),
            _ => responses::chat(5, 3),
        })
    })
    .await
}

// === paths ===

#[tokio::test]
async fn governed_paths_are_rewritten_to_their_canonical_form() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    for path in [
        CHAT,
        "/v1/chat/completions?api-version=1",
        "/v1/chat%2Fcompletions",
        "/v1/chat%2fcompletions",
        "/v1/%63hat/completions",
        "/%76%31/chat/completions",
    ] {
        gate.post(path).json(&hello()).send().await.ok();
        assert_eq!(upstream.last().path, CHAT, "{path}");
    }
    gate.post("/v1/completions").json(&json!({ "model": MODEL, "prompt": "Hi" })).send().await.ok();
    assert_eq!(upstream.last().path, "/v1/completions");
    gate.post("/v1/embeddings").json(&json!({ "model": MODEL, "input": ["Hi"] })).send().await.ok();
    assert_eq!(upstream.last().path, "/v1/embeddings");
}

#[tokio::test]
async fn all_other_paths_are_unknown() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let cases = [
        ("POST", "/v1/chat/completions/"),
        ("POST", "/V1/chat/completions"),
        ("POST", "/v1/Chat/completions"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1//chat/completions"),
        ("POST", "/v1/./chat/completions"),
        ("POST", "/v1/x/../chat/completions"),
        ("POST", "/v1/%2e/chat/completions"),
        ("POST", "/v1/chat%252Fcompletions"),
        ("POST", "/v1/chat/completions;x=1"),
        ("POST", "/v1/chat/completions%00"),
        ("POST", "/v1/chat/completions%3Fx"),
        ("POST", "/v1/chat/completions%"),
        ("POST", "/v1/chat/completions%zz"),
        ("POST", "/v1/chat/completions/batch"),
        ("POST", "/v1/chat/completions/render"),
        ("POST", "/invocations"),
        ("POST", "/tokenize"),
        ("POST", "/pooling"),
        ("POST", "/inference/v1/generate"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/models"),
        ("POST", "/"),
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", CHAT),
        ("PUT", CHAT),
        ("DELETE", CHAT),
        ("OPTIONS", CHAT),
        ("PATCH", CHAT),
        ("GET", "/v1/completions"),
        ("GET", "/v1/embeddings"),
    ];
    for (method, path) in cases {
        for request in [gate.request(method, path), gate.request(method, path).http2()] {
            request.send().await.refused(404, "invalid_request_error", "unknown_url");
        }
    }
    assert!(upstream.requests().is_empty());
}

// === parsing bodies ===

/// Returns a chat body with these additional members.
fn with(members: &str) -> String {
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"Hi"}}],{members}}}"#)
}

#[tokio::test]
async fn a_governed_field_is_read_strictly() {
    let cases: Vec<(String, &str)> = [
        (r#""max_tokens":"5""#, "max_tokens"),
        (r#""max_tokens":5.5"#, "max_tokens"),
        (r#""max_tokens":1e-1"#, "max_tokens"),
        (r#""max_tokens":true"#, "max_tokens"),
        (r#""max_tokens":[5]"#, "max_tokens"),
        (r#""max_tokens":0"#, "max_tokens"),
        (r#""max_tokens":-1"#, "max_tokens"),
        (r#""max_tokens":9223372036854775808"#, "max_tokens"),
        (r#""max_completion_tokens":"5""#, "max_completion_tokens"),
        (r#""max_completion_tokens":0"#, "max_completion_tokens"),
        (r#""max_tokens":5,"max_tokens":5"#, "max_tokens"),
        (r#""max_tokens":5,"max_t\u006fkens":6"#, "max_tokens"),
        (r#""n":"2""#, "n"),
        (r#""n":0"#, "n"),
        (r#""n":2.5"#, "n"),
        (r#""n":-3"#, "n"),
        (r#""n":1,"n":8"#, "n"),
        (r#""stream":"yes""#, "stream"),
        (r#""stream":1"#, "stream"),
        (r#""stream":"true""#, "stream"),
        (r#""stream":true,"stream":false"#, "stream"),
        (r#""stream":true,"stream_options":"x""#, "stream_options"),
        (r#""stream":true,"stream_options":[]"#, "stream_options"),
        (r#""messages":[]"#, "messages"),
        (r#""mod\u0065l":"other""#, "model"),
        (r#""kv_transfer_params":{}"#, "kv_transfer_params"),
        (r#""kv_transfer_params":{"prompt_token_ids":[1]}"#, "kv_transfer_params"),
        (r#""kv_transfer_p\u0061rams":{"a":1}"#, "kv_transfer_params"),
        (r#""ec_transfer_params":{"a":1}"#, "ec_transfer_params"),
        (r#""use_beam_search":true"#, "use_beam_search"),
        (r#""use_beam_search":"true""#, "use_beam_search"),
        (r#""use_beam_search":1"#, "use_beam_search"),
        (r#""prompt_embeds":"AAAA""#, "prompt_embeds"),
        (r#""priority":1"#, "priority"),
        (r#""priority":-1"#, "priority"),
        (r#""priority":"0""#, "priority"),
        (r#""priority":1e-400"#, "priority"),
    ]
    .map(|(members, param)| (with(members), param))
    .into();
    let models = [
        r#"{"messages":[]}"#,
        r#"{"model":null,"messages":[]}"#,
        r#"{"model":"","messages":[]}"#,
        r#"{"model":5,"messages":[]}"#,
        r#"{"model":["a"],"messages":[]}"#,
        r#"{"model":"a b","messages":[]}"#,
        r#"{"model":"a\nb","messages":[]}"#,
        r#"{"model":"a\r\nx-evil: 1","messages":[]}"#,
        r#"{"model":"modèle","messages":[]}"#,
        r#"{"model":"a\u0000","messages":[]}"#,
        r#"{"Model":"a","messages":[]}"#,
    ];
    let long = format!(r#"{{"model":"{}","messages":[]}}"#, "m".repeat(257));
    let models = models.into_iter().map(str::to_owned).chain([long]).map(|body| (body, "model"));
    let others = [
        (format!(r#"{{"model":"{MODEL}"}}"#), "messages"),
        (format!(r#"{{"model":"{MODEL}","messages":"Hi"}}"#), "messages"),
        (format!(r#"{{"model":"{MODEL}","messages":null}}"#), "messages"),
    ];
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    for (body, param) in cases.into_iter().chain(models).chain(others) {
        let reply = gate.post(CHAT).text(&body).send().await;
        assert_eq!(reply.json()["error"]["param"].as_str(), Some(param), "{body}\n{}", reply.describe());
        reply.invalid_body(Some(param));
    }
    for (path, body, param) in [
        ("/v1/completions", r#""prompt":5"#, "prompt"),
        ("/v1/completions", r#""prompt":{}"#, "prompt"),
        ("/v1/completions", r#""prompt":"a","prompt":"b""#, "prompt"),
        ("/v1/completions", r#""prompt":["a",["b"]]"#, "prompt"),
        ("/v1/completions", r#""prompt":"a","prompt_embeds":"AAAA""#, "prompt_embeds"),
        ("/v1/embeddings", r#""x":1"#, "input"),
        ("/v1/embeddings", r#""input":true"#, "input"),
    ] {
        let reply = gate.post(path).text(format!(r#"{{"model":"{MODEL}",{body}}}"#)).send().await;
        assert_eq!(reply.json()["error"]["param"].as_str(), Some(param), "{body}\n{}", reply.describe());
        reply.invalid_body(Some(param));
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_body_is_one_strict_object() {
    let good = hello().to_string();
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf32: Vec<u8> = good.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    let bodies: Vec<Vec<u8>> =
        ["", " ", "null", "[]", "\"x\"", "5", "{", "{}x", "{\"model\"}", "{'model':'a'}", "{\"model\":\"a\",}", "{,}", "// x\n{}"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .chain([
                utf16.clone(),
                [b"\xff\xfe".to_vec(), utf16].concat(),
                utf32,
                format!("\u{feff}{good}").into_bytes(),
                format!("{good}x").into_bytes(),
                good.repeat(2).into_bytes(),
                format!("{good}\0").into_bytes(),
                with(r#""temperature":NaN"#).into_bytes(),
                with(r#""temperature":Infinity"#).into_bytes(),
                with(r#""temperature":-Infinity"#).into_bytes(),
                with(r#""temperature":01"#).into_bytes(),
                with(r#""temperature":.5"#).into_bytes(),
                with(r#""temperature":1."#).into_bytes(),
                with(r#""temperature":+1"#).into_bytes(),
                with(r#""x":tru"#).into_bytes(),
                with("\"x\":\"a\nb\"").into_bytes(),
                with(r#""x":"\q""#).into_bytes(),
                with(r#""x":"\u12""#).into_bytes(),
                [with(r#""x":""#).trim_end_matches('}').as_bytes(), b"\xff\"}"].concat(),
                [with(r#""x":""#).trim_end_matches('}').as_bytes(), b"\xc0\xaf\"}"].concat(),
                [with(r#""x":""#).trim_end_matches('}').as_bytes(), b"\xed\xa0\x80\"}"].concat(),
                with(&format!(r#""x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000))).into_bytes(),
                with(&format!(r#""x":{}"#, r#"{"a":"#.repeat(100_000))).into_bytes(),
            ])
            .collect();
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    for body in &bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        for request in [gate.post(CHAT).text(body), gate.post(CHAT).text(body).http2().trailer("x-end", "1")] {
            let reply = request.send().await;
            assert_eq!(reply.status, 400, "{shown}\n{}", reply.describe());
            reply.refused(400, "invalid_request_error", "invalid_body");
        }
    }
    let nested = with(&format!(r#""x":{}{}"#, "[".repeat(30), "]".repeat(30)));
    gate.post(CHAT).text(nested).send().await.ok();
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_request_without_a_body_is_refused_at_once() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    gate.post(CHAT).header("content-type", "application/json").send().await.invalid_body(None);
    gate.post(CHAT).header("content-type", "application/json").http2().send().await.invalid_body(None);
    gate.post(CHAT).text("").http2().trailer("x-end", "1").send().await.invalid_body(None);
    let mut raw = gate.raw().await;
    raw.write("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\r\n").await;
    raw.reply().await.unwrap().invalid_body(None);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn the_media_type_is_json() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let body = hello().to_string();
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/json-patch+json",
        "multipart/form-data",
        "json",
        "",
    ] {
        gate.post(CHAT).header("content-type", media).body(&body).send().await.refused(
            400,
            "invalid_request_error",
            "invalid_body",
        );
    }
    gate.post(CHAT).body(&body).send().await.refused(400, "invalid_request_error", "invalid_body");
    assert!(upstream.requests().is_empty());
    for media in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"] {
        gate.post(CHAT).header("content-type", media).body(&body).send().await.ok();
    }
}

#[tokio::test]
async fn encoded_requests_are_refused() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    for encoding in ["gzip", "br", "deflate", "zstd", "GZIP", "identity, gzip", "x"] {
        let reply = gate.chat(&hello()).header("content-encoding", encoding).send().await;
        reply.refused(415, "invalid_request_error", "unsupported_encoding");
    }
    assert!(upstream.requests().is_empty());
    gate.chat(&hello()).header("content-encoding", "identity").send().await.ok();
}

#[tokio::test]
async fn a_body_may_be_cut_anywhere() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let body = hello().to_string();
    for at in 1..body.len() {
        let (left, right) = body.split_at(at);
        gate.post(CHAT).chunked([left, right]).send().await.ok();
        assert_eq!(upstream.last().text(), body, "cut at {at}");
    }
    let bytes = || body.as_bytes().chunks(1);
    gate.post(CHAT).chunked(bytes()).send().await.ok();
    gate.post(CHAT).chunked(bytes()).http2().send().await.ok();
    gate.post(CHAT).chunked(bytes()).http2().trailer("x-end", "1").send().await.ok();
    gate.chat(&hello()).http2().trailer("x-end", "1").send().await.ok();
    assert!(upstream.requests().iter().all(|request| request.text() == body));
    let broken = body.replace("\"model\"", "\"modal\"");
    gate.post(CHAT).chunked(broken.as_bytes().chunks(1)).http2().trailer("x-end", "1").send().await.invalid_body(Some("model"));
}

#[tokio::test]
async fn a_request_cut_in_the_middle_reserves_nothing() {
    let upstream = upstream().await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000"), &upstream).await;
    let body = hello().to_string();
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    for at in [0, 1, body.len() / 2, body.len() - 1] {
        let mut raw = gate.raw().await;
        raw.write(&head).await.write(&body[..at]).await;
        raw.reset();
    }
    assert_eq!(gate.used().await, 0);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_evaluated_separately() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let request = |body: &str| {
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let good = hello().to_string();
    let mut raw = gate.raw().await;
    let unknown = good.replace(MODEL, "nowhere/model");
    raw.write(request(&good) + &request(&good) + &request(&unknown)).await;
    raw.reply().await.unwrap().ok();
    raw.reply().await.unwrap().ok();
    raw.reply().await.unwrap().refused(404, "invalid_request_error", "model_not_found");

    // Envoy closes the connection after a 400 of its own: nothing after it is forwarded.
    let seen = upstream.requests().len();
    let mut raw = gate.raw().await;
    raw.write(request("{}") + &request(&good)).await;
    raw.reply().await.unwrap().invalid_body(Some("model"));
    assert!(raw.reply().await.is_none());
    assert_eq!(upstream.requests().len(), seen);
}

#[tokio::test]
async fn large_bodies_are_refused_by_length_and_while_they_come() {
    let upstream = upstream().await;
    let gate = Gate::start(provider("") + &gateway("maxRequestBytes: 2000"), &upstream).await;
    let sized = |size: usize| {
        let empty = with(r#""x":"""#);
        empty.replace(r#""x":"""#, &format!(r#""x":"{}""#, "a".repeat(size - empty.len())))
    };
    gate.post(CHAT).text(sized(2000)).send().await.ok();
    gate.post(CHAT).chunked(sized(2000).as_bytes().chunks(300)).send().await.ok();
    for size in [2001, 5000, 200_000] {
        let body = sized(size);
        for request in [
            gate.post(CHAT).text(&body),
            gate.post(CHAT).text(&body).http2(),
            gate.post(CHAT).chunked(body.as_bytes().chunks(300)),
            gate.post(CHAT).chunked(body.as_bytes().chunks(300)).http2(),
            gate.post(CHAT).chunked(body.as_bytes().chunks(300)).http2().trailer("x-end", "1"),
        ] {
            request.send().await.refused(413, "invalid_request_error", "request_too_large");
        }
    }
    let mut raw = gate.raw().await;
    raw.write(format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2001\r\n\r\n")).await;
    raw.reply().await.unwrap().refused(413, "invalid_request_error", "request_too_large");
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn a_body_as_large_as_allowed_passes_unchanged() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let empty = with(r#""x":"""#);
    let body = empty.replace(r#""x":"""#, &format!(r#""x":"{}""#, "a".repeat(16 * 1024 * 1024 - empty.len())));
    for request in [gate.post(CHAT).text(&body), gate.post(CHAT).text(&body).http2()] {
        request.send().await.ok();
        assert!(upstream.last().text() == body, "the body was changed");
    }
}

// === callers and models ===

#[tokio::test]
async fn unknown_keys_are_rejected() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    for (name, value) in [
        ("authorization", "Bearer pak_0123456789"),
        ("x-api-key", "pak_0123456789"),
        ("api-key", "pak_0123456789"),
        ("authorization", "bearer pak_0123456789"),
    ] {
        let reply = gate.chat(&hello()).header(name, value).send().await;
        reply.refused(401, "invalid_request_error", "invalid_api_key");
        assert!(!reply.text().contains("pak_0123456789"), "{}", reply.describe());
        gate.get("/v1/models").header(name, value).send().await.refused(401, "invalid_request_error", "invalid_api_key");
    }
    gate.chat(&hello()).header("authorization", "Bearer sk-mine").send().await.ok();
    for manifests in [
        provider("externalAccess: { enabled: true, maxTokensPerDay: 5 }"),
        provider("externalAccess: { enabled: false }"),
        provider("") + &gateway("audience: external"),
    ] {
        let gate = Gate::start(&manifests, &upstream).await;
        gate.chat(&hello()).send().await.refused(401, "invalid_request_error", "invalid_api_key");
        gate.chat(&hello()).header("authorization", "Bearer sk-mine").send().await.refused(
            401,
            "invalid_request_error",
            "invalid_api_key",
        );
    }
    let gate = Gate::start(provider("") + &gateway("audience: agents"), &upstream).await;
    gate.chat(&hello()).send().await.ok();
    gate.chat(&hello()).header("x-api-key", "pak_1").send().await.refused(401, "invalid_request_error", "invalid_api_key");
}

#[tokio::test]
async fn models_are_found_allowed_or_denied() {
    let upstream = upstream().await;
    let lists = format!("allowedModels: [{SLASHED}, 'qwen/*', plain]\ndeniedModels: [qwen/bad, 'qwen/worse*']");
    let gate = Gate::start(provider(&lists), &upstream).await;
    let ask = |model: String| gate.chat(&json!({ "model": model, "messages": [] }));
    for (asked, sent) in [
        (SLASHED, SLASHED),
        ("vllm-local/meta-llama/Meta-Llama-3-70B-Instruct", SLASHED),
        ("plain", "plain"),
        ("vllm-local/plain", "plain"),
        ("qwen/good", "qwen/good"),
        ("vllm-local/qwen/good", "qwen/good"),
    ] {
        let reply = ask(asked.to_owned()).send().await;
        assert_eq!((reply.ok().header("x-pai-provider"), reply.header("x-pai-model")), (Some("vllm-local"), Some(sent)));
        assert_eq!(upstream.last().json()["model"], sent, "{asked}");
    }
    let count = upstream.requests().len();
    for denied in ["vllm-local/qwen/bad", "vllm-local/qwen/worse-1", "vllm-local/other"] {
        ask(denied.to_owned()).send().await.refused(403, "invalid_request_error", "model_not_allowed");
    }
    for unknown in ["other", "elsewhere/plain", "Plain", "PLAIN"] {
        let reply = ask(unknown.to_owned()).send().await;
        reply.refused(404, "invalid_request_error", "model_not_found");
        assert!(reply.message().contains("vllm-local/plain"), "{}", reply.describe());
    }
    assert_eq!(upstream.requests().len(), count);
}

// === the order of checks ===

#[tokio::test]
async fn of_two_faults_the_earlier_check_is_reported() {
    let upstream = upstream().await;
    let limits = "maxTokensPerRequest: 100\nmaxTokensPerDay: 1000\nallowedModels: [small]";
    let gate = Gate::start(provider(limits) + &gateway("maxRequestBytes: 1000"), &upstream).await;
    let large = json!({ "model": "small", "messages": [], "x": "a".repeat(2000) });
    let body = json!({ "model": "small", "messages": [] });
    let (key, gzip) = (("x-api-key", "pak_1"), ("content-encoding", "gzip"));
    let cases = [
        (gate.get("/nowhere").header(key.0, key.1), 401, "invalid_api_key"),
        (gate.chat(&body).header(key.0, key.1).header(gzip.0, gzip.1), 401, "invalid_api_key"),
        (gate.post("/nowhere").json(&body).header(gzip.0, gzip.1), 404, "unknown_url"),
        (gate.post("/nowhere").json(&large), 404, "unknown_url"),
        (gate.chat(&large).header(gzip.0, gzip.1), 415, "unsupported_encoding"),
        (gate.post(CHAT).header("content-type", "text/plain").body(large.to_string()), 413, "request_too_large"),
        (gate.post(CHAT).header("content-type", "text/plain").body("{"), 400, "invalid_body"),
        (gate.chat(&json!({ "model": "unknown", "messages": [], "max_tokens": "5" })), 400, "invalid_body"),
        (gate.chat(&json!({ "model": "unknown", "messages": [], "max_tokens": 500 })), 404, "model_not_found"),
        (gate.chat(&json!({ "model": "vllm-local/other", "messages": [], "max_tokens": 500 })), 403, "model_not_allowed"),
        (gate.chat(&json!({ "model": "small", "messages": [], "max_tokens": 500 })), 400, "context_length_exceeded"),
    ];
    for (request, status, code) in cases {
        let described = format!("{request:?}");
        let reply = request.send().await;
        assert_eq!(reply.status, status, "{described}\n{}", reply.describe());
        reply.refused(status, "invalid_request_error", code);
    }
    assert!(upstream.requests().is_empty());
}

// === rewriting ===

#[tokio::test]
async fn bodies_are_edited_in_place() {
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    let odd = " {\t\"temperature\" : 1.0E-2 ,\r\n \"model\":\"vllm-local/qwen\\/good\" , \"messages\": [ {\"content\":\"\\u00e9 \\ud83d\\ude00 \u{1f600} {\\\"model\\\":\\\"x\\\"}\",\"role\":\"user\"}],\n\"x\":{\"model\":\"inner\",\"max_tokens\":\"7\"},\"x\":18446744073709551616 , \"seed\":-0 } ";
    gate.post(CHAT).text(odd).send().await.ok();
    let sent = upstream.last().text();
    let (before, after) = odd.split_once(r#""vllm-local/qwen\/good""#).unwrap();
    assert_eq!(sent, [before, "\"qwen/good\"", after].concat());

    for body in [
        odd.replace("vllm-local/qwen\\/good", "plain"),
        odd.replace("\"model\":\"vllm-local/qwen\\/good\"", "\"mod\\u0065l\":\"plain\""),
        format!(
            r#"{{"model":"plain","messages":[],"max_tokens":7,"max_completion_tokens":null,"n":2,"priority":0,"use_beam_search":false,"kv_transfer_params":null,"prompt_embeds":false}}{}"#,
            "\n"
        ),
    ] {
        gate.post(CHAT).text(&body).send().await.ok();
        assert_eq!(upstream.last().text(), body);
        gate.post(CHAT).chunked(body.as_bytes().chunks(7)).http2().trailer("x-end", "1").send().await.ok();
        assert_eq!(upstream.last().text(), body);
    }
}

#[tokio::test]
async fn a_stream_asks_for_usage_and_nothing_else_changes() {
    let upstream = Upstream::answering(|_| Answer::stream(responses::stream(&["a"], 5, true))).await;
    let gate = Gate::start(provider(""), &upstream).await;
    let wanted = json!({ "include_usage": true, "continuous_usage_stats": true });
    for options in [
        "",
        r#","stream_options":null"#,
        r#","stream_options":{}"#,
        r#","stream_options":{"include_usage":false}"#,
        r#","stream_options":{ "include_usage" : true }"#,
        r#","stream_options":{"continuous_usage_stats":true}"#,
    ] {
        let body = format!(r#"{{ "odd" : 1.0E2,"model":"plain","messages":[],"stream": true{options},"tail":"\u00e9" }}"#);
        gate.post(CHAT).text(&body).send().await.ok();
        let seen = upstream.last();
        assert_eq!(seen.json()["stream_options"], wanted, "{}", seen.text());
        assert!(
            seen.text().contains(r#" "odd" : 1.0E2,"model":"plain""#) && seen.text().contains(r#""tail":"\u00e9""#),
            "{}",
            seen.text()
        );
        let (mut sent, mut asked) = (seen.json(), serde_json::from_str::<Value>(&body).unwrap());
        sent.as_object_mut().unwrap().shift_remove("stream_options");
        asked.as_object_mut().unwrap().shift_remove("stream_options");
        assert_eq!(sent, asked);
    }
}

#[tokio::test]
async fn headers_that_are_not_for_providers_are_dropped() {
    let dropped = [
        ("authorization", "Bearer sk-x"),
        ("x-api-key", "sk-x"),
        ("api-key", "sk-x"),
        ("cookie", "a=b"),
        ("proxy-authorization", "Basic x"),
        ("x-forwarded-client-cert", "By=x"),
        ("openai-organization", "org"),
        ("openai-project", "proj"),
        ("x-vllm-priority", "-5"),
        ("x-data-parallel-rank", "1"),
        ("x-session-id", "s"),
        ("x-amzn-sagemaker-adapter-identifier", "lora"),
        ("x-amzn-sagemaker-session-id", "s"),
        ("endpoint-load-metrics-format", "JSON"),
        ("accept-encoding", "gzip"),
        ("x-pai-model", "other"),
        ("x-pai-anything", "x"),
    ];
    let upstream = upstream().await;
    let gate = Gate::start(provider(""), &upstream).await;
    for http2 in [false, true] {
        let mut request = gate.chat(&hello()).header("x-request-tag", "kept").header("x-pai-provider", "elsewhere");
        for (name, value) in dropped {
            request = request.header(name, value).header(name, value);
        }
        let request = if http2 { request.http2() } else { request };
        request.send().await.ok();
        let seen = upstream.last();
        assert_eq!(seen.header("x-request-tag"), Some(b"kept".as_slice()));
        for (name, _) in dropped {
            assert!(!seen.header_names().contains(&name), "{name} reached the provider");
        }
        assert!(seen.headers.iter().all(|(name, value)| name != "x-pai-provider" || value == b"vllm-local"), "{seen:?}");
    }
}

// === routing: fixed ===

#[tokio::test]
async fn fixed_routing_evaluates_the_body_before_forwarding_it() {
    let upstream = upstream().await;
    let gate = Gate::builder()
        .manifests(provider("maxTokensPerDay: 1000"))
        .routing_fixed()
        .upstream("vllm-local", &upstream)
        .start()
        .await;
    let reference = json!({ "model": format!("vllm-local/{MODEL}"), "messages": [], "max_tokens": 8 });
    for request in [gate.chat(&reference), gate.chat(&reference).http2(), gate.chat(&reference).http2().trailer("x-end", "1")] {
        request.header("authorization", "Bearer sk-mine").send().await.ok();
        assert_eq!(upstream.last().json()["model"], MODEL);
        assert_eq!(upstream.last().header("authorization"), None);
    }
    assert_eq!(gate.used().await, 24);
    let count = upstream.requests().len();
    gate.post(CHAT).text("{").send().await.invalid_body(None);
    gate.chat(&json!({ "model": "nowhere/x", "messages": [] })).send().await.refused(
        404,
        "invalid_request_error",
        "model_not_found",
    );
    gate.post(CHAT).header("content-type", "application/json").send().await.invalid_body(None);
    gate.post("/metrics").send().await.refused(404, "invalid_request_error", "unknown_url");
    gate.chat(&reference).header("x-api-key", "pak_1").send().await.refused(401, "invalid_request_error", "invalid_api_key");
    gate.chat(&json!({ "model": MODEL, "messages": [], "max_tokens": 2000, "n": 4 })).send().await.refused(
        400,
        "invalid_request_error",
        "context_length_exceeded",
    );
    assert_eq!(upstream.requests().len(), count);
    assert_eq!(gate.used().await, 24);
}
