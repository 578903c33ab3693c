//! A body that was made fit for another dialect is strict JSON, says the same about cost, and has nothing that the dialect refuses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pai_filter::openai::{AskUsage, Edit, LimitField, Operation, Peculiarities, Request};
use pai_filter::policy::Dialect;
use pai_filter_fuzz::lax::{self, Members};

/// Some members that only vLLM takes: OpenAI refuses what it does not know.
const ONLY_VLLM: [&str; 12] = [
    "top_k",
    "min_p",
    "repetition_penalty",
    "structured_outputs",
    "guided_json",
    "min_tokens",
    "chat_template_kwargs",
    "add_special_tokens",
    "cache_salt",
    "priority",
    "vllm_xargs",
    "stop_token_ids",
];

const DIALECTS: [Dialect; 3] = [Dialect::Vllm, Dialect::OpenAi, Dialect::Anthropic];

fuzz_target!(|body: &[u8]| {
    for operation in [Operation::Chat, Operation::TextCompletion, Operation::Embeddings] {
        let Ok(request) = Request::parse(body, operation) else { continue };
        let peculiarities = Peculiarities::read(body, operation);
        for (from, to) in DIALECTS.into_iter().flat_map(|from| DIALECTS.map(|to| (from, to))) {
            let Ok(translation) = peculiarities.translate(&request, from, to) else { continue };
            if from == to {
                assert!(translation.changes.is_empty());
                continue;
            }
            for limit in [None, Some(5)] {
                let limit_field = if to == Dialect::OpenAi { LimitField::MaxCompletionTokens } else { LimitField::MaxTokens };
                let limit_field = if operation == Operation::Chat { limit_field } else { LimitField::MaxTokens };
                let usage = Some(AskUsage::Final).filter(|_| request.stream && !translation.stream_options);
                let edit = Edit { model: Some("served"), limit, limit_field, usage };
                let changes = edit.changes(&request, translation.changes.clone());
                let splice = changes.splice(body).unwrap_or_default();
                let sent = [&splice.bytes, &body[splice.length..]].concat();
                assert_eq!(sent.len(), changes.resized(body.len()));
                fits(&sent, &request, limit, operation, to);
            }
        }
    }
});

fn fits(sent: &[u8], request: &Request, limit: Option<u64>, operation: Operation, to: Dialect) {
    let again = Request::parse(sent, operation).unwrap();
    assert_eq!(again.model, "served");
    assert_eq!((again.stream, again.sequences, again.prompts), (request.stream, request.sequences, request.prompts));
    assert!(!again.stream || again.include_usage);
    if operation != Operation::Embeddings {
        let most = limit.or(request.largest_limit);
        assert!(most.is_none() || again.largest_limit.is_some_and(|limit| Some(limit) <= most), "{:?}", again.largest_limit);
    }
    if let Some(members) = lax::members(sent) {
        takes(&members, operation, to);
    }
}

fn takes(members: &Members, operation: Operation, to: Dialect) {
    let has = |name: &str| members.contains_key(name);
    if to != Dialect::Vllm {
        ONLY_VLLM.iter().for_each(|name| assert!(!has(name), "{name}"));
        let options = members.get("stream_options").and_then(|options| options.as_object());
        assert!(options.is_none_or(|options| operation == Operation::Embeddings || !options.contains_key("continuous_usage_stats")) || !has("stream") );
    }
    if to == Dialect::OpenAi && operation == Operation::Chat {
        assert!(!has("max_tokens") && !has("thinking"));
    }
    if to == Dialect::OpenAi && operation == Operation::TextCompletion {
        assert!(!has("max_completion_tokens"));
    }
}
