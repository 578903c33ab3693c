//! A provider's answer as it passes: what it reports is counted, what the client did not ask for is hidden.

mod chunk_prefix;
mod usage_extractor;

use self::chunk_prefix::ChunkPrefix;
use self::usage_extractor::{Choices, Discard, UsageExtractor};
use super::{Usage, UsageCounter};
use crate::http::sse::{self, EventPart, EventReader};

/// One answer, from its first byte to its last.
#[derive(Debug)]
pub struct ResponseBody {
    form: Format,
    counter: UsageCounter,
    hide: HideUsage,
    /// The request is for one completion of one prompt.
    single: bool,
    started: bool,
}

/// What of the usage a stream reports the client did not ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HideUsage {
    /// It asked for all of it.
    Nothing,
    /// It asked for the last chunk only, not for usage on every chunk.
    Continuous,
    /// It asked for none.
    All,
}

#[derive(Debug)]
enum Format {
    /// One JSON document.
    Json(UsageExtractor),
    /// An event stream.
    EventStream(Box<EventStream>),
    /// Something that is not read: encoded, or of another type.
    Opaque,
}

#[derive(Debug, Default)]
struct EventStream {
    events: EventReader,
    extractor: UsageExtractor,
    prefix: ChunkPrefix,
    long: LongEvent,
    /// Whether the event before was kept.
    kept: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LongEvent {
    #[default]
    No,
    /// Before the opening brace.
    Before,
    Within,
}

// === impl ResponseBody ===

impl ResponseBody {
    /// A JSON answer to a request for `choices` completions of each prompt.
    pub fn json(choices: u64) -> Self {
        Self::new(Format::Json(UsageExtractor::default()), choices, HideUsage::Nothing)
    }

    /// An event stream of `sequences` completions, `choices` for each prompt, from which usage is hidden as `hide` says.
    pub fn stream(choices: u64, sequences: u64, hide: HideUsage) -> Self {
        Self { single: sequences == 1, ..Self::new(Format::EventStream(Box::default()), choices, hide) }
    }

    /// An answer that only passes.
    pub fn opaque() -> Self {
        Self::new(Format::Opaque, 1, HideUsage::Nothing)
    }

    fn new(form: Format, choices: u64, hide: HideUsage) -> Self {
        Self { form, counter: UsageCounter::new(choices), hide, single: false, started: false }
    }

    /// Whether passing it may change its length.
    pub fn may_change_length(&self) -> bool {
        matches!(self.form, Format::EventStream(_))
    }

    /// Whether its body is of any use to the gate.
    pub fn is_read(&self) -> bool {
        !matches!(self.form, Format::Opaque)
    }

    /// Takes in a chunk; returns what goes on in its place, or `None` where the chunk goes on as it is.
    pub fn feed(&mut self, chunk: &[u8], end_of_stream: bool) -> Option<Vec<u8>> {
        match &mut self.form {
            Format::Opaque => None,
            Format::Json(extractor) => {
                self.started |= !chunk.is_empty();
                extractor.feed(chunk, false, &mut Discard);
                None
            }
            Format::EventStream(stream) => {
                let mut out = Vec::with_capacity(chunk.len());
                let mut context =
                    EventContext { counter: &mut self.counter, hide: self.hide, single: self.single, started: &mut self.started };
                stream.feed(chunk, end_of_stream, &mut context, &mut out);
                (out != chunk).then_some(out)
            }
        }
    }

    /// Ends the answer, however it ended.
    pub fn finish(&mut self) {
        if let Format::Json(extractor) = &self.form
            && let Some(usage) = extractor.usage()
        {
            self.counter.report(usage, None);
        }
    }

    /// Whether a first part of a completion has passed.
    pub fn started(&self) -> bool {
        self.started
    }

    /// The usage reported so far.
    pub fn usage(&self) -> Option<Usage> {
        self.counter.usage()
    }

    /// Whether the usage is of all completions, not only of those seen so far.
    pub fn usage_is_whole(&self) -> bool {
        self.counter.is_whole()
    }

