//! Response bodies, events and errors for scripted upstreams, byte for byte as vLLM 0.32 writes them.

use serde_json::{Value, json};

use super::MODEL;

/// The last event of every stream.
pub const DONE: &str = "data: [DONE]\n\n";

/// A chat completion with this usage.
pub fn chat(prompt: u64, completion: u64) -> Value {
    chat_of("Hello", usage(prompt, completion))
}

/// A chat completion with this text and this `usage`.
pub fn chat_of(text: &str, usage: Value) -> Value {
    json!({
        "id": "chatcmpl-a089e9c359ad8099", "object": "chat.completion", "created": 1_795_344_064, "model": MODEL,
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant", "content": text, "refusal": null, "annotations": null, "audio": null,
                "function_call": null, "reasoning": null,
            },
            "logprobs": null, "finish_reason": "length", "stop_reason": null, "token_ids": null,
        }],
        "service_tier": null, "system_fingerprint": "vllm-0.32.0-d65e3ede", "usage": usage,
        "prompt_logprobs": null, "prompt_token_ids": null, "kv_transfer_params": null,
    })
}

/// A `usage` object.
pub fn usage(prompt: u64, completion: u64) -> Value {
    json!({
        "prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion,
        "prompt_tokens_details": null, "completion_tokens_details": null,
    })
}

/// A text completion with this usage.
pub fn completion(prompt: u64, completion: u64) -> Value {
    json!({
        "id": "cmpl-a36b9bfe23faf634", "object": "text_completion", "created": 1_795_344_123, "model": MODEL,
        "choices": [{ "index": 0, "text": " tru", "logprobs": null, "finish_reason": "length", "stop_reason": null }],
        "usage": usage(prompt, completion),
    })
}

/// An embedding with this number of prompt tokens.
pub fn embedding(prompt: u64) -> Value {
    json!({
        "id": "embd-1", "object": "list", "created": 1_795_344_123, "model": MODEL,
        "data": [{ "index": 0, "object": "embedding", "embedding": [0.25, -0.5, 0.125] }],
        "usage": { "prompt_tokens": prompt, "total_tokens": prompt, "completion_tokens": 0 },
    })
}

/// The response of `GET /v1/models` from a server with this context length.
pub fn models(window: u64) -> Value {
    json!({ "object": "list", "data": [{
        "id": MODEL, "object": "model", "created": 1_795_344_000, "owned_by": "vllm", "root": "/models/llama",
        "parent": null, "max_model_len": window, "permission": [],
    }] })
}

/// The error for a prompt that leaves too little room in the context window.
pub fn too_long(window: u64, output: u64, prompt: u64) -> Value {
    let total = output + prompt;
    json!({ "error": {
        "message": format!(
            "This model's maximum context length is {window} tokens. However, you requested {output} output tokens and your prompt contains at least {prompt} input tokens, for a total of at least {total} tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value={prompt})"
        ),
        "type": "BadRequestError", "param": "input_tokens", "code": 400,
    } })
}

/// An event with this text, and with continuous usage if `usage` is set.
pub fn delta(text: &str, usage: Option<(u64, u64)>) -> String {
    chunk(json!([{ "index": 0, "delta": { "content": text }, "logprobs": null, "finish_reason": null, "token_ids": null }]), usage)
}

/// The first event of a chat stream, which contains the role.
pub fn role(usage: Option<(u64, u64)>) -> String {
    let choices = json!([{ "index": 0, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null }]);
    // vLLM's first event contains members after `usage`.
    chunk(choices, usage).replace("}\n\n", ",\"prompt_token_ids\":null,\"prompt_text\":null}\n\n")
}

/// The event that contains only the usage.
pub fn final_usage(prompt: u64, completion: u64) -> String {
    // vLLM puts the fingerprint here if it sends usage, otherwise into the finish event.
    chunk(json!([]), Some((prompt, completion))).replace("}\n\n", ",\"system_fingerprint\":\"vllm-0.32.0-d65e3ede\"}\n\n")
}

/// An error event in the middle of a stream.
pub fn stream_error(message: &str) -> String {
    format!("data: {}\n\n", json!({ "error": { "message": message, "type": "InternalServerError", "param": null, "code": 500 } }))
}

/// A complete stream: role, `words`, finish event and `[DONE]`. With `continuous`, each event contains the usage.
pub fn stream(words: &[&str], prompt: u64, continuous: bool) -> Vec<String> {
    let at = |count: usize| continuous.then_some((prompt, count as u64));
    let mut events = vec![role(at(0))];
    events.extend(words.iter().enumerate().map(|(index, word)| delta(word, at(index + 1))));
    events.push(finish(at(words.len())));
    if continuous {
        events.push(final_usage(prompt, words.len() as u64));
    }
    events.push(DONE.to_owned());
    events
}

/// The finish event as vLLM sends it when it also sends usage.
pub fn finish(usage: Option<(u64, u64)>) -> String {
    chunk(
        json!([{ "index": 0, "delta": { "content": "" }, "logprobs": null, "finish_reason": "stop", "stop_reason": null, "token_ids": null }]),
        usage,
    )
}

fn chunk(choices: Value, usage: Option<(u64, u64)>) -> String {
    let mut event = json!({
        "id": "chatcmpl-b13a21dcea4b64d3", "object": "chat.completion.chunk", "created": 1_795_344_064, "model": MODEL,
        "choices": choices,
    });
    if let Some((prompt, completion)) = usage {
        event["usage"] = json!({ "prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion });
    }
    format!("data: {event}\n\n")
}
