//! Request lines: paths that one parser normalises and another does not, methods, other forms of targets.

use e2e::harness::EnvoyFeature::QueryMethod;
use e2e::harness::MODEL;

use crate::http1::{chat_body, json};
use crate::row::{CHAT, Expected, FORWARDED, NOT_FOUND, Row, UNKNOWN_URL};
use crate::table::FORBIDDEN;

/// A chat with this request line.
fn line(name: &'static str, line: &str, answer: Expected) -> Row {
    Row::http1(name, json(line, "", chat_body(MODEL)), [answer])
}

/// A chat posted to this target.
fn post(name: &'static str, target: &str, answer: Expected) -> Row {
    line(name, &format!("POST {target}"), answer)
}

fn get(name: &'static str, target: &str, answer: Expected) -> Row {
    Row::http1(name, format!("GET {target} HTTP/1.1\r\nhost: gate.test\r\n\r\n"), [answer])
}

pub fn rows() -> Vec<Row> {
    let bad = Expected::Envoy(400);
    vec![
        // === other spellings of the same path ===
        post("as it is", CHAT, FORWARDED),
        post("a query", "/v1/chat/completions?x=/../metrics", FORWARDED),
        post("two question marks", "/v1/chat/completions??x", FORWARDED),
        post("a letter percent-encoded", "/v1/%63hat/completions", FORWARDED),
        post("a slash percent-encoded", "/v1%2Fchat%2fcompletions", FORWARDED),
        post("all of it percent-encoded", "/%76%31/%63%68%61%74/%63%6f%6d%70%6c%65%74%69%6f%6e%73", FORWARDED),
        post("a target with another host", "http://evil.test/v1/chat/completions", FORWARDED),
        post("a target with another port", "http://127.0.0.1:9901/v1/chat/completions", FORWARDED),
        post("a target of https", "https://evil.test/v1/chat/completions", FORWARDED),
        post("a target with a user", "http://a:b@evil.test/v1/chat/completions", FORWARDED),
        post("a target of ftp", "ftp://evil.test/v1/chat/completions", bad),
        post("a target with two slashes behind the host", "http://evil.test//v1/chat/completions", UNKNOWN_URL),
        post("a target and a query without a path", "http://evil.test?/v1/chat/completions", Expected::Envoy(404)),
        post("a target with nothing behind the host", "http://evil.test", UNKNOWN_URL),
        post("two targets in one", "http://a.test/http://b.test/v1/chat/completions", UNKNOWN_URL),
        // === paths that other parsers normalise to it ===
        post("two slashes before", "//v1/chat/completions", UNKNOWN_URL),
        post("two slashes within", "/v1//chat/completions", UNKNOWN_URL),
        post("a slash behind", "/v1/chat/completions/", UNKNOWN_URL),
        post("a percent-encoded slash behind", "/v1/chat/completions%2f", UNKNOWN_URL),
        post("a dot within", "/v1/./chat/completions", UNKNOWN_URL),
        post("a percent-encoded dot within", "/v1/%2e/chat/completions", UNKNOWN_URL),
        post("up and down", "/v1/x/../chat/completions", UNKNOWN_URL),
        post("up and down, percent-encoded", "/v1/x/%2e%2e/chat/completions", UNKNOWN_URL),
        post("up and down, half encoded", "/v1/x/.%2e%2fchat/completions", UNKNOWN_URL),
        post("above the root", "/../v1/chat/completions", UNKNOWN_URL),
        post("parameters behind", "/v1/chat/completions;x=1", UNKNOWN_URL),
        post("parameters within", "/v1;x=1/chat/completions", UNKNOWN_URL),
        post("up by parameters", "/v1/x/..;/chat/completions", UNKNOWN_URL),
        post("a backslash", "/v1\\chat\\completions", UNKNOWN_URL),
        post("a percent-encoded backslash", "/v1%5cchat%5ccompletions", UNKNOWN_URL),
        post("encoded twice", "/v1/chat%252fcompletions", UNKNOWN_URL),
        post("encoded by u", "/v1/%u0063hat/completions", UNKNOWN_URL),
        post("an overlong slash", "/v1%c0%afchat/completions", UNKNOWN_URL),
        post("a wide slash", "/v1%ef%bc%8fchat/completions", UNKNOWN_URL),
        post("a zero behind", "/v1/chat/completions%00", UNKNOWN_URL),
        post("a zero and more", "/v1/chat/completions%00/../../metrics", UNKNOWN_URL),
        post("a line break behind", "/v1/chat/completions%0d%0ax-pai-provider:%20other", UNKNOWN_URL),
        post("a blank behind", "/v1/chat/completions%20", UNKNOWN_URL),
        post("a question mark percent-encoded", "/v1/chat/completions%3fx=1", UNKNOWN_URL),
        post("a hash percent-encoded", "/v1/chat/completions%23x", UNKNOWN_URL),
        post("half a percent sign", "/v1/chat/completions%2", UNKNOWN_URL),
        post("upper case", "/V1/CHAT/COMPLETIONS", UNKNOWN_URL),
        post("a suffix", "/v1/chat/completions.json", UNKNOWN_URL),
        post("a version more", "/v1/v1/chat/completions", UNKNOWN_URL),
        post("no version", "/chat/completions", UNKNOWN_URL),
        post("a fragment", "/v1/chat/completions#x", bad),
        post("no slash before", "v1/chat/completions", bad),
        post("a star", "*", bad),
        post("bytes that are no letters", "/v1/chat/\u{e9}", bad),
        // === paths of the server that the gateway does not serve ===
        post("responses", "/v1/responses", UNKNOWN_URL),
        post("messages", "/v1/messages", UNKNOWN_URL),
        post("invocations", "/invocations", UNKNOWN_URL),
        post("tokens", "/tokenize", UNKNOWN_URL),
        post("pooling", "/pooling", UNKNOWN_URL),
        post("scores", "/v1/score", UNKNOWN_URL),
        post("an adapter to load", "/v1/load_lora_adapter", UNKNOWN_URL),
        post("sleep", "/sleep", UNKNOWN_URL),
        post("rendering", "/v1/chat/completions/render", UNKNOWN_URL),
        post("audio", "/v1/audio/transcriptions", UNKNOWN_URL),
        post("metrics behind the base path", "/v1/../metrics", UNKNOWN_URL),
        get("metrics", "/metrics", UNKNOWN_URL),
        get("metrics with a host", "http://vllm-local.test:8000/metrics", UNKNOWN_URL),
        get("the server's own description", "/openapi.json", UNKNOWN_URL),
        // === methods ===
        line("another method", &format!("PUT {CHAT}"), UNKNOWN_URL),
        line("a method in lower case", &format!("post {CHAT}"), bad),
        line("an unknown method", &format!("PROPFIND {CHAT}"), UNKNOWN_URL),
        line("a method of queries", &format!("QUERY {CHAT}"), UNKNOWN_URL).without(QueryMethod, [bad]),
        line("a method with a letter more", &format!("XPOST {CHAT}"), bad),
        line("OPTIONS", &format!("OPTIONS {CHAT}"), UNKNOWN_URL),
        line("TRACE", &format!("TRACE {CHAT}"), UNKNOWN_URL),
        Row::http1("CONNECT", "CONNECT vllm-local.test:8000 HTTP/1.1\r\nhost: vllm-local.test:8000\r\n\r\n", [UNKNOWN_URL]),
        Row::http1("GET with a body", json(&format!("GET {CHAT}"), "", chat_body(MODEL)), [UNKNOWN_URL]),
        Row::http1(
            "GET overridden by POST",
            json(&format!("GET {CHAT}"), "x-http-method-override: POST\r\nx-method-override: POST\r\n", chat_body(MODEL)),
            [UNKNOWN_URL],
        ),
        Row::http1(
            "GET overridden by POST in the query",
            json(&format!("GET {CHAT}?_method=POST"), "", chat_body(MODEL)),
            [UNKNOWN_URL],
        ),
        Row::http1(
            "POST overridden by GET",
            json(&format!("POST {CHAT}"), "x-http-method-override: GET\r\n", chat_body(MODEL)),
            [FORWARDED],
        ),
        Row::http1(
            "another path in a header",
            json(
                &format!("POST {CHAT}"),
                "x-original-url: /metrics\r\nx-rewrite-url: /metrics\r\nx-envoy-original-path: /metrics\r\n",
                chat_body(MODEL),
            ),
            [FORWARDED],
        ),
        // === one model ===
        get("an allowed model", &format!("/v1/models/vllm-local%2F{MODEL}"), Expected::Local),
        get("an allowed model, its slashes as they are", &format!("/v1/models/vllm-local/{MODEL}"), Expected::Local),
        get("the forbidden model", &format!("/v1/models/vllm-local%2f{}", FORBIDDEN.replace('/', "%2F")), NOT_FOUND),
        get("the forbidden model, by both slashes", "/v1/models/vllm-local/qwen%2Fsecret", NOT_FOUND),
        get("the forbidden model, encoded twice", "/v1/models/vllm-local%252Fqwen%252Fsecret", NOT_FOUND),
        get("a model upwards", "/v1/models/../../metrics", NOT_FOUND),
        get("a model upwards, percent-encoded", "/v1/models/%2e%2e%2f%2e%2e%2fmetrics", NOT_FOUND),
        get("a model with a line break", "/v1/models/a%0d%0ax-evil:%201", NOT_FOUND),
        get("a model with a zero", "/v1/models/a%00", NOT_FOUND),
        get("a model that is no text", "/v1/models/%ff", UNKNOWN_URL),
        get("no model", "/v1/models/", UNKNOWN_URL),
        get("two slashes before a model", &format!("/v1/models//vllm-local/{MODEL}"), NOT_FOUND),
    ]
}
