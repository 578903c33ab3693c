//! Random requests: those that vLLM accepts, those that it rejects, and those that the gateway rejects by a rule of
//! `docs/security.md`.

use std::fmt::Write as _;

use e2e::harness::Rng;
use serde_json::{Value, json};

use super::random_text::{one_of, percent, text};
use super::server::CONTEXT_LENGTH;

/// The cap of requests, in tokens.
pub const CAP: u64 = 600;
/// The placeholder of the model's name in a body.
pub const MODEL: &str = "@MODEL@";

/// One request.
#[derive(Debug, Clone)]
pub struct Case {
    pub kind: &'static str,
    pub path: &'static str,
    pub content_type: &'static str,
    /// The body, with [`MODEL`] as the model.
    pub text: String,
    encoding: Encoding,
    /// The rule of `docs/security.md` that rejects it.
    pub rule: Option<Rule>,
}

/// A rule by which the gateway rejects what vLLM may accept, and its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub name: &'static str,
    pub status: u16,
    pub code: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf8WithMark,
    Utf16,
    /// The last quarter of the text is not valid UTF-8.
    Broken,
}

/// The tokens that a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// The explicit or default limit.
    pub limit: Option<u64>,
    pub min_tokens: u64,
    /// The number of completions.
    pub sequences: u64,
}

// === impl Rule ===

impl Rule {
    const fn body(name: &'static str) -> Self {
        Self { name, status: 400, code: "invalid_body" }
    }
}

// === impl Case ===

impl Case {
    pub fn random(rng: &mut Rng, overhead: u64) -> Self {
        match rng.below(100) {
            0..45 => Self::chat(rng),
            45..65 => Self::completion(rng),
            65..73 => Self::near_the_context_length(rng, overhead),
            73..83 => Self::lenient(rng),
            83..87 => Self::forbidden(rng),
            87..97 => Self::wrong(rng),
            _ => Self::elsewhere(rng),
        }
    }

    fn new(kind: &'static str, path: &'static str, body: &Value) -> Self {
        let text = body.to_string();
        Self { kind, path, content_type: "application/json", text, encoding: Encoding::Utf8, rule: None }
    }

    fn of_chat(kind: &'static str, body: &Value) -> Self {
        Self::new(kind, "/v1/chat/completions", body)
    }

    fn of_completion(kind: &'static str, body: &Value) -> Self {
        Self::new(kind, "/v1/completions", body)
    }

    fn chat(rng: &mut Rng) -> Self {
        let mut body = json!({ "model": MODEL, "messages": messages(rng) });
        let limit = limit(rng);
        match rng.below(12) {
            0 => {}
            1..4 => body["max_completion_tokens"] = json!(limit),
            4 => (body["max_completion_tokens"], body["max_tokens"]) = (json!(limit), json!(1 + rng.below(9))),
            5 => (body["max_completion_tokens"], body["max_tokens"]) = (Value::Null, json!(limit)),
            _ => body["max_tokens"] = json!(limit),
        }
        options(rng, &mut body);
        if percent(rng, 15) {
            body["logprobs"] = json!(true);
            body["top_logprobs"] = json!(rng.below(22));
        }
        if percent(rng, 8) {
            body["tools"] = json!([tool()]);
            let choice =
                [json!("auto"), json!("none"), json!("required"), json!({ "type": "function", "function": { "name": "weather" } })];
            body["tool_choice"] = one_of(rng, &choice).clone();
        }
        respell(rng, Self::of_chat("chat", &body))
    }

    fn completion(rng: &mut Rng) -> Self {
        let pieces = size(rng);
        let ids = |rng: &mut Rng| (0..1 + rng.below(40)).map(|_| rng.below(300)).collect::<Vec<u64>>();
        let prompt = match rng.below(6) {
            0 => json!([text(rng, pieces), text(rng, 3)]),
            1 => json!(ids(rng)),
            2 => json!([ids(rng), ids(rng), ids(rng)]),
            _ => json!(text(rng, pieces)),
        };
        let mut body = json!({ "model": MODEL, "prompt": prompt });
        match rng.below(8) {
            0 => {}
            1 => body["max_tokens"] = Value::Null,
            2 => (body["max_tokens"], body["max_completion_tokens"]) = (json!(1 + rng.below(9)), json!(limit(rng))),
            _ => body["max_tokens"] = json!(limit(rng)),
        }
        options(rng, &mut body);
        if percent(rng, 15) {
            body["logprobs"] = json!(rng.below(23));
        }
        if percent(rng, 10) {
            body["echo"] = json!(true);
        }
        if percent(rng, 5) {
            body["best_of"] = json!(1 + rng.below(3));
        }
        respell(rng, Self::of_completion("completion", &body))
    }

