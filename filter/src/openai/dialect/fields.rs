//! The fields of a request body that not every dialect supports, and how each is translated.
//!
//! Sources: vLLM 0.32 (`entrypoints/openai/*/protocol.py`, `entrypoints/pooling/base/protocol.py`, and a running server), OpenAI's
//! Python client 3.54 (`types/**/*_create_params.py`, generated from its OpenAPI document), Anthropic's page "OpenAI SDK
//! compatibility". `docs/dialects.md` contains this table; a test compares the two.

use self::FieldRule::{
    Cap, Drop, DropIfNoOp, Items, MaxCompletionTokens, MaxTokens, NotBlank, Pass, PassIfNoOp, Positive, StopItems, UsageOnly,
    Within,
};
use self::NoOp::{AnyOf, Null, Off, True};
use crate::openai::Operation;
use crate::policy::Dialect;

/// One field, on some operations.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DialectField {
    pub name: &'static str,
    /// One bit for each operation.
    pub on: u8,
    pub vllm: FieldRule,
    pub openai: FieldRule,
    pub anthropic: FieldRule,
}

/// How a field is translated to a dialect. A field that is rejected makes the request [`super::Untranslatable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldRule {
    /// The field is kept.
    Pass,
    /// The field is dropped: a hint that the target does not support.
    Drop,
    /// The field is dropped if it requests nothing, otherwise rejected: the target rejects the key.
    DropIfNoOp(NoOp),
    /// The field is kept if it requests nothing, otherwise rejected: the target accepts the key, but does not do what it requests.
    PassIfNoOp(NoOp),
    /// A number within these bounds is kept, any other rejected.
    Within(i32, i32),
    /// A number above zero is kept, any other rejected.
    Positive,
    /// A larger number is lowered to this one.
    Cap(u32),
    /// A list of at most this many items is kept, a longer one rejected.
    Items(u32),
    /// Like [`Self::Items`]; an empty list is dropped.
    StopItems(u32),
    /// The field is kept, but rejected if it holds a string of white space.
    NotBlank,
    /// `max_tokens`, renamed to `max_completion_tokens`.
    MaxTokens,
    /// `max_completion_tokens`, kept.
    MaxCompletionTokens,
    /// `stream_options`. If it has other options than these, it is replaced by a request for usage only.
    UsageOnly(&'static [&'static str]),
}

/// The values with which a field requests nothing. Null always is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoOp {
    /// Null only.
    Null,
    /// `false`, 0, and empty values.
    Off,
    /// `true`: the server does so anyway.
    True,
    /// One of these words, as the value itself or as its `type`.
    AnyOf(&'static [&'static str]),
}

pub(super) const CHAT: u8 = 1;
pub(super) const COMPLETIONS: u8 = 1 << 1;
pub(super) const EMBEDDINGS: u8 = 1 << 2;
pub(super) const GENERATION: u8 = CHAT | COMPLETIONS;
pub(super) const ALL: u8 = GENERATION | EMBEDDINGS;

