//! Hand-written HTTP/2 frames, so that they can be invalid, and a minimal parser of the responses.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::harness::EnvoyFeature::StrictHttp2;
use e2e::harness::{Gate, MODEL};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http1::chat_body;
use crate::row::{CHAT, Expected, FORWARDED, Row, UNKNOWN_URL};

const PATIENCE: Duration = Duration::from_secs(10);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const ACK: u8 = 1;

/// The response on one stream.
#[derive(Debug, Default)]
struct Stream {
    status: Option<u16>,
    body: Vec<u8>,
    reset: bool,
    ended: bool,
}

/// A sequence of frames.
#[derive(Default)]
pub struct Frames(Vec<u8>);

// === impl Frames ===

impl Frames {
    fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        self.0.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        self.0.extend_from_slice(&[kind, flags]);
        self.0.extend_from_slice(&stream.to_be_bytes());
        self.0.extend_from_slice(payload);
        self
    }

    /// The headers of a request that is followed by a body.
    pub fn headers(self, stream: u32, fields: &[(&str, &str)]) -> Self {
        self.frame(HEADERS, END_HEADERS, stream, &block(fields))
    }

    /// Headers with END_STREAM: a request without a body, or trailers.
    pub fn last(self, stream: u32, fields: &[(&str, &str)]) -> Self {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
    }

    pub fn data(self, stream: u32, body: impl AsRef<[u8]>) -> Self {
        self.frame(DATA, 0, stream, body.as_ref())
    }

    pub fn end(self, stream: u32, body: impl AsRef<[u8]>) -> Self {
        self.frame(DATA, END_STREAM, stream, body.as_ref())
    }
}

impl AsRef<[u8]> for Frames {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// HPACK: encodes every field as a plain literal without indexing.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for text in fields.iter().flat_map(|(name, value)| [name, value]).enumerate() {
        let (index, text) = text;
        if index % 2 == 0 {
            block.push(0);
        }
        length(&mut block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// Encodes an integer with a 7-bit prefix.
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return block.push(u8::try_from(length).unwrap());
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// Parses the status at the start of a header block: an entry of the static table, or a literal with an indexed name.
fn status(block: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match *block {
        [first @ 0x88..=0x8e, ..] => INDEXED.get(usize::from(first - 0x88)).copied(),
        [0x48 | 0x08 | 0x18, 3, a, b, c, ..] => std::str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
        [0x48 | 0x08 | 0x18, length, ref rest @ ..] if length & 0x80 != 0 => digits(rest.get(..usize::from(length & 0x7f))?),
        _ => None,
    }
}

/// Decodes digits in HPACK's Huffman code: five bits for 0 to 2, six bits for the others.
fn digits(bytes: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let (mut number, mut at) = (0, 0);
    let read =
        |at: usize, count: usize| Some(bits.get(at..at + count)?.iter().fold(0u16, |value, bit| value << 1 | u16::from(*bit)));
    for _ in 0..3 {
        let five = read(at, 5)?;
        let (digit, taken) = if five < 3 { (five, 5) } else { (read(at, 6)?.checked_sub(0x19)? + 3, 6) };
        (number, at) = (number * 10 + digit, at + taken);
    }
    Some(number)
}

/// Sends these frames and compares the responses on the streams 1, 3, 5, … After the last response, a ping shows that there are no
/// others.
pub async fn run(gate: &Gate, frames: &[u8], expected: &[Expected]) -> Result<(), Vec<String>> {
    let mut socket = TcpStream::connect(gate.address()).await.expect("the gateway listens");
    let opening = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), Frames::default().frame(4, 0, 0, &[]).as_ref(), frames].concat();
    let _ = socket.write_all(&opening).await;
    let mut streams: BTreeMap<u32, Stream> = BTreeMap::new();
    let (mut closed, mut pinged) = (false, false);
    while !closed {
        let done = (0..expected.len()).all(|at| streams.get(&number(at)).is_some_and(|stream| stream.ended));
        if done && !pinged {
            let _ = socket.write_all(Frames::default().frame(PING, 0, 0, &[7; 8]).as_ref()).await;
            pinged = true;
        }
        match timeout(PATIENCE, frame(&mut socket)).await.expect("a response in time") {
            None => closed = true,
            Some((PING, flags, ..)) if flags & ACK != 0 => break,
            Some((kind, flags, stream, payload)) => take(&mut streams, kind, flags, stream, payload),
        }
    }
    let mut faults: Vec<String> =
        expected.iter().enumerate().filter_map(|(at, answer)| wrong(*answer, streams.remove(&number(at)), closed)).collect();
    faults.extend(streams.iter().map(|(number, stream)| format!("then came on {number} {stream:?}")));
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap() * 2 + 1
}

