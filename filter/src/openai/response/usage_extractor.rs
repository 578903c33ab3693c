//! Reads the `usage` of one JSON object of a response while it is copied to the client.

use crate::json::{Mark, MemberScanner};
use crate::openai::Usage;

/// Bytes of a `usage` value that are kept for parsing. vLLM's longest have a few hundred.
const MAX_USAGE_BYTES: usize = 4096;

/// Bytes of `choices` that are kept: enough for the index of the first choice.
const MAX_CHOICES_BYTES: usize = 32;

/// Bytes between a comma and a value that are held back until the key is known.
const MAX_KEY_BYTES: usize = 256;

/// Copies an object that arrives in chunks, extracts its `usage`, and omits the member from the copy if it is to be hidden.
#[derive(Debug, Default)]
pub(super) struct UsageExtractor {
    members: MemberScanner,
    member: CurrentMember,
    /// The bytes since the last comma, while the key is unknown.
    pending: Vec<u8>,
    usage: Vec<u8>,
    choices: Vec<u8>,
    /// The hidden member was the first one: the comma after it is omitted too.
    skip_comma: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum CurrentMember {
    #[default]
    Other,
    /// The last mark was a comma or the opening brace.
    Unknown,
    Usage,
    HiddenUsage,
    Choices,
}

/// Receives the copy.
pub(super) trait Sink {
    /// Appends the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

/// Discards the copy, for an object that is sent on unchanged.
pub(super) struct Discard;

/// The completions that a chunk is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choices {
    /// The object has no `choices`.
    None,
    /// `choices` is an empty array: the chunk is about the whole response.
    Empty,
    /// `choices` starts with the completion at this index.
    At(usize),
}

// === impl UsageExtractor ===

impl UsageExtractor {
    /// Prepares for the next object.
    pub fn reset(&mut self) {
        self.members = MemberScanner::new();
        self.member = CurrentMember::Other;
        self.skip_comma = false;
        self.pending.clear();
        self.usage.clear();
        self.choices.clear();
    }

    /// Prepares for an object whose first members have been copied, up to the comma after them.
    pub fn reset_after_member(&mut self) {
        self.reset();
        self.members = MemberScanner::after_member();
    }

    /// Processes the next chunk. Appends what is sent on to `out`, and the value of `choices` to `choices`.
    pub fn feed(&mut self, chunk: &[u8], hide: bool, out: &mut impl Sink, choices: &mut impl Sink) {
        let (mut at, mut from) = (0, 0);
        while let Some(mark) = self.members.next(chunk, &mut at) {
            match mark {
                Mark::Before(here) => {
                    self.pass(slice(chunk, from, here), out, choices);
                    from = here;
                    if std::mem::take(&mut self.skip_comma) {
                        from += 1;
                    }
                    self.member = CurrentMember::Unknown;
                }
                Mark::Value(here) => {
                    self.start_value(slice(chunk, from, here), hide, out);
                    from = here;
                }
                Mark::End(here) => {
                    self.pass(slice(chunk, from, here), out, choices);
                    from = here;
                    self.member = CurrentMember::Other;
                }
                Mark::Close(_) => {}
            }
        }
        self.pass(slice(chunk, from, chunk.len()), out, choices);
    }

    /// Appends the bytes that are still held back at the end of the object.
    pub fn flush(&mut self, out: &mut impl Sink) {
        if !self.pending.is_empty() {
            self.member = CurrentMember::Other;
            out.put(&self.pending);
            self.pending.clear();
        }
    }

    /// Returns the usage, if the object had one other than null.
    pub fn usage(&self) -> Option<Usage> {
        Usage::parse(&self.usage)
    }

    /// Returns whether the object had a usage other than null, whatever it contains.
    pub fn has_usage(&self) -> bool {
        self.usage.starts_with(b"{")
    }

    /// Returns the completions that the object is about.
    pub fn choices(&self) -> Choices {
        let Some(inside) = self.choices.strip_prefix(b"[").map(<[u8]>::trim_ascii_start) else { return Choices::None };
        if matches!(inside.first(), None | Some(b']')) {
            return Choices::Empty;
        }
        let digits = inside.strip_prefix(b"{").unwrap_or_default().trim_ascii_start();
        let digits = digits.strip_prefix(b"\"index\":").unwrap_or_default().trim_ascii_start();
        let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
        let index = digits.get(..end).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
        Choices::At(index.unwrap_or(0))
    }

    /// Copies, holds back or omits bytes of the current member.
    fn pass(&mut self, bytes: &[u8], out: &mut impl Sink, choices: &mut impl Sink) {
        match self.member {
            CurrentMember::Other => {}
            CurrentMember::Unknown if self.pending.len() + bytes.len() <= MAX_KEY_BYTES => {
                self.pending.extend_from_slice(bytes);
                return;
            }
            CurrentMember::Unknown => {
                out.put(&self.pending);
                self.pending.clear();
                self.member = CurrentMember::Other;
            }
            CurrentMember::Usage => keep(&mut self.usage, bytes, MAX_USAGE_BYTES),
            CurrentMember::HiddenUsage => {
                keep(&mut self.usage, bytes, MAX_USAGE_BYTES);
                return;
            }
            CurrentMember::Choices => {
                keep(&mut self.choices, bytes, MAX_CHOICES_BYTES);
                choices.put(bytes);
            }
        }
        out.put(bytes);
    }

    /// Decides about a member once its key is known. `bytes` end before the value.
    fn start_value(&mut self, bytes: &[u8], hide: bool, out: &mut impl Sink) {
        let unknown = self.member == CurrentMember::Unknown;
        self.member = match self.members.key() {
            b"usage" if hide && unknown => CurrentMember::HiddenUsage,
            b"usage" => CurrentMember::Usage,
            b"choices" => CurrentMember::Choices,
            _ => CurrentMember::Other,
        };
        match self.member {
            CurrentMember::HiddenUsage => {
                let first = self.pending.first().or(bytes.first()) == Some(&b'{');
                if first {
                    out.put(b"{");
                }
                self.skip_comma = first;
                self.usage.clear();
                self.pending.clear();
            }
            other => {
                if other == CurrentMember::Usage {
                    self.usage.clear();
                }
                out.put(&self.pending);
                self.pending.clear();
                out.put(bytes);
            }
        }
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for Discard {
    fn put(&mut self, _bytes: &[u8]) {}
}

fn slice(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    bytes.get(from..to).unwrap_or_default()
}

/// Appends as many bytes as fit into `limit`.
fn keep(buffer: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    let room = limit.saturating_sub(buffer.len()).min(bytes.len());
    buffer.extend_from_slice(slice(bytes, 0, room));
}
