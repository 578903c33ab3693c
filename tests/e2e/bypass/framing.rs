//! The end of an HTTP/1.1 body and the start of the next request: lengths, chunks, trailers, pipelines, upgrades.

use e2e::harness::MODEL;

use crate::http1::{body_with, chat, chat_body, framed, json};
use crate::row::{CHAT, Expected, FORWARDED, INVALID, NOT_FOUND, Row, UNKNOWN_URL};
use crate::table::FORBIDDEN;

const CHUNKED: &str = "transfer-encoding: chunked\r\n";

fn row(name: &'static str, headers: &str, rest: impl AsRef<[u8]>, answers: impl Into<Vec<Expected>>) -> Row {
    Row::http1(name, framed(headers, rest), answers)
}

/// Encodes these bytes as one chunk.
fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

pub fn rows() -> Vec<Row> {
    let bad = Expected::Envoy(400);
    let good = chat_body(MODEL);
    let size = good.len();
    let (left, right) = good.split_at(40);
    let secret = String::from_utf8(chat(chat_body(FORBIDDEN))).unwrap();
    let whole = format!("{}0\r\n\r\n", chunk(&good));
    let length = format!("content-length: {size}\r\n");
    let large = body_with(&format!(r#""max_tokens":8,"metadata":"{}""#, "x".repeat(100_000)));
    // A chunked body with the chunk size written this way.
    let sized = |size: &str| format!("{size}\r\n{good}\r\n0\r\n\r\n");
    let hex = format!("{size:x}");
    vec![
        // === content-length and chunked together ===
        row("chunks, and a length", &format!("{length}{CHUNKED}"), &whole, [bad]),
        row("a length, and chunks", &format!("{CHUNKED}{length}"), &whole, [bad]),
        row(
            "chunks, and a length that hides a request",
            &format!("content-length: 4\r\n{CHUNKED}"),
            format!("0\r\n\r\n{secret}"),
            [bad],
        ),
        row(
            "a length, and chunks that hide a request",
            &format!("content-length: {}\r\n{CHUNKED}", secret.len() + 5),
            format!("0\r\n\r\n{secret}"),
            [bad],
        ),
        row("neither", "", "", [INVALID]),
        row("neither, and a request behind it", "", &secret, [INVALID]),
        // === codings that one parser does not read as chunked ===
        row("chunked in upper case", "transfer-encoding: CHUNKED\r\n", &whole, [FORWARDED]),
        row("chunked behind a tab", "transfer-encoding:\tchunked\r\n", &whole, [FORWARDED]),
        row("xchunked", "transfer-encoding: xchunked\r\n", &whole, [Expected::Envoy(501)]),
        row("xchunked, and a length", &format!("transfer-encoding: xchunked\r\n{length}"), &good, [bad]),
        row("chunked twice", &format!("{CHUNKED}{CHUNKED}"), &whole, [Expected::Envoy(501)]),
        row("chunked twice in a line", "transfer-encoding: chunked, chunked\r\n", &whole, [Expected::Envoy(501)]),
        row("chunked, then identity", "transfer-encoding: chunked, identity\r\n", &whole, [Expected::Envoy(501)]),
        row("identity, then chunked", "transfer-encoding: identity, chunked\r\n", &whole, [Expected::Envoy(501)]),
        row("gzip, then chunked", "transfer-encoding: gzip, chunked\r\n", &whole, [Expected::Envoy(501)]),
        row("identity", "transfer-encoding: identity\r\n", &whole, [Expected::Envoy(501)]),
        row("chunked with a parameter", "transfer-encoding: chunked;q=1\r\n", &whole, [Expected::Envoy(501)]),
        row("chunked in quotes", "transfer-encoding: \"chunked\"\r\n", &whole, [Expected::Envoy(501)]),
        row("a coding of nothing", "transfer-encoding:\r\n", &whole, [Expected::Envoy(501)]),
        row("chunked on a folded line", "transfer-encoding:\r\n chunked\r\n", &whole, [FORWARDED]),
        row("a blank before the colon", "transfer-encoding : chunked\r\n", &whole, [bad]),
        row("an underscore for the hyphen", &format!("transfer_encoding: chunked\r\n{length}"), &good, [FORWARDED]),
        row("chunked with a vertical tab", "transfer-encoding: \u{b}chunked\r\n", &whole, [bad]),
        row("a coding in a header of another name", &format!("x-transfer-encoding: chunked\r\n{length}"), &good, [FORWARDED]),
        // === lengths ===
        row("a length twice", &format!("{length}{length}"), &good, [bad]),
        row("two lengths", &format!("{length}content-length: 5\r\n"), &good, [bad]),
        row("two lengths in a line", &format!("content-length: {size}, 5\r\n"), &good, [bad]),
        row("the same length twice in a line", &format!("content-length: {size}, {size}\r\n"), &good, [bad]),
        row("a length with a sign", &format!("content-length: +{size}\r\n"), &good, [bad]),
        row("a negative length", "content-length: -1\r\n", &good, [bad]),
        row("a hexadecimal length", "content-length: 0x5f\r\n", &good, [bad]),
        row("a length with a point", &format!("content-length: {size}.0\r\n"), &good, [bad]),
        row("a length with a blank within", "content-length: 9 5\r\n", &good, [bad]),
        row("a length of nothing at all", "content-length:\r\n", &good, [bad]),
        row("a length beyond 64 bits", "content-length: 18446744073709551617\r\n", &good, [bad]),
        row("a length in wide digits", "content-length: ９５\r\n", &good, [bad]),
        row("zeros before a length", &format!("content-length: 000{size}\r\n"), &good, [FORWARDED]),
        row("blanks around a length", &format!("content-length:  {size} \t\r\n"), &good, [FORWARDED]),
        row(
            "a length that is larger than may be",
            "content-length: 99999999999\r\n",
            &good,
            [Expected::Refused(413, "request_too_large")],
        ),
        row("a length that cuts the body", "content-length: 40\r\n", &good, [INVALID]),
        row("a length of zero, and a request behind it", "content-length: 0\r\n", &secret, [INVALID]),
        row(
            "a length that holds a request too",
            &format!("content-length: {}\r\n", size + secret.len()),
            format!("{good}{secret}"),
            [INVALID],
        ),
        // === chunks ===
        row("one chunk", CHUNKED, &whole, [FORWARDED]),
        row(
            "chunks of a byte",
            CHUNKED,
            good.chars().map(|c| chunk(&c.to_string())).collect::<String>() + "0\r\n\r\n",
            [FORWARDED],
        ),
        row("a huge chunk", CHUNKED, format!("{}0\r\n\r\n", chunk(&large)), [FORWARDED]),
        row("zeros before a size", CHUNKED, sized(&format!("0000000{hex}")), [FORWARDED]),
        row("a size in upper case", CHUNKED, sized(&hex.to_ascii_uppercase()), [FORWARDED]),
        row("an extension", CHUNKED, sized(&format!("{hex};a=b")), [FORWARDED]),
        row("an extension in quotes", CHUNKED, sized(&format!("{hex};a=\"b;c\"")), [FORWARDED]),
        row("an extension that names a length", CHUNKED, sized(&format!("{hex};content-length=0")), [FORWARDED]),
        row("an extension that ends in a line feed", CHUNKED, format!("{hex};a\n{good}\r\n0\r\n\r\n"), [INVALID]),
        row("an extension that hides a chunk", CHUNKED, format!("{hex};a\r{good}\r\n0\r\n\r\n"), [INVALID]),
        row("an extension of 100 KB", CHUNKED, sized(&format!("{hex};a={}", "b".repeat(100_000))), [FORWARDED]),
        row("a size beyond 64 bits", CHUNKED, sized(&format!("1000000000000000{hex}")), [INVALID]),
        row("a size with a sign", CHUNKED, sized(&format!("+{hex}")), [INVALID]),
        row("a negative size", CHUNKED, sized("-1"), [INVALID]),
        row("a size with a prefix", CHUNKED, sized(&format!("0x{hex}")), [INVALID]),
        row("a size with an underscore", CHUNKED, sized("5_f"), [INVALID]),
        row("a blank before a size", CHUNKED, sized(&format!(" {hex}")), [INVALID]),
        row("no size", CHUNKED, sized(""), [INVALID]),
        row("an extension without a size", CHUNKED, sized(";a=b"), [INVALID]),
        row("a size that is no number", CHUNKED, sized("zz"), [INVALID]),
        row("a size that is too small", CHUNKED, sized("5"), [INVALID]),
        row("line feeds for line ends", CHUNKED, format!("{hex}\n{good}\n0\n\n"), [INVALID]),
        row("the end in the middle", CHUNKED, format!("{}0\r\n\r\n{}0\r\n\r\n", chunk(left), chunk(right)), [INVALID]),
        row(
            "a second document in a chunk",
            CHUNKED,
            format!("{}{}0\r\n\r\n", chunk(&good), chunk(&chat_body(FORBIDDEN))),
            [INVALID],
        ),
        row(
            "the forbidden model in halves",
            CHUNKED,
            format!("{}{}0\r\n\r\n", chunk(&chat_body(FORBIDDEN)[..14]), chunk(&chat_body(FORBIDDEN)[14..])),
            [NOT_FOUND],
        ),
        // === trailers ===
        row(
            "a trailer of credentials",
            CHUNKED,
            format!("{}0\r\nauthorization: Bearer pak_x\r\nx-api-key: pak_y\r\n\r\n", chunk(&good)),
            [FORWARDED],
        ),
        row("a trailer of the filter's", CHUNKED, format!("{}0\r\nx-pai-provider: other\r\n\r\n", chunk(&good)), [FORWARDED]),
        row(
            "a trailer with a length",
            CHUNKED,
            format!("{}0\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", chunk(&good)),
            [FORWARDED],
        ),
        row(
            "a trailer with a media type",
            CHUNKED,
            format!("{}0\r\ncontent-type: text/plain\r\nhost: evil.test\r\n\r\n", chunk(&good)),
            [FORWARDED],
        ),
        row("a trailer with a zero", CHUNKED, format!("{}0\r\nx-a: b\0\r\n\r\n", chunk(&good)), [INVALID]),
        row("a trailer that is no line", CHUNKED, format!("{}0\r\nGET /metrics HTTP/1.1\r\n\r\n", chunk(&good)), [INVALID]),
        // === pipelines ===
        row("a forbidden request behind an allowed one", &length, format!("{good}{secret}"), [FORWARDED, NOT_FOUND]),
        row("a forbidden request behind chunks", CHUNKED, format!("{whole}{secret}"), [FORWARDED, NOT_FOUND]),
        row(
            "a forbidden request behind 100 KB",
            &format!("content-length: {}\r\n", large.len()),
            format!("{large}{secret}"),
            [FORWARDED, NOT_FOUND],
        ),
        row(
            "a forbidden path behind an allowed one",
            &length,
            format!("{good}GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"),
            [FORWARDED, UNKNOWN_URL],
        ),
        row(
            "three, the second forbidden",
            &length,
            format!("{good}{secret}{}", String::from_utf8(chat(&good)).unwrap()),
            [FORWARDED, NOT_FOUND],
        ),
        row("a request behind one that closes", &format!("connection: close\r\n{length}"), format!("{good}{secret}"), [FORWARDED]),
        row("line ends between two requests", &length, format!("{good}\r\n\r\n{secret}"), [FORWARDED, NOT_FOUND]),
        row("garbage behind a request", &length, format!("{good}\0\0\0\0\r\n\r\n"), [FORWARDED, bad]),
        row("frames of HTTP/2 behind a request", &length, format!("{good}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), [FORWARDED, bad]),
        // === expectations and upgrades ===
        row("an expectation", &format!("expect: 100-continue\r\n{length}"), &good, [FORWARDED]),
        row(
            "an expectation and a forbidden model",
            &format!("expect: 100-continue\r\ncontent-length: {}\r\n", chat_body(FORBIDDEN).len()),
            chat_body(FORBIDDEN),
            [NOT_FOUND],
        ),
        row("an expectation twice", &format!("expect: 100-continue\r\nexpect: 100-continue\r\n{length}"), &good, [FORWARDED]),
        row("another expectation", &format!("expect: 200-ok\r\n{length}"), &good, [FORWARDED]),
        row(
            "an upgrade to a web socket",
            &format!(
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAA\r\n{length}"
            ),
            &good,
            [INVALID],
        ),
        row(
            "an upgrade to HTTP/2",
            &format!("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n{length}"),
            &good,
            [FORWARDED],
        ),
        row("an upgrade to something", &format!("connection: upgrade\r\nupgrade: x\r\n{length}"), &good, [INVALID]),
        // === request lines and hosts ===
        Row::http1(
            "HTTP/1.0",
            format!("POST {CHAT} HTTP/1.0\r\nhost: a\r\ncontent-type: application/json\r\n{length}\r\n{good}"),
            [Expected::Envoy(426)],
        ),
        Row::http1("HTTP/0.9", format!("POST {CHAT}\r\n\r\n"), [Expected::Envoy(426)]),
        Row::http1("HTTP/2.0", format!("POST {CHAT} HTTP/2.0\r\nhost: a\r\n{length}\r\n{good}"), [Expected::Envoy(426)]),
        Row::http1("HTTP/1.2", format!("POST {CHAT} HTTP/1.2\r\nhost: a\r\n{length}\r\n{good}"), [Expected::Envoy(426)]),
        Row::http1(
            "two blanks in the request line",
            format!("POST  {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{length}\r\n{good}"),
            [FORWARDED],
        ),
        Row::http1(
            "a tab in the request line",
            format!("POST\t{CHAT} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{length}\r\n{good}"),
            [FORWARDED],
        ),
        Row::http1(
            "a blank in the target",
            format!("POST {CHAT} /metrics HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{length}\r\n{good}"),
            [bad],
        ),
        Row::http1("empty lines before", [b"\r\n\r\n".to_vec(), chat(&good)].concat(), [FORWARDED]),
        Row::http1("a blank before", [b" ".to_vec(), chat(&good)].concat(), [bad]),
        Row::http1(
            "line feeds for all line ends",
            format!("POST {CHAT} HTTP/1.1\nhost: a\ncontent-type: application/json\ncontent-length: {size}\n\n{good}"),
            [FORWARDED],
        ),
        Row::http1("no host", format!("POST {CHAT} HTTP/1.1\r\ncontent-type: application/json\r\n{length}\r\n{good}"), [bad]),
        row("two hosts", &format!("host: evil.test\r\n{length}"), &good, [FORWARDED]),
        Row::http1(
            "an empty host",
            format!("POST {CHAT} HTTP/1.1\r\nhost:\r\ncontent-type: application/json\r\n{length}\r\n{good}"),
            [FORWARDED],
        ),
        Row::http1(
            "a host with a path",
            format!("POST {CHAT} HTTP/1.1\r\nhost: a/metrics\r\ncontent-type: application/json\r\n{length}\r\n{good}"),
            [bad],
        ),
        Row::http1("a body on a path without one", json("GET /v1/models", "", &secret), [Expected::Local]),
        Row::http1(
            "chunks on a path without a body",
            format!("GET /v1/models HTTP/1.1\r\nhost: a\r\n{CHUNKED}\r\n{whole}{secret}"),
            [Expected::Local],
        ),
    ]
}
