use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

use super::{Options, Server};

const MODEL: &str = "meta-llama/Meta-Llama-3-70B-Instruct";

fn post(server: &Server, path: &str, body: &Value) -> Response {
    Client::new().post(format!("{}{path}", server.url())).json(body).send().unwrap()
}

fn chat(extra: &[(&str, Value)]) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello, world"}]});
    body.as_object_mut().unwrap().extend(extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    body
}

fn events(text: &str) -> Vec<Value> {
    let (events, rest) = text.split_at(text.find("data: [DONE]\n\n").unwrap());
    assert_eq!(rest, "data: [DONE]\n\n");
    events.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

#[test]
fn chats_state_that_no_model_runs() {
    let server = Server::start(Options::default()).unwrap();
    let answer: Value = post(&server, "/chat/completions", &chat(&[])).json().unwrap();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.starts_with("This is a stand-in for vLLM"), "{content}");
    assert_eq!(answer["usage"]["prompt_tokens"], 3 + 4 + 3);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let answer: Value = post(&server, "/chat/completions", &chat(&[("max_tokens", json!(5)), ("n", json!(2))])).json().unwrap();
    assert_eq!(
        (answer["choices"][1]["finish_reason"].as_str(), answer["usage"]["completion_tokens"].as_u64()),
        (Some("length"), Some(10))
    );
}

#[test]
fn streams_report_usage_where_it_is_requested() {
    let server = Server::start(Options::default()).unwrap();
    for (options, with_usage) in [
        (json!({}), vec![false; 4]),
        (json!({"include_usage": true}), vec![false, false, false, false, true]),
        (json!({"include_usage": true, "continuous_usage_stats": true}), vec![true; 5]),
    ] {
        let body = chat(&[("stream", json!(true)), ("max_tokens", json!(3)), ("stream_options", options.clone())]);
        let events = events(&post(&server, "/chat/completions", &body).text().unwrap());
        assert_eq!(events.iter().map(|event| event.get("usage").is_some()).collect::<Vec<_>>(), with_usage, "{options}");
        let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, "This is a ");
    }
}

#[test]
fn the_other_paths_answer_as_vllm_does() {
    let server = Server::start(Options::default()).unwrap();
    let root = server.url().strip_suffix("/v1").unwrap();
    let get = |url: String| reqwest::blocking::get(url).unwrap();
    assert_eq!(get(format!("{root}/health")).status(), 200);
    let models: Value = get(format!("{}/models", server.url())).json().unwrap();
    assert_eq!((models["data"][0]["id"].as_str(), models["data"][0]["max_model_len"].as_u64()), (Some(MODEL), Some(8192)));
    let text: Value =
        post(&server, "/completions", &json!({"model": MODEL, "prompt": ["a", "b"], "max_tokens": 1})).json().unwrap();
    assert_eq!((text["choices"].as_array().unwrap().len(), text["usage"]["total_tokens"].as_u64()), (2, Some(4)));
    let embeddings: Value = post(&server, "/embeddings", &json!({"model": MODEL, "input": ["a", "b"]})).json().unwrap();
    assert_eq!(embeddings["data"].as_array().unwrap().len(), 2);
    let count: Value = Client::new().post(format!("{root}/tokenize")).json(&chat(&[])).send().unwrap().json().unwrap();
    assert_eq!((count["count"].as_u64(), count["tokens"].as_array().unwrap().len()), (Some(10), 10));
}

#[test]
fn errors_are_those_of_vllm() {
    let server = Server::start(Options::default()).unwrap();
    for (body, status, expected) in [
        (json!({"model": "other", "messages": []}), 404, "The model `other` does not exist."),
        (json!({"model": MODEL}), 400, "`messages` must be"),
        (chat(&[("max_tokens", json!(0))]), 400, "max_tokens must be at least 1"),
        (chat(&[("max_tokens", json!(9000))]), 400, "This model's maximum context length is 8192 tokens."),
    ] {
        let answer = post(&server, "/chat/completions", &body);
        assert_eq!(answer.status(), status, "{body}");
        let text = answer.text().unwrap();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn keys_and_failures() {
    let server = Server::start(Options { api_key: Some("sk-demo".to_owned()), ..Options::default() }).unwrap();
    let models = || Client::new().get(format!("{}/models", server.url()));
    let status = |request: reqwest::blocking::RequestBuilder| request.send().unwrap().status();
    assert_eq!(status(models()), StatusCode::UNAUTHORIZED);
    assert_eq!(status(models().bearer_auth("sk-demo")), StatusCode::OK);
    server.set_fails(true);
    assert_eq!(status(models().bearer_auth("sk-demo")), StatusCode::SERVICE_UNAVAILABLE);
    server.set_fails(false);
    assert_eq!(status(models().bearer_auth("sk-demo")), StatusCode::OK);
}
