use super::fields::{self, FIELDS};
use super::*;
use crate::openai::{BodyChanges, BodyEdit, RequestedUsage};
use crate::policy::LimitField;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use Dialect::{Anthropic, OpenAi, Vllm};
use Operation::{Chat, Embeddings, TextCompletion};

const REFERENCE: &str = include_str!("../../../../docs/dialects.md");

const BOTH_HOSTED: [Dialect; 2] = [OpenAi, Anthropic];

/// Applies `changes` to `body`.
fn applied(body: &str, changes: &BodyChanges) -> String {
    let splice = changes.splice(body.as_bytes()).unwrap_or_default();
    String::from_utf8([&splice.bytes, &body.as_bytes()[splice.length..]].concat()).unwrap()
}

/// Returns the body that is sent, with the filter's own edit too.
fn sent(body: &str, operation: Operation, from: Dialect, to: Dialect, edit: BodyEdit<'_>) -> Result<String, Untranslatable> {
    let request = Request::parse(body.as_bytes(), operation).unwrap_or_else(|error| panic!("{error}: {body}"));
    let translation = UnsupportedFields::read(body.as_bytes(), operation).translate(&request, from, to)?;
    let usage = edit.usage.filter(|_| !translation.stream_options);
    let sent = applied(body, &BodyEdit { usage, ..edit }.changes(&request, translation.changes));
    assert_eq!(names(&sent).1, None, "a name occurs twice: {sent}");
    Request::parse(sent.as_bytes(), operation).unwrap_or_else(|error| panic!("{error}: {sent}"));
    Ok(sent)
}

/// Returns the decoded and sorted member names of an object, and any name that occurs twice.
fn names(object: &str) -> (Vec<String>, Option<String>) {
    let mut reader = Reader::new(object.as_bytes());
    let mut members = reader.object().unwrap();
    let mut names = Vec::new();
    while let Some(name) = members.next(&mut reader).unwrap() {
        names.push(name.decode().into_owned());
        reader.skip().unwrap();
    }
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone());
    (names, twice)
}

