//! Client headers that would route, retry, identify, authenticate or prioritise a request if they were trusted.

use e2e::harness::MODEL;

use crate::http1::{chat_body, json};
use crate::row::{CHAT, Expected, FORWARDED, INVALID, Row};

/// A valid chat with these header lines.
fn sends(name: &'static str, lines: &str, answer: Expected) -> Row {
    Row::http1(name, json(&format!("POST {CHAT}"), lines, chat_body(MODEL)), [answer])
}

pub fn rows() -> Vec<Row> {
    let bad = Expected::Envoy(400);
    vec![
        // === the filter's own ===
        sends("the provider", "x-pai-provider: other\r\n", FORWARDED),
        sends("the provider twice", "x-pai-provider: vllm-local\r\nx-pai-provider: other\r\n", FORWARDED),
        sends("the provider in upper case", "X-PAI-PROVIDER: other\r\n", FORWARDED),
        sends("an empty provider", "x-pai-provider:\r\n", FORWARDED),
        sends("the model", "x-pai-model: other\r\n", FORWARDED),
        sends("a retry", "x-pai-retry: true\r\n", FORWARDED),
        sends("something else of the filter's", "x-pai-subject: agent/a\r\nx-pai-exchange: 1\r\nx-pai-: x\r\n", FORWARDED),
        sends("a clock", "x-test-clock: 86400\r\n", FORWARDED),
        // === Envoy's ===
        sends(
            "retries",
            "x-envoy-retry-on: 5xx,reset\r\nx-envoy-max-retries: 50\r\nx-envoy-retriable-status-codes: 200\r\n",
            FORWARDED,
        ),
        sends("hedging", "x-envoy-hedge-on-per-try-timeout: true\r\nx-envoy-upstream-rq-per-try-timeout-ms: 1\r\n", FORWARDED),
        sends("a timeout of a millisecond", "x-envoy-upstream-rq-timeout-ms: 1\r\n", FORWARDED),
        sends("another answer to a timeout", "x-envoy-upstream-rq-timeout-alt-response: 1\r\n", FORWARDED),
        sends("another destination", "x-envoy-original-dst-host: 127.0.0.1:1\r\n", FORWARDED),
        sends("another path and host", "x-envoy-original-path: /metrics\r\nx-envoy-original-host: a.test\r\n", FORWARDED),
        sends("an internal request", "x-envoy-internal: true\r\nx-envoy-external-address: 10.0.0.1\r\n", FORWARDED),
        sends("a rate that is over", "x-envoy-ratelimited: true\r\n", FORWARDED),
        sends("a name of an operation", "x-envoy-decorator-operation: other\r\n", FORWARDED),
        // === claimed origin ===
        sends("another address", "x-forwarded-for: 127.0.0.1\r\nx-real-ip: 127.0.0.1\r\nforwarded: for=127.0.0.1\r\n", FORWARDED),
        sends("another host", "x-forwarded-host: a.test\r\nx-host: a.test\r\n", FORWARDED),
        sends("another scheme", "x-forwarded-proto: https\r\n", FORWARDED),
        sends("a scheme that is none", "x-forwarded-proto: javascript\r\n", FORWARDED),
        sends("a prefix", "x-forwarded-prefix: /metrics\r\n", FORWARDED),
        sends("a certificate", "x-forwarded-client-cert: URI=spiffe://a/b\r\n", FORWARDED),
        // === credentials ===
        sends("a key of another's", "authorization: Bearer sk-other\r\n", FORWARDED),
        sends("keys in three headers", "authorization: Bearer a\r\nx-api-key: b\r\napi-key: c\r\n", FORWARDED),
        sends("a password", "authorization: Basic YTpi\r\nproxy-authorization: Basic YTpi\r\n", FORWARDED),
        sends("cookies", "cookie: a=b\r\ncookie: c=d\r\n", FORWARDED),
        sends("an account", "openai-organization: org\r\nopenai-project: proj\r\n", FORWARDED),
        sends("a key that is none", "authorization: Bearer pak_x\r\n", Expected::Refused(401, "invalid_api_key")),
        // === the server's ===
        sends("a turn", "x-vllm-priority: -100\r\n", FORWARDED),
        sends("an engine", "x-data-parallel-rank: 3\r\n", FORWARDED),
        sends("a session", "x-session-id: a\r\n", FORWARDED),
        sends("an adapter", "x-amzn-sagemaker-adapter-identifier: lora\r\nx-amzn-sagemaker-closed-session-id: x\r\n", FORWARDED),
        sends("the server's load", "endpoint-load-metrics-format: JSON\r\n", FORWARDED),
        sends("an encoding of the answer", "accept-encoding: gzip, br\r\n", FORWARDED),
        sends("a range of the answer", "range: bytes=0-1\r\n", FORWARDED),
        sends("an answer that is not to change", "if-none-match: *\r\n", FORWARDED),
        sends("another media type", "accept: text/event-stream\r\n", FORWARDED),
        sends("an identity of the request", "x-request-id: ../../x\r\n", FORWARDED),
        // === names that parsers may confuse ===
        sends("underscores for hyphens", "x_pai_provider: other\r\nx_api_key: x\r\ncontent_length: 1\r\n", FORWARDED),
        sends("a name of one letter", "a: b\r\n", FORWARDED),
        sends("a blank before the colon", "x-pai-provider : other\r\n", bad),
        sends("a blank in a name", "x-pai provider: other\r\n", bad),
        sends("a blank before a name", " x-pai-provider: other\r\n", INVALID),
        sends("no name", ": other\r\n", bad),
        sends("no colon", "x-pai-provider\r\n", bad),
        sends("a zero in a name", "x-pai\0: other\r\n", bad),
        sends("a zero in a value", "x-a: b\0c\r\n", bad),
        sends("a line break in a value", "x-a: b\rx-pai-provider: other\r\n", FORWARDED),
        sends("a line that is folded", "x-a: b\r\n authorization: Bearer x\r\n", FORWARDED),
        sends("a line that ends in a line feed only", "x-a: b\nx-pai-provider: other\r\n", FORWARDED),
        sends("letters that are none, in a name", "x-p\u{e9}: other\r\n", bad),
        sends("a parenthesis in a name", "x-a(b): other\r\n", bad),
        sends("a value of all bytes that may be", "x-a: \u{e9}\u{1f600}~\r\n", FORWARDED),
        // === headers named by another header ===
        sends("a connection that would drop the length", "connection: content-length\r\n", FORWARDED),
        sends("a connection that would drop the media type", "connection: keep-alive, content-type\r\n", INVALID),
        sends("a connection that would drop the provider", "connection: x-pai-provider\r\n", FORWARDED),
        sends("a connection that would drop the host", "connection: host, :path\r\n", bad),
        sends("trailers that would be headers", "trailer: authorization, content-length\r\n", FORWARDED),
        sends("trailers for a codec", "te: trailers\r\n", FORWARDED),
        // === syntax ===
        Row::http1(
            "gRPC, whose refusals are in its own form",
            crate::http1::request(&format!("POST {CHAT}"), "content-type: application/grpc\r\n", chat_body(MODEL)),
            [Expected::Local],
        ),
        sends("too many headers", &"x-a: b\r\n".repeat(120), Expected::Envoy(431)),
        sends("a header too long", &format!("x-a: {}\r\n", "b".repeat(70_000)), Expected::Envoy(431)),
    ]
}
