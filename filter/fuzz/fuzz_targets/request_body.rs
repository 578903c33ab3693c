//! Checks that a lax server reads a body that the gate accepts as the gate does, also after the gate's edits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pai_filter::openai::{BodyEdit, Operation, Request, RequestedUsage};
use pai_filter_fuzz::lax::{self, Members, Reading};

/// The members that may only be null or false.
const FORBIDDEN: [&str; 5] = ["kv_transfer_params", "ec_transfer_params", "use_beam_search", "prompt_embeds", "chat_template"];

fuzz_target!(|body: &[u8]| {
    for operation in [Operation::Chat, Operation::TextCompletion, Operation::Embeddings] {
        let Ok(request) = Request::parse(body, operation) else { continue };
        assert!(pai_filter::openai::is_model_name(&request.model));
        let Some(members) = lax::members(body) else { continue };
        assert_eq!(decided(&request), lax::read(&members, operation));
        for name in FORBIDDEN {
            assert!(members.get(name).is_none_or(|value| value.is_null() || value == false), "{name}");
        }
        edits(body, &request, &members, operation);
    }
});

fn decided(request: &Request) -> Reading {
    Reading {
        model: Some(request.model.clone()),
        stream: request.stream,
        include_usage: request.include_usage,
        continuous_usage: request.continuous_usage,
        limit: request.limit.map(i128::from),
        largest_limit: request.largest_limit.map(i128::from),
        min_tokens: request.min_tokens.into(),
        choices: request.choices.into(),
        sequences: request.sequences.into(),
    }
}

/// Checks that an edited body contains the edits, and that all other members are unchanged.
fn edits(body: &[u8], request: &Request, members: &Members, operation: Operation) {
    let edit =
        BodyEdit { model: Some("other\"\\"), limit: Some(7), usage: Some(RequestedUsage::Continuous), ..BodyEdit::default() };
    let changes = edit.changes(request, Vec::new());
    let splice = changes.splice(body).unwrap();
    let sent = [&splice.bytes, &body[splice.length..]].concat();
    assert_eq!(sent.len(), changes.new_length(body.len()));
    let mut after = lax::members(&sent).unwrap();
    let read = lax::read(&after, operation);
    assert_eq!((read.model.as_deref(), read.include_usage, read.continuous_usage), (Some("other\"\\"), true, true));
    if operation != Operation::Embeddings {
        assert_eq!((read.limit, read.largest_limit), (Some(7), Some(7)));
    }
    Request::parse(&sent, operation).unwrap();
    let mut before = members.clone();
    for name in ["model", "max_tokens", "max_completion_tokens"] {
        before.remove(name);
        after.remove(name);
    }
    for members in [&mut before, &mut after] {
        let Some(mut options) = members.remove("stream_options") else { continue };
        if let Some(options) = options.as_object_mut() {
            options.remove("include_usage");
            options.remove("continuous_usage_stats");
            members.extend(options.iter().map(|(name, value)| (format!("stream_options.{name}"), value.clone())));
        }
    }
    assert_eq!(after, before);
}
