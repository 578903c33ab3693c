//! Requests above the cap of 1,000 tokens, in each field that makes a request large.

use e2e::harness::MODEL;
use serde_json::Value;

use crate::http1::{chat_with, chat_with_messages, post_with};
use crate::row::{Expected, FORWARDED, INVALID, Row, TOO_LARGE};

const TEXT: &str = "/v1/completions";
const EMBED: &str = "/v1/embeddings";
const TEXT_PASSED: Expected = Expected::Forwarded(TEXT, MODEL);
const EMBED_PASSED: Expected = Expected::Forwarded(EMBED, MODEL);

/// Returns an array of this item, repeated.
fn list(item: &str, count: usize) -> String {
    format!("[{}]", vec![item; count].join(","))
}

fn limited(body: &Value) -> bool {
    let limit = body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64());
    limit.is_some_and(|limit| limit < 1000)
}

fn reported(body: &Value) -> bool {
    body["stream_options"]["include_usage"] == true
}

pub fn rows() -> Vec<Row> {
    let long = "a".repeat(200_000);
    let user = |content: &str| format!(r#"[{{"role":"user","content":{content}}}]"#);
    vec![
        // === limits ===
        chat_with("a limit above the cap", r#""max_tokens":1001"#, FORWARDED).forwarding(limited),
        chat_with("the largest limit", r#""max_tokens":9007199254740992"#, FORWARDED).forwarding(limited),
        chat_with("the other limit above the cap", r#""max_completion_tokens":5000"#, FORWARDED).forwarding(limited),
        chat_with("a small limit, and the other that counts", r#""max_tokens":1,"max_completion_tokens":5000"#, FORWARDED)
            .forwarding(limited),
        chat_with("the other limit null", r#""max_tokens":5000,"max_completion_tokens":null"#, FORWARDED).forwarding(limited),
        chat_with("a limit that the other overrides", r#""max_tokens":5000,"max_completion_tokens":8"#, FORWARDED)
            .forwarding(limited),
        chat_with("least tokens above the cap", r#""max_tokens":8,"min_tokens":5000"#, TOO_LARGE),
        chat_with("least tokens and no limit", r#""min_tokens":5000"#, TOO_LARGE),
        chat_with("no limit", r#""ignore_eos":true"#, FORWARDED).forwarding(limited),
        chat_with("null for a limit", r#""max_tokens":null,"ignore_eos":true"#, FORWARDED).forwarding(limited),
        chat_with("a limit that the prompt does not leave", r#""max_tokens":999"#, FORWARDED).forwarding(limited),
        chat_with("a limit by another name", r#""max_new_tokens":5000,"max_length":5000,"max_output_tokens":5000"#, FORWARDED)
            .forwarding(limited),
        // === completions ===
        chat_with("many choices", r#""n":200,"max_tokens":8"#, TOO_LARGE),
        chat_with("many choices and no limit", r#""n":16384"#, TOO_LARGE),
        chat_with("choices and limits beyond 64 bits", r#""n":9007199254740992,"max_tokens":9007199254740992"#, TOO_LARGE),
        chat_with("more made than returned", r#""n":1,"best_of":200,"max_tokens":8"#, TOO_LARGE),
        chat_with("fewer made than returned", r#""n":200,"best_of":1,"max_tokens":8"#, TOO_LARGE),
        post_with("many prompts", TEXT, &format!(r#""prompt":{},"max_tokens":8"#, list("\"a\"", 200)), TOO_LARGE),
        post_with("many prompts and no limit", TEXT, &format!(r#""prompt":{}"#, list("\"a\"", 100)), TOO_LARGE),
        post_with("many prompts and choices", TEXT, &format!(r#""prompt":{},"n":10,"max_tokens":8"#, list("\"a\"", 20)), TOO_LARGE),
        post_with("many prompts of ids", TEXT, &format!(r#""prompt":{},"max_tokens":8"#, list("[1]", 200)), TOO_LARGE),
        post_with("many empty prompts", TEXT, &format!(r#""prompt":{},"max_tokens":8"#, list("\"\"", 200)), TOO_LARGE),
        post_with("chat's limit for text", TEXT, r#""prompt":"a","max_completion_tokens":5000"#, TEXT_PASSED),
        post_with("echo and no tokens", TEXT, r#""prompt":"a","echo":true,"max_tokens":0"#, TEXT_PASSED),
        // === prompts ===
        post_with("many ids", TEXT, &format!(r#""prompt":{},"max_tokens":1"#, list("7", 1500)), TOO_LARGE),
        post_with(
            "many ids, to be echoed",
            TEXT,
            &format!(r#""prompt":{},"max_tokens":1,"echo":true"#, list("7", 1500)),
            TOO_LARGE,
        ),
        post_with("ids in many prompts", TEXT, &format!(r#""prompt":{},"max_tokens":1"#, list("[7,7,7]", 300)), TOO_LARGE),
        post_with("a long prompt", TEXT, &format!(r#""prompt":"{long}","max_tokens":1"#), TOO_LARGE),
        post_with("a long suffix", TEXT, &format!(r#""prompt":"a","suffix":"{long}","max_tokens":1"#), TOO_LARGE),
        chat_with_messages("a long message", &user(&format!("\"{long}\"")), TOO_LARGE),
        chat_with_messages("a long message, escaped", &user(&format!("\"{}\"", "\\u0061".repeat(200_000))), TOO_LARGE),
        chat_with_messages("a long system prompt", &format!(r#"[{{"role":"system","content":"{long}"}}]"#), TOO_LARGE),
        chat_with_messages("a long name", &format!(r#"[{{"role":"user","name":"{long}","content":""}}]"#), TOO_LARGE),
        chat_with_messages("a long role", &format!(r#"[{{"role":"{long}","content":""}}]"#), TOO_LARGE),
        chat_with_messages("a long part", &user(&format!(r#"[{{"type":"text","text":"{long}"}}]"#)), TOO_LARGE),
        chat_with_messages("a long part of no type", &user(&format!(r#"["{long}"]"#)), TOO_LARGE),
        chat_with_messages(
            "long arguments of a call",
            &format!(r#"[{{"role":"assistant","tool_calls":[{{"function":{{"name":"f","arguments":"{long}"}}}}]}}]"#),
            TOO_LARGE,
        ),
        chat_with_messages("long reasoning", &format!(r#"[{{"role":"assistant","content":"","reasoning":"{long}"}}]"#), TOO_LARGE),
        chat_with_messages(
            "content twice, the first one long",
            &format!(r#"[{{"role":"user","content":"{long}","content":""}}]"#),
            TOO_LARGE,
        ),
        chat_with_messages("many messages", &list(r#"{"role":"user","content":""}"#, 2000), TOO_LARGE),
        chat_with_messages("many images", &user(&list(r#"{"type":"image_url","image_url":{"url":"data:,"}}"#, 2000)), TOO_LARGE),
        chat_with_messages(
            "many sounds",
            &user(&list(r#"{"type":"input_audio","input_audio":{"data":"","format":"wav"}}"#, 2000)),
            TOO_LARGE,
        ),
        chat_with(
            "long tools",
            &format!(r#""max_tokens":8,"tools":[{{"type":"function","function":{{"name":"f","description":"{long}"}}}}]"#),
            TOO_LARGE,
        ),
        chat_with("long functions", &format!(r#""max_tokens":8,"functions":[{{"name":"{long}"}}]"#), TOO_LARGE),
        chat_with("long documents", &format!(r#""max_tokens":8,"documents":[{{"text":"{long}"}}]"#), TOO_LARGE),
        chat_with("long arguments of a template", &format!(r#""max_tokens":8,"chat_template_kwargs":{{"x":"{long}"}}"#), TOO_LARGE),
        chat_with("a long schema", &format!(r#""max_tokens":8,"response_format":{{"type":"{long}"}}"#), TOO_LARGE),
        chat_with("something long that reaches no prompt", &format!(r#""max_tokens":8,"metadata":{{"x":"{long}"}}"#), FORWARDED),
        // === prompts that the server truncates ===
        post_with(
            "cut to more than the cap",
            TEXT,
            &format!(r#""prompt":{},"max_tokens":1,"truncate_prompt_tokens":100000"#, list("7", 1500)),
            TOO_LARGE,
        ),
        post_with(
            "cut to the context length",
            TEXT,
            &format!(r#""truncate_prompt_tokens":-1,"prompt":{},"max_tokens":1"#, list("7", 1500)),
            TOO_LARGE,
        ),
        post_with(
            "cut, many of them",
            TEXT,
            &format!(r#""prompt":{},"max_tokens":1,"truncate_prompt_tokens":3"#, list("[7,7,7]", 300)),
            TOO_LARGE,
        ),
        post_with("cut to a number in quotes", TEXT, r#""prompt":"a","truncate_prompt_tokens":"100000""#, INVALID),
        post_with("cut twice", TEXT, r#""prompt":"a","truncate_prompt_tokens":1,"truncate_prompt_tokens":100000"#, INVALID),
        post_with(
            "cut to what fits",
            TEXT,
            &format!(r#""prompt":{},"max_tokens":1,"truncate_prompt_tokens":100"#, list("7", 1500)),
            TEXT_PASSED,
        ),
        chat_with_messages(
            "a long message, cut to what fits",
            &format!(r#"[{{"role":"user","content":"{long}"}}],"truncate_prompt_tokens":100"#),
            FORWARDED,
        ),
        post_with(
            "a long input, cut to more than the cap",
            EMBED,
            &format!(r#""input":"{long}","truncate_prompt_tokens":50000"#),
            TOO_LARGE,
        ),
        // === embeddings ===
        post_with("a long input", EMBED, &format!(r#""input":"{long}""#), TOO_LARGE),
        post_with("an input of many ids", EMBED, &format!(r#""input":{}"#, list("7", 1500)), TOO_LARGE),
        post_with("many inputs of ids", EMBED, &format!(r#""input":{}"#, list("[7,7]", 600)), TOO_LARGE),
        post_with("messages to embed", EMBED, &format!(r#""messages":[{{"role":"user","content":"{long}"}}]"#), TOO_LARGE),
        post_with(
            "an input and messages",
            EMBED,
            &format!(r#""input":"a","messages":[{{"role":"user","content":"{long}"}}]"#),
            TOO_LARGE,
        ),
        post_with("an ordinary input", EMBED, r#""input":["a","b"]"#, EMBED_PASSED),
        // === options that suppress usage ===
        chat_with("a stream without options", r#""stream":true,"max_tokens":8"#, FORWARDED).forwarding(reported),
        chat_with("a stream without usage", r#""stream":true,"max_tokens":8,"stream_options":{"include_usage":false}"#, FORWARDED)
            .forwarding(reported),
        chat_with(
            "a stream with null for usage",
            r#""stream":true,"max_tokens":8,"stream_options":{"include_usage":null}"#,
            FORWARDED,
        )
        .forwarding(reported),
        chat_with("a stream with null for options", r#""max_tokens":8,"stream_options":null,"stream":true"#, FORWARDED)
            .forwarding(reported),
        chat_with(
            "a stream with other options",
            r#""stream":true,"max_tokens":8,"stream_options":{"continuous_usage_stats":false}"#,
            FORWARDED,
        )
        .forwarding(reported),
        chat_with(
            "a stream with an option in upper case",
            r#""stream":true,"max_tokens":8,"stream_options":{"Include_Usage":false}"#,
            FORWARDED,
        )
        .forwarding(reported),
    ]
}
