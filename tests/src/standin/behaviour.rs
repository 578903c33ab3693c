//! Tests of the stand-in's token counts and of its faults.

use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Options, Outcome, StandIn};

async fn start(fault: &str) -> StandIn {
    let fault = fault.parse().unwrap();
    StandIn::start(Options { fault, tokens: 6, image_tokens: Some(50), ..Options::default() }).await.unwrap()
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "12345678"}]}); // 2 + 4 + 3 tokens
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

async fn post(standin: &StandIn, path: &str, body: &Value) -> reqwest::Result<reqwest::Response> {
    reqwest::Client::new().post(standin.url() + path).json(body).send().await
}

async fn text(standin: &StandIn, body: &Value) -> String {
    post(standin, "/v1/chat/completions", body).await.unwrap().text().await.unwrap()
}

/// Sends a chat and reads until `until` is received or the connection ends.
async fn raw(standin: &StandIn, body: &Value, until: &str) -> (TcpStream, String, Option<std::io::ErrorKind>) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(standin.addr()).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 65536]);
    let error = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break None,
            Ok(n) => answer.extend(&buffer[..n]),
            Err(error) => break Some(error.kind()),
        }
        if !until.is_empty() && String::from_utf8_lossy(&answer).contains(until) {
            break None;
        }
    };
    (stream, String::from_utf8(answer).unwrap(), error)
}

#[tokio::test]
async fn counts_what_it_sends() {
    let standin = start("").await;
    for (extra, tokens) in [
        (json!({}), 6),
        (json!({"max_tokens": 4, "n": 2}), 8),
        (json!({"max_completion_tokens": 2, "max_tokens": 5, "stream": true}), 2),
        (json!({"ignore_eos": true, "max_tokens": 100, "stream": true}), 100),
    ] {
        let before = standin.counters().total;
        text(&standin, &chat(extra.clone())).await;
        let after = standin.counters().total;
        assert_eq!(after.prompt_tokens - before.prompt_tokens, 9, "{extra}");
        assert_eq!(after.completion_tokens - before.completion_tokens, tokens, "{extra}");
    }
    let counters = standin.counters();
    assert_eq!((counters.completed, counters.in_flight, counters.streams_open), (4, 0, 0));
    let seen = standin.last_request().unwrap();
    assert_eq!((seen.limit_field, seen.limit, seen.outcome), (Some("max_tokens"), Some(100), Outcome::Completed));
}

#[tokio::test]
async fn the_context_length_bounds_everything() {
    let options = Options { max_model_len: 20, ..Options::default() };
    let standin = StandIn::start(options.clone()).await.unwrap();
    let whole: Value = serde_json::from_str(&text(&standin, &chat(json!({}))).await).unwrap();
    assert_eq!(whole["usage"]["completion_tokens"], 11);
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    let legacy = StandIn::start(Options { legacy_length: true, ..options }).await.unwrap();
    let refused = text(&legacy, &chat(json!({"max_tokens": 12}))).await;
    assert!(refused.contains("you requested 12 output tokens"), "{refused}");
    assert_eq!(legacy.counters().refused, 1);
}

#[tokio::test]
async fn an_aborted_stream_is_counted_up_to_the_abort() {
    let standin = StandIn::start(Options { tokens: 1000, token_interval: Duration::from_millis(5), ..Options::default() });
    let standin = standin.await.unwrap();
    let (stream, _, _) = raw(&standin, &chat(json!({"stream": true})), " far").await;
    assert_eq!(standin.counters().streams_open, 1);
    drop(stream);
    standin.idle().await;
    let counters = standin.counters();
    assert_eq!((counters.aborted, counters.completed, counters.streams_open), (1, 0, 0));
    assert!((5..1000).contains(&counters.total.completion_tokens), "{counters:?}");
    assert_eq!(standin.last_request().unwrap().outcome, Outcome::Aborted);
}

#[tokio::test]
async fn an_aborted_wait_is_counted() {
    for fault in ["hang", "latency=1m", "hang-after-events=3", "interval=1m"] {
        let standin = start(fault).await;
        let body = chat(json!({"stream": fault.contains("events")}));
        tokio::select! {
            _ = raw(&standin, &body, "") => panic!("{fault}: answered"),
            () = standin.until(|counters| counters.in_flight == 1) => {} // the client disconnects here
        }
        standin.idle().await;
        assert_eq!(standin.counters().aborted, 1, "{fault}");
    }
}

