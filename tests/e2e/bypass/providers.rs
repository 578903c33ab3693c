//! Providers that misbehave: usage that is invalid, duplicate, too early or too late, and responses that are incomplete or too
//! long.

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use e2e::harness::{Answer, Gate, MODEL, Reply, Upstream, provider, responses};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

/// One response and its charge.
pub struct Row {
    pub name: &'static str,
    streamed: bool,
    answer: Answer,
    charged: RangeInclusive<u64>,
    got: fn(&Reply) -> bool,
}

/// The charge of a correct response.
const REPORTED: u64 = 8;

/// The charge of a prompt of one word, and of some deltas, where the provider reports no valid usage.
const ESTIMATED: RangeInclusive<u64> = 60..=110;

/// Headers that must not reach a client.
const HIDDEN: [&str; 6] =
    ["set-cookie", "x-ratelimit-limit-requests", "x-pai-retry", "x-pai-exchange", "openai-organization", "x-envoy-ratelimited"];

fn whole(name: &'static str, answer: Answer, charged: RangeInclusive<u64>) -> Row {
    Row { name, streamed: false, answer, charged, got: |reply| reply.status == 200 }
}

/// A complete response with this `usage`.
fn reports(name: &'static str, usage: &str, charged: RangeInclusive<u64>) -> Row {
    let body = responses::chat(0, 0).to_string();
    let written = responses::usage(0, 0).to_string();
    assert!(body.contains(&written));
    whole(name, Answer::new(200, "application/json", body.replace(&written, usage)), charged)
}

fn streams<B: AsRef<[u8]>>(name: &'static str, pieces: impl IntoIterator<Item = B>, charged: RangeInclusive<u64>) -> Row {
    Row { streamed: true, ..whole(name, Answer::stream(pieces), charged) }
}

fn raw(name: &'static str, bytes: impl AsRef<[u8]>, charged: RangeInclusive<u64>) -> Row {
    whole(name, Answer::raw(bytes).then_close(), charged)
}

impl Row {
    /// Adds a condition that the client's response must satisfy.
    fn expecting(mut self, got: fn(&Reply) -> bool) -> Self {
        self.got = got;
        self
    }

    fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }
}

/// An event with this text.
fn event(text: &str) -> String {
    format!("data: {text}\n\n")
}

fn gzip(byte: u8, count: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&vec![byte; count]).unwrap();
    encoder.finish().unwrap()
}

fn unavailable(reply: &Reply) -> bool {
    reply.status == 503 && reply.json()["error"]["code"] == "upstream_unavailable"
}

fn cut(reply: &Reply) -> bool {
    reply.cut
}

