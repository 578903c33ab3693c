//! `pai models` and `pai chat`.

use std::io::Read as _;
use std::process::Stdio;

use insta::assert_snapshot;

use crate::support::{Run, Server, User, models, response};

const ERROR: &str = r#"{"error": {"message": "The daily budget of `alice-laptop` is exhausted; it resets at 00:00 UTC.", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}"#;

/// Returns a streamed response with these deltas.
fn stream(deltas: &[&str], finish_reason: &str, headers: &str) -> String {
    let mut body = String::new();
    for delta in deltas {
        body += &format!("data: {}\n\n", serde_json::json!({"choices": [{"index": 0, "delta": {"content": delta}}]}));
    }
    body += &format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{finish_reason}\"}}]}}\n\n");
    body += "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\ndata: [DONE]\n\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-pai-provider: vllm-local\r\nx-pai-model: org/m";
    format!("{head}\r\n{headers}connection: close\r\n\r\n{body}")
}

fn chat(server: &Server, more: &[&str]) -> Run {
    let url = server.url();
    User::new().pai(&[&["chat", "vllm-local/org/m", "Hello", "--url", &url, "--access-key", "pak_abc"], more].concat())
}

#[test]
fn models_are_a_table() {
    let (user, server) = (User::new(), Server::start(models()));
    user.log_in(&server, "pak_abc");
    assert_snapshot!(user.pai(&["models"]).shown(&server), @r"
    exit 0
    MODEL                                             PROVIDER     CONTEXT
    vllm-local/meta-llama/Meta-Llama-3-70B-Instruct   vllm-local   8192
    anthropic/claude-haiku-4-5                        anthropic    —
    --
    ");
    let names = user.pai(&["models", "-o", "name"]).stdout;
    assert_eq!(names, "vllm-local/meta-llama/Meta-Llama-3-70B-Instruct\nanthropic/claude-haiku-4-5\n");
    let json: serde_json::Value = serde_json::from_str(&user.pai(&["models", "-o", "json"]).stdout).unwrap();
    assert_eq!(json["items"][0]["contextLength"], 8192);
    assert!(server.requests().iter().all(|request| request.contains("Bearer pak_abc\r\n")));
}

#[test]
fn an_open_gateway_needs_no_key() {
    let server = Server::start(models());
    assert_eq!(User::new().pai(&["models", "--url", &server.url()]).code, Some(0));
    assert!(!server.requests().concat().contains("authorization"));
}

#[test]
fn answers_are_streamed() {
    let server = Server::start(stream(&["Hel", "lo"], "stop", ""));
    let run = chat(&server, &["--system", "Be brief.", "--max-tokens", "50", "--usage"]);
    assert_snapshot!(run.shown(&server), @r"
    exit 0
    Hello
    --
    7 prompt + 2 completion = 9 tokens, from vllm-local/org/m
    ");
    let [request] = server.requests().try_into().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions ") && head.contains("Bearer pak_abc"), "{head}");
    assert_snapshot!(body, @r#"{"model":"vllm-local/org/m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hello"}],"max_completion_tokens":50,"stream":true,"stream_options":{"include_usage":true}}"#);
}

#[test]
fn the_message_can_be_read_from_stdin() {
    let server = Server::start(response("200 OK", r#"{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}"#));
    let run = User::new().pipe(&["chat", "m", "-", "--no-stream", "--url", &server.url()], "from a pipe\n");
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "Hi\n", ""));
    assert!(server.requests().concat().ends_with(r#"{"model":"m","messages":[{"role":"user","content":"from a pipe\n"}]}"#));
    assert_eq!(User::new().pipe(&["chat", "m", "-", "--url", &server.url()], "\n").code, Some(2));
}

#[test]
fn errors_of_the_gateway_are_printed_as_they_are() {
    let server = Server::start(response("429 Too Many Requests", ERROR));
    assert_snapshot!(chat(&server, &[]).shown(&server), @r"
    exit 1
    --
    error: The daily budget of `alice-laptop` is exhausted; it resets at 00:00 UTC.
    ");
}

#[test]
fn limits_of_the_gateway_are_explained() {
    for (headers, expected) in [
        ("", "the answer is cut: --max-tokens 2 is reached"),
        ("x-pai-max-tokens: 1\r\nx-pai-limited-by: budget\r\n", "the answer is cut: your budget limits it to 1 tokens"),
    ] {
        let run = chat(&Server::start(stream(&["Hello"], "length", headers)), &["--max-tokens", "2"]);
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), "Hello\n"));
        assert_eq!(run.stderr, format!("warning: {expected}\n"));
    }
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    let whole = stream(&["Hel", "lo"], "stop", "");
    let (start, _) = whole.split_once("data: {\"choices\":[{\"index\":0,\"delta\":{},").unwrap();
    let server = Server::start(start);
    assert_snapshot!(chat(&server, &[]).shown(&server), @r"
    exit 3
    Hello
    --
    error: the answer broke off: the stream ended early
      Send the request again; `pai models` shows whether the gateway answers
    ");
}

#[test]
fn an_interrupt_ends_the_process_by_the_signal() {
    use std::os::unix::process::ExitStatusExt as _;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000\r\n\r\n";
    let server = Server::start_open(format!("{head}data: {{\"choices\":[{{\"delta\":{{\"content\":\"Hello\"}}}}]}}\n\n"));
    let mut command = User::new().command("pai");
    let mut child =
        command.args(["chat", "m", "Hi", "--url", &server.url()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
    assert_eq!(&text, b"Hello");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.signal(), output.stderr.as_slice()), (Some(2), &b""[..]));
}
