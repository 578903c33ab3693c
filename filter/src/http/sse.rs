//! Splits an event stream into events, independent of chunk boundaries.
//!
//! The reader works on bytes and lines only: an event ends with its blank line, and a line with `\n`, `\r\n` or `\r`. An event is
//! passed on as soon as its last byte has been received. An event longer than [`MAX_EVENT_BYTES`] is passed on in fragments, so
//! that memory stays bounded.

use memchr::memchr2;

/// The maximum number of bytes of an incomplete event that are held back.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;

/// Splits a stream into events.
#[derive(Debug, Default)]
pub struct EventReader {
    /// The incomplete event.
    held: Vec<u8>,
    line: LineState,
    /// The incomplete event has exceeded the limit, and fragments of it were passed on.
    long: bool,
}

/// A part of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventPart<'a> {
    /// A whole event with its blank line.
    Whole(&'a [u8]),
    /// A fragment of an event that is too long to hold, and whether it is the last one.
    Fragment(&'a [u8], bool),
    /// The `\n` of a `\r\n` whose `\r` ended the previous event.
    LineFeed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LineState {
    /// At the start of a line.
    #[default]
    Start,
    /// At the start of a line, after a `\r` that a `\n` may complete.
    StartAfterCr,
    /// Within a line.
    Within,
    /// After an event that a `\r` ended.
    EventAfterCr,
}

// === impl EventReader ===

impl EventReader {
    /// Processes the next chunk, and calls `each` with every part that it completes.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(EventPart<'_>)) {
        let mut rest = chunk;
        if self.line == LineState::EventAfterCr && !rest.is_empty() {
            self.line = LineState::Start;
            if let Some((b'\n', tail)) = rest.split_first() {
                each(EventPart::LineFeed);
                rest = tail;
            }
        }
        while let Some(end) = self.event_end(rest) {
            let (event, tail) = rest.split_at(end);
            self.complete(event, &mut each);
            rest = tail;
        }
        self.hold(rest, &mut each);
    }

    /// Returns the incomplete event at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Returns the offset after the next blank line in `bytes`, the continuation of what was read.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            if self.line == LineState::Within {
                at += memchr2(b'\n', b'\r', bytes.get(at..)?)?;
            }
            let &byte = bytes.get(at)?;
            at += 1;
            let (line, ended) = match (self.line, byte) {
                (LineState::StartAfterCr, b'\n') => (LineState::Start, false),
                (LineState::Within, b'\n') => (LineState::Start, false),
                (LineState::Within, b'\r') => (LineState::StartAfterCr, false),
                (_, b'\n') => (LineState::Start, true),
                (_, b'\r') => (LineState::EventAfterCr, true),
                _ => (LineState::Within, false),
            };
            self.line = line;
            if ended {
                if line == LineState::EventAfterCr && bytes.get(at) == Some(&b'\n') {
                    at += 1;
                    self.line = LineState::Start;
                }
                return Some(at);
            }
        }
    }

    fn complete(&mut self, bytes: &[u8], each: &mut impl FnMut(EventPart<'_>)) {
        if std::mem::take(&mut self.long) {
            each(EventPart::Fragment(bytes, true));
        } else if self.held.is_empty() {
            each(EventPart::Whole(bytes));
        } else {
            self.held.extend_from_slice(bytes);
            each(EventPart::Whole(&self.held));
            self.held.clear();
        }
        if self.held.capacity() > MAX_EVENT_BYTES / 4 {
            self.held = Vec::new();
        }
    }

    fn hold(&mut self, bytes: &[u8], each: &mut impl FnMut(EventPart<'_>)) {
        if bytes.is_empty() {
            return;
        }
        if !self.long && self.held.len() + bytes.len() > MAX_EVENT_BYTES {
            self.long = true;
            each(EventPart::Fragment(&std::mem::take(&mut self.held), false));
        }
        if self.long {
            each(EventPart::Fragment(bytes, false));
        } else {
            self.held.extend_from_slice(bytes);
        }
    }
}

/// Returns the value of a line that starts with `data:`, with its offset in the line.
pub fn data_value(line: &[u8]) -> Option<(usize, &[u8])> {
    let value = line.strip_prefix(b"data:")?;
    match value.strip_prefix(b" ") {
        Some(value) => Some((6, value)),
        None => Some((5, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(target_arch = "wasm32"))]
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Returns the stream as the reader passes it on, events marked by `|`.
    fn read(chunks: &[&[u8]]) -> String {
        let mut reader = EventReader::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            reader.feed(chunk, |part| match part {
                EventPart::Whole(bytes) | EventPart::Fragment(bytes, true) => {
                    seen.extend_from_slice(bytes);
                    seen.push(b'|');
                }
                EventPart::Fragment(bytes, false) => seen.extend_from_slice(bytes),
                EventPart::LineFeed => {
                    assert_eq!(seen.pop(), Some(b'|'));
                    seen.extend_from_slice(b"\n|");
                }
            });
        }
        seen.extend(reader.finish());
        String::from_utf8_lossy(&seen).replace('\n', "N").replace('\r', "R")
    }

    #[test]
    fn blank_lines_end_events() {
        for (text, expected) in [
            ("data: a\n\ndata: b\n\n", "data: aNN|data: bNN|"),
            ("data: a\r\n\r\ndata: b\r\n\r\n", "data: aRNRN|data: bRNRN|"),
            ("data: a\r\rdata: b\r\r", "data: aRR|data: bRR|"),
            ("data: a\ndata: b\n\nc", "data: aNdata: bNN|c"),
            ("\n\n: c\n\n", "N|N|: cNN|"),
            ("a\n\r\nb\r\n\nc", "aNRN|bRNN|c"),
        ] {
            assert_eq!(read(&[text.as_bytes()]), expected, "{text:?}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn a_long_event_is_handed_on_in_parts() {
        let mut reader = EventReader::default();
        let (mut bytes, mut parts) = (0, 0);
        for _ in 0..1000 {
            reader.feed(&[b'x'; 1000], |part| {
                assert!(matches!(part, EventPart::Fragment(_, false)));
                if let EventPart::Fragment(part, _) = part {
                    bytes += part.len();
                    parts += 1;
                }
            });
            assert!(reader.held.capacity() <= 2 * MAX_EVENT_BYTES);
        }
        assert_eq!(bytes, 1_000_000);
        let mut last = None;
        reader.feed(b"x\n\ndata: next\n\n", |part| {
            if let EventPart::Fragment(part, end) = part {
                last = Some((part.len(), end));
            }
        });
        assert_eq!(last, Some((3, true)));
    }

    #[cfg(not(target_arch = "wasm32"))]
    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(text in "[ad:\n\r]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
            let whole = read(&[text.as_bytes()]);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&chunks), whole);
        }
    }
}