pub fn rows() -> Vec<Row> {
    let ok = responses::chat(5, 3).to_string();
    let head = |lines: &str, length: usize| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{lines}content-length: {length}\r\n\r\n")
    };
    let answer = |lines: &str| head(lines, ok.len()) + &ok;
    let (role, done) = (responses::role(Some((5, 0))), responses::DONE.to_owned());
    let piece = |count: u64| responses::delta("a", Some((5, count)));
    let bare = || responses::delta("a", None);
    let last = responses::final_usage(5, 3);
    let stream = responses::stream(&["a", "b", "c"], 5, true);
    let joined = stream.concat();
    let headers = "set-cookie: a=b\r\nx-ratelimit-limit-requests: 1\r\nx-pai-retry: true\r\nx-pai-exchange: 1\r\nopenai-organization: o\r\nx-envoy-ratelimited: true\r\n";
    vec![
        // === usage in a JSON response ===
        reports("an honest report", r#"{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}"#, 8..=8),
        reports("counts below nothing", r#"{"prompt_tokens":-5,"completion_tokens":-3,"total_tokens":-8}"#, ESTIMATED),
        reports("a prompt below nothing", r#"{"prompt_tokens":-1000000,"completion_tokens":3}"#, ESTIMATED),
        reports("completions below nothing", r#"{"prompt_tokens":5,"completion_tokens":-3}"#, ESTIMATED),
        reports("counts with a point", r#"{"prompt_tokens":5.0,"completion_tokens":3.0}"#, 8..=8),
        reports("counts in quotes", r#"{"prompt_tokens":"5","completion_tokens":"3"}"#, ESTIMATED),
        reports("counts with an exponent", r#"{"prompt_tokens":5e0,"completion_tokens":0.3E+1}"#, 8..=8),
        reports("counts that are not whole", r#"{"prompt_tokens":5.5,"completion_tokens":3}"#, ESTIMATED),
        reports("counts beyond 64 bits", r#"{"prompt_tokens":18446744073709551617,"completion_tokens":1}"#, ESTIMATED),
        reports("counts beyond 2^53", r#"{"prompt_tokens":9007199254740993,"completion_tokens":1}"#, ESTIMATED),
        reports(
            "a total that is more than its parts",
            r#"{"prompt_tokens":5,"completion_tokens":3,"total_tokens":100}"#,
            100..=100,
        ),
        reports("a total that is less than its parts", r#"{"prompt_tokens":5,"completion_tokens":3,"total_tokens":1}"#, 8..=8),
        reports("a total only", r#"{"total_tokens":8}"#, ESTIMATED),
        reports("a prompt only", r#"{"prompt_tokens":5}"#, 5..=5),
        reports("nothing", "{}", ESTIMATED),
        reports("null", "null", ESTIMATED),
        reports("an array", "[5,3,8]", ESTIMATED),
        reports("a word", "\"8\"", ESTIMATED),
        reports("counts twice", r#"{"prompt_tokens":5,"prompt_tokens":6,"completion_tokens":3}"#, 9..=9),
        reports("counts that are escaped", r#"{"prompt_tok\u0065ns":5,"completion_tokens":3}"#, 8..=8),
        reports(
            "counts in an object within",
            r#"{"x":{"prompt_tokens":900,"completion_tokens":900},"prompt_tokens":5,"completion_tokens":3}"#,
            8..=8,
        ),
        reports("100,000 digits", &format!(r#"{{"prompt_tokens":{}}}"#, "9".repeat(100_000)), ESTIMATED),
        whole(
            "usage twice",
            Answer::new(200, "application/json", ok.replacen('{', r#"{"usage":{"prompt_tokens":1,"completion_tokens":1},"#, 1)),
            8..=8,
        ),
        whole(
            "usage in a choice only",
            Answer::json(&json!({ "choices": [{ "index": 0, "usage": responses::usage(900, 900) }] })),
            ESTIMATED,
        ),
        whole(
            "usage in the text",
            Answer::json(&responses::chat_of("\"usage\":{\"prompt_tokens\":900}", responses::usage(5, 3))),
            8..=8,
        ),
        whole("two documents", Answer::new(200, "application/json", format!("{ok}{}", responses::chat(900, 900))), 8..=8),
        whole("an array around the answer", Answer::new(200, "application/json", format!("[{ok}]")), ESTIMATED),
        whole("no JSON at all", Answer::new(200, "application/json", "\0\u{1}\u{2}"), ESTIMATED),
        whole("an empty answer", Answer::new(200, "application/json", ""), ESTIMATED),
        whole("nested too deep", Answer::new(200, "application/json", "[".repeat(200_000)), ESTIMATED),
        whole("another media type", Answer::new(200, "text/html", &ok), 0..=110),
        whole("a stream that was not requested", Answer::stream(&stream), 8..=8),
        whole("an error that is no error", Answer::new(201, "application/json", &ok), 8..=8).expecting(|reply| reply.status == 201),
        whole("an error with usage", Answer::error(400, &responses::chat(5, 3)), 8..=8).expecting(|reply| reply.status == 400),
        whole("an error without usage", Answer::error(400, &json!({ "error": {} })), 0..=0).expecting(|reply| reply.status == 400),
        whole("our credential refused", Answer::error(401, &json!({ "error": { "message": "sk-ours" } })), 0..=0)
            .expecting(|reply| reply.status == 502 && !reply.text().contains("sk-ours")),
        whole(
            "declared as gzip",
            Answer::with_headers(200, &[("content-type", "application/json"), ("content-encoding", "gzip")], &ok),
            0..=110,
        ),
        whole(
            "a bomb of gzip",
            Answer::with_headers(
                200,
                &[("content-type", "application/json"), ("content-encoding", "gzip")],
                gzip(b'a', 20_000_000),
            ),
            0..=110,
        ),
        // === framing of a JSON response ===
        raw("headers of ours", answer(headers), 8..=8),
        raw("another who served", answer("x-pai-provider: other\r\nx-pai-model: other\r\n"), 8..=8).expecting(|reply| {
            reply.headers.get_all("x-pai-provider").iter().eq(["vllm-local"]) && reply.header("x-pai-model") == Some(MODEL)
        }),
        raw("a length that is too large", head("", ok.len() + 50) + &ok, 8..=8).expecting(cut),
        raw("a length that is too small", head("", 20) + &ok, ESTIMATED),
        raw("two lengths", answer("content-length: 5\r\n"), ESTIMATED).expecting(unavailable),
        raw("a length and chunks", answer("transfer-encoding: chunked\r\n"), ESTIMATED).expecting(unavailable),
        raw("a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", ESTIMATED).expecting(unavailable),
        raw(
            "chunks that are none",
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{ok}"),
            ESTIMATED,
        )
        .expecting(cut),
        raw("no end but the connection's", format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{ok}"), 8..=8),
        raw("a second answer behind the first", answer("") + &answer(""), 8..=8),
        raw(
            "an answer that upgrades",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            ESTIMATED,
        )
        .expecting(|reply| reply.status == 101),
        raw("204 and a body", format!("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n\r\n{ok}"), ESTIMATED)
            .expecting(|reply| reply.status == 204 && reply.body.is_empty()),
        raw("304 and a body", format!("HTTP/1.1 304 Not Modified\r\ncontent-length: {}\r\n\r\n{ok}", ok.len()), ESTIMATED)
            .expecting(|reply| reply.status == 304 && reply.body.is_empty()),
        raw("500 early hints", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(500) + &answer(""), 8..=8),
        raw("100 Continue that was not requested", "HTTP/1.1 100 Continue\r\n\r\n".to_owned() + &answer(""), 8..=8),
        raw(
            "a redirection",
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n",
            0..=110,
        )
        .expecting(|reply| reply.status == 307),
        raw("a header that is folded", answer("x-a: b\r\n set-cookie: a=b\r\n"), 8..=8),
        raw("a zero in a header", answer("x-a: b\0\r\n"), ESTIMATED).expecting(unavailable),
        raw("a status that is none", "HTTP/1.1 abc\r\ncontent-length: 0\r\n\r\n", ESTIMATED).expecting(unavailable),
        raw("no HTTP", "hello\r\n\r\n", ESTIMATED).expecting(unavailable),
        raw("nothing, and the end", "", ESTIMATED).expecting(unavailable),
        raw("headers that do not end", format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n", "a".repeat(100_000)), ESTIMATED)
            .expecting(unavailable),
        raw(
            "trailers of ours",
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{ok}\r\n0\r\nset-cookie: a=b\r\nx-pai-provider: other\r\n\r\n",
                ok.len()
            ),
            8..=8,
        ),
        // === usage in a stream ===
        streams("an honest stream", &stream, 8..=8),
        streams("a byte at a time", joined.bytes().map(|byte| [byte]), 8..=8),
        streams("all in one chunk", [&joined], 8..=8),
        streams("an event again and again", [&role, &piece(1), &piece(1), &piece(1), &last, &done], 8..=8),
        streams("the whole stream again", [&joined, &joined], 8..=8),
        streams("events backwards", [&last, &piece(3), &piece(2), &piece(1), &role, &done], 8..=8),
        streams("counts that fall", [&role, &piece(3), &piece(2), &piece(1), &done], 8..=8),
        streams("the sum before the deltas", [&role, &last, &piece(1), &piece(2), &piece(3), &done], 8..=8),
        streams("two sums, the second lower", [&role, &piece(1), &responses::final_usage(50, 30), &last, &done], 80..=80),
        streams("the sum behind the end", [&role, &piece(1), &piece(2), &done, &last], 7..=8),
        streams("two ends", [&role, &piece(1), &last, &done, &done], 8..=8),
        streams("an end, and more behind it", [&role, &piece(1), &last, &done, &piece(900), &done], 8..=905),
        streams("no end", [&role, &piece(1), &last], 8..=8),
        streams("an end only", [&done], ESTIMATED),
        streams("the sum in a comment", [&role, &bare(), &format!(": {last}"), &done], 0..=110),
        streams("the sum under another name", [&role, &bare(), &last.replace("data:", "date:"), &done], 5..=5),
        streams("the sum in two lines", [&role, &piece(1), &last.replacen(',', ",\ndata: ", 1), &done], 6..=8),
        streams(
            "the sum with a line end of its own kind",
            [role.replace('\n', "\r\n"), last.replace('\n', "\r\n"), done.replace('\n', "\r\n")],
            8..=8,
        ),
        streams(
            "the sum, and carriage returns only",
            [role.replace('\n', "\r"), last.replace('\n', "\r"), done.replace('\n', "\r")],
            8..=8,
        ),
        streams("the sum without a blank", [role.replace("data: ", "data:"), last.replace("data: ", "data:"), done.clone()], 8..=8),
        streams("the sum without a blank line", [&role, &piece(1), last.trim_end()], 6..=8),
        streams("a byte order mark before", [&format!("\u{feff}{role}"), &last, &done], 8..=8),
        streams("usage below nothing", [&role, &bare(), &last.replace(":5", ":-5"), &done], 5..=5),
        streams("usage as an array", [&role, &bare(), &event(r#"{"choices":[],"usage":[5,3]}"#), &done], 5..=5),
        streams(
            "usage and no choices",
            [&role, &bare(), &event(r#"{"usage":{"prompt_tokens":5,"completion_tokens":3}}"#), &done],
            8..=8,
        ),
        streams(
            "usage before the choices",
            [&role, &event(r#"{"usage":{"prompt_tokens":5,"completion_tokens":3},"choices":[]}"#), &done],
            8..=8,
        ),
        streams(
            "usage twice in an event",
            [
                &role,
                &event(
                    r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1},"usage":{"prompt_tokens":5,"completion_tokens":3}}"#,
                ),
                &done,
            ],
            2..=8,
        ),
        streams(
            "a choice of another number",
            [&role, &responses::delta("a", Some((5, 3))).replace("\"index\":0", "\"index\":999999999999"), &done],
            0..=110,
        ),
        streams(
            "a choice below nothing",
            [&role, &responses::delta("a", Some((5, 3))).replace("\"index\":0", "\"index\":-1"), &done],
            0..=110,
        ),
        streams(
            "another id in each event",
            [role.replace("b13a", "aaaa"), piece(1).replace("b13a", "bbbb"), last.clone(), done.clone()],
            8..=8,
        ),
        streams("another model", [&role, &piece(1), &last.replace(MODEL, "qwen/secret"), &done], 8..=8),
        streams("an error in the middle", [&role, &piece(1), &responses::stream_error("x"), &done], 6..=6),
        streams("an event of a megabyte", [&role, &event(&"x".repeat(1_000_000)), &last, &done], 8..=8),
        streams("a million line feeds", ["\n".repeat(1_000_000), last.clone(), done.clone()], 8..=8),
        streams(
            "an event that is never whole",
            [role.clone(), piece(1), format!("data: {{\"usage\":{{{}", " ".repeat(200_000))],
            6..=8,
        ),
        Row { streamed: true, ..whole("a whole answer to a stream", Answer::new(200, "application/json", &ok), 8..=8) },
        Row { streamed: true, ..whole("a stream declared as text", Answer::new(200, "text/plain", &joined), 0..=110) },
        whole("a connection that ends mid-stream", Answer::stream([&role, &piece(1), &piece(2)]).unfinished().then_close(), 7..=7)
            .streamed()
            .expecting(cut),
        whole(
            "a connection that breaks mid-stream",
            Answer::stream([&role, &piece(1), &piece(2)]).unfinished().then_reset(),
            5..=7,
        )
        .streamed()
        .expecting(cut),
        raw(
            "a stream with a length that is too small",
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 10\r\n\r\n{joined}"),
            ESTIMATED,
        )
        .streamed(),
        raw(
            "a stream that closes",
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{joined}"),
            8..=8,
        )
        .streamed(),
        raw(
            "a stream declared as gzip",
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n{joined}"
            ),
            0..=110,
        )
        .streamed(),
    ]
}

/// A gateway whose provider sends the row's response once, and correct responses from then on.
struct ChargeMeter {
    gate: Gate,
    upstream: Upstream,
    next: Arc<Mutex<Option<Answer>>>,
}

impl ChargeMeter {
    async fn open() -> Self {
        let next: Arc<Mutex<Option<Answer>>> = Arc::default();
        let forwarded_body = Arc::clone(&next);
        let upstream = Upstream::answering(move |_| {
            let forwarded_body = forwarded_body.lock().expect("not poisoned").take();
            forwarded_body.unwrap_or_else(|| Answer::json(&responses::chat(5, 3)))
        })
        .await;
        let gate = Gate::start(provider("maxTokensPerDay: 9000000000000000"), &upstream).await;
        Self { gate, upstream, next }
    }

    async fn ask(&self, streamed: bool) -> (u64, Reply) {
        let before = self.gate.used().await;
        let body =
            json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 8, "stream": streamed });
        let reply = self.gate.chat(&body).send().await;
        (self.gate.used().await - before, reply)
    }

    async fn row(&self, row: &Row) -> Result<(), Vec<String>> {
        let asked = self.upstream.requests().len();
        *self.next.lock().expect("not poisoned") = Some(row.answer.clone());
        let (charged, reply) = self.ask(row.streamed).await;
        let hidden = HIDDEN.iter().find(|name| reply.headers.contains_key(**name));
        let trailers = reply.trailers.as_ref().is_some_and(|trailers| HIDDEN.iter().any(|name| trailers.contains_key(*name)));
        // The next request receives its own response, and its own charge.
        let (after, next) = self.ask(false).await;
        let well_behaved = next.status == 200 && next.json().pointer("/usage/total_tokens") == Some(&Value::from(REPORTED));
        let sound = row.charged.contains(&charged)
            && (row.got)(&reply)
            && hidden.is_none()
            && !trailers
            && after == REPORTED
            && well_behaved
            && self.upstream.requests().len() == asked + 2;
        if sound {
            return Ok(());
        }
        Err(vec![format!(
            "charged {charged}, expected {:?}; then {after}; hidden headers: {hidden:?}, in trailers: {trailers}; {} requests\ngot: {}\nthen: {}",
            row.charged,
            self.upstream.requests().len() - asked,
            reply.describe(),
            next.describe()
        )])
    }
}

#[tokio::test]
async fn no_row_gets_past() {
    let meter = Rc::new(ChargeMeter::open().await);
    let rows = rows().into_iter().map(|row| {
        let (meter, about) = (Rc::clone(&meter), format!("{}\nsent: {:.300}", row.name, format!("{:?}", row.answer)));
        (about, async move { meter.row(&row).await })
    });
    crate::table::run_all(rows).await;
}

/// Bytes that a client sends after a request whose response switches protocols are not forwarded by Envoy.
#[tokio::test]
async fn a_response_that_upgrades_opens_no_tunnel() {
    let upstream = Upstream::answering(|_| {
        Answer::raw("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    })
    .await;
    let gate = Gate::start(provider("maxTokensPerDay: 1000000"), &upstream).await;
    let mut raw = gate.raw().await;
    raw.write(crate::http1::chat(crate::http1::chat_body(MODEL))).await;
    e2e::harness::until("the request reaches the provider", async || (!upstream.requests().is_empty()).then_some(())).await;
    raw.write("POST /v1/load_lora_adapter HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}").await;
    let _ = raw.shut().await;
    // Settled: the exchange has ended on both sides.
    assert!(ESTIMATED.contains(&gate.used().await));
    assert_eq!(upstream.requests().len(), 1);
}