async fn frame(socket: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    socket.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

fn take(streams: &mut BTreeMap<u32, Stream>, kind: u8, flags: u8, number: u32, payload: Vec<u8>) {
    if number == 0 {
        return;
    }
    let stream = streams.entry(number).or_default();
    match kind {
        HEADERS if stream.status.is_none() => stream.status = status(&payload),
        DATA => stream.body.extend(payload),
        RST_STREAM if !stream.ended => (stream.reset, stream.ended) = (true, true),
        _ => {}
    }
    if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
        stream.ended = true;
    }
}

fn wrong(expected: Expected, stream: Option<Stream>, closed: bool) -> Option<String> {
    let stream = stream.unwrap_or_default();
    let body: Option<serde_json::Value> = serde_json::from_slice(&stream.body).ok();
    let code = body.as_ref().and_then(|body| body["error"]["code"].as_str());
    let as_expected = match expected {
        Expected::Refused(status, wanted) => stream.status == Some(status) && code == Some(wanted),
        Expected::Envoy(status) => stream.status == Some(status) && code.is_none(),
        Expected::Forwarded(..) => stream.status == Some(200) && body.is_some_and(|body| body["usage"].is_object()),
        Expected::Local => stream.status == Some(200),
        Expected::Reset => stream.reset && stream.status.is_none(),
        Expected::Closed => closed && !stream.ended,
    };
    let text = String::from_utf8_lossy(&stream.body).into_owned();
    (!as_expected).then(|| format!("expected {expected:?}, got {stream:?}, closed: {closed}: {text}"))
}

// === the rows ===

const METHOD: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", CHAT);
const AUTHORITY: (&str, &str) = (":authority", "gate.test");
const TYPE: (&str, &str) = ("content-type", "application/json");

/// Returns the headers of a valid request and these additional headers.
pub fn head<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[METHOD, SCHEME, PATH, AUTHORITY, TYPE], more].concat()
}

/// Returns the headers of a valid request with another path.
fn head_with_path(path: &str) -> Vec<(&str, &str)> {
    vec![METHOD, SCHEME, (":path", path), AUTHORITY, TYPE]
}

/// Returns a request with these headers and a valid body.
fn headed(fields: &[(&str, &str)]) -> Frames {
    Frames::default().headers(1, fields).end(1, chat_body(MODEL))
}

