//! Checks that a body translated to another dialect is strict JSON, has the same number of completions, raises no limit, and contains
//! no field that the dialect rejects.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pai_filter::openai::{BodyEdit, Operation, Request, RequestedUsage, UnsupportedFields};
use pai_filter::policy::{Dialect, LimitField};
use pai_filter_fuzz::lax::{self, Members};

/// Some members that only vLLM supports, for all operations. OpenAI rejects unknown members.
const ONLY_VLLM: [&str; 5] = ["chat_template_kwargs", "add_special_tokens", "cache_salt", "priority", "vllm_xargs"];

/// Some members that only vLLM supports, for operations that generate tokens.
const ONLY_VLLM_SAMPLING: [&str; 7] =
    ["top_k", "min_p", "repetition_penalty", "structured_outputs", "guided_json", "min_tokens", "stop_token_ids"];

const DIALECTS: [Dialect; 3] = [Dialect::Vllm, Dialect::OpenAi, Dialect::Anthropic];

fuzz_target!(|body: &[u8]| {
    for operation in [Operation::Chat, Operation::TextCompletion, Operation::Embeddings] {
        let Ok(request) = Request::parse(body, operation) else { continue };
        let unsupported_fields = UnsupportedFields::read(body, operation);
        for (from, to) in DIALECTS.into_iter().flat_map(|from| DIALECTS.map(|to| (from, to))) {
            let Ok(translation) = unsupported_fields.translate(&request, from, to) else { continue };
            if from == to {
                assert!(translation.changes.is_empty());
                continue;
            }
            for limit in [None, Some(5)] {
                let limit_field = if to == Dialect::OpenAi { LimitField::MaxCompletionTokens } else { LimitField::MaxTokens };
                let limit_field = if operation == Operation::Chat { limit_field } else { LimitField::MaxTokens };
                let usage = Some(RequestedUsage::Final).filter(|_| request.stream && !translation.stream_options);
                let edit = BodyEdit { model: Some("served"), limit, limit_field, usage };
                let changes = edit.changes(&request, translation.changes.clone());
                let splice = changes.splice(body).unwrap_or_default();
                let sent = [&splice.bytes, &body[splice.length..]].concat();
                assert_eq!(sent.len(), changes.new_length(body.len()));
                check_translation(&sent, &request, limit, operation, to);
            }
        }
    }
});

fn check_translation(sent: &[u8], request: &Request, limit: Option<u64>, operation: Operation, to: Dialect) {
    let again = Request::parse(sent, operation).unwrap();
    assert_eq!(again.model, "served");
    assert_eq!((again.stream, again.sequences, again.prompts), (request.stream, request.sequences, request.prompts));
    assert!(!again.stream || again.include_usage);
    if operation != Operation::Embeddings {
        let most = limit.or(request.largest_limit);
        assert!(most.is_none() || again.largest_limit.is_some_and(|limit| Some(limit) <= most), "{:?}", again.largest_limit);
    }
    if let Some(members) = lax::members(sent) {
        check_members(&members, again.stream, operation, to);
    }
}

fn check_members(members: &Members, stream: bool, operation: Operation, to: Dialect) {
    let has = |name: &&str| members.contains_key(*name);
    let generates = operation != Operation::Embeddings;
    if to != Dialect::Vllm {
        assert_eq!(ONLY_VLLM.iter().find(|name| has(name)), None);
        assert_eq!(ONLY_VLLM_SAMPLING.iter().find(|name| generates && has(name)), None);
        let options = members.get("stream_options").and_then(|options| options.as_object());
        let continuous = options.is_some_and(|options| options.contains_key("continuous_usage_stats"));
        assert!(!(continuous && stream && generates));
    }
    if to == Dialect::OpenAi {
        let names: &[&str] = match operation {
            Operation::Chat => &["max_tokens", "thinking"],
            Operation::TextCompletion => &["max_completion_tokens"],
            Operation::Embeddings => &[],
        };
        assert_eq!(names.iter().find(|name| has(name)), None);
    }
}
