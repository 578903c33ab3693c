//! Answers of a real vLLM (`tests/fixtures/vllm`), cut anywhere.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

macro_rules! capture {
    ($name:literal) => {
        body(include_bytes!(concat!("../../../../tests/fixtures/vllm/", $name, ".http")))
    };
}

/// The body of a captured answer, without its head and its chunk framing.
fn body(capture: &[u8]) -> Vec<u8> {
    let head = memchr::memmem::find(capture, b"\r\n\r\n").unwrap();
    let (head, rest) = capture.split_at(head);
    let mut rest = &rest[4..];
    if memchr::memmem::find(&head.to_ascii_lowercase(), b"transfer-encoding: chunked").is_none() {
        return rest.to_vec();
    }
    let mut body = Vec::new();
    while let Some(line) = memchr::memmem::find(rest, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
    body
}

/// What passes of `chunks`, and the usage that was read.
fn pass<'a>(mut answer: ResponseBody, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Usage>) {
    let mut out = Vec::new();
    for chunk in chunks {
        match answer.feed(chunk, false) {
            Some(passed) => out.extend(passed),
            None => out.extend_from_slice(chunk),
        }
    }
    out.extend(answer.feed(b"", true).unwrap_or_default());
    answer.finish();
    (out, answer.usage())
}

fn usage(prompt: u64, completion: u64) -> Option<Usage> {
    Some(Usage { prompt, completion })
}

/// Ids and times differ from one capture to the next.
fn anonymous(stream: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(stream).into_owned();
    for key in ["\"id\":\"", "\"created\":"] {
        let mut parts = text.split(key);
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            let end = part.find([',', '"']).unwrap();
            out.push_str(key);
            out.push_str(&part[end..]);
        }
        text = out;
    }
    text
}

#[test]
fn json_answers_pass_and_are_counted() {
    for (body, expected) in [
        (capture!("chat"), usage(29, 8)),
        (capture!("chat-n2"), usage(29, 16)),
        (capture!("chat-logprobs"), usage(29, 3)),
        (capture!("chat-prompt-logprobs"), usage(29, 1)),
        (capture!("completions-list-n2"), usage(5, 12)),
        (capture!("model-wrong"), None),
        (capture!("chat-too-long"), None),
    ] {
        for step in (1..40).chain([body.len()]) {
            let (out, counted) = pass(ResponseBody::json(), body.chunks(step));
            assert_eq!(out, body);
            let expected = expected.map(|usage| (usage.prompt, usage.completion));
            assert_eq!(counted.map(|usage| (usage.prompt, usage.completion)), expected, "{}", String::from_utf8_lossy(&body));
        }
    }
}

#[test]
fn streams_are_counted_the_same_however_they_are_cut() {
    // A longer step for longer streams: every byte of a kind is a cut in one of them.
    for (body, step) in [
        (capture!("chat-stream-usage"), 1),
        (capture!("chat-stream-usage-continuous"), 1),
        (capture!("chat-stream-stop-usage"), 13),
        (capture!("completions-stream-usage-continuous"), 3),
    ] {
        for hide in [HideUsage::Nothing, HideUsage::Continuous, HideUsage::All] {
            let (whole, counted) = pass(ResponseBody::stream(1, 1, hide), [&body[..]]);
            assert!(counted.is_some());
            if hide == HideUsage::Nothing {
                assert_eq!(whole, body);
            }
            for cut in (0..body.len()).step_by(step) {
                let (left, right) = body.split_at(cut);
                let (out, again) = pass(ResponseBody::stream(1, 1, hide), [left, right]);
                assert_eq!((out, again), (whole.clone(), counted), "cut at {cut}");
            }
            assert_eq!(pass(ResponseBody::stream(1, 1, hide), body.chunks(1)), (whole, counted));
        }
    }
}