/// Returns a body of `operation` with these members.
fn with(operation: Operation, members: &str) -> String {
    let subject = match operation {
        Operation::Chat => r#""messages":[]"#,
        Operation::TextCompletion => r#""prompt":"hi""#,
        Operation::Embeddings => r#""input":"hi""#,
    };
    format!(r#"{{"model":"m",{subject},{members}}}"#)
}

/// Returns what is left of `members`, the last of the body, after the translation.
fn left(operation: Operation, members: &str, from: Dialect, to: Dialect) -> Result<String, Untranslatable> {
    let sent = sent(&with(operation, members), operation, from, to, BodyEdit::default())?;
    let rest = with(operation, "");
    let rest = rest.trim_end_matches(",}");
    let left = sent.strip_prefix(rest).unwrap_or_else(|| panic!("{sent} is no longer the same request"));
    Ok(left.strip_suffix('}').unwrap().trim_start_matches(',').to_owned())
}

#[test]
fn the_same_dialect_changes_nothing() {
    let body = with(Chat, r#""top_k":1,"max_tokens":null,"thinking":{},"n":999,"temperature":9"#);
    let request = Request::parse(body.as_bytes(), Chat).unwrap();
    for dialect in [Vllm, OpenAi, Anthropic] {
        let translation = UnsupportedFields::read(body.as_bytes(), Chat).translate(&request, dialect, dialect);
        assert_eq!(translation, Ok(Translation::default()));
        assert_eq!(UnsupportedFields::default().translate(&request, dialect, dialect), Ok(Translation::default()));
    }
}

#[test]
fn hints_of_vllm_are_dropped_elsewhere() {
    let hints = r#""top_k":40,"min_p":0.1,"repetition_penalty":1.1,"length_penalty":1,"stop_token_ids":[2],"cache_salt":"s","priority":0,"chat_template_kwargs":{"enable_thinking":false},"mm_processor_kwargs":{},"skip_special_tokens":false"#;
    for (from, to) in [(Vllm, OpenAi), (Vllm, Anthropic), (OpenAi, Anthropic), (Anthropic, OpenAi)] {
        assert_eq!(left(Chat, hints, from, to).unwrap(), "", "{to:?}");
        assert_eq!(left(Chat, &format!(r#""a":1,{hints},"b":2"#), from, to).unwrap(), r#""a":1,"b":2"#);
    }
    assert_eq!(left(TextCompletion, hints, Vllm, OpenAi).unwrap(), "");
    assert_eq!(left(Embeddings, r#""cache_salt":"s","truncation_side":"left""#, Vllm, OpenAi).unwrap(), "");
    for from in BOTH_HOSTED {
        assert_eq!(left(Chat, hints, from, Vllm).unwrap(), hints);
    }
}

#[test]
fn an_operation_that_is_not_there_cannot_be_said() {
    for from in [Vllm, OpenAi] {
        for operation in [TextCompletion, Embeddings] {
            assert_eq!(left(operation, r#""user":"u""#, from, Anthropic), Err(Untranslatable::Operation));
        }
    }
    for to in [Vllm, OpenAi] {
        for operation in [TextCompletion, Embeddings] {
            assert_eq!(left(operation, r#""user":"u""#, Anthropic, to).as_deref(), Ok(r#""user":"u""#));
        }
    }
}

#[test]
fn the_limit_of_a_chat_has_another_name_at_openai() {
    for from in [Vllm, Anthropic] {
        for (members, expected) in [
            (r#""max_tokens":5"#, r#""max_completion_tokens":5"#),
            (r#""max_toke\u006es" : 5"#, r#""max_completion_tokens" : 5"#),
            (r#""max_completion_tokens":5"#, r#""max_completion_tokens":5"#),
            (r#""max_tokens":5,"max_completion_tokens":3"#, r#""max_completion_tokens":3"#),
            (r#""max_completion_tokens":3,"max_tokens":5"#, r#""max_completion_tokens":3"#),
            (r#""max_tokens":5,"max_completion_tokens":null"#, r#""max_completion_tokens":5"#),
            (r#""max_completion_tokens":null,"max_tokens":5"#, r#""max_completion_tokens":5"#),
            (r#""max_tokens":null,"max_completion_tokens":3"#, r#""max_completion_tokens":3"#),
            (r#""max_tokens":null,"max_completion_tokens":null"#, r#""max_completion_tokens":null"#),
            (r#""max_tokens":null"#, ""),
        ] {
            assert_eq!(left(Chat, members, from, OpenAi).unwrap(), expected, "{members}");
        }
    }
    for (from, to) in [(Vllm, Anthropic), (OpenAi, Anthropic), (OpenAi, Vllm), (Anthropic, Vllm)] {
        for members in [r#""max_tokens":5"#, r#""max_tokens":5,"max_completion_tokens":3"#, r#""max_tokens":null"#] {
            assert_eq!(left(Chat, members, from, to).unwrap(), members);
        }
    }
    let both = r#""max_tokens":5,"max_completion_tokens":3"#;
    assert_eq!(left(TextCompletion, both, Vllm, OpenAi).unwrap(), r#""max_tokens":5"#);
}

#[test]
fn a_limit_of_the_gate_holds_after_translation() {
    let edit = BodyEdit { model: Some("gpt"), limit: Some(2), limit_field: LimitField::MaxCompletionTokens, usage: None };
    for (members, expected) in [
        (r#""a":1"#, r#"{"max_completion_tokens":2,"model":"gpt","messages":[],"a":1}"#),
        (r#""max_tokens":5"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
        (r#""max_tokens":null"#, r#"{"max_completion_tokens":2,"model":"gpt","messages":[]}"#),
        (r#""max_tokens":5,"max_completion_tokens":null"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
        (r#""max_tokens":5,"max_completion_tokens":9"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
        (r#""max_tokens":null,"max_completion_tokens":null"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
        (r#""max_completion_tokens":null"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
    ] {
        assert_eq!(sent(&with(Chat, members), Chat, Vllm, OpenAi, edit).unwrap(), expected, "{members}");
    }
    for first in ["top_k", "max_tokens"] {
        let body = format!(r#"{{"{first}":null,"model":"m","messages":[]}}"#);
        let expected = r#"{"max_completion_tokens":2,"model":"gpt","messages":[]}"#;
        assert_eq!(sent(&body, Chat, Vllm, OpenAi, edit).unwrap(), expected, "{first}");
    }
}

#[test]
fn only_usage_is_asked_of_a_stream_elsewhere() {
    let usage = r#""stream":true,"stream_options":{"include_usage":true}"#;
    for (options, openai, anthropic) in [
        (r#"{"include_usage":true,"continuous_usage_stats":true}"#, true, true),
        (r#"{"continuous_usage_stats":false}"#, true, true),
        (r#"{"include_usage":false,"x":{}}"#, true, true),
        (r#"{"include_usage":true,"include_obfuscation":false}"#, false, true),
        (r#"{"include_usag\u0065":true}"#, false, false),
        ("{}", false, false),
        ("null", false, false),
    ] {
        let members = format!(r#""stream":true,"stream_options":{options}"#);
        for (to, rewritten) in [(OpenAi, openai), (Anthropic, anthropic)] {
            assert_eq!(left(Chat, &members, Vllm, to).unwrap(), if rewritten { usage } else { &members }, "{options}");
            let body = with(Chat, &members);
            let request = Request::parse(body.as_bytes(), Chat).unwrap();
            let translation = UnsupportedFields::read(body.as_bytes(), Chat).translate(&request, Vllm, to).unwrap();
            assert_eq!(translation.stream_options, rewritten, "{options}");
        }
        assert_eq!(left(Chat, &members, OpenAi, Vllm).unwrap(), members);
    }
    let no_stream = r#""stream_options":{"continuous_usage_stats":true}"#;
    assert_eq!(left(Chat, no_stream, Vllm, OpenAi).unwrap(), no_stream, "what every server refuses is left for it to refuse");
}

#[test]
fn values_beyond_the_limits_of_a_dialect() {
    let unchanged = |members: &'static str| Ok(members);
    let no = |field| Err(Untranslatable::Field(field));
    let many = r#""stop":["a","b","c","d","e"]"#;
    for (operation, to, members, expected) in [
        (Chat, OpenAi, r#""temperature":2.5"#, Ok(r#""temperature":2"#)),
        (Chat, OpenAi, r#""temperature":1e400"#, Ok(r#""temperature":2"#)),
        (Chat, OpenAi, r#""temperature":2.0"#, unchanged(r#""temperature":2.0"#)),
        (Chat, OpenAi, r#""temperature":"hot""#, unchanged(r#""temperature":"hot""#)),
        (Chat, Vllm, r#""temperature":3"#, Ok(r#""temperature":2"#)),
        (Chat, Anthropic, r#""temperature":1.5"#, unchanged(r#""temperature":1.5"#)),
        (Chat, Vllm, r#""top_p":0"#, no("top_p")),
        (Chat, OpenAi, r#""top_p":0"#, unchanged(r#""top_p":0"#)),
        (Chat, OpenAi, r#""n":128"#, unchanged(r#""n":128"#)),
        (Chat, OpenAi, r#""n":129"#, no("n")),
        (Chat, Anthropic, r#""n":1"#, unchanged(r#""n":1"#)),
        (Chat, Anthropic, r#""n":null"#, unchanged(r#""n":null"#)),
        (Chat, Anthropic, r#""n":2"#, no("n")),
        (Chat, Vllm, r#""n":2,"temperature":0"#, no("n")),
        (Chat, Vllm, r#""n":2,"temperature":0.7"#, unchanged(r#""n":2,"temperature":0.7"#)),
        (Chat, Vllm, r#""n":1,"temperature":0"#, unchanged(r#""n":1,"temperature":0"#)),
        (TextCompletion, OpenAi, r#""best_of":21"#, no("best_of")),
        (TextCompletion, OpenAi, r#""logprobs":5"#, unchanged(r#""logprobs":5"#)),
        (TextCompletion, OpenAi, r#""logprobs":6"#, no("logprobs")),
        (TextCompletion, OpenAi, r#""logprobs":-1"#, no("logprobs")),
        (Chat, OpenAi, r#""top_logprobs":20"#, unchanged(r#""top_logprobs":20"#)),
        (Chat, OpenAi, r#""top_logprobs":21"#, no("top_logprobs")),
        (Chat, OpenAi, r#""logprobs":true"#, unchanged(r#""logprobs":true"#)),
        (Chat, Anthropic, r#""logprobs":true"#, no("logprobs")),
        (Chat, Anthropic, r#""logprobs":false"#, unchanged(r#""logprobs":false"#)),
        (Chat, OpenAi, many, no("stop")),
        (Chat, Vllm, many, no("stop")),
        (Chat, Anthropic, many, unchanged(many)),
        (Chat, OpenAi, r#""stop":[]"#, Ok("")),
        (Chat, Anthropic, r#""stop":[]"#, unchanged(r#""stop":[]"#)),
        (Chat, OpenAi, r#""stop":"\n""#, unchanged(r#""stop":"\n""#)),
        (Chat, Anthropic, r#""stop":"\n""#, no("stop")),
        (Chat, Anthropic, r#""stop":["a"," \t"]"#, no("stop")),
        (Chat, Anthropic, r#""stop":["a\n"]"#, unchanged(r#""stop":["a\n"]"#)),
        (Embeddings, OpenAi, r#""encoding_format":"base64""#, unchanged(r#""encoding_format":"base64""#)),
        (Embeddings, OpenAi, r#""encoding_format":"bytes""#, no("encoding_format")),
        (Embeddings, OpenAi, r#""embed_dtype":"float32","endianness":"little""#, Ok("")),
        (Embeddings, OpenAi, r#""embed_dtype":"float16""#, no("embed_dtype")),
        (Embeddings, OpenAi, r#""messages":[]"#, no("messages")),
    ] {
        let from = if to == Vllm { OpenAi } else { Vllm };
        assert_eq!(left(operation, members, from, to), expected.map(str::to_owned), "{members} for {to:?}");
    }
    let inputs = |count: usize| format!(r#"{{"model":"m","input":[{}]}}"#, vec!["\"a\""; count].join(","));
    for (count, translatable) in [(2048, true), (2049, false)] {
        assert_eq!(sent(&inputs(count), Embeddings, Vllm, OpenAi, BodyEdit::default()).is_ok(), translatable);
    }
}

#[test]
fn what_shapes_the_answer_is_said_or_the_candidate_is_passed_over() {
    for (field, asking, no_op) in [
        ("structured_outputs", r#"{"choice":["a","b"]}"#, "null"),
        ("guided_json", "{}", "null"),
        ("guided_choice", r#"["a"]"#, "[]"),
        ("guided_regex", r#""a+""#, r#""""#),
        ("continue_final_message", "true", "false"),
        ("add_generation_prompt", "false", "true"),
        ("echo", "true", "false"),
        ("prompt_logprobs", "0", "null"),
        ("logprob_token_ids", "[1]", "null"),
        ("return_token_ids", "true", "null"),
        ("return_tokens_as_token_ids", "true", "false"),
        ("include_stop_str_in_output", "true", "false"),
        ("ignore_eos", "1", "0"),
        ("min_tokens", "4", "0"),
        ("truncate_prompt_tokens", "-1", "null"),
        ("documents", r#"[{"text":"x"}]"#, "[]"),
        ("allowed_token_ids", "[1]", "[]"),
        ("bad_words", r#"["x"]"#, "[]"),
    ] {
        for to in BOTH_HOSTED {
            let members = |value| format!(r#""{field}":{value}"#);
            assert_eq!(left(Chat, &members(asking), Vllm, to), Err(Untranslatable::Field(field)));
            assert_eq!(left(Chat, &members(no_op), Vllm, to).as_deref(), Ok(""), "{field}");
        }
    }
}

#[test]
fn formats_and_biases() {
    let schema = r#""response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"}}}"#;
    let text = r#""response_format":{"type":"text"}"#;
    let tag = r#""response_format":{"type":"structural_tag","structures":[]}"#;
    let twice = r#""response_format":{"type":"structural_tag","type":"text"}"#;
    let bias = r#""logit_bias":{"50256":-100}"#;
    let format = || Err(Untranslatable::Field("response_format"));
    for (operation, members, openai, anthropic) in [
        (Chat, schema, Ok(schema), format()),
        (Chat, text, Ok(text), Ok(text)),
        (Chat, tag, format(), format()),
        (Chat, twice, format(), format()),
        (TextCompletion, schema, format(), Err(Untranslatable::Operation)),
        (TextCompletion, text, Ok(""), Err(Untranslatable::Operation)),
        (Chat, bias, Err(Untranslatable::Field("logit_bias")), Err(Untranslatable::Field("logit_bias"))),
        (Chat, r#""logit_bias":{}"#, Ok(r#""logit_bias":{}"#), Ok(r#""logit_bias":{}"#)),
    ] {
        assert_eq!(left(operation, members, Vllm, OpenAi), openai.map(str::to_owned), "{members}");
        assert_eq!(left(operation, members, Vllm, Anthropic), anthropic.map(str::to_owned), "{members}");
    }
    assert_eq!(left(Chat, schema, OpenAi, Vllm).as_deref(), Ok(schema));
    assert_eq!(left(Chat, bias, OpenAi, Vllm), Err(Untranslatable::Field("logit_bias")));
}

#[test]
fn members_that_only_one_hosted_provider_knows() {
    let thinking = r#""thinking":{"type":"enabled","budget_tokens":2000}"#;
    for to in [Vllm, OpenAi] {
        assert_eq!(left(Chat, thinking, Anthropic, to).as_deref(), Ok(""));
    }
    for from in [Vllm, OpenAi] {
        assert_eq!(left(Chat, thinking, from, Anthropic).as_deref(), Ok(thinking));
    }
    let ignored = r#""metadata":{"a":"b"},"store":true,"service_tier":"auto","user":"u","seed":1,"presence_penalty":0.5"#;
    let hints = r#""verbosity":"low","prompt_cache_key":"k","safety_identifier":"x""#;
    for to in [Vllm, Anthropic] {
        assert_eq!(left(Chat, ignored, OpenAi, to).as_deref(), Ok(ignored));
        for field in ["audio", "web_search_options", "moderation"] {
            assert_eq!(left(Chat, &format!(r#""{field}":{{}}"#), OpenAi, to), Err(Untranslatable::Field(field)));
        }
    }
    assert_eq!(left(Chat, hints, OpenAi, Vllm).as_deref(), Ok(hints));
    assert_eq!(left(Chat, hints, OpenAi, Anthropic).as_deref(), Ok(""));
    let functions = r#""functions":[{"name":"f"}]"#;
    assert_eq!(left(Chat, functions, OpenAi, Vllm), Err(Untranslatable::Field("functions")));
    assert_eq!(left(Chat, functions, OpenAi, Anthropic).as_deref(), Ok(functions));
    assert_eq!(left(TextCompletion, r#""suffix":"x""#, OpenAi, Vllm), Err(Untranslatable::Field("suffix")));
    assert_eq!(left(TextCompletion, r#""suffix":null"#, OpenAi, Vllm).as_deref(), Ok(r#""suffix":null"#));
}

#[test]
fn token_ids_are_of_one_model() {
    for (operation, body) in [
        (TextCompletion, r#"{"model":"m","prompt":[1,2]}"#),
        (TextCompletion, r#"{"model":"m","prompt":[[1],[2]]}"#),
        (Embeddings, r#"{"model":"m","input":[1,2]}"#),
    ] {
        for (from, to) in [(Vllm, OpenAi), (OpenAi, Vllm)] {
            assert_eq!(sent(body, operation, from, to, BodyEdit::default()), Err(Untranslatable::TokenIds));
        }
    }
}

#[test]
fn removals_leave_json_wherever_they_are() {
    let edit = BodyEdit {
        limit: Some(7),
        usage: Some(RequestedUsage::Final),
        limit_field: LimitField::MaxCompletionTokens,
        ..BodyEdit::default()
    };
    let added = r#""max_completion_tokens":7,"stream_options":{"include_usage":true},"#;
    for (body, expected) in [
        (r#"{"top_k":1,"model":"m","messages":[]}"#, r#"{+"model":"m","messages":[]}"#),
        (r#"{"top_k":1,"min_p":1,"model":"m","messages":[]}"#, r#"{+"model":"m","messages":[]}"#),
        (r#"{ "top_k" : 1 , "model":"m","messages":[]}"#, r#"{+ "model":"m","messages":[]}"#),
        (r#"{"messages":[],"model":"m","top_k":1}"#, r#"{+"messages":[],"model":"m"}"#),
        (r#"{"messages":[],"model":"m" , "top_k":1 , "min_p":1 }"#, r#"{+"messages":[],"model":"m" }"#),
        (r#"{"messages":[],"top_k":1,"model":"m","min_p":1}"#, r#"{+"messages":[],"model":"m"}"#),
        (r#"{"messages":[],"top_k":1,"min_p":[{}],"model":"m"}"#, r#"{+"messages":[],"model":"m"}"#),
        (r#"{"top_k":{"a":",}"},"messages":[],"min_p":"\"","model":"m","top\u005fk":null}"#, r#"{+"messages":[],"model":"m"}"#),
    ] {
        assert_eq!(sent(body, Chat, Vllm, OpenAi, edit).unwrap(), expected.replace('+', added), "{body}");
    }
}

#[test]
fn every_occurrence_counts_up_to_a_bound() {
    let body = |count: usize| with(Chat, &vec![r#""top_k":1"#; count].join(","));
    let sent = |body: &str| {
        let request = Request::parse(body.as_bytes(), Chat).unwrap();
        let translation = UnsupportedFields::read(body.as_bytes(), Chat).translate(&request, Vllm, OpenAi)?;
        Ok(applied(body, &BodyEdit::default().changes(&request, translation.changes)))
    };
    assert_eq!(sent(&body(MAX_FIELDS)), Ok(r#"{"model":"m","messages":[]}"#.to_owned()));
    assert_eq!(sent(&body(MAX_FIELDS + 1)), Err(Untranslatable::Unread));
    let twice = with(Chat, r#""temperature":9,"temperature":1,"temperature":8"#);
    assert_eq!(sent(&twice), Ok(with(Chat, r#""temperature":2,"temperature":1,"temperature":2"#)));
}

#[test]
fn what_a_real_vllm_was_sent() {
    let unknown = include_str!("../../../../tests/fixtures/vllm/chat-unknown-fields.request.json");
    let continuous = include_str!("../../../../tests/fixtures/vllm/chat-stream-usage-continuous.request.json");
    let suffix = include_str!("../../../../tests/fixtures/vllm/completions-suffix.request.json");
    let logprobs = include_str!("../../../../tests/fixtures/vllm/chat-prompt-logprobs.request.json");
    let sent = |body, operation, from, to| sent(body, operation, from, to, BodyEdit::default());
    assert_eq!(
        sent(unknown, Chat, OpenAi, Anthropic).unwrap(),
        unknown.replace(r#", "safety_identifier": "x", "prompt_cache_key": "k", "verbosity": "low""#, "")
    );
    let renamed = continuous.replace(r#""max_tokens""#, r#""max_completion_tokens""#);
    let options = r#"{"include_usage": true, "continuous_usage_stats": true}"#;
    assert!(continuous.contains(options));
    assert_eq!(sent(continuous, Chat, Vllm, OpenAi).unwrap(), renamed.replace(options, r#"{"include_usage":true}"#));
    assert_eq!(sent(suffix, TextCompletion, OpenAi, Vllm), Err(Untranslatable::Field("suffix")));
    assert_eq!(sent(logprobs, Chat, Vllm, OpenAi), Err(Untranslatable::Field("prompt_logprobs")));
}

#[test]
fn the_table_is_sorted_and_names_each_field_once_for_an_operation() {
    for pair in FIELDS.windows(2) {
        let [one, next] = pair else { unreachable!() };
        assert!(one.name < next.name || one.name == next.name && one.on & next.on == 0, "{}", next.name);
        assert!(next.name.len() <= MAX_NAME_BYTES);
    }
}

#[test]
fn the_reference_shows_the_table() {
    let mut expected: Vec<String> = FIELDS.iter().map(row).collect();
    let mut shown: Vec<&str> = REFERENCE.lines().filter(|line| line.starts_with("| `")).collect();
    expected.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, expected, "docs/dialects.md should have these rows:\n{}", expected.join("\n"));
}

/// Returns the row of a field in the reference.
fn row(field: &fields::DialectField) -> String {
    let on = match field.on {
        fields::CHAT => "chat",
        fields::COMPLETIONS => "completions",
        fields::EMBEDDINGS => "embeddings",
        fields::GENERATION => "chat, completions",
        _ => "all",
    };
    let anthropic = if field.on & fields::CHAT == 0 { "–".to_owned() } else { words(field.anthropic) };
    format!("| `{}` | {on} | {} | {} | {anthropic} |", field.name, words(field.vllm), words(field.openai))
}

fn words(rule: FieldRule) -> String {
    match rule {
        FieldRule::Pass => "passes".into(),
        FieldRule::Drop => "dropped".into(),
        FieldRule::DropIfNoOp(no_op) => format!("dropped if {}, else **no**", idle_words(no_op)),
        FieldRule::PassIfNoOp(no_op) => format!("passes if {}, else **no**", idle_words(no_op)),
        FieldRule::Within(least, most) if least == most => format!("passes if {least}, else **no**"),
        FieldRule::Within(least, most) => format!("passes from {least} to {most}, else **no**"),
        FieldRule::Positive => "passes above 0, else **no**".into(),
        FieldRule::Cap(most) => format!("lowered to {most}"),
        FieldRule::Items(most) => format!("passes up to {most} items, else **no**"),
        FieldRule::StopItems(most) => format!("dropped if empty, passes up to {most} items, else **no**"),
        FieldRule::NotBlank => "passes unless one is white space, else **no**".into(),
        FieldRule::MaxTokens => "becomes `max_completion_tokens`, or is dropped beside it".into(),
        FieldRule::MaxCompletionTokens => "passes; null is dropped beside `max_tokens`".into(),
        FieldRule::UsageOnly(known) => format!("passes with {}, else becomes `{{\"include_usage\":true}}`", list(known)),
    }
}

fn idle_words(no_op: NoOp) -> String {
    match no_op {
        NoOp::Null => "null".into(),
        NoOp::Off => "off".into(),
        NoOp::True => "`true`".into(),
        NoOp::AnyOf(words) => list(words),
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(not(target_arch = "wasm32"))]
mod properties;
