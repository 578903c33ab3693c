//! Raw HTTP/1.1 requests and the comparison of their responses.

use e2e::harness::{Gate, MODEL};

use crate::row::{CHAT, Expected, Row};
use crate::table::fault;

/// Returns the body of a valid chat for this model.
pub fn chat_body(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}],"max_tokens":8}}"#)
}

/// Returns the body of a chat with these additional members.
pub fn body_with(members: &str) -> String {
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"Hi"}}],{members}}}"#)
}

/// Returns a complete request: a request line without its version, header lines, and a body with its length declared.
pub fn request(line: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("{line} HTTP/1.1\r\nhost: gate.test\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Returns a JSON request with these additional header lines.
pub fn json(line: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request(line, &format!("content-type: application/json\r\n{headers}"), body)
}

/// Returns a chat request with this body.
pub fn chat(body: impl AsRef<[u8]>) -> Vec<u8> {
    json(&format!("POST {CHAT}"), "", body)
}

/// Returns a chat request with header lines that declare the framing themselves, followed by these bytes.
pub fn framed(headers: &str, rest: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: gate.test\r\ncontent-type: application/json\r\n{headers}\r\n");
    [head.as_bytes(), rest.as_ref()].concat()
}

/// Sends these bytes and compares the responses. After the last response, one more request shows that there are no others.
pub async fn run(gate: &Gate, bytes: &[u8], expected: &[Expected]) -> Result<(), Vec<String>> {
    let mut connection = gate.raw().await;
    connection.write(bytes).await;
    let (mut faults, mut closing) = (Vec::new(), false);
    for answer in expected {
        let reply = connection.reply().await;
        closing = reply.as_ref().is_none_or(|reply| reply.header("connection") == Some("close"));
        faults.extend(fault(*answer, reply.as_ref()));
    }
    // After `connection: close` no further response is expected; the provider's request count shows that nothing was forwarded.
    if !closing {
        connection.write("GET /v1/models/probe HTTP/1.1\r\nhost: gate.test\r\n\r\n").await;
        let probed = |text: &str| text.contains("probe") || text.contains("invalid_api_key");
        let next = connection.reply().await.filter(|reply| !probed(&reply.text()));
        faults.extend(next.map(|reply| format!("then came {}", reply.describe())));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// A chat with these additional members.
pub fn chat_with(name: &'static str, members: &str, answer: Expected) -> Row {
    Row::http1(name, chat(body_with(members)), [answer])
}

/// A chat with these messages.
pub fn chat_with_messages(name: &'static str, messages: &str, answer: Expected) -> Row {
    Row::http1(name, chat(format!(r#"{{"model":"{MODEL}","max_tokens":8,"messages":{messages}}}"#)), [answer])
}

/// A request to another path, with these members after the model.
pub fn post_with(name: &'static str, path: &'static str, members: &str, answer: Expected) -> Row {
    let body = format!(r#"{{"model":"{MODEL}",{members}}}"#);
    Row::http1(name, json(&format!("POST {path}"), "", body), [answer])
}
