//! Complete exchanges without a host, to count their instructions.
//!
//! The test `instructions` counts WebAssembly instructions and compares them with `filter/instructions.json`. To profile the native
//! code:
//!
//! ```sh
//! cargo build --release -p pai-filter --example exchange --config 'profile.release.strip=false'
//! valgrind --tool=callgrind target/release/examples/exchange chat 1000
//! ```

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a measurement")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pai_filter::clock::{Clock, Time};
use pai_filter::config;
use pai_filter::exchange::Exchange;
use pai_filter::exchange::environment::Environment;
use pai_filter::exchange::gate::Gate;
use pai_filter::exchange::worker::Worker;
use pai_filter::http::headers::Headers;
use pai_filter::metrics::{Kind, Meter};
use pai_filter::store::Memory;

const MODEL: &str = "meta-llama/Meta-Llama-3-70B-Instruct";
const EVENTS: usize = 64;
const WORKLOADS: [&str; 3] = ["chat", "stream", "long"];

const MANIFESTS: &str = "
apiVersion: pai.io/v1
kind: ModelProvider
metadata: { name: vllm-local }
spec:
  provider: vllm
  endpoint: http://127.0.0.1:8000/v1
  allowedModels: [meta-llama/Meta-Llama-3-70B-Instruct]
  maxTokensPerDay: 1000000000000000
  maxTokensPerRequest: 131072
";

/// A clock that advances by a millisecond with each read, and metrics that are discarded.
struct World(Cell<u64>);

impl Clock for World {
    fn now(&self) -> Time {
        self.0.set(self.0.get() + 1_000_000);
        Time(self.0.get())
    }
}

impl Meter for World {
    fn define(&self, _kind: Kind, _name: &str) -> u32 {
        0
    }

    fn add(&self, _series: u32, _by: u64) {}

    fn set(&self, _series: u32, _value: u64) {}
}

fn body(bytes: usize, more: &str) -> String {
    const TEXT: &str =
        "She said: \\\"Count what was promised, then what was used\\\" — and closed the book.\\nThe next page was empty. ";
    let mut messages = String::from(r#"{"content":"You are a helpful assistant.","role":"system"}"#);
    while messages.len() + 150 < bytes {
        let text = TEXT.repeat((bytes / TEXT.len()).clamp(1, 5));
        messages += &format!(r#",{{"content":"{text}","role":"user"}}"#);
    }
    format!(r#"{{"messages":[{messages}],"model":"vllm-local/{MODEL}","temperature":0.7{more}}}"#)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let (Some(workload), Some(times)) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok())) {
        run(&workload, times);
    }
}

/// Runs the workload with this index the given number of times, for hosts that pass no arguments.
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "an export")]
#[unsafe(no_mangle)]
pub extern "C" fn exchanges(workload: usize, times: usize) {
    run(WORKLOADS[workload], times);
}

fn run(workload: &str, times: usize) {
    let (body, stream) = match workload {
        "chat" => (body(250, ""), false),
        "stream" => (body(250, r#","stream":true"#), true),
        "long" => (body(112 * 1024, ""), false),
        _ => panic!("a workload is one of {WORKLOADS:?}"),
    };
    let length = body.len().to_string();
    let request: Vec<(&[u8], &[u8])> = vec![
        (b":authority", b"gateway.test:8080"),
        (b":path", b"/v1/chat/completions"),
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"authorization", b"Bearer none"),
        (b"content-type", b"application/json"),
        (b"user-agent", b"OpenAI/Python 2.8.0"),
        (b"x-stainless-async", b"false"),
        (b"x-stainless-lang", b"python"),
        (b"x-stainless-os", b"Linux"),
        (b"x-stainless-package-version", b"2.8.0"),
        (b"x-stainless-retry-count", b"0"),
        (b"x-forwarded-proto", b"http"),
        (b"x-request-id", b"d2c2d1b4-0b5c-9f5c-8a1b-7e3f2c1d0a9b"),
        (b"content-length", length.as_bytes()),
    ];
    let kind: &[u8] = if stream { b"text/event-stream; charset=utf-8" } else { b"application/json" };
    let response: Vec<(&[u8], &[u8])> =
        vec![(b":status", b"200"), (b"date", b"Mon, 23 Nov 2026 10:00:00 GMT"), (b"server", b"uvicorn"), (b"content-type", kind)];
    let chunks = answer(stream);

    let world = World(Cell::new(1_795_000_000_000_000_000));
    let (store, worker) = (Memory::default(), RefCell::new(Worker::new(7)));
    let gate = Rc::new(Gate::new(config::load(MANIFESTS.as_bytes(), &|_| None).unwrap()));
    for _ in 0..times {
        let env = || Environment::new(&world, &store, &world, &worker);
        let mut exchange = Exchange::new(Rc::clone(&gate));
        exchange.on_request_headers(&Headers(request.clone()), false, &|| None, &env());
        exchange.on_request_body(body.len(), true, || body.clone().into_bytes(), &env());
        exchange.on_response_headers(&Headers(response.clone()), false, || None, &env());
        for (at, chunk) in chunks.iter().enumerate() {
            exchange.on_response_body(chunk.as_bytes(), at + 1 == chunks.len(), &env());
        }
        let entry = exchange.on_log(|| true, &env()).unwrap();
        assert_eq!(entry.tokens, Some((30, EVENTS as u64)), "{entry:?}");
    }
}

fn answer(stream: bool) -> Vec<String> {
    let usage = |completion| {
        format!(r#""usage":{{"prompt_tokens":30,"total_tokens":{},"completion_tokens":{completion}}}"#, 30 + completion)
    };
    let head = r#""id":"chatcmpl-8f2c0a","created":1795000000"#;
    if !stream {
        let text = "word ".repeat(EVENTS);
        return vec![format!(
            r#"{{{head},"object":"chat.completion","model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],{}}}"#,
            usage(EVENTS)
        )];
    }
    let event = |at| {
        format!(
            "data: {{{head},\"object\":\"chat.completion.chunk\",\"model\":\"{MODEL}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word \"}},\"logprobs\":null,\"finish_reason\":null}}],{}}}\n\n",
            usage(at)
        )
    };
    let mut chunks: Vec<String> = (1..=EVENTS).map(event).collect();
    chunks.push(format!(
        "data: {{{head},\"object\":\"chat.completion.chunk\",\"model\":\"{MODEL}\",\"choices\":[],{}}}\n\n",
        usage(EVENTS)
    ));
    chunks.push("data: [DONE]\n\n".to_owned());
    chunks
}
