use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn parse(body: &str) -> Result<Request, InvalidBody> {
    Request::parse(body.as_bytes(), Operation::Chat)
}

fn chat(members: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{members}}}"#)
}

#[test]
fn what_is_governed_is_read() {
    let request =
        parse(&chat(r#""max_tokens":5,"n":3,"stream":true,"stream_options":{"include_usage":true,"x":1},"top_p":0.5"#)).unwrap();
    assert_eq!((request.model.as_str(), request.limit, request.choices, request.sequences), ("m", Some(5), 3, 3));
    assert_eq!((request.stream, request.include_usage, request.continuous_usage), (true, true, false));
    assert_eq!(request.prompt, PromptSize { text_bytes: 6, messages: 1, text: request.prompt.text, ..PromptSize::default() });
}

#[test]
fn lax_values_are_refused_and_the_field_is_named() {
    for (members, param) in [
        (r#""max_tokens":"5""#, "max_tokens"),
        (r#""max_tokens":5.5"#, "max_tokens"),
        (r#""max_tokens":1e-1"#, "max_tokens"),
        (r#""max_tokens":0.0"#, "max_tokens"),
        (r#""max_completion_tokens":0"#, "max_completion_tokens"),
        (r#""max_tokens":9007199254740993"#, "max_tokens"),
        (r#""max_tokens":true"#, "max_tokens"),
        (r#""max_tokens":0"#, "max_tokens"),
        (r#""max_tokens":-0"#, "max_tokens"),
        (r#""max_tokens":-5"#, "max_tokens"),
        (r#""max_tokens":9223372036854775808"#, "max_tokens"),
        (r#""max_tokens":[5]"#, "max_tokens"),
        (r#""max_completion_tokens":"5""#, "max_completion_tokens"),
        (r#""min_tokens":-1"#, "min_tokens"),
        (r#""min_tokens":"1""#, "min_tokens"),
        (r#""n":0"#, "n"),
        (r#""n":"2""#, "n"),
        (r#""best_of":1.5"#, "best_of"),
        (r#""stream":"true""#, "stream"),
        (r#""stream":1"#, "stream"),
        (r#""stream_options":[]"#, "stream_options"),
        (r#""stream_options":{"include_usage":"true"}"#, "stream_options"),
        (r#""stream_options":{"include_usage":true,"include_usage":false}"#, "stream_options"),
        (r#""kv_transfer_params":{}"#, "kv_transfer_params"),
        (r#""ec_transfer_params":{"a":1}"#, "ec_transfer_params"),
        (r#""use_beam_search":true"#, "use_beam_search"),
        (r#""use_beam_search":"false""#, "use_beam_search"),
        (r#""prompt_embeds":"AAAA""#, "prompt_embeds"),
        (r#""vllm_xargs":{"a":1,"kv_transfer_param\u0073":{}}"#, "vllm_xargs"),
        (r#""vllm_xargs":"x""#, "vllm_xargs"),
        (r#""chat_template":"{{ x }}""#, "chat_template"),
        (r#""chat_template_kwargs":{"chat_template":"{{ x }}"}"#, "chat_template_kwargs"),
        (r#""priority":-1"#, "priority"),
        (r#""priority":0.5"#, "priority"),
        (r#""priority":false"#, "priority"),
        (r#""model":"other""#, "model"),
        (r#""mod\u0065l":"other""#, "model"),
        (r#""max_tokens":1,"max_toke\u006es":2"#, "max_tokens"),
        (r#""stream":true,"stream":true"#, "stream"),
    ] {
        let invalid = parse(&chat(members)).unwrap_err();
        assert_eq!(invalid.param(), Some(param), "{members}: {invalid}");
    }
}

#[test]
fn what_is_absent_may_be_null_or_false() {
    let members = r#""max_tokens":null,"n":null,"stream":null,"stream_options":null,"kv_transfer_params":null,"use_beam_search":false,"priority":0,"prompt_embeds":null"#;
    let request = parse(&chat(members)).unwrap();
    assert_eq!((request.limit, request.sequences, request.stream), (None, 1, false));
}

#[test]
fn the_limit_is_the_one_that_the_server_obeys() {
    for (members, limit) in [
        (r#""max_tokens":5,"max_completion_tokens":3"#, Some(3)),
        (r#""max_tokens":3,"max_completion_tokens":5"#, Some(5)),
        (r#""max_tokens":5,"max_completion_tokens":null"#, Some(5)),
        (r#""max_tokens":null,"max_completion_tokens":5"#, Some(5)),
        (r#""temperature":1"#, None),
    ] {
        assert_eq!(parse(&chat(members)).unwrap().limit, limit, "{members}");
    }
    let body = br#"{"model":"m","prompt":["a","b"],"n":2,"best_of":3,"max_completion_tokens":9}"#;
    let request = Request::parse(body, Operation::TextCompletion).unwrap();
    assert_eq!((request.limit, request.choices, request.prompts, request.sequences), (None, 2, 2, 6));
}

#[test]
fn whole_numbers_may_be_written_as_floats() {
    let request =
        parse(&chat(r#""max_tokens":4096.0,"n":2e0,"min_tokens":10.00,"priority":0.0,"truncate_prompt_tokens":-1.0"#)).unwrap();
    assert_eq!((request.limit, request.choices, request.min_tokens), (Some(4096), 2, 10));
    assert_eq!((request.prompt.truncated, request.prompt.cut), (true, None));
}

#[test]
fn a_completion_may_have_a_limit_of_zero() {
    let body = br#"{"model":"m","prompt":["a","b"],"max_tokens":0,"echo":true}"#;
    let request = Request::parse(body, Operation::TextCompletion).unwrap();
    assert_eq!((request.limit, request.sequences), (Some(1), 2), "one token is generated for each prompt");
    let embeddings = Request::parse(br#"{"model":"m","input":"a","max_tokens":0}"#, Operation::Embeddings);
    assert_eq!(embeddings.unwrap_err().param(), Some("max_tokens"));
}

#[test]
fn models_are_visible_ascii_and_nothing_else() {
    let long = format!("\"{}\"", "x".repeat(257));
    for model in [r#""""#, "null", "5", "[]", r#""a b""#, r#""a\r\nx: y""#, r#""é""#, r#""\ud800""#, "\"\\u0000\"", &long] {
        let body = format!(r#"{{"model":{model},"messages":[]}}"#);
        assert_eq!(parse(&body).unwrap_err().param(), Some("model"), "{model}");
    }
    assert_eq!(parse(r#"{"model":"a\/b\u0041\"","messages":[]}"#).unwrap().model, "a/bA\"");
    assert_eq!(parse(r#"{"Model":"m","messages":[]}"#).unwrap_err(), InvalidBody::Missing("model"));
}

#[test]
fn a_body_is_one_object_with_its_subject() {
    assert_eq!(parse("").unwrap_err(), InvalidBody::Empty);
    for body in ["[]", "null", "\"x\"", "5"] {
        assert_eq!(parse(body).unwrap_err(), InvalidBody::NotObject, "{body}");
    }
    assert_eq!(parse("\u{feff}{}").unwrap_err(), InvalidBody::ByteOrderMark);
    for body in ["{", "{} {}", "{\"model\":NaN}"] {
        assert!(matches!(parse(body).unwrap_err(), InvalidBody::Json(_)), "{body}");
    }
    assert_eq!(parse(r#"{"model":"m"}"#).unwrap_err(), InvalidBody::Missing("messages"));
    assert_eq!(Request::parse(br#"{"model":"m"}"#, Operation::TextCompletion).unwrap_err(), InvalidBody::Missing("prompt"));
    assert_eq!(Request::parse(br#"{"model":"m"}"#, Operation::Embeddings).unwrap_err(), InvalidBody::Missing("input"));
}

#[test]
fn prompts_are_measured_by_what_reaches_them() {
    let size =
        |text_bytes, messages, token_ids, parts| PromptSize { text_bytes, messages, token_ids, parts, ..PromptSize::default() };
    for (operation, body, expected, sequences) in [
        (Operation::TextCompletion, r#""prompt":"abcd""#, size(4, 0, 0, 0), 1),
        (Operation::TextCompletion, r#""prompt":["ab","\u00e9"]"#, size(4, 0, 0, 0), 2),
        (Operation::TextCompletion, r#""prompt":[1,2,3]"#, size(0, 0, 3, 0), 1),
        (Operation::TextCompletion, r#""prompt":[[1,2],[3]]"#, size(0, 0, 3, 0), 2),
        (Operation::TextCompletion, r#""prompt":[]"#, size(0, 0, 0, 0), 1),
        (Operation::TextCompletion, r#""prompt":["a","b"],"input":"c""#, size(3, 0, 0, 0), 2),
        (Operation::Embeddings, r#""input":["abc","d"]"#, size(4, 0, 0, 0), 0),
        (
            Operation::Chat,
            r#""messages":[{"role":"u","content":[{"type":"text","text":"abc"},"de",{"type":"image_url","image_url":{"url":"data:AAAAAAAAAAAAA"}}]}]"#,
            size(6, 1, 0, 1),
            1,
        ),
        (Operation::Chat, r#""messages":[],"tools":[{"a":1}]"#, size(9, 0, 0, 0), 1),
    ] {
        let body = format!(r#"{{"model":"m",{body}}}"#);
        let request = Request::parse(body.as_bytes(), operation).unwrap();
        let expected = PromptSize { text: request.prompt.text, ..expected };
        assert_eq!((request.prompt, request.sequences), (expected, sequences), "{body}");
    }
    for prompt in ["null", "5", "{}", "[null]", "[1,\"a\"]", "[\"a\",1]", "[1.5]", "[[\"a\"]]", "[-1]"] {
        let body = format!(r#"{{"model":"m","prompt":{prompt}}}"#);
        assert_eq!(Request::parse(body.as_bytes(), Operation::TextCompletion).unwrap_err().param(), Some("prompt"), "{prompt}");
    }
    for part in
        [r#"{"type":"prompt_embeds","data":"AA"}"#, r#"{"prompt_embeds":"AA"}"#, r#"{"data":"AA","type":"prompt\u005fembeds"}"#]
    {
        let body = format!(r#"{{"model":"m","messages":[{{"content":[{part}]}}]}}"#);
        assert_eq!(parse(&body).unwrap_err().param(), Some("messages"), "{part}");
    }
}