    /// Generates a prompt and a limit near the end of the context window, on both sides of it. Each digit is a token.
    fn near_the_context_length(rng: &mut Rng, overhead: u64) -> Self {
        let prompt = match rng.below(3) {
            0 => 1 + rng.below(40),
            _ => CONTEXT_LENGTH - 12 + rng.below(24),
        };
        let limit = (CONTEXT_LENGTH + 6).saturating_sub(prompt).saturating_sub(rng.below(12)).max(1);
        let digits = |count: u64| "7".repeat(usize::try_from(count).unwrap());
        let mut body = json!({ "model": MODEL, "stream": percent(rng, 50) });
        if limit < 100 {
            body["ignore_eos"] = json!(true);
        }
        // Responses of the full context length are rare.
        let limit = if limit < 100 || percent(rng, 20) {
            Some(limit)
        } else {
            Some(CONTEXT_LENGTH - 3 + rng.below(6)).filter(|_| percent(rng, 20))
        };
        if percent(rng, 60) {
            body["messages"] = json!([{ "role": "user", "content": digits(prompt.saturating_sub(overhead)) }]);
            if let Some(limit) = limit {
                body[*one_of(rng, &["max_tokens", "max_completion_tokens"])] = json!(limit);
            } else {
                body["stop"] = json!(["e", "a", "o", "t"]);
            }
            return Self::of_chat("near the context length", &body);
        }
        body["prompt"] = if percent(rng, 50) { json!(digits(prompt)) } else { json!(vec![25; usize::try_from(prompt).unwrap()]) };
        if let Some(limit) = limit {
            body["max_tokens"] = json!(limit);
        }
        Self::of_completion("near the context length", &body)
    }

    /// Generates a request near a cap, on both sides of it.
    pub fn near_the_cap(rng: &mut Rng) -> Self {
        let (pieces, limit) = (1 + rng.below(150), 1 + rng.below(CAP + 50));
        let text = text(rng, pieces);
        let mut body = json!({ "model": MODEL });
        if !percent(rng, 30) {
            body["max_tokens"] = json!(limit);
        }
        if percent(rng, 25) {
            body["n"] = json!(1 + rng.below(3));
        }
        if percent(rng, 15) {
            body["min_tokens"] = json!(rng.below(limit));
        }
        if percent(rng, 10) {
            body["truncate_prompt_tokens"] = json!(rng.below(200));
        }
        // Most are short, because there are many.
        if percent(rng, 70) {
            body["stop"] = json!(["e", "a", "o"]);
        } else {
            body["ignore_eos"] = json!(true);
        }
        if percent(rng, 70) {
            body["messages"] = json!([{ "role": "user", "content": text }]);
            return Self::of_chat("chat", &body);
        }
        body["prompt"] = if percent(rng, 20) { json!([text, "and another"]) } else { json!(text) };
        Self::of_completion("completion", &body)
    }