#[test]
fn what_the_client_did_not_ask_for_is_as_if_it_had_not_been_there() {
    let continuous = capture!("chat-stream-usage-continuous");
    let last = capture!("chat-stream-usage");
    let (hidden, counted) = pass(ResponseBody::stream(1, 1, HideUsage::Continuous), [&continuous[..]]);
    assert_eq!(anonymous(&hidden), anonymous(&last));
    assert_eq!(counted, usage(29, 8));
    let (from_continuous, _) = pass(ResponseBody::stream(1, 1, HideUsage::All), [&continuous[..]]);
    let (from_last, _) = pass(ResponseBody::stream(1, 1, HideUsage::All), [&last[..]]);
    assert_eq!(anonymous(&from_continuous), anonymous(&from_last));
    assert!(!anonymous(&from_last).contains("usage"));
    let completions = capture!("completions-stream-usage-continuous");
    let (hidden, counted) = pass(ResponseBody::stream(1, 1, HideUsage::All), [&completions[..]]);
    let plain = anonymous(&capture!("completions-stream"));
    // Without usage, vLLM sends in the finishing chunk what it otherwise sends in the usage chunk.
    let plain = plain.replace(",\"system_fingerprint\":\"vllm-0.32.0-d65e3ede\"", "");
    assert_eq!(anonymous(&hidden), plain);
    assert_eq!(counted, usage(5, 8));
}

#[test]
fn a_stream_cut_for_good_is_counted_as_far_as_it_came() {
    let stream = capture!("chat-stream-usage-continuous");
    let events: Vec<&[u8]> = stream.split_inclusive(|&b| b == b'\n').collect();
    let mut seen = Vec::new();
    for event in &events[..8] {
        seen.extend_from_slice(event);
    }
    let mut answer = ResponseBody::stream(1, 1, HideUsage::All);
    answer.feed(&seen, false);
    answer.feed(b"data: {\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":29,\"completion_tokens\":900}", false);
    answer.finish();
    assert_eq!(answer.usage(), usage(29, 3), "what is unfinished does not count");
    assert!(!answer.usage_is_whole() && answer.started());
}

#[test]
fn nothing_is_lost_of_a_stream_that_ends_in_a_long_event() {
    let long = format!("data: {{\"a\":\"{}\",\"b", "x".repeat(crate::http::sse::MAX_EVENT_BYTES));
    for hide in [HideUsage::Nothing, HideUsage::All] {
        let (out, _) = pass(ResponseBody::stream(1, 1, hide), [long.as_bytes()]);
        assert!(out == long.as_bytes(), "{} of {} bytes", out.len(), long.len());
    }
}

#[test]
fn many_completions_add_up() {
    let event = |index: u64, prompt: u64, completion: u64| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"text\":\"x\"}}],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion}}}}}\n\n"
        )
    };
    let stream: String = [(0, 5, 1), (1, 5, 1), (0, 5, 2), (2, 7, 1), (1, 5, 4)].map(|(i, p, c)| event(i, p, c)).concat();
    let (out, counted) = pass(ResponseBody::stream(2, 6, HideUsage::All), [stream.as_bytes()]);
    assert_eq!(counted, usage(12, 7));
    assert!(!String::from_utf8(out).unwrap().contains("usage"));
}

