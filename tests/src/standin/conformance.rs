//! Compares the stand-in's responses with captures of a real vLLM 0.32: status, headers, key order, nulls, event order and
//! messages.
//!
//! Values that depend on a tokenizer or a clock are normalised: ids, times, generated text, counts, and the number of deltas of a
//! stream.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Options, StandIn};

/// Captures that the stand-in does not imitate, by prefix of their names.
const NOT_IMITATED: &[(&str, &str)] = &[
    ("chat-add-generation-prompt-false", "roles of the answer"),
    ("chat-batch", "no such route here"),
    ("chat-render", "no such route here"),
    ("chat-content-null", "a page of schema errors"),
    ("chat-echo", "answers are never that long"),
    ("chat-logprobs", "log probabilities"),
    ("chat-stream-logprobs", "log probabilities"),
    ("chat-prompt-logprobs", "log probabilities"),
    ("chat-top_logprobs-huge", "log probabilities"),
    ("completions-logprobs", "log probabilities"),
    ("completions-stream-logprobs", "log probabilities"),
    ("completions-max-tokens-0-echo-logprobs", "log probabilities"),
    ("completions-echo", "echo"),
    ("completions-stream-echo", "echo"),
    ("chat-return-token-ids", "token ids"),
    ("chat-truncate-prompt-tokens", "truncation"),
    ("chat-stop", "stop strings and ids"),
    ("chat-stream-stop-usage", "stop strings and ids"),
    ("chat-max-tokens-bigint", "integers beyond 64 bits"),
    ("chat-temperature", "sampling parameters"),
    ("chat-top-p-0", "sampling parameters"),
    ("json-nan", "sampling parameters"),
    ("json-infinity", "sampling parameters"),
    ("json-utf16", "UTF-16"),
    ("json-lone-surrogate", "lone surrogates"),
    ("completions-suffix", "suffixes"),
    ("completions-tokens-out-of-vocab", "a vocabulary"),
    ("keyed-auth-trailing-space", "the HTTP parser trims it"),
    ("die-", "another request: see `an_engine_that_dies`"),
];

struct Answer {
    status: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/vllm")
}

fn captured(name: &str) -> Answer {
    parse(&fs::read(folder().join(format!("{name}.http"))).unwrap())
}

/// Returns the captured request, from the command that sent it.
fn request(name: &str) -> Vec<u8> {
    let command = fs::read(folder().join(format!("{name}.curl"))).unwrap();
    let command: String = command.iter().map(|byte| char::from(*byte)).collect();
    let body = fs::read(folder().join(format!("{name}.request.json"))).ok();
    let method = match command.split_once(" -X ") {
        Some((_, rest)) => rest.split_whitespace().next().unwrap(),
        None if command.contains(" -I ") => "HEAD",
        None if body.is_some() => "POST",
        None => "GET",
    };
    let target = command.trim().rsplit_once("127.0.0.1:8000").unwrap().1.trim_matches(['"', '\'']);
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nconnection: close\r\n");
    for quoted in command.split("-H \"").skip(1) {
        let header = quoted.split_once("\" ").unwrap().0.replace("\\\\", "\\").replace("\\\"", "\"");
        head += &format!("{header}\r\n");
    }
    if let Some(body) = &body {
        head += &format!("content-length: {}\r\n", body.len());
    }
    head += "\r\n";
    let mut bytes: Vec<u8> = head.chars().map(|c| c as u8).collect();
    bytes.extend(body.unwrap_or_default());
    bytes
}

async fn ask(standin: &StandIn, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(standin.addr()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    parse(&answer)
}

fn parse(raw: &[u8]) -> Answer {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").expect("no head");
    let head: String = raw[..end].iter().map(|byte| char::from(*byte)).collect();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().to_string();
    let header = |line: &str| line.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_string()));
    let headers: BTreeMap<_, _> = lines.filter_map(header).collect();
    let body = &raw[end + 4..];
    let body = if headers.contains_key("transfer-encoding") { dechunked(body) } else { body.to_vec() };
    Answer { status, headers, body }
}

fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
    body
}

// --- comparison ---

fn described(answer: &Answer) -> String {
    let mut text = format!("{}\n", answer.status);
    for (name, value) in &answer.headers {
        match name.as_str() {
            "connection" => {}
            "date" | "content-length" => text += &format!("{name}\n"),
            "x-request-id" if value.len() == 32 => text += &format!("{name}\n"),
            _ => text += &format!("{name}: {value}\n"),
        }
    }
    let body = String::from_utf8_lossy(&answer.body);
    if answer.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return text + &events(&body);
    }
    text + &normal(&body)
}

