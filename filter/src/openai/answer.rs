//! A provider's answer as it passes: what it reports is counted, what the client did not ask for is hidden.

use super::prefix::Prefix;
use super::probe::{Choices, Probe, Unchanged};
use super::{Tally, Usage};
use crate::http::sse::{self, EventReader, Piece};

/// One answer, from its first byte to its last.
#[derive(Debug)]
pub struct Answer {
    form: Form,
    tally: Tally,
    hide: Hide,
    /// The request is for one completion of one prompt.
    single: bool,
    started: bool,
}

/// What of the usage a stream reports the client did not ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hide {
    /// It asked for all of it.
    Nothing,
    /// It asked for the last chunk only, not for usage on every chunk.
    Continuous,
    /// It asked for none.
    Usage,
}

#[derive(Debug)]
enum Form {
    /// One JSON document.
    Json(Probe),
    /// An event stream.
    Stream(Box<Stream>),
    /// Something that is not read: encoded, or of another type.
    Opaque,
}

#[derive(Debug, Default)]
struct Stream {
    events: EventReader,
    probe: Probe,
    prefix: Prefix,
    long: Long,
    /// Whether the event before was kept.
    kept: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Long {
    #[default]
    No,
    /// Before the opening brace.
    Before,
    Within,
}

// === impl Answer ===

impl Answer {
    /// A JSON answer to a request for `choices` completions of each prompt.
    pub fn json(choices: u64) -> Self {
        Self::new(Form::Json(Probe::default()), choices, Hide::Nothing)
    }

    /// An event stream of `sequences` completions, `choices` for each prompt, from which usage is hidden as `hide` says.
    pub fn stream(choices: u64, sequences: u64, hide: Hide) -> Self {
        Self { single: sequences == 1, ..Self::new(Form::Stream(Box::default()), choices, hide) }
    }

    /// An answer that only passes.
    pub fn opaque() -> Self {
        Self::new(Form::Opaque, 1, Hide::Nothing)
    }

    fn new(form: Form, choices: u64, hide: Hide) -> Self {
        Self { form, tally: Tally::new(choices), hide, single: false, started: false }
    }

    /// Whether passing it may change its length.
    pub fn rewrites(&self) -> bool {
        matches!(self.form, Form::Stream(_))
    }

    /// Whether its body is of any use to the gate.
    pub fn reads(&self) -> bool {
        !matches!(self.form, Form::Opaque)
    }

    /// Takes in a chunk; returns what goes on in its place, or `None` where the chunk goes on as it is.
    pub fn feed(&mut self, chunk: &[u8], end_of_stream: bool) -> Option<Vec<u8>> {
        match &mut self.form {
            Form::Opaque => None,
            Form::Json(probe) => {
                self.started |= !chunk.is_empty();
                probe.feed(chunk, false, &mut Unchanged);
                None
            }
            Form::Stream(stream) => {
                let mut out = Vec::with_capacity(chunk.len());
                let mut context =
                    Context { tally: &mut self.tally, hide: self.hide, single: self.single, started: &mut self.started };
                stream.feed(chunk, end_of_stream, &mut context, &mut out);
                (out != chunk).then_some(out)
            }
        }
    }

    /// Ends the answer, however it ended.
    pub fn finish(&mut self) {
        if let Form::Json(probe) = &self.form
            && let Some(usage) = probe.usage()
        {
            self.tally.report(usage, None);
        }
    }

    /// Whether a first piece of a completion has passed.
    pub fn started(&self) -> bool {
        self.started
    }

    /// The usage reported so far.
    pub fn usage(&self) -> Option<Usage> {
        self.tally.usage()
    }

    /// Whether the usage is of all completions, not only of those seen so far.
    pub fn usage_is_whole(&self) -> bool {
        self.tally.is_whole()
    }

    /// Pieces of completions that passed on chunks without usage.
    pub fn deltas(&self) -> u64 {
        self.tally.deltas()
    }
}

// === impl Stream ===

/// What an event is counted into.
struct Context<'a> {
    tally: &'a mut Tally,
    hide: Hide,
    single: bool,
    started: &'a mut bool,
}