#[tokio::test]
async fn resets_are_resets() {
    let standin = start("reset-before-headers").await;
    let (_, answer, error) = raw(&standin, &chat(json!({})), "").await;
    assert_eq!((answer.as_str(), error), ("", Some(std::io::ErrorKind::ConnectionReset)));
    standin.set_fault("reset-after-events=3".parse().unwrap());
    let (_, answer, error) = raw(&standin, &chat(json!({"stream": true})), "").await;
    assert_eq!((answer.matches("data: ").count(), error), (3, Some(std::io::ErrorKind::ConnectionReset)));
    let counters = standin.counters();
    assert_eq!((counters.cut, counters.total.completion_tokens), (2, 2));
}

#[tokio::test]
async fn faults_come_from_header_and_body_and_run_out() {
    let standin = start("status=429,times=1").await;
    let status = |body: Value| {
        let url = standin.url();
        async move { reqwest::Client::new().post(url + "/v1/chat/completions").json(&body).send().await.unwrap().status() }
    };
    assert_eq!(status(chat(json!({}))).await, 429);
    assert_eq!(status(chat(json!({}))).await, 200);
    assert_eq!(status(chat(json!({"standin_fault": "status=503"}))).await, 503);
    let request = reqwest::Client::new().post(standin.url() + "/v1/chat/completions");
    let answer = request.header("x-standin-fault", "header=set-cookie:a=b").json(&chat(json!({}))).send().await.unwrap();
    assert_eq!(answer.headers()["set-cookie"], "a=b");
}

#[tokio::test]
async fn encodings_and_line_ends() {
    let stream = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let plain = text(&start("").await, &stream).await;
    for (fault, body) in [("gzip", &stream), ("gzip", &chat(json!({})))] {
        let answer = post(&start(fault).await, "/v1/chat/completions", body).await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        let mut decoded = String::new();
        flate2::read::GzDecoder::new(&answer.bytes().await.unwrap()[..]).read_to_string(&mut decoded).unwrap();
        assert!(decoded.contains("prompt_tokens"), "{decoded}");
    }
    let fragments = text(&start("fragment=7").await, &stream).await;
    assert_eq!(fragments.len(), plain.len());
    let crlf = text(&start("crlf").await, &stream).await;
    assert_eq!(crlf.matches("\r\n\r\n").count(), plain.matches("\n\n").count());
    assert!(!text(&start("no-usage").await, &stream).await.contains("prompt_tokens"));
    assert!(text(&start("extra-usage=5").await, &stream).await.contains(r#""completion_tokens":11"#));
    assert_eq!(text(&start("reasoning").await, &stream).await.matches(r#""reasoning":""#).count(), 3);
}

#[tokio::test]
async fn tool_calls_add_up_to_json() {
    let standin = start("").await;
    let tools = json!({"tools": [{"type": "function", "function": {"name": "look"}}], "tool_choice": "required"});
    let whole: Value = serde_json::from_str(&text(&standin, &chat(tools.clone())).await).unwrap();
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &whole["choices"][0]["finish_reason"]), (&json!("look"), &json!("tool_calls")));
    let mut streamed = tools;
    streamed["stream"] = json!(true);
    let events = text(&standin, &chat(streamed)).await;
    let events = events.split("\n\n").filter_map(|event| serde_json::from_str::<Value>(event.strip_prefix("data: ")?).ok());
    let pieces: String = events
        .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(String::from))
        .collect();
    assert_eq!(pieces, call["arguments"].as_str().unwrap());
    assert!(serde_json::from_str::<Value>(&pieces).unwrap()["text"].is_string());
}

#[tokio::test]
async fn embeddings_and_h2c() {
    let standin = start("").await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let body = json!({"input": ["12345678", "1"], "encoding_format": "base64"});
    let answer = client.post(standin.url() + "/v1/embeddings").json(&body).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((answer["data"].as_array().unwrap().len(), &answer["usage"]["prompt_tokens"]), (2, &json!(3)));
    let stream = client.post(standin.url() + "/v1/chat/completions").json(&chat(json!({"stream": true}))).send().await;
    assert!(stream.unwrap().text().await.unwrap().ends_with("data: [DONE]\n\n"));
    let counters = client.get(standin.url() + "/standin/counters").send().await.unwrap().text().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&counters).unwrap()["completed"], 2);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let standin = StandIn::start(Options { keep_alive: Duration::from_millis(100), ..Options::default() }).await.unwrap();
    let (_, answer, error) = raw(&standin, &chat(json!({})), "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && error.is_none());
}