    /// Generates a request that vLLM reads leniently and the gateway does not.
    fn lenient(rng: &mut Rng) -> Self {
        const NUMBERS: Rule = Rule::body("numbers that are not whole, in quotes or booleans");
        const WORDS: Rule = Rule::body("many words for yes");
        const TWICE: Rule = Rule::body("a governed field twice");
        const MODEL_NAME: Rule = Rule::body("a model that is missing, null, empty or not visible ASCII");
        const ENCODING: Rule = Rule::body("UTF-16, byte order marks, bytes that are not UTF-8");
        const STRICT: Rule = Rule::body("JSON after RFC 8259: NaN, depth, what follows the document");
        const ZERO: Rule = Rule::body("limits and n below 1");
        const TYPE: Rule = Rule::body("a media type other than application/json");
        let plain = r#"{"model":"@MODEL@","messages":[{"role":"user","content":"Hi"}],"max_tokens":3,"n":1}"#;
        let with = |member: &str| plain.replace(r#""n":1"#, member);
        let limit = |value: &str| plain.replace(r#""max_tokens":3"#, &format!(r#""max_tokens":{value}"#));
        let deep = format!(r#""metadata":{}{}"#, r#"{"a":"#.repeat(200), "1".to_owned() + &"}".repeat(200));
        let table: Vec<(String, Option<Rule>)> = vec![
            (limit(r#""5""#), Some(NUMBERS)),
            (limit("5.0"), None),
            (limit("1e0"), None),
            (limit("5.5"), Some(NUMBERS)),
            (limit("true"), Some(NUMBERS)),
            (limit("9223372036854775808"), Some(NUMBERS)),
            (with(r#""n":"2""#), Some(NUMBERS)),
            (with(r#""min_tokens":2.0"#), None),
            (with(r#""stream":"yes""#), Some(WORDS)),
            (with(r#""stream":1"#), Some(WORDS)),
            (with(r#""stream":true,"stream_options":{"include_usage":"on"}"#), Some(WORDS)),
            (with(r#""max_tokens":4"#), Some(TWICE)),
            (with(r#""model":"@MODEL@""#), Some(TWICE)),
            (with(r#""mod\u0065l":"@MODEL@""#), Some(TWICE)),
            (with(r#""user":"a","user":"b""#), None),
            (plain.replace(r#""model""#, r#""mod\u0065l""#), None),
            (plain.replace("@MODEL@", ""), Some(MODEL_NAME)),
            (plain.replace(r#""@MODEL@""#, "null"), Some(MODEL_NAME)),
            (plain.replace(r#""model":"@MODEL@","#, ""), Some(MODEL_NAME)),
            (with(r#""temperature":NaN"#), Some(STRICT)),
            (with(r#""unknown":Infinity"#), Some(STRICT)),
            (with(&deep), Some(STRICT)),
            (format!("{plain}\n\n  "), None),
            (format!("\t{plain}"), None),
            (limit("0"), Some(ZERO)),
            (limit("-1"), Some(ZERO)),
            (with(r#""n":0"#), Some(ZERO)),
            (with(r#""n":null"#), None),
            (with(r#""stream":null"#), None),
            (with(r#""stream_options":null"#), None),
            (with(r#""temperature":"0.5","top_p":1"#), None),
            (with(r#""logprobs":"true","top_k":"5""#), None),
            (with(r#""unknown":{"a":[1,{"b":null}],"c":"\ud83d\ude42"}"#), None),
            (plain.replace("Hi", r"\ud83d\ude42 \u4f60 \u0000 \/ \b\f"), None),
            (plain.replace("Hi", r"half a \ud83d character"), None),
        ];
        let other = Self { text: String::new(), ..Self::of_chat("lax", &Value::Null) };
        match rng.below(table.len() as u64 + 6) {
            0 => Self { text: plain.to_owned(), encoding: Encoding::Utf16, rule: Some(ENCODING), ..other },
            1 => Self { text: plain.to_owned(), encoding: Encoding::Utf8WithMark, rule: Some(ENCODING), ..other },
            2 => Self { text: plain.replace("Hi", "Hi Hi Hi Hi"), encoding: Encoding::Broken, rule: Some(ENCODING), ..other },
            3 => Self { text: plain.to_owned(), content_type: "text/plain", rule: Some(TYPE), ..other },
            4 => Self { text: plain.to_owned(), content_type: "application/json; charset=utf-8", ..other },
            5 => Self { text: plain.to_owned(), content_type: "Application/JSON", ..other },
            _ => {
                let (text, rule) = one_of(rng, &table).clone();
                Self { text, rule, ..other }
            }
        }
    }

    fn forbidden(rng: &mut Rng) -> Self {
        const FORBIDDEN: Rule = Rule::body("fields that are not allowed");
        let fields = [
            ("kv_transfer_params", json!({}), true),
            ("kv_transfer_params", json!({ "prompt_token_ids": [1, 2] }), true),
            ("ec_transfer_params", json!({ "a": 1 }), true),
            ("use_beam_search", json!(true), true),
            ("chat_template", json!("{{ messages }}"), true),
            ("chat_template_kwargs", json!({ "chat_template": "x" }), true),
            ("vllm_xargs", json!({ "kv_transfer_params": "x" }), true),
            ("priority", json!(-5), true),
            ("priority", json!(0), false),
            ("use_beam_search", json!(false), false),
            ("kv_transfer_params", Value::Null, false),
            ("chat_template_kwargs", json!({ "thinking": true }), false),
            ("vllm_xargs", json!({ "a": 1 }), false),
        ];
        let (name, value, refused) = one_of(rng, &fields);
        let mut body = json!({ "model": MODEL, "messages": messages(rng), "max_tokens": 3 });
        body[*name] = value.clone();
        Self { rule: refused.then_some(FORBIDDEN), ..Self::of_chat("fields that are not allowed", &body) }
    }

    /// Generates a request that vLLM rejects.
    fn wrong(rng: &mut Rng) -> Self {
        const TYPES: Rule = Rule::body("governed fields of the wrong type, or missing");
        const NO_JSON: Rule = Rule::body("not JSON");
        const TOO_LARGE: Rule = Rule { name: "more than `maxTokensPerRequest`", status: 400, code: "context_length_exceeded" };
        let chats = [
            (json!({ "temperature": -1 }), None),
            (json!({ "temperature": 0, "n": 2 }), None),
            (json!({ "top_p": 0 }), None),
            (json!({ "top_k": -7 }), None),
            (json!({ "stop": ["a", "b", "c", "d", "e"] }), None),
            (json!({ "top_logprobs": 21, "logprobs": true }), None),
            (json!({ "top_logprobs": 2 }), None),
            (json!({ "prompt_logprobs": 2, "stream": true }), None),
            (json!({ "min_tokens": 9 }), None),
            (json!({ "min_tokens": -1 }), Some(TYPES)),
            (json!({ "stream_options": { "include_usage": true } }), None),
            (json!({ "stream_options": {} , "stream": true }), None),
            (json!({ "stream_options": 5, "stream": true }), Some(TYPES)),
            (json!({ "tools": [] }), None),
            (json!({ "tools": "weather" }), None),
            (json!({ "tool_choice": "weather" }), None),
            (json!({ "response_format": { "type": "yaml" } }), None),
            (
                json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "nothing" } } } }),
                None,
            ),
            (json!({ "structured_outputs": { "regex": "(" } }), None),
            (json!({ "logit_bias": { "99999": 1 } }), None),
            (json!({ "truncate_prompt_tokens": 5000 }), None),
            (json!({ "truncate_prompt_tokens": -2 }), Some(TYPES)),
            (json!({ "max_tokens": 4097 }), None),
            (json!({ "max_tokens": 1u64 << 40 }), None),
            (json!({ "max_tokens": 4000, "n": 16 }), None),
            (json!({ "n": 20_000 }), Some(TOO_LARGE)),
            (json!({ "max_completion_tokens": 4097 }), None),
            (json!({ "messages": [] }), None),
            (json!({ "messages": "Hi" }), Some(TYPES)),
            (json!({ "messages": null }), Some(TYPES)),
            (json!({ "messages": [{ "content": "Hi" }] }), None),
            (json!({ "messages": [{ "role": "user" }] }), None),
            (json!({ "messages": [{ "role": 5, "content": "Hi" }] }), None),
            (json!({ "messages": [{ "role": "user", "content": 5 }] }), None),
            (json!({ "messages": [{ "role": "user", "content": ["Hi 🙂"] }] }), None),
            (
                json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } }] }] }),
                None,
            ),
            (json!({ "messages": [{ "role": "user", "content": [{ "type": "nothing" }] }] }), None),
        ];
        let completions = [
            (json!({ "prompt": "" }), None),
            (json!({ "prompt": [] }), None),
            (json!({ "prompt": null }), Some(TYPES)),
            (json!({ "prompt": 5 }), Some(TYPES)),
            (json!({ "prompt": ["a", 5] }), Some(TYPES)),
            (json!({ "prompt": [1, -2] }), Some(TYPES)),
            (json!({ "prompt": [1, 999_999] }), None),
            (json!({ "suffix": "x" }), None),
            (json!({ "logprobs": 99 }), None),
            (json!({ "max_tokens": 4097 }), None),
            (json!({ "response_format": { "type": "json_object" }, "structured_outputs": { "regex": "a" } }), None),
        ];
        let broken = [
            r#"{"model":"#,
            r#"{"model":"@MODEL@","messages":[{"role":"user","content":"\x"}]}"#,
            "[]",
            "null",
            "",
            "{'model': 1}",
        ];
        let mut body = json!({ "model": MODEL, "max_tokens": 3 });
        let (members, rule, chat) = match rng.below(10) {
            0..6 => {
                let (members, rule) = one_of(rng, &chats).clone();
                body["messages"] = json!([{ "role": "user", "content": "Hi" }]);
                (members, rule, true)
            }
            6..9 => {
                let (members, rule) = one_of(rng, &completions).clone();
                body["prompt"] = json!("Hi");
                (members, rule, false)
            }
            _ => {
                let text = (*one_of(rng, &broken)).to_owned();
                return Self { text, rule: Some(NO_JSON), ..Self::of_chat("wrong", &Value::Null) };
            }
        };
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let case = if chat { Self::of_chat("wrong", &body) } else { Self::of_completion("wrong", &body) };
        Self { rule, ..case }
    }

    /// Generates models and paths that this server does not have.
    fn elsewhere(rng: &mut Rng) -> Self {
        const UNKNOWN: Rule = Rule { name: "a model that no provider has", status: 404, code: "model_not_found" };
        const UNGOVERNED: Rule = Rule { name: "a path that is not served", status: 404, code: "unknown_url" };
        let chat = json!({ "model": MODEL, "messages": messages(rng), "max_tokens": 3 });
        match rng.below(4) {
            0 => Self::new("elsewhere", "/v1/embeddings", &json!({ "model": MODEL, "input": "Hi" })),
            1 => Self { rule: Some(UNGOVERNED), ..Self::new("elsewhere", "/tokenize", &chat) },
            2 => Self {
                rule: Some(UNGOVERNED),
                ..Self::new("elsewhere", "/v1/responses", &json!({ "model": MODEL, "input": "Hi", "max_output_tokens": 3 }))
            },
            _ => {
                let mut body = chat;
                body["model"] = json!("meta-llama/Another");
                Self { rule: Some(UNKNOWN), ..Self::of_chat("elsewhere", &body) }
            }
        }
    }

    fn members(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// Returns the tokens that it asks for.
    pub fn demand(&self) -> Demand {
        let body = self.members();
        let number = |name: &str| body[name].as_u64();
        let limit = if self.kind == "chat" {
            number("max_completion_tokens").or(number("max_tokens"))
        } else {
            number("max_tokens").or(Some(16))
        };
        let prompts = body["prompt"].as_array().filter(|prompts| !prompts[0].is_u64()).map_or(1, |prompts| prompts.len() as u64);
        Demand { limit, min_tokens: number("min_tokens").unwrap_or(0), sequences: number("n").unwrap_or(1) * prompts }
    }

    /// Returns the body for a server where the model has this name.
    pub fn body(&self, model: &str) -> Vec<u8> {
        let text = self.text.replace(MODEL, model);
        match self.encoding {
            Encoding::Utf8 => text.into_bytes(),
            Encoding::Utf8WithMark => [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            Encoding::Utf16 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Encoding::Broken => text.into_bytes().into_iter().map(|byte| if byte == b'H' { 0xff } else { byte }).collect(),
        }
    }
}

fn messages(rng: &mut Rng) -> Value {
    let pieces = size(rng);
    let content = |rng: &mut Rng, pieces: u64| match rng.below(8) {
        0 => json!([{ "type": "text", "text": text(rng, pieces) }, { "type": "text", "text": text(rng, 2) }]),
        _ => json!(text(rng, pieces)),
    };
    let mut messages = Vec::new();
    if percent(rng, 30) {
        messages.push(json!({ "role": one_of(rng, &["system", "developer"]), "content": text(rng, 8) }));
    }
    for _ in 0..rng.below(3) {
        messages.push(json!({ "role": "user", "content": content(rng, 5) }));
        messages.push(json!({ "role": "assistant", "content": content(rng, 5) }));
    }
    if percent(rng, 10) {
        messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [
            { "id": "call-1", "type": "function", "function": { "name": "weather", "arguments": "{\"city\": \"Bern\"}" } },
        ] }));
        messages.push(json!({ "role": "tool", "tool_call_id": "call-1", "content": "☃" }));
    }
    messages.push(json!({ "role": "user", "name": "Zoë", "content": content(rng, pieces) }));
    Value::from(messages)
}

/// Returns a random number of text parts, usually small.
fn size(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => 300 + rng.below(500),
        1..4 => 50 + rng.below(100),
        _ => 1 + rng.below(20),
    }
}

/// Returns a random limit, usually small.
fn limit(rng: &mut Rng) -> u64 {
    match rng.below(40) {
        0 => CONTEXT_LENGTH - 1000 + rng.below(1000),
        1 => CONTEXT_LENGTH + rng.below(2),
        2..6 => 50 + rng.below(100),
        _ => 1 + rng.below(16),
    }
}

/// Adds options that vLLM accepts, and some that it does not accept together.
fn options(rng: &mut Rng, body: &mut Value) {
    if percent(rng, 50) {
        body["stream"] = json!(true);
        if percent(rng, 60) {
            body["stream_options"] = json!({ "include_usage": percent(rng, 70), "continuous_usage_stats": percent(rng, 50) });
        }
    }
    if percent(rng, 20) {
        body["n"] = json!(1 + rng.below(4));
    }
    let optional = [
        ("temperature", json!(0)),
        ("temperature", json!(1.7)),
        ("top_p", json!(0.4)),
        ("top_k", json!(20)),
        ("min_p", json!(0.1)),
        ("stop", json!(["e", "\n"])),
        ("stop", json!("you")),
        ("presence_penalty", json!(1.5)),
        ("repetition_penalty", json!(1.2)),
        ("ignore_eos", json!(true)),
        ("min_tokens", json!(3)),
        ("response_format", json!({ "type": "text" })),
        ("response_format", json!({ "type": "json_object" })),
        (
            "response_format",
            json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "object", "properties": { "a": { "enum": [1, 2] } }, "required": ["a"] } } }),
        ),
        ("structured_outputs", json!({ "choice": ["yes", "no"] })),
        ("user", json!("somebody")),
        ("metadata", json!({ "a": "b" })),
        ("cache_salt", json!("salt")),
        ("truncate_prompt_tokens", json!(20)),
        ("truncate_prompt_tokens", json!(-1)),
        ("return_token_ids", json!(true)),
        ("logit_bias", json!({ "5": -100 })),
        ("bad_words", json!(["gateway"])),
        ("allowed_token_ids", json!([10, 11, 12])),
        ("skip_special_tokens", json!(false)),
        ("include_stop_str_in_output", json!(true)),
        ("add_special_tokens", json!(true)),
        ("parallel_tool_calls", json!(false)),
        ("service_tier", json!("auto")),
        ("request_id", json!("r-1")),
    ];
    for _ in 0..rng.below(4) {
        let (name, value) = one_of(rng, &optional);
        body[*name] = value.clone();
    }
}

fn tool() -> Value {
    json!({ "type": "function", "function": {
        "name": "weather",
        "description": "Says what the weather is. ☀",
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } } },
    } })
}

/// Rewrites the JSON with other escapes or white space.
fn respell(rng: &mut Rng, case: Case) -> Case {
    let text = match rng.below(6) {
        0 => escaped(&case.text),
        1 => case.text.replace('/', "\\/"),
        2 => serde_json::to_string_pretty(&serde_json::from_str::<Value>(&case.text).unwrap()).unwrap(),
        _ => case.text,
    };
    Case { text, ..case }
}

/// Escapes all non-ASCII characters as `\uXXXX`.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}
