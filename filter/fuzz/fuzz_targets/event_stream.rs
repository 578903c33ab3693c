//! Checks that an event stream gives the same output and the same counts however it is divided into chunks, and that nothing is removed
//! except usage that the client did not request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pai_filter::estimate::text_census::TextTokens;
use pai_filter::http::sse::{EventPart, EventReader, MAX_EVENT_BYTES};
use pai_filter::openai::{HideUsage, ResponseBody, Usage};
use pai_filter_fuzz::chunks;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let stream = chunks::expanded(bytes);
    let divisions = chunks::divisions(&stream);
    // Longer events are forwarded in fragments, and usage is read from each fragment.
    let short = stream.len() <= MAX_EVENT_BYTES;
    let events = split(&[&stream]);
    for (hide, sequences) in [(HideUsage::Nothing, 1), (HideUsage::Continuous, 1), (HideUsage::All, 1), (HideUsage::All, 4)] {
        let whole = pass(&[&stream], hide, sequences);
        if hide == HideUsage::Nothing {
            assert!(whole.out == stream, "bytes are lost");
        }
        for cut in &divisions {
            let passed = pass(cut, hide, sequences);
            if short {
                assert!(passed == whole, "{hide:?}: {} is not {}", passed.shown(), whole.shown());
            } else if hide == HideUsage::Nothing {
                assert!(passed.out == stream, "bytes are lost between chunks");
            }
        }
        if short && hide == HideUsage::All {
            without_usage(&events, &whole.out);
        }
    }
    if short {
        divisions.iter().for_each(|cut| assert_eq!(split(cut), events));
    }
});

#[derive(Debug, PartialEq, Eq)]
struct Passed {
    out: Vec<u8>,
    usage: Option<Usage>,
    whole: bool,
    started: bool,
    deltas: u64,
    text: TextTokens,
}

impl Passed {
    fn shown(&self) -> String {
        format!("{} {:?} {} {} {} {:?}", self.out.escape_ascii(), self.usage, self.whole, self.started, self.deltas, self.text)
    }
}

fn pass(chunks: &[&[u8]], hide: HideUsage, sequences: u64) -> Passed {
    let mut answer = ResponseBody::stream(2.min(sequences), sequences, hide);
    let mut out = Vec::new();
    for chunk in chunks {
        match answer.feed(chunk, false) {
            Some(passed) => out.extend(passed),
            None => out.extend_from_slice(chunk),
        }
    }
    out.extend(answer.feed(b"", true).unwrap_or_default());
    answer.finish();
    let (usage, whole, started, deltas) = (answer.usage(), answer.usage_is_whole(), answer.started(), answer.deltas());
    Passed { out, usage, whole, started, deltas, text: answer.text() }
}

/// Returns the events of a stream with their blank lines. The last one is incomplete.
fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut reader = EventReader::default();
    let mut events = vec![Vec::new()];
    for chunk in chunks {
        reader.feed(chunk, |part| match part {
            EventPart::Whole(bytes) | EventPart::Fragment(bytes, true) => {
                events.last_mut().unwrap().extend_from_slice(bytes);
                events.push(Vec::new());
            }
            EventPart::Fragment(bytes, false) => events.last_mut().unwrap().extend_from_slice(bytes),
            EventPart::LineFeed => {
                let last = events.len() - 2;
                events[last].push(b'\n');
            }
        });
    }
    events.last_mut().unwrap().extend(reader.finish());
    events
}

/// Checks that the output contains the same objects without usage, if every event is one line with one object.
fn without_usage(events: &[Vec<u8>], out: &[u8]) {
    let Some(objects) = events.split_last().filter(|(last, _)| last.is_empty()).and_then(|(_, events)| objects(events)) else {
        return;
    };
    let mut expected = Vec::new();
    for mut object in objects {
        let members = object.as_object_mut().unwrap();
        let usage = members.remove("usage");
        let about_all = members.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
        if !(about_all && usage.is_some_and(|usage| usage.is_object())) {
            expected.push(object);
        }
    }
    let out = split(&[out]);
    let passed = objects_of(&out[..out.len() - 1]);
    assert_eq!(passed, Some(expected));
}

/// Returns the objects of the events, unless keys are escaped or duplicate: the reader compares keys as written.
fn objects(events: &[Vec<u8>]) -> Option<Vec<Value>> {
    let plain = |event: &Vec<u8>| {
        let count = |what: &[u8]| memchr::memmem::find_iter(event, what).count();
        count(b"\\u") == 0 && count(b"\"usage\"") <= 1 && count(b"\"choices\"") <= 1
    };
    if events.iter().all(plain) { objects_of(events) } else { None }
}

fn objects_of(events: &[Vec<u8>]) -> Option<Vec<Value>> {
    let object = |event: &Vec<u8>| {
        let value = event.strip_prefix(b"data: ")?;
        let lines = value.iter().filter(|&&byte| byte == b'\n' || byte == b'\r').count();
        let value = value.strip_suffix(b"\n\n").filter(|_| lines == 2)?;
        serde_json::from_slice(value).ok().filter(Value::is_object)
    };
    events.iter().map(object).collect()
}
