//! Model names that the gateway may read as an allowed model and the server as another, or vice versa.

use e2e::harness::{MODEL, SLASHED};

use crate::http1::{chat, chat_body, json};
use crate::row::{CHAT, Expected, FORWARDED, INVALID, NOT_ALLOWED, NOT_FOUND, Row};
use crate::table::FORBIDDEN;

/// A chat for this model, encoded as JSON.
fn asks(name: &'static str, written: &str, answer: Expected) -> Row {
    Row::http1(name, chat(chat_body(written)), [answer])
}

/// A chat whose `model` is this value.
fn is(name: &'static str, value: &str, answer: Expected) -> Row {
    Row::http1(name, chat(format!(r#"{{"model":{value},"messages":[]}}"#)), [answer])
}

/// A body with these members.
fn chat_with_messages(name: &'static str, members: &str, answer: Expected) -> Row {
    Row::http1(name, chat(format!(r#"{{{members},"messages":[]}}"#)), [answer])
}

pub fn rows() -> Vec<Row> {
    let reference = format!("vllm-local/{MODEL}");
    let twice = |left: &str, right: &str| format!(r#"{left}:"{MODEL}",{right}:"{FORBIDDEN}""#);
    let other = |id: &'static str| Expected::Forwarded(CHAT, id);
    vec![
        asks("an allowed one", MODEL, FORWARDED),
        asks("its reference", &reference, FORWARDED),
        asks("a slash that is escaped", &SLASHED.replace('/', "\\/"), other(SLASHED)),
        asks("letters that are escaped", &MODEL.replace('M', "\\u004d"), FORWARDED),
        // === the denied model ===
        asks("the forbidden one", FORBIDDEN, NOT_FOUND),
        asks("its reference, forbidden", "vllm-local/qwen/secret", NOT_ALLOWED),
        asks("forbidden, escaped", "vllm-local\\/\\u0071wen\\/secret", NOT_ALLOWED),
        asks("forbidden, escaped in upper case", "\\u0071wen\\u002Fsecret", NOT_FOUND),
        // === two models ===
        chat_with_messages("twice, the allowed one first", &twice("\"model\"", "\"model\""), INVALID),
        chat_with_messages("twice, the forbidden one first", &format!(r#""model":"{FORBIDDEN}","model":"{MODEL}""#), INVALID),
        chat_with_messages("twice, the second escaped", &twice("\"model\"", "\"mod\\u0065l\""), INVALID),
        chat_with_messages("twice, both escaped differently", &twice("\"\\u006dodel\"", "\"m\\u006Fdel\""), INVALID),
        chat_with_messages("twice, all of it escaped", &twice("\"\\u006d\\u006f\\u0064\\u0065\\u006c\"", "\"model\""), INVALID),
        chat_with_messages("twice, the second null", &format!(r#""model":"{MODEL}","model":null"#), INVALID),
        chat_with_messages("another case beside it", &twice("\"model\"", "\"Model\""), FORWARDED),
        chat_with_messages("a blank behind the key", &twice("\"model\"", "\"model \""), FORWARDED),
        chat_with_messages("a zero behind the key", &twice("\"model\"", "\"model\\u0000\""), FORWARDED),
        chat_with_messages("a byte order mark in the key", &twice("\"model\"", "\"\\ufeffmodel\""), FORWARDED),
        chat_with_messages("a soft hyphen in the key", &twice("\"model\"", "\"mo\u{ad}del\""), FORWARDED),
        chat_with_messages("the key in wide letters", &twice("\"model\"", "\"ｍｏｄｅｌ\""), FORWARDED),
        chat_with_messages("the key in Cyrillic", &twice("\"model\"", "\"m\u{43e}del\""), FORWARDED),
        chat_with_messages("another case alone", &format!(r#""MODEL":"{MODEL}""#), INVALID),
        chat_with_messages(
            "in an object beside it",
            &format!(r#""model":"{MODEL}","extra_body":{{"model":"{FORBIDDEN}"}}"#),
            FORWARDED,
        ),
        chat_with_messages("in an object only", &format!(r#""extra_body":{{"model":"{MODEL}"}}"#), INVALID),
        chat_with_messages("model_name beside it", &twice("\"model\"", "\"model_name\""), FORWARDED),
        chat_with_messages(
            "lora_request beside it",
            &format!(r#""model":"{MODEL}","lora_request":{{"lora_name":"{FORBIDDEN}"}}"#),
            FORWARDED,
        ),
        asks("two in one, by a comma", &format!("{MODEL},{FORBIDDEN}"), NOT_FOUND),
        // === other types ===
        is("an array of both", &format!(r#"["{MODEL}","{FORBIDDEN}"]"#), INVALID),
        is("an array of one", &format!(r#"["{MODEL}"]"#), INVALID),
        is("an object", &format!(r#"{{"id":"{MODEL}"}}"#), INVALID),
        is("a number", "0", INVALID),
        is("true", "true", INVALID),
        is("null", "null", INVALID),
        is("empty", "\"\"", INVALID),
        Row::http1("missing", chat(r#"{"messages":[]}"#), [INVALID]),
        // === names that other parsers trim, fold or decode ===
        asks("a blank behind", &format!("{MODEL} "), INVALID),
        asks("a blank before", &format!(" {MODEL}"), INVALID),
        asks("a tab behind", &format!("{MODEL}\\t"), INVALID),
        asks("a line break behind", &format!("{MODEL}\\n"), INVALID),
        asks("a header behind", &format!("{MODEL}\\r\\nx-pai-provider: other"), INVALID),
        asks("a zero behind", &format!("{MODEL}\\u0000"), INVALID),
        asks("a zero and the forbidden one", &format!("{MODEL}\\u0000{FORBIDDEN}"), INVALID),
        asks("a no-break space behind", &format!("{MODEL}\u{a0}"), INVALID),
        asks("a zero-width space within", "vllm-local/qwen/sec\u{200b}ret", INVALID),
        asks("a right-to-left mark", "vllm-local/qwen/\u{202e}terces", INVALID),
        asks("a Cyrillic letter", "vllm-local/qwen/s\u{435}cret", INVALID),
        asks("wide letters", "vllm-local/qwen/ｓecret", INVALID),
        asks("a Kelvin sign", "vllm-local/\u{212a}", INVALID),
        asks("half a surrogate pair", "vllm-local/qwen/secret\\ud800", INVALID),
        asks("a dot behind", &format!("{reference}."), NOT_ALLOWED),
        asks("a slash behind", &format!("{reference}/"), NOT_ALLOWED),
        asks("an adapter's name behind", &format!("{reference}:lora"), NOT_ALLOWED),
        asks("a query behind", &format!("{reference}?x=1"), NOT_ALLOWED),
        asks("a fragment behind", &format!("{reference}#x"), NOT_ALLOWED),
        asks("a revision behind", &format!("{reference}@main"), NOT_ALLOWED),
        asks("another case", &format!("vllm-local/{}", MODEL.to_ascii_lowercase()), NOT_ALLOWED),
        asks("an adapter", "vllm-local/sql-lora", NOT_ALLOWED),
        asks("an adapter without a provider", "sql-lora", NOT_FOUND),
        asks("a percent-encoded slash", "qwen%2Fsecret", NOT_FOUND),
        asks("percent-encoded behind the provider", "vllm-local/qwen%2fsecret", NOT_ALLOWED),
        asks("percent-encoded as a whole", "vllm-local%2Fqwen%2Fgood", NOT_FOUND),
        asks("a backslash", "vllm-local/qwen\\\\good", NOT_ALLOWED),
        asks("a provider of another case", "VLLM-LOCAL/qwen/good", NOT_FOUND),
        asks("a provider that is not there", "openai/qwen/good", NOT_FOUND),
        asks("the provider twice", "vllm-local/vllm-local/qwen/good", NOT_ALLOWED),
        asks("the provider and two slashes", "vllm-local//qwen/good", NOT_ALLOWED),
        asks("the provider and nothing", "vllm-local/", NOT_FOUND),
        asks("the provider alone", "vllm-local", NOT_FOUND),
        asks("a slash before", "/qwen/good", NOT_FOUND),
        asks("a dot and a slash before", "./qwen/good", NOT_FOUND),
        asks("a pattern for a model", "*", NOT_FOUND),
        asks("a provider's pattern", "vllm-local/*", NOT_ALLOWED),
        asks("a path to a file", "/models/llama", NOT_FOUND),
        asks("a path upwards", "vllm-local/../metrics", NOT_ALLOWED),
        asks("the longest name", &"m".repeat(256), NOT_FOUND),
        asks("longer than the longest", &"m".repeat(257), INVALID),
        // === names that a pattern allows and that differ from the denied one; the server decides whether they exist ===
        asks("the denied one, and a dot", "qwen/secret.", other("qwen/secret.")),
        asks("the denied one in another case", "vllm-local/qwen/Secret", other("qwen/Secret")),
        asks("the denied one, a part of it escaped", "qwen/%73ecret", other("qwen/%73ecret")),
        asks("the denied one, by a detour", "qwen/../qwen/secret", other("qwen/../qwen/secret")),
        // === outside the body ===
        Row::http1("in the query", json(&format!("POST {CHAT}?model={FORBIDDEN}"), "", chat_body(MODEL)), [FORWARDED]),
        Row::http1(
            "in a header",
            json(&format!("POST {CHAT}"), "x-pai-model: qwen/secret\r\nmodel: qwen/secret\r\n", chat_body(MODEL)),
            [FORWARDED],
        ),
    ]
}
