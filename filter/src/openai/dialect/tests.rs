use super::fields::{self, FIELDS};
use super::*;
use crate::openai::LimitField;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use Dialect::{Anthropic, OpenAi, Vllm};

const REFERENCE: &str = include_str!("../../../../docs/dialects.md");

const BOTH_HOSTED: [Dialect; 2] = [OpenAi, Anthropic];

/// What an [`crate::openai::Edit`] changes beside a translation.
#[derive(Debug, Clone, Copy, Default)]
struct Beside {
    model: Option<&'static str>,
    limit: Option<u64>,
    field: LimitField,
    ask_usage: bool,
}

impl Beside {
    fn changes(self, request: &Request, translation: &Translation) -> Vec<Change> {
        let places = &request.places;
        let mut changes = Vec::new();
        changes.extend(self.model.map(|model| (places.model.clone(), format!("\"{model}\"").into_bytes())));
        changes.extend(self.limit.map(|limit| self.limit(limit, request)).into_iter().flatten());
        if self.ask_usage && !translation.stream_options {
            assert_eq!(places.stream_options, None, "these tests leave the members of the options to others");
            changes.push((places.start..places.start, br#""stream_options":{"include_usage":true},"#.to_vec()));
        }
        changes
    }

    fn limit(self, limit: u64, request: &Request) -> Vec<Change> {
        let (older, newer) = (&request.places.max_tokens, &request.places.max_completion_tokens);
        let named: Vec<Change> = [older, newer]
            .into_iter()
            .flatten()
            .filter(|(_, named)| *named)
            .map(|(place, _)| (place.clone(), limit.to_string().into_bytes()))
            .collect();
        if !named.is_empty() {
            return named;
        }
        let (null, name) = match self.field {
            LimitField::MaxTokens => (older, "max_tokens"),
            LimitField::MaxCompletionTokens => (newer, "max_completion_tokens"),
        };
        let start = request.places.start;
        vec![match null {
            Some((place, _)) => (place.clone(), limit.to_string().into_bytes()),
            None => (start..start, format!("\"{name}\":{limit},").into_bytes()),
        }]
    }
}

/// The body with these changes, those dropped that begin inside a range replaced already.
fn merged(body: &str, mut changes: Vec<Change>) -> String {
    changes.sort_by_key(|(range, _)| (range.start, range.end));
    let mut bytes = Vec::new();
    let mut at = 0;
    for (range, replacement) in changes {
        if range.start >= at {
            bytes.extend_from_slice(&body.as_bytes()[at..range.start]);
            bytes.extend_from_slice(&replacement);
            at = range.end;
        }
    }
    bytes.extend_from_slice(&body.as_bytes()[at..]);
    String::from_utf8(bytes).unwrap()
}

fn sent(body: &str, operation: Operation, from: Dialect, to: Dialect, beside: Beside) -> Result<String, Unsayable> {
    let request = Request::parse(body.as_bytes(), operation).unwrap_or_else(|error| panic!("{error}: {body}"));
    let translation = Peculiarities::read(body.as_bytes(), operation).translate(&request, from, to)?;
    let mut changes = beside.changes(&request, &translation);
    changes.extend(translation.changes);
    let sent = merged(body, changes);
    assert_eq!(names(&sent).1, None, "a name stands twice: {sent}");
    Request::parse(sent.as_bytes(), operation).unwrap_or_else(|error| panic!("{error}: {sent}"));
    Ok(sent)
}

/// The names of an object's members as decoded, sorted, and one that stands twice.
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

/// A whole body of `operation` with these members.
fn with(operation: Operation, members: &str) -> String {
    let subject = match operation {
        Operation::Chat => r#""messages":[]"#,
        Operation::TextCompletion => r#""prompt":"hi""#,
        Operation::Embeddings => r#""input":"hi""#,
    };
    format!(r#"{{"model":"m",{subject},{members}}}"#)
}

/// What is left of `members`, which stand last, on their way from one dialect to another.
fn left(operation: Operation, members: &str, from: Dialect, to: Dialect) -> Result<String, Unsayable> {
    let sent = sent(&with(operation, members), operation, from, to, Beside::default())?;
    let rest = with(operation, "");
    let rest = rest.trim_end_matches(",}");
    let left = sent.strip_prefix(rest).unwrap_or_else(|| panic!("{sent} is no longer the same request"));
    Ok(left.trim_start_matches(',').trim_end_matches('}').to_owned())
}

use Operation::{Chat, Embeddings, TextCompletion};

#[test]
fn the_same_dialect_changes_nothing() {
    let body = with(Chat, r#""top_k":1,"max_tokens":null,"thinking":{},"n":999,"temperature":9"#);
    let request = Request::parse(body.as_bytes(), Chat).unwrap();
    for dialect in [Vllm, OpenAi, Anthropic] {
        let translation = Peculiarities::read(body.as_bytes(), Chat).translate(&request, dialect, dialect);
        assert_eq!(translation, Ok(Translation::default()));
        assert_eq!(Peculiarities::default().translate(&request, dialect, dialect), Ok(Translation::default()));
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
            assert_eq!(left(operation, r#""user":"u""#, from, Anthropic), Err(Unsayable::Operation));
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
    let beside = Beside { model: Some("gpt"), limit: Some(2), field: LimitField::MaxCompletionTokens, ask_usage: false };
    for (members, expected) in [
        (r#""a":1"#, r#"{"max_completion_tokens":2,"model":"gpt","messages":[],"a":1}"#),
        (r#""max_tokens":5"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
        (r#""max_tokens":null"#, r#"{"max_completion_tokens":2,"model":"gpt","messages":[]}"#),
        (r#""max_tokens":5,"max_completion_tokens":null"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
        (r#""max_tokens":5,"max_completion_tokens":9"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
        (r#""max_tokens":null,"max_completion_tokens":null"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
        (r#""max_completion_tokens":null"#, r#"{"model":"gpt","messages":[],"max_completion_tokens":2}"#),
    ] {
        assert_eq!(sent(&with(Chat, members), Chat, Vllm, OpenAi, beside).unwrap(), expected, "{members}");
    }
    for first in ["top_k", "max_tokens"] {
        let body = format!(r#"{{"{first}":null,"model":"m","messages":[]}}"#);
        let expected = r#"{"max_completion_tokens":2,"model":"gpt","messages":[]}"#;
        assert_eq!(sent(&body, Chat, Vllm, OpenAi, beside).unwrap(), expected, "{first}");
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
            let translation = Peculiarities::read(body.as_bytes(), Chat).translate(&request, Vllm, to).unwrap();
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
    let no = |field| Err(Unsayable::Field(field));
    let many = r#""stop":["a","b","c","d","e"]"#;
    for (operation, to, members, expected) in [
        (Chat, OpenAi, r#""temperature":2.5"#, Ok(r#""temperature":2"#)),
        (Chat, OpenAi, r#""temperature":1e400,"temperature":9"#, no("")),
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
        // Any dialect but the target's, and the governed keys must be taken.
        let from = if to == Vllm { OpenAi } else { Vllm };
        let left = left_of_any(operation, members, from, to);
        assert_eq!(left, expected.map(str::to_owned), "{members} for {to:?}");
    }
    let inputs = |count: usize| format!(r#"{{"model":"m","input":[{}]}}"#, vec!["\"a\""; count].join(","));
    for (count, sayable) in [(2048, true), (2049, false)] {
        assert_eq!(sent(&inputs(count), Embeddings, Vllm, OpenAi, Beside::default()).is_ok(), sayable);
    }
}

/// As [`left`], where a name that is not governed may stand twice; that is told by `Field("")`.
fn left_of_any(operation: Operation, members: &str, from: Dialect, to: Dialect) -> Result<String, Unsayable> {
    let body = with(operation, members);
    if names(&body).1.is_none() {
        return left(operation, members, from, to);
    }
    let request = Request::parse(body.as_bytes(), operation).unwrap();
    let changes = Peculiarities::read(body.as_bytes(), operation).translate(&request, from, to)?.changes;
    assert_eq!(merged(&body, changes), with(operation, r#""temperature":2,"temperature":2"#));
    Err(Unsayable::Field(""))
}