impl Stream {
    fn feed(&mut self, chunk: &[u8], end_of_stream: bool, context: &mut Context<'_>, out: &mut Vec<u8>) {
        let Self { events, probe, prefix, long, kept } = self;
        events.feed(chunk, |piece| match piece {
            Piece::Event(event) => *kept = pass_event(probe, prefix, event, context, out),
            Piece::Part(part, last) => {
                pass_part(probe, long, part, context, out);
                if last {
                    probe.flush(out);
                    count(probe, part, context);
                    *long = Long::No;
                    *kept = true;
                }
            }
            Piece::LineFeed if *kept => out.push(b'\n'),
            Piece::LineFeed => {}
        });
        if end_of_stream {
            // Of an event that is too long to hold, only this is.
            probe.flush(out);
            let rest = events.finish();
            pass_event(probe, prefix, &rest, context, out);
        }
    }
}

/// Passes a whole event; says whether it was kept.
fn pass_event(probe: &mut Probe, prefix: &mut Prefix, event: &[u8], context: &mut Context<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    probe.reset();
    let (mut rest, mut first) = (event, true);
    while !rest.is_empty() {
        let end = memchr::memchr2(b'\n', b'\r', rest).map_or(rest.len(), |at| at + 1);
        let (line, tail) = rest.split_at(end);
        rest = tail;
        let Some((offset, value)) = sse::data(line) else {
            out.extend_from_slice(line);
            continue;
        };
        let (mut value, line_end) = value.split_at(value.trim_ascii_end().len());
        out.extend_from_slice(line.get(..offset).unwrap_or_default());
        if std::mem::take(&mut first) {
            let (known, unread) = value.split_at(prefix.skip(value));
            if !known.is_empty() {
                out.extend_from_slice(known);
                probe.reset_after_member();
                value = unread;
            }
        }
        probe.feed(value, context.hide != Hide::Nothing, out);
        probe.flush(out);
        out.extend_from_slice(line_end);
    }
    let usage_only = count(probe, event, context);
    if usage_only && context.hide != Hide::Nothing {
        out.truncate(start);
        if context.hide == Hide::Usage {
            return false;
        }
        out.extend_from_slice(event);
    }
    true
}

/// Passes a part of an event that is too long to hold.
fn pass_part(probe: &mut Probe, long: &mut Long, part: &[u8], context: &Context<'_>, out: &mut Vec<u8>) {
    let mut part = part;
    if *long == Long::No {
        probe.reset();
        *long = Long::Before;
    }
    if *long == Long::Before {
        let Some(brace) = memchr::memchr(b'{', part) else {
            out.extend_from_slice(part);
            return;
        };
        let (prefix, rest) = part.split_at(brace);
        out.extend_from_slice(prefix);
        part = rest;
        *long = Long::Within;
    }
    probe.feed(part, context.hide != Hide::Nothing, out);
}

/// Counts what the probe has seen; says whether the event held usage and nothing else.
fn count(probe: &Probe, event: &[u8], context: &mut Context<'_>) -> bool {
    let choices = probe.choices();
    *context.started |= matches!(choices, Choices::At(_));
    match (probe.usage_text(), choices) {
        // As vLLM writes it, so that it can be read when it is asked for.
        (Some(usage), Choices::At(_)) if context.single && usage.starts_with(b"{\"prompt_tokens\":") => {
            context.tally.report_latest(usage);
        }
        (Some(_), choices) => match (probe.usage(), choices) {
            (Some(usage), Choices::At(index)) => context.tally.report(usage, Some(index)),
            (Some(usage), _) => context.tally.report(usage, None),
            (None, Choices::At(_)) => context.tally.delta(),
            (None, _) => {}
        },
        (None, Choices::At(_)) if !announces_role(event) => context.tally.delta(),
        (None, _) => return false,
    }
    choices == Choices::Empty
}

/// The first chunk of a chat completion has a role and no text; it is no token.
fn announces_role(event: &[u8]) -> bool {
    let says = |what: &[u8]| memchr::memmem::find(event, what).is_some();
    says(b"\"role\":") && says(b"\"content\":\"\"") && !says(b"\"reasoning") && !says(b"\"tool_calls\":[{")
}

#[cfg(test)]
mod tests;
