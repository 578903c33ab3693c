//! Every text of a request that can reach the prompt, with its role.
//!
//! A chat template may write any member of a message into the prompt, and keys of objects too. So every text is visited unless it
//! is known not to reach the prompt. Parts that are not text are visited as unreadable.

use std::borrow::Cow;

use crate::json::{InvalidJson, JsonString, Reader, ValueKind};

use super::prompt_size::MEDIA_FIELDS;

/// A part of a request that can reach the prompt; visit [`visit_segments`].
#[derive(Debug)]
pub enum PromptSegment<'a> {
    /// A text by itself.
    Text(JsonString<'a>),
    /// A text that is one part of a message's content. The server joins the parts.
    Part(JsonString<'a>),
    /// An image, audio, a file, or token ids.
    Unreadable,
    /// The end of a message: all its parts have been visited.
    MessageEnd,
}

/// The `role` of the message that holds a text; `None` if there is none, or it is not a single string.
pub type Role<'a> = Option<Cow<'a, str>>;

/// Fields that no server writes into a prompt.
const NOT_IN_PROMPT: [&str; 14] = [
    "model",
    "stop",
    "user",
    "metadata",
    "request_id",
    "session_id",
    "cache_salt",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
    "stream_options",
    "logit_bias",
    "bad_words",
    "encoding_format",
];

/// Reads a body and calls `visit` for each segment.
struct Visitor<'v, 'a> {
    body: &'a [u8],
    roles: bool,
    visit: &'v mut dyn FnMut(&Role<'a>, PromptSegment<'a>) -> bool,
}

/// Why reading stopped.
enum Stop {
    Json(InvalidJson),
    Requested,
}

/// Reads `body` and calls `visit` with every segment until it returns false. Roles are read only if `roles` is true.
pub fn visit_segments<'a>(
    body: &'a [u8],
    roles: bool,
    visit: &mut dyn FnMut(&Role<'a>, PromptSegment<'a>) -> bool,
) -> Result<(), InvalidJson> {
    match (Visitor { body, roles, visit }).request() {
        Err(Stop::Json(error)) => Err(error),
        Ok(()) | Err(Stop::Requested) => Ok(()),
    }
}

// === impl Visitor ===