    /// Pieces of completions that passed on chunks without usage.
    pub fn deltas(&self) -> u64 {
        self.counter.deltas()
    }
}

// === impl EventStream ===

/// What an event is counted into.
struct EventContext<'a> {
    counter: &'a mut UsageCounter,
    hide: HideUsage,
    single: bool,
    started: &'a mut bool,
}

impl EventStream {
    fn feed(&mut self, chunk: &[u8], end_of_stream: bool, context: &mut EventContext<'_>, out: &mut Vec<u8>) {
        let Self { events, extractor, prefix, long, kept } = self;
        events.feed(chunk, |part| match part {
            EventPart::Whole(event) => *kept = pass_event(extractor, prefix, event, context, out),
            EventPart::Fragment(part, last) => {
                pass_part(extractor, long, part, context, out);
                if last {
                    extractor.flush(out);
                    count_event(extractor, part, context);
                    *long = LongEvent::No;
                    *kept = true;
                }
            }
            EventPart::LineFeed if *kept => out.push(b'\n'),
            EventPart::LineFeed => {}
        });
        if end_of_stream {
            // Of an event that is too long to hold, only this is.
            extractor.flush(out);
            let rest = events.finish();
            pass_event(extractor, prefix, &rest, context, out);
        }
    }
}

/// Passes a whole event; says whether it was kept.
fn pass_event(
    extractor: &mut UsageExtractor,
    prefix: &mut ChunkPrefix,
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
        extractor.feed(value, context.hide != HideUsage::Nothing, out);
        extractor.flush(out);
        out.extend_from_slice(line_end);
    }
    let usage_only = count_event(extractor, event, context);
    if usage_only && context.hide != HideUsage::Nothing {
        out.truncate(start);
        if context.hide == HideUsage::All {
            return false;
        }
        out.extend_from_slice(event);
    }
    true
}

/// Passes a part of an event that is too long to hold.
fn pass_part(extractor: &mut UsageExtractor, long: &mut LongEvent, part: &[u8], context: &EventContext<'_>, out: &mut Vec<u8>) {
    let mut part = part;
    if *long == LongEvent::No {
        extractor.reset();
        *long = LongEvent::Before;
    }
    if *long == LongEvent::Before {
        let Some(brace) = memchr::memchr(b'{', part) else {
            out.extend_from_slice(part);
            return;
        };
        let (prefix, rest) = part.split_at(brace);
        out.extend_from_slice(prefix);
        part = rest;
        *long = LongEvent::Within;
    }
    extractor.feed(part, context.hide != HideUsage::Nothing, out);
}

/// Counts what the extractor has seen; says whether the event held usage and nothing else.
fn count_event(extractor: &UsageExtractor, event: &[u8], context: &mut EventContext<'_>) -> bool {
    let choices = extractor.choices();
    *context.started |= matches!(choices, Choices::At(_));
    match (extractor.usage_text(), choices) {
        // As vLLM writes it, so that it can be read when it is asked for.
        (Some(usage), Choices::At(_)) if context.single && usage.starts_with(b"{\"prompt_tokens\":") => {
            context.counter.report_latest(usage);
        }
        (Some(_), choices) => match (extractor.usage(), choices) {
            (Some(usage), Choices::At(index)) => context.counter.report(usage, Some(index)),
            (Some(usage), _) => context.counter.report(usage, None),
            (None, Choices::At(_)) => context.counter.delta(),
            (None, _) => {}
        },
        (None, Choices::At(_)) if !is_role_only(event) => context.counter.delta(),
        (None, _) => return false,
    }
    choices == Choices::Empty
}

/// The first chunk of a chat completion has a role and no text; it is no token.
fn is_role_only(event: &[u8]) -> bool {
    let says = |what: &[u8]| memchr::memmem::find(event, what).is_some();
    says(b"\"role\":") && says(b"\"content\":\"\"") && !says(b"\"reasoning") && !says(b"\"tool_calls\":[{")
}

#[cfg(test)]
mod tests;
