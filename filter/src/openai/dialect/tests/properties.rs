//! Bodies of any order, spacing and spelling.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

use super::*;

/// A member, and what it is at OpenAI and at Anthropic: the same name and value, others, or nothing.
struct Case {
    name: &'static str,
    value: &'static str,
    openai: Option<(&'static str, &'static str)>,
    anthropic: Option<(&'static str, &'static str)>,
}

const fn same(name: &'static str, value: &'static str) -> Case {
    Case { name, value, openai: Some((name, value)), anthropic: Some((name, value)) }
}

const fn dropped(name: &'static str, value: &'static str) -> Case {
    Case { name, value, openai: None, anthropic: None }
}

const USAGE: &str = r#"{"include_usage":true}"#;

/// `max_tokens` is here without a second limit, which another test has.
const CASES: &[Case] = &[
    same("user", r#""u,}\"{""#),
    same("tools_", "[]"),
    same("seed", "7"),
    same("logprobs", "false"),
    same("response_format", r#"{"type":"text"}"#),
    dropped("top_k", "40"),
    dropped("min_p", "null"),
    dropped("repetition_penalty", r#"[",",{"a":"}"}]"#),
    dropped("structured_outputs", "null"),
    dropped("min_tokens", "0"),
    dropped("vllm_xargs", r#"{"a":1}"#),
    dropped("echo", "false"),
    Case { name: "thinking", value: "{}", openai: None, anthropic: Some(("thinking", "{}")) },
    Case { name: "verbosity", value: r#""low""#, openai: Some(("verbosity", r#""low""#)), anthropic: None },
    Case { name: "temperature", value: "3.5", openai: Some(("temperature", "2")), anthropic: Some(("temperature", "3.5")) },
    Case { name: "max_tokens", value: "9", openai: Some(("max_completion_tokens", "9")), anthropic: Some(("max_tokens", "9")) },
    Case {
        name: "stream_options",
        value: r#"{"continuous_usage_stats":true}"#,
        openai: Some(("stream_options", USAGE)),
        anthropic: Some(("stream_options", USAGE)),
    },
];

fn spaces() -> impl Strategy<Value = &'static str> {
    select(&["", "", " ", "\n\t", "  "][..])
}

/// A key, some of its letters escaped.
fn spelled(name: &str, escapes: u32) -> String {
    let letter = |(at, c): (usize, char)| {
        if escapes >> at & 1 == 1 { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }
    };
    name.chars().enumerate().map(letter).collect()
}

/// Members of a body in some order, and the body.
fn bodies() -> impl Strategy<Value = (Vec<usize>, String)> {
    let members = proptest::sample::subsequence((0..CASES.len()).collect::<Vec<_>>(), 0..=CASES.len());
    let order = members.prop_map(|members| members.into_iter().map(Some).chain([None]).collect::<Vec<_>>()).prop_shuffle();
    order.prop_flat_map(|order| {
        let count = order.len();
        let dress = (spaces(), spaces(), spaces(), spaces(), prop_oneof![Just(0), any::<u32>()]);
        proptest::collection::vec(dress, count).prop_map(move |dresses| {
            let member = |(case, (a, b, c, d, escapes)): (&Option<usize>, &(&str, &str, &str, &str, u32))| {
                let (name, value) = case.map_or(("model", r#""m""#), |case| (CASES[case].name, CASES[case].value));
                format!(r#"{a}"{}"{b}:{c}{value}{d}"#, spelled(name, *escapes))
            };
            let members: Vec<String> = order.iter().zip(&dresses).map(member).collect();
            let body = format!(r#"{{{},"stream":true,"messages":[]}}"#, members.join(","));
            let turned = format!(r#"{{"stream":true,"messages":[] , {}}}"#, members.join(","));
            let body = if dresses[0].4 & 1 == 1 { body } else { turned };
            (order.iter().copied().flatten().collect(), body)
        })
    })
}

fn expected(members: &[usize], to: Dialect, edit: BodyEdit<'_>) -> Map<String, Value> {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let always = [("model", r#""served""#), ("stream", "true"), ("messages", "[]")];
    let mut all: Map<String, Value> = always.map(|(name, text)| (name.to_owned(), value(text))).into_iter().collect();
    for &member in members {
        let case = &CASES[member];
        let becomes = if to == OpenAi { case.openai } else { case.anthropic };
        all.extend(becomes.map(|(name, text)| (name.to_owned(), value(text))));
    }
    if let Some(limit) = edit.limit {
        let name = if to == OpenAi { "max_completion_tokens" } else { "max_tokens" };
        all.insert(name.to_owned(), limit.into());
    }
    if edit.usage.is_some() {
        all.insert("stream_options".to_owned(), value(USAGE));
    }
    all
}

proptest! {
    #[test]
    fn what_is_sent_is_json_with_exactly_what_it_should_have(
        (members, body) in bodies(),
        to in select(&BOTH_HOSTED[..]),
        limit in proptest::option::of(1..50_u64),
        ask in any::<bool>(),
    ) {
        let options = members.iter().any(|&member| CASES[member].name == "stream_options");
        let limit_field = if to == OpenAi { LimitField::MaxCompletionTokens } else { LimitField::MaxTokens };
        let usage = (ask || options).then_some(RequestedUsage::Final);
        let edit = BodyEdit { model: Some("served"), limit, limit_field, usage };
        let sent = sent(&body, Chat, Vllm, to, edit).unwrap();
        let read: Map<String, Value> = serde_json::from_str(&sent).unwrap();
        prop_assert_eq!(read, expected(&members, to, edit), "{} became {}", body, sent);
    }

    #[test]
    fn no_bytes_panic((_, body) in bodies(), cut in 0..400_usize, byte in any::<u8>()) {
        let request = Request::parse(body.as_bytes(), Chat).unwrap();
        let mut bytes = body.into_bytes();
        let at = cut % bytes.len();
        bytes[at] = byte;
        for bytes in [&bytes[..], &bytes[..at]] {
            for (from, to) in [(Vllm, OpenAi), (OpenAi, Anthropic), (Anthropic, Vllm)] {
                let _ = UnsupportedFields::read(bytes, Chat).translate(&request, from, to);
            }
        }
    }
}