/// Sorted by name. No name occurs twice for one operation.
pub(super) const FIELDS: &[DialectField] = &[
    extra("add_generation_prompt", CHAT, DropIfNoOp(True)),
    extra("add_generation_prompt", EMBEDDINGS, Drop),
    extra("add_special_tokens", ALL, Drop),
    extra("allowed_token_ids", GENERATION, DropIfNoOp(Off)),
    field("audio", CHAT, PassIfNoOp(Null), Pass, PassIfNoOp(Null)),
    extra("bad_words", GENERATION, DropIfNoOp(Off)),
    field("best_of", COMPLETIONS, Pass, Within(1, 20), Pass),
    extra("cache_salt", ALL, Drop),
    extra("chat_template", ALL, Drop),
    extra("chat_template_kwargs", ALL, Drop),
    extra("continue_final_message", ALL, DropIfNoOp(Off)),
    extra("documents", ALL, DropIfNoOp(Off)),
    extra("ec_transfer_params", ALL, Drop),
    extra("echo", CHAT, DropIfNoOp(Off)),
    extra("embed_dtype", EMBEDDINGS, DropIfNoOp(AnyOf(&["float32"]))),
    field("encoding_format", EMBEDDINGS, Pass, PassIfNoOp(AnyOf(&["float", "base64"])), Pass),
    extra("endianness", EMBEDDINGS, DropIfNoOp(AnyOf(&["native", "little"]))),
    field("functions", CHAT, PassIfNoOp(Off), Pass, Pass),
    extra("guided_choice", GENERATION, DropIfNoOp(Off)),
    extra("guided_decoding_backend", GENERATION, Drop),
    extra("guided_grammar", GENERATION, DropIfNoOp(Off)),
    extra("guided_json", GENERATION, DropIfNoOp(Null)),
    extra("guided_regex", GENERATION, DropIfNoOp(Off)),
    extra("guided_whitespace_pattern", GENERATION, Drop),
    extra("ignore_eos", GENERATION, DropIfNoOp(Off)),
    extra("include_reasoning", GENERATION, Drop),
    extra("include_stop_str_in_output", GENERATION, DropIfNoOp(Off)),
    field("input", EMBEDDINGS, Pass, Items(2048), Pass),
    extra("kv_transfer_params", ALL, Drop),
    extra("length_penalty", GENERATION, Drop),
    field("logit_bias", GENERATION, PassIfNoOp(Off), PassIfNoOp(Off), PassIfNoOp(Off)),
    extra("logits_processors", GENERATION, DropIfNoOp(Off)),
    extra("logprob_token_ids", GENERATION, DropIfNoOp(Null)),
    field("logprobs", CHAT, Pass, Pass, PassIfNoOp(Off)),
    field("logprobs", COMPLETIONS, Pass, Within(0, 5), Pass),
    field("max_completion_tokens", CHAT, Pass, MaxCompletionTokens, Pass),
    field("max_completion_tokens", COMPLETIONS, Pass, Drop, Pass),
    field("max_tokens", CHAT, Pass, MaxTokens, Pass),
    extra("media_io_kwargs", ALL, Drop),
    field("messages", EMBEDDINGS, Pass, PassIfNoOp(Null), Pass),
    extra("min_p", GENERATION, Drop),
    extra("min_tokens", GENERATION, DropIfNoOp(Off)),
    extra("mm_payload", GENERATION, Drop),
    extra("mm_processor_kwargs", ALL, Drop),
    field("moderation", CHAT, PassIfNoOp(Null), Pass, DropIfNoOp(Null)),
    field("n", GENERATION, Pass, Within(1, 128), Within(1, 1)),
    extra("padding", EMBEDDINGS, Drop),
    extra("priority", ALL, Drop),
    field("prompt_cache_key", CHAT, Pass, Pass, Drop),
    field("prompt_cache_options", CHAT, Pass, Pass, Drop),
    field("prompt_cache_retention", CHAT, Pass, Pass, Drop),
    extra("prompt_embeds", ALL, Drop),
    extra("prompt_logprobs", GENERATION, DropIfNoOp(Null)),
    extra("repetition_detection", GENERATION, Drop),
    extra("repetition_penalty", GENERATION, Drop),
    extra("request_id", ALL, Drop),
    field("response_format", CHAT, Pass, PassIfNoOp(AnyOf(&["text", "json_object", "json_schema"])), PassIfNoOp(AnyOf(&["text"]))),
    field("response_format", COMPLETIONS, Pass, DropIfNoOp(AnyOf(&["text"])), Pass),
    extra("return_mm_kwargs", GENERATION, Drop),
    extra("return_prompt_text", GENERATION, DropIfNoOp(Off)),
    extra("return_token_ids", GENERATION, DropIfNoOp(Off)),
    extra("return_token_offsets", GENERATION, Drop),
    extra("return_tokens_as_token_ids", GENERATION, DropIfNoOp(Off)),
    extra("routed_experts_prompt_start", GENERATION, Drop),
    field("safety_identifier", CHAT, Pass, Pass, Drop),
    extra("session_id", ALL, Drop),
    extra("skip_special_tokens", GENERATION, Drop),
    extra("spaces_between_special_tokens", GENERATION, Drop),
    field("stop", GENERATION, Items(4), StopItems(4), NotBlank),
    extra("stop_token_ids", GENERATION, Drop),
    extra("stream_interval", GENERATION, Drop),
    field("stream_options", GENERATION, Pass, UsageOnly(&["include_usage", "include_obfuscation"]), UsageOnly(&["include_usage"])),
    extra("structural_tag", GENERATION, DropIfNoOp(Off)),
    extra("structured_outputs", GENERATION, DropIfNoOp(Null)),
    field("suffix", COMPLETIONS, PassIfNoOp(Null), Pass, Pass),
    field("temperature", GENERATION, Cap(2), Cap(2), Pass),
    field("thinking", CHAT, Drop, Drop, Pass),
    extra("thinking_token_budget", GENERATION, Drop),
    extra("top_k", GENERATION, Drop),
    field("top_logprobs", CHAT, Pass, Within(0, 20), Pass),
    field("top_p", GENERATION, Positive, Pass, Pass),
    extra("truncate_prompt_tokens", ALL, DropIfNoOp(Null)),
    extra("truncation_side", ALL, Drop),
    extra("use_activation", EMBEDDINGS, DropIfNoOp(True)),
    extra("use_beam_search", ALL, Drop),
    field("verbosity", CHAT, Pass, Pass, Drop),
    extra("vllm_xargs", ALL, Drop),
    extra("watermarking", GENERATION, DropIfNoOp(Off)),
    field("web_search_options", CHAT, PassIfNoOp(Null), Pass, DropIfNoOp(Null)),
];

const fn field(name: &'static str, on: u8, vllm: FieldRule, openai: FieldRule, anthropic: FieldRule) -> DialectField {
    DialectField { name, on, vllm, openai, anthropic }
}

/// Creates a field that only vLLM supports. All other dialects have the same rule for it.
const fn extra(name: &'static str, on: u8, rule: FieldRule) -> DialectField {
    field(name, on, Pass, rule, rule)
}

// === impl DialectField ===

impl DialectField {
    /// Returns the field of this name, if dialects differ in it.
    pub fn find(name: &str, operation: Operation) -> Option<&'static Self> {
        let first = FIELDS.partition_point(|field| field.name < name);
        let named = FIELDS.iter().skip(first).take_while(|field| field.name == name);
        named.into_iter().find(|field| field.on & bit(operation) != 0)
    }

    /// Returns how the field is translated to `dialect`.
    pub fn rule(&self, dialect: Dialect) -> FieldRule {
        match dialect {
            Dialect::Vllm => self.vllm,
            Dialect::OpenAi => self.openai,
            Dialect::Anthropic => self.anthropic,
        }
    }
}

fn bit(operation: Operation) -> u8 {
    match operation {
        Operation::Chat => CHAT,
        Operation::TextCompletion => COMPLETIONS,
        Operation::Embeddings => EMBEDDINGS,
    }
}