impl<'a> Visitor<'_, 'a> {
    fn request(&mut self) -> Result<(), Stop> {
        let mut reader = Reader::new(self.body);
        let mut object = reader.object()?;
        while let Some(key) = object.next(&mut reader)? {
            if key.is("messages") && reader.kind()? == ValueKind::Array {
                self.messages(&mut reader)?;
            } else if key.is("prompt") || key.is("input") {
                self.prompts(&mut reader)?;
            } else if NOT_IN_PROMPT.iter().any(|name| key.is(name)) {
                reader.skip()?;
            } else {
                self.value(&None, &mut reader)?;
            }
        }
        Ok(())
    }

    fn segment(&mut self, role: &Role<'a>, segment: PromptSegment<'a>) -> Result<(), Stop> {
        if (self.visit)(role, segment) { Ok(()) } else { Err(Stop::Requested) }
    }

    fn messages(&mut self, reader: &mut Reader<'a>) -> Result<(), Stop> {
        let mut messages = reader.array()?;
        while messages.next(reader)? {
            if reader.kind()? == ValueKind::Object {
                self.message(reader)?;
            } else {
                self.value(&None, reader)?;
            }
        }
        Ok(())
    }

    fn message(&mut self, reader: &mut Reader<'a>) -> Result<(), Stop> {
        let role = if self.roles { self.role(reader.offset())? } else { None };
        let mut message = reader.object()?;
        while let Some(key) = message.next(reader)? {
            if key.is("content") {
                self.content(&role, reader)?;
            } else if key.is("audio") && reader.kind()? == ValueKind::Object {
                self.segment(&role, PromptSegment::Unreadable)?;
                reader.skip()?;
            } else {
                self.value(&role, reader)?;
            }
        }
        self.segment(&role, PromptSegment::MessageEnd)
    }

    /// Returns the role of the message that starts at offset `start`. The `role` may follow the texts that it applies to.
    fn role(&self, start: usize) -> Result<Role<'a>, InvalidJson> {
        let mut reader = Reader::new(self.body.get(start..).unwrap_or_default());
        let mut message = reader.object()?;
        let mut role = None;
        while let Some(key) = message.next(&mut reader)? {
            if !key.is("role") {
                reader.skip()?;
            } else if reader.kind()? == ValueKind::String && role.is_none() {
                role = Some(reader.text()?.decode());
            } else {
                return Ok(None);
            }
        }
        Ok(role)
    }

    /// Visits the content of a message: a string, or parts nested to any depth.
    fn content(&mut self, role: &Role<'a>, reader: &mut Reader<'a>) -> Result<(), Stop> {
        match reader.kind()? {
            ValueKind::String => {
                let text = reader.text()?;
                self.segment(role, PromptSegment::Part(text))
            }
            ValueKind::Array => {
                let mut parts = reader.array()?;
                while parts.next(reader)? {
                    self.content(role, reader)?;
                }
                Ok(())
            }
            ValueKind::Object => self.part(role, reader),
            _ => {
                reader.skip()?;
                Ok(())
            }
        }
    }

    fn part(&mut self, role: &Role<'a>, reader: &mut Reader<'a>) -> Result<(), Stop> {
        let mut part = reader.object()?;
        while let Some(key) = part.next(reader)? {
            let kind = reader.kind()?;
            if is_media(&key) {
                if kind != ValueKind::Null {
                    self.segment(role, PromptSegment::Unreadable)?;
                }
                reader.skip()?;
            } else if key.is("type") && kind == ValueKind::String {
                let text = reader.text()?;
                // A part may refer to media that the server already holds.
                let segment = if is_media(&text) { PromptSegment::Unreadable } else { PromptSegment::Text(text) };
                self.segment(role, segment)?;
            } else {
                self.segment(role, PromptSegment::Text(key))?;
                self.content(role, reader)?;
            }
        }
        Ok(())
    }

    /// Visits strings, token ids, and lists of them.
    fn prompts(&mut self, reader: &mut Reader<'a>) -> Result<(), Stop> {
        match reader.kind()? {
            ValueKind::Array => {
                let mut items = reader.array()?;
                let mut ids = false;
                while items.next(reader)? {
                    match reader.kind()? {
                        ValueKind::Number if ids => _ = reader.number()?,
                        ValueKind::Number => {
                            ids = true;
                            self.segment(&None, PromptSegment::Unreadable)?;
                            reader.number()?;
                        }
                        _ => self.prompts(reader)?,
                    }
                }
                Ok(())
            }
            _ => self.value(&None, reader),
        }
    }

    /// Visits the strings and keys of any value that a template may write into the prompt.
    fn value(&mut self, role: &Role<'a>, reader: &mut Reader<'a>) -> Result<(), Stop> {
        match reader.kind()? {
            ValueKind::String => {
                let text = reader.text()?;
                self.segment(role, PromptSegment::Text(text))
            }
            ValueKind::Array => {
                let mut items = reader.array()?;
                while items.next(reader)? {
                    self.value(role, reader)?;
                }
                Ok(())
            }
            ValueKind::Object => {
                let mut object = reader.object()?;
                while let Some(key) = object.next(reader)? {
                    self.segment(role, PromptSegment::Text(key))?;
                    self.value(role, reader)?;
                }
                Ok(())
            }
            _ => {
                reader.skip()?;
                Ok(())
            }
        }
    }
}

// === impl Stop ===

impl From<InvalidJson> for Stop {
    fn from(error: InvalidJson) -> Self {
        Self::Json(error)
    }
}

