//! A provider's response body on its way to the client: its usage is counted, and usage that the client did not ask for is hidden.

mod answer_text;
mod chunk_prefix;
mod stream;
mod usage_extractor;

use self::answer_text::AnswerText;
use self::stream::{EventContext, EventStream};
use self::usage_extractor::{Discard, UsageExtractor};
use super::{Usage, UsageCounter};
use crate::estimate::text_census::TextTokens;

/// A response body, from its first byte to its last.
#[derive(Debug)]
pub struct ResponseBody {
    format: Format,
    counter: UsageCounter,
    hide: HideUsage,
    started: bool,
}

/// The usage that a stream reports and the client did not ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HideUsage {
    /// The client requested all of it.
    Nothing,
    /// The client requested the usage in the last chunk only. The usage on other chunks is hidden.
    Continuous,
    /// The client requested no usage.
    All,
}

#[derive(Debug)]
enum Format {
    /// One JSON document.
    Json(Box<JsonBody>),
    /// An event stream.
    Stream(Box<EventStream>),
    /// Encoded, or of another type: not read.
    Opaque,
}

/// A JSON document.
#[derive(Debug, Default)]
struct JsonBody {
    extractor: UsageExtractor,
    /// The text of its completions.
    text: AnswerText,
}

// === impl ResponseBody ===

impl ResponseBody {
    /// Creates the body of a JSON response.
    pub fn json() -> Self {
        Self::new(Format::Json(Box::default()), HideUsage::Nothing)
    }

    /// Creates the body of an event stream of `sequences` completions, `choices` for each prompt.
    pub fn stream(choices: u64, sequences: u64, hide: HideUsage) -> Self {
        Self { counter: UsageCounter::new(choices, sequences), ..Self::new(Format::Stream(Box::default()), hide) }
    }

    /// Creates a body that passes unread.
    pub fn opaque() -> Self {
        Self::new(Format::Opaque, HideUsage::Nothing)
    }

    fn new(format: Format, hide: HideUsage) -> Self {
        Self { format, counter: UsageCounter::default(), hide, started: false }
    }

    /// Returns whether the body sent to the client may have another length than the provider's.
    pub fn may_change_length(&self) -> bool {
        matches!(self.format, Format::Stream(_))
    }

    /// Returns whether [`ResponseBody::feed`] reads the body.
    pub fn is_read(&self) -> bool {
        !matches!(self.format, Format::Opaque)
    }

    /// Processes the next chunk. Returns the bytes to send in its place; `None` if the chunk is sent unchanged.
    pub fn feed(&mut self, chunk: &[u8], end_of_stream: bool) -> Option<Vec<u8>> {
        match &mut self.format {
            Format::Opaque => None,
            Format::Json(body) => {
                self.started |= !chunk.is_empty();
                body.extractor.feed(chunk, false, &mut Discard, &mut body.text);
                None
            }
            Format::Stream(stream) => {
                let mut out = Vec::with_capacity(chunk.len());
                let mut context = EventContext { counter: &mut self.counter, hide: self.hide, started: &mut self.started };
                stream.feed(chunk, end_of_stream, &mut context, &mut out);
                (out != chunk).then_some(out)
            }
        }
    }

    /// Counts what is known only at the end of the body, complete or not.
    pub fn finish(&mut self) {
        if let Format::Json(body) = &mut self.format {
            match body.extractor.usage() {
                Some(usage) => self.counter.report(usage, None),
                None => self.counter.seen(body.text.tokens()),
            }
        }
    }

    /// Returns whether a first part of a completion has passed.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Returns the usage reported so far.
    pub fn usage(&self) -> Option<Usage> {
        self.counter.usage()
    }

    /// Returns whether the usage covers all completions, not only those seen so far.
    pub fn usage_is_whole(&self) -> bool {
        self.counter.is_whole()
    }

    /// Returns the number of chunks that held a part of a completion and no usage.
    pub fn deltas(&self) -> u64 {
        self.counter.deltas()
    }

    /// Returns the tokens of completions that came without usage, by their text.
    pub fn text(&self) -> TextTokens {
        self.counter.text()
    }
}

#[cfg(test)]
mod tests;
