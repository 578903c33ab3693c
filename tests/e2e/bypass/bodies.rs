//! Bodies that two parsers may read differently: encodings, media types, lenient JSON.

use std::io::Write as _;

use e2e::harness::MODEL;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http1::{body_with, chat, chat_body, json, request};
use crate::row::{CHAT, Expected, FORWARDED, INVALID, Row};
use crate::table::FORBIDDEN;

const ENCODED: Expected = Expected::Refused(415, "unsupported_encoding");

fn is(name: &'static str, body: impl AsRef<[u8]>, answer: Expected) -> Row {
    Row::http1(name, chat(body), [answer])
}

/// A valid body with another media type.
fn typed(name: &'static str, header: &str, answer: Expected) -> Row {
    Row::http1(name, request(&format!("POST {CHAT}"), header, chat_body(MODEL)), [answer])
}

/// A valid body with this header.
fn headed(name: &'static str, header: &str, answer: Expected) -> Row {
    Row::http1(name, json(&format!("POST {CHAT}"), header, chat_body(MODEL)), [answer])
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

pub fn rows() -> Vec<Row> {
    let good = chat_body(MODEL);
    let secret = chat_body(FORBIDDEN);
    let line = format!("POST {CHAT}");
    let utf16 = |bytes: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let utf32: Vec<u8> = good.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
    let utf7 = good.replace('{', "+AHs-").replace('}', "+AH0-");
    let key = |bytes: &[u8]| [b"{\"".as_slice(), bytes, format!("\":\"{MODEL}\",\"messages\":[]}}").as_bytes()].concat();
    let around = |before: &str, after: &str| format!("{before}{good}{after}");
    vec![
        // === encodings ===
        is("UTF-16, little end first", utf16(u16::to_le_bytes), INVALID),
        is("UTF-16, big end first", utf16(u16::to_be_bytes), INVALID),
        is("UTF-16 with its mark", [b"\xff\xfe".to_vec(), utf16(u16::to_le_bytes)].concat(), INVALID),
        is("UTF-32", utf32, INVALID),
        is("UTF-7", utf7, INVALID),
        is("a byte order mark", around("\u{feff}", ""), INVALID),
        is("two byte order marks", around("\u{feff}\u{feff}", ""), INVALID),
        is("EBCDIC", [0xc0, 0x7f, 0x94, 0x96, 0x84, 0x85, 0x93, 0x7f], INVALID),
        is("an overlong letter in a key", key(b"\xc1\xadodel"), INVALID),
        is("an overlong zero in a key", key(b"model\xc0\x80"), INVALID),
        is("a surrogate in UTF-8", key(b"\xed\xa0\x80model"), INVALID),
        is("half a letter at the end of a key", key(b"model\xc3"), INVALID),
        is("Latin-1 in a string", [body_with(r#""x":""#).trim_end_matches('}').as_bytes(), b"\xe9\"}"].concat(), INVALID),
        is("beyond the last character", key(b"\xf4\x90\x80\x80model"), INVALID),
        // === no document, or several ===
        is("nothing", "", INVALID),
        is("blanks", " \r\n\t ", INVALID),
        is("two documents", good.repeat(2), INVALID),
        is("two documents, a line each", format!("{good}\n{secret}\n"), INVALID),
        is("a document and a zero", around("", "\0"), INVALID),
        is("a document and a brace", around("", "}"), INVALID),
        is("a record separator before", around("\u{1e}", ""), INVALID),
        is("a guard against scripts before", around(")]}',\n", ""), INVALID),
        is("a callback around it", around("f(", ")"), INVALID),
        is("an event", around("data: ", "\n\n"), INVALID),
        is("an array around it", around("[", "]"), INVALID),
        is("JSON in a string", serde_json::Value::from(good.clone()).to_string(), INVALID),
        is("no end", good.trim_end_matches('}'), INVALID),
        is("a chunk in the body", around("50\r\n", "\r\n0\r\n\r\n"), INVALID),
        is("a request in the body", crate::http1::chat(&secret), INVALID),
        is("blanks around it", around(" \t\r\n", " \t\r\n"), FORWARDED),
        is("a vertical tab before", around("\u{b}", ""), INVALID),
        is("a form feed behind", around("", "\u{c}"), INVALID),
        is("a no-break space before", around("\u{a0}", ""), INVALID),
        is("a line separator before", around("\u{2028}", ""), INVALID),
        // === lenient JSON ===
        is("a comment before", around("/* */", ""), INVALID),
        is("a comment behind", around("", "// x"), INVALID),
        is("a comment within", body_with("/* \"model\":\"x\" */\"x\":1"), INVALID),
        is("a hash comment", around("# x\n", ""), INVALID),
        is("quotes of one stroke", good.replace('"', "'"), INVALID),
        is("keys without quotes", good.replace("\"model\"", "model"), INVALID),
        is("a comma at the end", body_with("\"x\":1,"), INVALID),
        is("a comma at the start", good.replacen('{', "{,", 1), INVALID),
        is("two commas", body_with(",\"x\":1"), INVALID),
        is("no comma", body_with("\"x\":1 \"y\":2"), INVALID),
        is("a semicolon for a comma", body_with("\"x\":1;\"y\":2"), INVALID),
        is("an equals sign for a colon", body_with("\"x\"=1"), INVALID),
        is("a key without a value", body_with("\"x\""), INVALID),
        is("a number for a key", body_with("1:2"), INVALID),
        is("not a number", body_with("\"x\":NaN"), INVALID),
        is("infinity", body_with("\"x\":-Infinity"), INVALID),
        is("undefined", body_with("\"x\":undefined"), INVALID),
        is("True", body_with("\"x\":True"), INVALID),
        is("an octal number", body_with("\"x\":012"), INVALID),
        is("a hexadecimal number", body_with("\"x\":0x1f"), INVALID),
        is("a plus sign", body_with("\"x\":+1"), INVALID),
        is("a number with an underscore", body_with("\"x\":1_000"), INVALID),
        is("a line break in a string", body_with("\"x\":\"a\nb\""), INVALID),
        is("a zero in a string", body_with("\"x\":\"a\0b\""), INVALID),
        is("an escape that is none", body_with(r#""x":"\x41""#), INVALID),
        is("half an escape", body_with(r#""x":"\u00""#), INVALID),
        is("nested too deep", body_with(&format!("\"x\":{}{}", "[".repeat(100_000), "]".repeat(100_000))), INVALID),
        is("nested and never closed", body_with(&format!("\"x\":{}", "{\"a\":".repeat(50_000))), INVALID),
        is("a number of 300 digits", body_with(&format!("\"x\":{}", "9".repeat(300))), FORWARDED),
        is("10,000 members", body_with(&(0..10_000).map(|n| format!("\"x{n}\":0")).collect::<Vec<_>>().join(",")), FORWARDED),
        is("unknown members twice", body_with("\"x\":1,\"x\":2"), FORWARDED),
        // === media types ===
        is("a form", format!("model={MODEL}&messages=[]"), INVALID),
        typed("a form's type", "content-type: application/x-www-form-urlencoded\r\n", INVALID),
        typed("no type", "", INVALID),
        typed("an empty type", "content-type:\r\n", INVALID),
        typed("text", "content-type: text/plain\r\n", INVALID),
        typed("text/json", "content-type: text/json\r\n", INVALID),
        typed("lines of JSON", "content-type: application/x-ndjson\r\n", INVALID),
        typed("a patch", "content-type: application/merge-patch+json\r\n", INVALID),
        typed("JSON with a suffix", "content-type: application/vnd.api+json\r\n", INVALID),
        typed("two types in one", "content-type: application/json, text/plain\r\n", INVALID),
        typed("two types, text first", "content-type: text/plain, application/json\r\n", INVALID),
        typed("two lines of types", "content-type: application/json\r\ncontent-type: text/plain\r\n", INVALID),
        typed("another charset", "content-type: application/json; charset=utf-16\r\n", FORWARDED),
        typed("a boundary", "content-type: application/json; boundary=x\r\n", FORWARDED),
        typed("a type in upper case", "content-type: APPLICATION/JSON\r\n", FORWARDED),
        Row::http1(
            "parts of a form",
            request(
                &line,
                "content-type: multipart/form-data; boundary=x\r\n",
                format!("--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{FORBIDDEN}\r\n--x--\r\n"),
            ),
            [INVALID],
        ),
        // === content encodings ===
        headed("declared as gzip", "content-encoding: gzip\r\n", ENCODED),
        headed("declared as x-gzip", "content-encoding: x-gzip\r\n", ENCODED),
        headed("declared as identity, then gzip", "content-encoding: identity, gzip\r\n", ENCODED),
        headed("two lines, identity first", "content-encoding: identity\r\ncontent-encoding: gzip\r\n", ENCODED),
        headed("two lines, gzip first", "content-encoding: gzip\r\ncontent-encoding: identity\r\n", ENCODED),
        headed("identity twice", "content-encoding: identity, identity\r\n", ENCODED),
        headed("a tab and gzip", "content-encoding:\tGzip \r\n", ENCODED),
        headed("declared as chunked", "content-encoding: chunked\r\n", ENCODED),
        headed("declared as aws-chunked", "content-encoding: aws-chunked\r\n", ENCODED),
        headed("declared as identity", "content-encoding: Identity\r\n", FORWARDED),
        headed("declared as nothing", "content-encoding:\r\n", FORWARDED),
        is("gzip, undeclared", gzip(&secret), INVALID),
        Row::http1("gzip, declared as identity", json(&line, "content-encoding: identity\r\n", gzip(&secret)), [INVALID]),
        Row::http1("gzip, declared", json(&line, "content-encoding: gzip\r\n", gzip(&good)), [ENCODED]),
    ]
}
