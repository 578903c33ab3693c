//! Event streams: usage is counted as it passes, and what the client did not ask for is removed.
//!
//! The filter asks every server for usage, also where the client did not. An event that holds nothing but usage is dropped, and a
//! `usage` member beside completions is cut out, as [`HideUsage`] says. All other bytes pass unchanged.

use super::HideUsage;
use super::answer_text::AnswerText;
use super::chunk_prefix::ChunkPrefix;
use super::usage_extractor::{Choices, Discard, UsageExtractor};
use crate::estimate::text_census::TextTokens;
use crate::http::sse::{self, EventPart, EventReader};
use crate::openai::UsageCounter;

/// An event stream on its way to the client.
#[derive(Debug, Default)]
pub(super) struct EventStream {
    events: EventReader,
    extractor: UsageExtractor,
    prefix: ChunkPrefix,
    /// The text of the current event, which counts if the event has no usage.
    text: AnswerText,
    long_event: LongEvent,
    /// Whether the previous event was passed on.
    kept: bool,
}

/// Whether the current event is too long to hold, and how far it has been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LongEvent {
    #[default]
    No,
    /// The opening brace has not been read.
    BeforeObject,
    InObject,
}

/// Where events are counted.
pub(super) struct EventContext<'a> {
    pub counter: &'a mut UsageCounter,
    pub hide: HideUsage,
    pub started: &'a mut bool,
}

// === impl EventStream ===

impl EventStream {
    /// Processes the next chunk, and appends what is sent on to `out`.
    pub fn feed(&mut self, chunk: &[u8], end_of_stream: bool, context: &mut EventContext<'_>, out: &mut Vec<u8>) {
        let Self { events, extractor, prefix, text, long_event, kept } = self;
        events.feed(chunk, |part| match part {
            EventPart::Whole(event) => *kept = pass_event(extractor, prefix, text, event, context, out),
            EventPart::Fragment(part, last) => {
                pass_fragment(extractor, text, long_event, part, context, out);
                if last {
                    extractor.flush(out);
                    count_event(extractor, || text.tokens(), part, context);
                    *long_event = LongEvent::No;
                    *kept = true;
                }
            }
            EventPart::LineFeed if *kept => out.push(b'\n'),
            EventPart::LineFeed => {}
        });
        if end_of_stream {
            // The extractor holds the end of an event that was too long to hold; the reader holds any other.
            extractor.flush(out);
            let rest = events.finish();
            pass_event(extractor, prefix, text, &rest, context, out);
        }
    }
}

/// Appends a whole event to `out`, without the usage that is hidden. Returns `false` if the event was dropped.
fn pass_event(
    extractor: &mut UsageExtractor,
    prefix: &mut ChunkPrefix,
    text: &mut AnswerText,
    event: &[u8],
    context: &mut EventContext<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    extractor.reset();
    let (mut rest, mut first) = (event, true);
    while !rest.is_empty() {
        let end = memchr::memchr2(b'\n', b'\r', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(end);
        rest = tail;
        let Some((offset, value)) = sse::data_value(line) else {
            out.extend_from_slice(line);
            continue;
        };
        let (mut value, line_end) = value.split_at(value.trim_ascii_end().len());
        out.extend_from_slice(line.get(..offset).unwrap_or_default());
        if std::mem::take(&mut first) {
            let (known, unread) = value.split_at(prefix.skip(value));
            if !known.is_empty() {
                out.extend_from_slice(known);
                extractor.reset_after_member();
                value = unread;
            }
        }
        extractor.feed(value, context.hide != HideUsage::Nothing, out, &mut Discard);
        extractor.flush(out);
        out.extend_from_slice(line_end);
    }
    let usage_only = count_event(extractor, || tokens_of(event, text), event, context);
    if usage_only && context.hide != HideUsage::Nothing {
        out.truncate(start);
        if context.hide == HideUsage::All {
            return false;
        }
        out.extend_from_slice(event);
    }
    true
}

/// Appends a fragment of an event that is too long to hold to `out`.
fn pass_fragment(
    extractor: &mut UsageExtractor,
    text: &mut AnswerText,
    long_event: &mut LongEvent,
    fragment: &[u8],
    context: &EventContext<'_>,
    out: &mut Vec<u8>,
) {
    let mut fragment = fragment;
    if *long_event == LongEvent::No {
        extractor.reset();
        text.reset();
        *long_event = LongEvent::BeforeObject;
    }
    if *long_event == LongEvent::BeforeObject {
        let Some(brace) = memchr::memchr(b'{', fragment) else {
            out.extend_from_slice(fragment);
            return;
        };
        let (before, object) = fragment.split_at(brace);
        out.extend_from_slice(before);
        fragment = object;
        *long_event = LongEvent::InObject;
    }
    extractor.feed(fragment, context.hide != HideUsage::Nothing, out, text);
}

/// Counts the text of a whole event.
fn tokens_of(event: &[u8], text: &mut AnswerText) -> TextTokens {
    text.reset();
    event
        .split_inclusive(|&byte| byte == b'\n' || byte == b'\r')
        .filter_map(sse::data_value)
        .for_each(|(_, value)| text.count(value));
    text.tokens()
}

/// Counts what the extractor has read of an event; `tokens` returns those of its text. Returns whether the event held usage and no completion.
fn count_event(
    extractor: &UsageExtractor,
    tokens: impl FnOnce() -> TextTokens,
    event: &[u8],
    context: &mut EventContext<'_>,
) -> bool {
    let choices = extractor.choices();
    let index = match choices {
        Choices::At(index) => Some(index),
        Choices::None | Choices::Empty => None,
    };
    *context.started |= index.is_some();
    let usage = extractor.usage();
    match usage {
        Some(usage) => context.counter.report(usage, index),
        None if index.is_some() && (extractor.has_usage() || !is_role_only(event)) => context.counter.delta(tokens()),
        None => {}
    }
    extractor.has_usage() && choices == Choices::Empty
}

/// Returns whether this is the first chunk of a chat completion, which holds a role and no token.
fn is_role_only(event: &[u8]) -> bool {
    let contains = |what: &[u8]| memchr::memmem::find(event, what).is_some();
    contains(b"\"role\":") && contains(b"\"content\":\"\"") && !contains(b"\"reasoning") && !contains(b"\"tool_calls\":[{")
}