#[test]
fn usage_is_hidden_wherever_it_stands() {
    for (event, hidden) in [
        ("data: {\"usage\":null,\"choices\":[{}]}\n\n", "data: {\"choices\":[{}]}\n\n"),
        (
            "data:{\"a\":1 , \"usage\" : {\"prompt_tokens\":1} , \"choices\":[{}]}\r\n\r\n",
            "data:{\"a\":1  , \"choices\":[{}]}\r\n\r\n",
        ),
        ("data: {\"choices\":[{\"x\":{\"usage\":1}}],\"usage\":null}\n\n", "data: {\"choices\":[{\"x\":{\"usage\":1}}]}\n\n"),
        ("data: {\"choices\":[{\"d\":\",\\\"usage\\\":{}\"}]}\n\n", "data: {\"choices\":[{\"d\":\",\\\"usage\\\":{}\"}]}\n\n"),
        ("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
        (
            "data: {\"choices\":[],\"usage\":null,\"prompt_filter_results\":[]}\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        ),
        ("data: {\"usage\":null}\n\n", "data: {}\n\n"),
        ("data: {\"error\":{\"message\":\"x\",\"code\":500}}\n\n", "data: {\"error\":{\"message\":\"x\",\"code\":500}}\n\n"),
        ("data: {\"error\":1,\"usage\":{\"prompt_tokens\":1}}\n\n", "data: {\"error\":1}\n\n"),
        (": ping\n\nevent: x\ndata: [DONE]\n\n", ": ping\n\nevent: x\ndata: [DONE]\n\n"),
        ("id: 1\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
        ("data: {\"choices\":\ndata: [{}],\"usage\":null}\n\n", "data: {\"choices\":\ndata: [{}]}\n\n"),
        ("data: rubbish {\"usage\":1}\n\n", "data: rubbish {\"usage\":1}\n\n"),
        ("data: {\"choices\":[{}],\"usage\":{}", "data: {\"choices\":[{}]"),
    ] {
        for step in 1..=event.len() {
            let (out, _) = pass(ResponseBody::stream(1, 1, HideUsage::All), event.as_bytes().chunks(step));
            assert_eq!(String::from_utf8(out).unwrap(), hidden, "by {step}");
        }
    }
}

#[test]
fn an_event_of_a_megabyte_is_counted_and_cleaned_in_little_memory() {
    let ids = "7,".repeat(500_000);
    let head = "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}],";
    let tail = format!("\"prompt_token_ids\":[{ids}7]}}\n\n");
    let usage_member = "\"usage\":{\"prompt_tokens\":500001,\"total_tokens\":500002,\"completion_tokens\":1},";
    for (event, expected) in [
        (format!("{head}{usage_member}{tail}"), format!("{head}{tail}")),
        (
            format!("{head}\"prompt_token_ids\":[{ids}7],{}}}\n\n", usage_member.trim_end_matches(',')),
            format!("{head}\"prompt_token_ids\":[{ids}7]}}\n\n"),
        ),
    ] {
        let (out, counted) =
            pass(ResponseBody::stream(1, 1, HideUsage::All), event.as_bytes().chunks(16_384).chain([&b"data: [DONE]\n\n"[..]]));
        assert!(out == format!("{expected}data: [DONE]\n\n").as_bytes());
        assert_eq!(counted, usage(500_001, 1));
    }
}

#[test]
fn without_usage_the_pieces_are_counted() {
    let stream = capture!("chat-stream-usage");
    let mut answer = ResponseBody::stream(1, 1, HideUsage::All);
    let end = memchr::memmem::find(&stream, b"\"usage\"").unwrap();
    answer.feed(&stream[..end], false);
    assert_eq!((answer.usage(), answer.deltas()), (None, 8), "the role is no delta");
}

/// Every captured 200, with what its own usage contains.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn every_captured_answer_passes_unchanged_and_is_charged_what_it_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/vllm");
    let mut counted = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let capture = std::fs::read(&path).unwrap();
        // Two heads in one file: a `100 Continue`, or a server that died.
        let simple = capture.starts_with(b"HTTP/1.1 200") && !path.to_string_lossy().contains("die-");
        if path.extension().is_none_or(|extension| extension != "http") || !simple {
            continue;
        }
        let body = body(&capture);
        let stream = body.starts_with(b"data: ");
        let new = || if stream { ResponseBody::stream(1, 1, HideUsage::Nothing) } else { ResponseBody::json() };
        let (out, usage) = pass(new(), [&body[..]]);
        assert_eq!(out, body, "{path:?}");
        assert_eq!(pass(new(), body.chunks(7)), (out, usage), "{path:?}");
        let documents = if stream {
            let text = String::from_utf8_lossy(&body).into_owned();
            text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
        } else {
            vec![serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default()]
        };
        let said = documents.iter().filter_map(|document| document["usage"].as_object()).next_back();
        let said = said.map(|usage| (usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap_or(0)));
        assert_eq!(usage.map(|usage| (usage.prompt, usage.completion)), said, "{path:?}");
        counted += u32::from(said.is_some());
    }
    assert!(counted > 50, "{counted} captures with usage");
}