pub fn rows() -> Vec<Row> {
    let body = chat_body(MODEL);
    let (left, right) = body.split_at(body.len() / 2);
    let secret = chat_body(crate::table::FORBIDDEN);
    let length = body.len().to_string();
    let invalid = crate::row::INVALID;
    let not_found = crate::row::NOT_FOUND;
    let start = || Frames::default().headers(1, &head(&[]));
    vec![
        // === pseudo headers ===
        Row::http2("an ordinary request", headed(&head(&[])), [FORWARDED]),
        Row::http2("two paths", headed(&[&head(&[])[..], &[(":path", "/metrics")]].concat()), [Expected::Closed]),
        Row::http2("two paths, the other first", headed(&[&[(":path", "/metrics")], &head(&[])[..]].concat()), [Expected::Closed]),
        Row::http2("two methods", headed(&[&[(":method", "GET")], &head(&[])[..]].concat()), [Expected::Closed]),
        Row::http2("two authorities", headed(&[&[(":authority", "a.test")], &head(&[])[..]].concat()), [Expected::Closed]),
        Row::http2("a path behind the headers", headed(&[METHOD, SCHEME, AUTHORITY, TYPE, PATH]), [Expected::Closed])
            .without(StrictHttp2, [FORWARDED]),
        Row::http2("no path", headed(&[METHOD, SCHEME, AUTHORITY, TYPE]), [Expected::Closed]),
        Row::http2("an empty path", headed(&head_with_path("")), [Expected::Closed]),
        Row::http2("a path without a slash", headed(&head_with_path("v1/chat/completions")), [Expected::Closed]),
        Row::http2("an absolute path", headed(&head_with_path("http://a.test/v1/chat/completions")), [Expected::Closed]),
        Row::http2("a path with a blank", headed(&head_with_path("/v1/chat/completions HTTP/1.1")), [Expected::Closed]),
        Row::http2("a path with a line break", headed(&head_with_path("/v1/chat/completions\r\nx-a: b")), [Expected::Closed]),
        Row::http2("a path with a fragment", headed(&head_with_path("/v1/chat/completions#x")), [Expected::Envoy(400)]),
        Row::http2("a double slash", headed(&head_with_path("//v1/chat/completions")), [UNKNOWN_URL]),
        Row::http2("an unknown pseudo header", headed(&[&[(":model", "x")], &head(&[])[..]].concat()), [Expected::Closed]),
        Row::http2("a status of the client", headed(&[&[(":status", "200")], &head(&[])[..]].concat()), [Expected::Closed]),
        Row::http2(
            "extended CONNECT",
            headed(&[&[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, PATH, AUTHORITY], &[TYPE][..]].concat()),
            [Expected::Closed],
        ),
        Row::http2("CONNECT", Frames::default().headers(1, &[(":method", "CONNECT"), AUTHORITY]).end(1, &body), [UNKNOWN_URL]),
        Row::http2("another authority", headed(&[METHOD, SCHEME, PATH, (":authority", "evil.test"), TYPE]), [FORWARDED]),
        Row::http2("an authority and another host", headed(&head(&[("host", "evil.test")])), [FORWARDED]),
        Row::http2(
            "an authority with a user",
            headed(&[METHOD, SCHEME, PATH, (":authority", "a@gate.test"), TYPE]),
            [Expected::Closed],
        ),
        Row::http2("another scheme", headed(&[METHOD, (":scheme", "file"), PATH, AUTHORITY, TYPE]), [FORWARDED]),
        // === fields ===
        Row::http2("a name in upper case", headed(&head(&[("X-Pai-Provider", "other")])), [Expected::Closed]),
        Row::http2("a name with a blank", headed(&head(&[("x-pai-provider ", "other")])), [Expected::Closed]),
        Row::http2("a name with a line break", headed(&head(&[("a\r\nauthorization", "x")])), [Expected::Closed]),
        Row::http2("a value with a line break", headed(&head(&[("x-a", "b\r\nauthorization: x")])), [Expected::Closed]),
        Row::http2("a value with a zero", headed(&head(&[("x-a", "b\0c")])), [Expected::Closed]),
        Row::http2("transfer-encoding", headed(&head(&[("transfer-encoding", "chunked")])), [Expected::Closed]),
        Row::http2("connection", headed(&head(&[("connection", "close")])), [Expected::Closed]),
        Row::http2("keep-alive and an upgrade", headed(&head(&[("upgrade", "h2c")])), [Expected::Closed]),
        Row::http2("te that is not trailers", headed(&head(&[("te", "chunked")])), [Expected::Closed]),
        Row::http2("a key cut into cookies", headed(&head(&[("cookie", "a=pak_"), ("cookie", "b=1")])), [FORWARDED]),
        // === lengths ===
        Row::http2("a length that is right", headed(&head(&[("content-length", &length)])), [FORWARDED]),
        Row::http2("a length that is too small", headed(&head(&[("content-length", "5")])), [Expected::Reset]),
        Row::http2("a length that is too large", headed(&head(&[("content-length", "5000")])), [Expected::Reset]),
        Row::http2("two lengths", headed(&head(&[("content-length", "5"), ("content-length", &length)])), [Expected::Closed]),
        Row::http2("a length of nothing, and a body", headed(&head(&[("content-length", "0")])), [Expected::Reset]),
        Row::http2("a negative length", headed(&head(&[("content-length", "-1")])), [Expected::Closed]),
        // === bodies in frames ===
        Row::http2("headers only", Frames::default().last(1, &head(&[])), [invalid]),
        Row::http2("an empty frame of data", start().end(1, ""), [invalid]),
        Row::http2("an empty frame in the body", start().data(1, left).data(1, "").data(1, right).end(1, ""), [FORWARDED]),
        Row::http2("many empty frames", (0..50).fold(start(), |frames, _| frames.data(1, "")).end(1, &body), [Expected::Closed]),
        Row::http2(
            "a byte in each frame",
            body.bytes().fold(start(), |frames, byte| frames.data(1, [byte])).end(1, ""),
            [FORWARDED],
        ),
        Row::http2("a second document in the last frame", start().data(1, &body).end(1, &secret), [invalid]),
        Row::http2(
            "a padded frame",
            start().frame(DATA, END_STREAM | PADDED, 1, &[&[9], body.as_bytes(), &[0; 9]].concat()),
            [FORWARDED],
        ),
        Row::http2(
            "a frame that is all padding, and more",
            start().frame(DATA, END_STREAM | PADDED, 1, &[200, b'{', b'}']),
            [Expected::Closed],
        ),
        Row::http2(
            "headers cut in two frames",
            Frames::default()
                .frame(HEADERS, 0, 1, &block(&head(&[]))[..20])
                .frame(CONTINUATION, END_HEADERS, 1, &block(&head(&[]))[20..])
                .end(1, &body),
            [FORWARDED],
        ),
        Row::http2(
            "a frame between cut headers",
            Frames::default().frame(HEADERS, 0, 1, &block(&head(&[]))[..20]).end(1, &body),
            [Expected::Closed],
        ),
        Row::http2(
            "headers of garbage",
            Frames::default().frame(HEADERS, END_HEADERS, 1, &[0xff; 30]).end(1, &body),
            [Expected::Closed],
        ),
        Row::http2(
            "a frame longer than agreed",
            Frames::default().headers(1, &head(&[])).frame(DATA, 0, 1, &vec![b' '; 20_000]),
            [Expected::Closed],
        ),
        Row::http2("an unknown kind of frame", start().frame(0xbb, 0, 1, b"x").end(1, &body), [FORWARDED]),
        Row::http2("a window of nothing", start().frame(8, 0, 1, &[0; 4]).end(1, &body), [Expected::Closed])
            .without(StrictHttp2, [Expected::Reset]),
        Row::http2("a stream of an even number", Frames::default().headers(2, &head(&[])).end(2, &body), [Expected::Closed]),
        // === trailers ===
        Row::http2(
            "trailers with credentials",
            start().data(1, &body).last(1, &[("authorization", "Bearer pak_x"), ("x-pai-provider", "other")]),
            [FORWARDED],
        ),
        Row::http2(
            "trailers of Envoy's and the provider's",
            start()
                .data(1, &body)
                .last(1, &[("x-vllm-priority", "-9"), ("x-data-parallel-rank", "1"), ("x-session-id", "s"), ("cookie", "a")]),
            [FORWARDED],
        ),
        Row::http2("trailers with a length", start().data(1, &body).last(1, &[("content-length", "1")]), [Expected::Closed])
            .without(StrictHttp2, [FORWARDED]),
        Row::http2("trailers with a path", start().data(1, &body).last(1, &[(":path", "/metrics")]), [Expected::Closed]),
        Row::http2("trailers behind a body that is refused", start().data(1, &secret).last(1, &[("x-end", "1")]), [not_found]),
        Row::http2("trailers behind half a body", start().data(1, left).last(1, &[("x-end", "1")]), [invalid]),
        Row::http2("trailers and no body", start().last(1, &[("x-end", "1")]), [invalid]),
        // === concurrent streams ===
        Row::http2(
            "a second stream for a forbidden model",
            start().headers(3, &head(&[])).end(3, &secret).end(1, &body),
            [FORWARDED, not_found],
        ),
        Row::http2(
            "two bodies in turns",
            start().headers(3, &head(&[])).data(1, left).data(3, &secret[..9]).end(3, &secret[9..]).end(1, right),
            [FORWARDED, not_found],
        ),
    ]
}

#[test]
fn a_status_is_read_in_each_form() {
    assert_eq!(status(&[0x88]), Some(200));
    assert_eq!(status(&[0x48, 3, b'4', b'0', b'3']), Some(403));
    // 4 = 011010, 0 = 00000, 3 = 011001, padded with ones.
    assert_eq!(status(&[0x48, 0x83, 0b0110_1000, 0b0000_1100, 0b1111_1111]), Some(403));
    assert_eq!(status(&[0xff]), None);
}
