//! The size of a prompt, measured without a tokenizer.

use std::ops::Range;

use crate::estimate::text_census::{TextCensus, TextTokens};
use crate::json::{InvalidJson, Reader, ValueKind};

use super::request::InvalidBody;

/// The size of what reaches the prompt, summed over all prompts of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptSize {
    /// Bytes of text: strings as decoded, tools and other structured values as written.
    pub text_bytes: u64,
    /// The tokens of the text by its characters.
    pub text: TextTokens,
    /// Messages. A chat template adds tokens around each of them.
    pub messages: u64,
    /// Tokens given as ids.
    pub token_ids: u64,
    /// Images, audio and other parts whose token count does not follow from their bytes.
    pub parts: u64,
    /// The number of tokens to which the server truncates all prompts together; `None` if it does not truncate, or to the context
    /// length.
    pub cut: Option<u64>,
    /// Whether the server truncates the prompts.
    pub truncated: bool,
}

/// Reads what reaches the prompt, and measures it.
#[derive(Debug, Default)]
pub(super) struct PromptMeter {
    /// What has been measured, without the text.
    pub(super) size: PromptSize,
    text: TextCensus,
}

/// The keys of a content part that hold something other than text: vLLM's `MM_PARSER_MAP`, and OpenAI's `file`.
pub(super) const MEDIA_FIELDS: [&str; 11] = [
    "image_url",
    "input_image",
    "image_embeds",
    "image_pil",
    "audio_url",
    "input_audio",
    "audio_embeds",
    "video_url",
    "video",
    "file",
    "image",
];

/// Prompts sent as tensors.
const PROMPT_EMBEDS: InvalidBody =
    InvalidBody::Wrong { param: "messages", reason: "must not hold `prompt_embeds`: their tokens cannot be counted" };

// === impl PromptMeter ===

impl PromptMeter {
    /// Returns the size of all that was read.
    pub(super) fn size(&self) -> PromptSize {
        PromptSize { text_bytes: self.text.len(), text: self.text.tokens(), ..self.size }
    }

    /// Reads `messages`.
    pub(super) fn messages(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        let mut messages = reader.array()?;
        while messages.next(reader)? {
            if reader.kind()? != ValueKind::Object {
                return Err(InvalidBody::wrong("messages", "must be an array of objects"));
            }
            self.size.messages += 1;
            self.message(reader)?;
        }
        Ok(())
    }

    /// Reads a value that a template writes into the prompt as a whole, such as `tools`.
    pub(super) fn verbatim(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidJson> {
        let range = reader.skip()?;
        self.written(reader, range);
        Ok(())
    }

    /// Adds the text that `reader` has read in this range, as written.
    pub(super) fn written(&mut self, reader: &Reader<'_>, range: Range<usize>) {
        self.text.start_string();
        self.text.count_run(reader.document(), range);
    }

    fn string(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidJson> {
        reader.visit_text(&mut self.text)?;
        Ok(())
    }

    /// Reads `prompt` or `input`, named by `param`. Returns the number of prompts.
    pub(super) fn prompts(&mut self, reader: &mut Reader<'_>, param: &'static str) -> Result<u64, InvalidBody> {
        match reader.kind()? {
            ValueKind::String => {
                self.string(reader)?;
                Ok(1)
            }
            ValueKind::Array => self.prompt_list(reader, param),
            _ => Err(Self::wrong_prompt(param)),
        }
    }

    fn message(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        let mut message = reader.object()?;
        while let Some(key) = message.next(reader)? {
            if key.is("content") && reader.kind()? == ValueKind::Array {
                self.parts(reader)?;
            } else {
                self.value(reader)?;
            }
        }
        Ok(())
    }

    fn parts(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        let mut parts = reader.array()?;
        while parts.next(reader)? {
            if reader.kind()? == ValueKind::Object {
                self.part(reader)?;
            } else {
                self.value(reader)?;
            }
        }
        Ok(())
    }

    fn part(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidBody> {
        let mut media = false;
        let mut part = reader.object()?;
        while let Some(key) = part.next(reader)? {
            if key.is("prompt_embeds") {
                return Err(PROMPT_EMBEDS);
            } else if MEDIA_FIELDS.iter().any(|name| key.is(name)) {
                media = true;
                reader.skip()?;
            } else if key.is("type") && reader.kind()? == ValueKind::String {
                if reader.text()?.is("prompt_embeds") {
                    return Err(PROMPT_EMBEDS);
                }
            } else {
                self.value(reader)?;
            }
        }
        self.size.parts += u64::from(media);
        Ok(())
    }

    fn value(&mut self, reader: &mut Reader<'_>) -> Result<(), InvalidJson> {
        if reader.kind()? == ValueKind::String { self.string(reader) } else { self.verbatim(reader) }
    }

    fn prompt_list(&mut self, reader: &mut Reader<'_>, param: &'static str) -> Result<u64, InvalidBody> {
        let mut items = reader.array()?;
        let (mut prompts, mut ids) = (0, 0);
        while items.next(reader)? {
            match reader.kind()? {
                ValueKind::String => {
                    self.string(reader)?;
                    prompts += 1;
                }
                ValueKind::Array => {
                    self.ids(reader, param)?;
                    prompts += 1;
                }
                ValueKind::Number => {
                    token_id(reader, param)?;
                    ids += 1;
                }
                _ => return Err(Self::wrong_prompt(param)),
            }
            if ids > 0 && prompts > 0 {
                return Err(Self::wrong_prompt(param));
            }
        }
        self.size.token_ids += ids;
        Ok(if ids > 0 { 1 } else { prompts })
    }

    fn ids(&mut self, reader: &mut Reader<'_>, param: &'static str) -> Result<(), InvalidBody> {
        let mut ids = reader.array()?;
        while ids.next(reader)? {
            if reader.kind()? != ValueKind::Number {
                return Err(Self::wrong_prompt(param));
            }
            token_id(reader, param)?;
            self.size.token_ids += 1;
        }
        Ok(())
    }

    fn wrong_prompt(param: &'static str) -> InvalidBody {
        InvalidBody::wrong(param, "must be a string, an array of strings, an array of token ids, or an array of such arrays")
    }
}

fn token_id(reader: &mut Reader<'_>, param: &'static str) -> Result<(), InvalidBody> {
    let digits = reader.number()?;
    if digits.iter().all(u8::is_ascii_digit) { Ok(()) } else { Err(PromptMeter::wrong_prompt(param)) }
}