fn is_media(name: &JsonString<'_>) -> bool {
    MEDIA_FIELDS.iter().any(|media| name.is(media))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Returns the segments of `body`: `role:text`, `+` before a part, `!` for what cannot be read, `|` after a message.
    fn found(body: &str) -> String {
        let mut found = Vec::new();
        visit_segments(body.as_bytes(), true, &mut |role, segment| {
            let role = role.as_deref().map_or(String::new(), |role| format!("{role}:"));
            found.push(match segment {
                PromptSegment::Text(text) => format!("{role}{}", text.decode()),
                PromptSegment::Part(text) => format!("+{role}{}", text.decode()),
                PromptSegment::Unreadable => format!("{role}!"),
                PromptSegment::MessageEnd => "|".to_owned(),
            });
            true
        })
        .unwrap();
        found.join(" ")
    }

    #[test]
    fn every_place_is_found() {
        let message = |message: &str| format!(r#"{{"messages":[{{{message}}}]}}"#);
        for (body, expected) in [
            (message(r#""role":"user","content":"a""#), "user:user +user:a |"),
            (message(r#""content":"a","r\u006fle":"tool""#), "+tool:a tool:tool |"),
            (message(r#""content":"a","role":"tool","role":"x""#), "+a tool x |"),
            (message(r#""content":"a","role":5"#), "+a |"),
            (message(r#""role":"u","content":null"#), "u:u |"),
            (message(r#""role":"u","content":["a","b"]"#), "u:u +u:a +u:b |"),
            (message(r#""content":[{"type":"text","text":"a"},{"text":"b"},[["c"]]]"#), "text text +a text +b +c |"),
            (message(r#""content":{"text":"a"}"#), "text +a |"),
            (
                message(r#""content":[{"type":"tool_result","content":[{"type":"text","text":"a"},{"image_url":{}}]}]"#),
                "tool_result content text text +a ! |",
            ),
            (message(r#""content":[{"image_url":{"url":"x"}},{"type":"input_audio"},{"file":"f"},{"video":null}]"#), "! ! ! |"),
            (message(r#""audio":{"id":"x"},"name":"n","reasoning":"r","reasoning_content":"s""#), "! n r s |"),
            (
                message(r#""tool_calls":[{"id":"i","function":{"name":"f","arguments":"{\"a\":1}"}}]"#),
                r#"id i function name f arguments {"a":1} |"#,
            ),
            (message(r#""anything":{"k":["v",{"w":7}]}"#), "k v w |"),
            (r#"{"messages":["a",{}]}"#.to_owned(), "a |"),
            (r#"{"prompt":"a"}"#.to_owned(), "a"),
            (r#"{"prompt":["a","b"],"suffix":"c"}"#.to_owned(), "a b c"),
            (r#"{"prompt":[1,2,3]}"#.to_owned(), "!"),
            (r#"{"input":[[1,2],[3]]}"#.to_owned(), "! !"),
            (r#"{"input":["a"]}"#.to_owned(), "a"),
            (
                r#"{"tools":[{"type":"function","function":{"description":"d","parameters":{"p":{"enum":["e"]}}}}]}"#.to_owned(),
                "type function function description d parameters p enum e",
            ),
            (r#"{"functions":[{"name":"n"}],"documents":[{"title":"t","text":"x"}]}"#.to_owned(), "name n title t text x"),
            (r#"{"chat_template_kwargs":{"k":"v"},"task":"t","response_format":{"x":"y"}}"#.to_owned(), "k v t x y"),
            (r#"{"structured_outputs":{"grammar":"g"},"guided_json":{"a":"b"},"unknown":"u"}"#.to_owned(), "grammar g a b u"),
            (r#"{"model":"m","stop":["<|im_end|>"],"user":"u","metadata":{"a":"b"},"temperature":1,"stream":true}"#.to_owned(), ""),
        ] {
            assert_eq!(found(&body), expected, "{body}");
        }
    }

    #[test]
    fn it_stops_when_told() {
        let mut seen = 0;
        let body = br#"{"a":["x","y","z"]}"#;
        let mut visit = |_: &Role<'_>, _: PromptSegment<'_>| {
            seen += 1;
            seen < 2
        };
        assert_eq!(visit_segments(body, false, &mut visit), Ok(()));
        assert_eq!(seen, 2);
    }
}