/// Returns the events without the deltas whose number depends on how a server splits tokens.
fn events(body: &str) -> String {
    assert!(body.ends_with("\n\n"), "an event is unfinished");
    let mut events: Vec<_> = body.split_terminator("\n\n").map(normal).collect();
    events.retain(|event| !is_delta(event));
    events.join("\n")
}

fn is_delta(event: &str) -> bool {
    event.contains(r#""finish_reason":null"#) && !event.contains(r#""role":"#)
}

fn deltas(answer: &Answer) -> Vec<String> {
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let mut deltas: Vec<_> = body.split_terminator("\n\n").map(normal).filter(|event| is_delta(event)).collect();
    deltas.dedup();
    deltas
}

fn normal(text: &str) -> String {
    let (prefix, json) = match text.strip_prefix("data: ") {
        Some(json) => ("data: ", json),
        None => ("", text),
    };
    let Ok(mut value) = serde_json::from_str::<Value>(json) else {
        return text.to_string();
    };
    normalise("", &mut value);
    let compact = serde_json::to_string(&value).unwrap();
    let spaced = !json.contains("\":{") && json.contains("\": ");
    format!("{prefix}{compact}{}", if spaced { " (spaced)" } else { "" })
}

fn normalise(key: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let first = fields.contains_key("role") && fields.get("content").is_some_and(|text| text == "");
            let fields = fields.iter_mut().filter(|(key, _)| !(first && *key == "content"));
            fields.for_each(|(key, value)| normalise(key, value));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalise(key, item)),
        Value::Number(_) if key == "created" || key.ends_with("_tokens") => *value = Value::from(0),
        Value::String(text) => match key {
            "id" => *text = generated_id(text),
            "content" | "text" => *text = String::from("…"),
            "root" => *text = String::from("…"),
            "finish_reason" if text == "stop" => *text = String::from("length"),
            "message" | "param" => *text = without_position(text),
            _ => {}
        },
        _ => {}
    }
}

fn generated_id(id: &str) -> String {
    match id.rsplit_once('-') {
        Some((kind, serial)) if serial.len() == 16 && serial.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("{kind}-…")
        }
        _ => id.to_string(),
    }
}

/// Removes the position at which a JSON parser reports an error.
fn without_position(text: &str) -> String {
    let Some((before, rest)) = text.split_once("body.") else {
        return text.to_string();
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 { text.to_string() } else { format!("{before}body.…{}", without_position(&rest[digits..])) }
}

fn options_for(name: &str) -> Options {
    let keyed = name.starts_with("keyed-");
    let keys = ["sk-vllm-test-a", "sk-vllm-test-b"].map(String::from);
    Options {
        api_keys: if keyed { keys.to_vec() } else { Vec::new() },
        request_id_headers: keyed,
        prompt_tokens_details: keyed,
        no_tools: true,
        no_embeddings: true,
        ..Options::default()
    }
}

fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files.filter_map(|file| file.strip_suffix(".http").map(String::from)).collect();
    names.sort();
    names
}

#[tokio::test]
async fn answers_as_captured() {
    let mut compared = 0;
    let mut different = String::new();
    for name in names() {
        if NOT_IMITATED.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            continue;
        }
        let standin = StandIn::start(options_for(&name)).await.unwrap();
        let (ours, theirs) = (ask(&standin, &request(&name)).await, captured(&name));
        let (want, got) = (described(&theirs), described(&ours));
        let (their_deltas, our_deltas) = (deltas(&theirs), deltas(&ours));
        if want != got || (!their_deltas.is_empty() && !their_deltas.iter().any(|delta| our_deltas.contains(delta))) {
            different += &format!("--- {name}\n{want}\n{their_deltas:?}\n+++\n{got}\n{our_deltas:?}\n");
        }
        compared += 1;
    }
    assert!(different.is_empty(), "{different}");
    assert!(compared > 100, "only {compared} captures were compared");
}

#[tokio::test]
async fn an_engine_that_dies() {
    let fault = "error-event-after=149".parse().unwrap();
    let standin = StandIn::start(Options { fault, ..Options::default() }).await.unwrap();
    let body = fs::read(folder().join("die-kill-engine-stream.request.json")).unwrap();
    let mut request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    let (ours, theirs) = (ask(&standin, &request).await, captured("die-kill-engine-stream"));
    assert_eq!(described(&ours), described(&theirs));
    let count = |answer: &Answer| String::from_utf8_lossy(&answer.body).matches("data: ").count();
    assert_eq!(count(&ours), count(&theirs));
}
