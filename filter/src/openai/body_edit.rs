//! Edits of a request body, made in place: bytes that no edit names are sent unchanged.

use std::ops::Range;

use super::Request;
use super::request::StreamOptionsRanges;
use crate::json::write_string;
use crate::policy::LimitField;

/// What the filter changes in a request body.
#[derive(Debug, Clone, Copy, Default)]
pub struct BodyEdit<'a> {
    /// The model id that the provider knows.
    pub model: Option<&'a str>,
    /// The limit of completion tokens to set.
    pub limit: Option<u64>,
    /// The field to add a limit to where the request sets none.
    pub limit_field: LimitField,
    /// The usage to request from the server; for streams only.
    pub usage: Option<RequestedUsage>,
}

/// How often a stream reports usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedUsage {
    /// Once, in the last chunk.
    Final,
    /// On every chunk as well (vLLM only).
    Continuous,
}

/// A replacement for the first `length` bytes of a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Splice {
    /// Number of original bytes that are replaced.
    pub length: usize,
    /// The bytes to send in their place.
    pub bytes: Vec<u8>,
}

/// A range of a body, and the bytes that replace it.
pub(super) type BodyChange = (Range<usize>, Vec<u8>);

/// Changes to one body, sorted by offset; none overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BodyChanges(Vec<BodyChange>);

/// Sorts changes by their places. Of two at one place, the insertion is the first.
pub(super) fn sort_changes(changes: &mut [BodyChange]) {
    changes.sort_by_key(|(range, _)| (range.start, range.end));
}

// === impl BodyChanges ===

impl BodyChanges {
    /// Sorts the changes, and drops each one that starts within another.
    fn new(mut changes: Vec<BodyChange>) -> Self {
        sort_changes(&mut changes);
        let mut end = 0;
        changes.retain(|(range, _)| {
            let apart = range.start >= end;
            if apart {
                end = range.end;
            }
            apart
        });
        Self(changes)
    }

    /// Returns how many bytes from the start of the body [`BodyChanges::splice`] needs.
    pub fn required_prefix(&self) -> usize {
        self.0.last().map_or(0, |(range, _)| range.end)
    }

    /// Returns the length of a body of `length` bytes after the changes.
    pub fn new_length(&self, length: usize) -> usize {
        let gone: usize = self.0.iter().map(|(range, _)| range.len()).sum();
        let new: usize = self.0.iter().map(|(_, replacement)| replacement.len()).sum();
        length.saturating_sub(gone).saturating_add(new)
    }

    /// Applies the changes to `body`. Returns `None` if there are none.
    pub fn splice(&self, body: &[u8]) -> Option<Splice> {
        let length = self.0.last()?.0.end;
        let mut bytes = Vec::with_capacity(self.new_length(length));
        let mut at = 0;
        for (range, replacement) in &self.0 {
            bytes.extend_from_slice(body.get(at..range.start).unwrap_or_default());
            bytes.extend_from_slice(replacement);
            at = range.end;
        }
        Some(Splice { length, bytes })
    }
}

// === impl BodyEdit ===

impl BodyEdit<'_> {
    /// Returns the changes to the body from which `request` was parsed, `further` ones included.
    pub fn changes(&self, request: &Request, further: Vec<BodyChange>) -> BodyChanges {
        let mut changes: Vec<BodyChange> = Vec::with_capacity(4 + further.len());
        self.change_model(request, &mut changes);
        self.change_limit(request, &mut changes);
        self.change_usage(request, &mut changes);
        // A limit that is changed above stays changed: of two changes at one place, the first one counts.
        changes.extend(request.ranges.respelled.iter().map(|(place, value)| (place.clone(), value.to_string().into_bytes())));
        changes.extend(further);
        BodyChanges::new(changes)
    }

    fn change_model(&self, request: &Request, changes: &mut Vec<BodyChange>) {
        let Some(model) = self.model.filter(|&model| model != request.model) else { return };
        let mut value = Vec::with_capacity(model.len() + 2);
        write_string(&mut value, model);
        changes.push((request.ranges.model.clone(), value));
    }

    fn change_limit(&self, request: &Request, changes: &mut Vec<BodyChange>) {
        let Some(limit) = self.limit else { return };
        let ranges = &request.ranges;
        let (older, newer) = (ranges.max_tokens.as_ref(), ranges.max_completion_tokens.as_ref());
        let mut named = [older, newer].into_iter().flatten().filter(|(_, named)| *named).peekable();
        let text = limit.to_string();
        if named.peek().is_some() {
            // If the client sets both fields, both are changed: servers differ in which one they apply.
            changes.extend(named.map(|(place, _)| (place.clone(), text.clone().into_bytes())));
            return;
        }
        let null = match self.limit_field {
            LimitField::MaxTokens => older,
            LimitField::MaxCompletionTokens => newer,
        };
        match null {
            Some((place, _)) => changes.push((place.clone(), text.into_bytes())),
            None => changes.push(insert(ranges.start, &format!("\"{}\":{text},", self.limit_field.name()))),
        }
    }

    fn change_usage(&self, request: &Request, changes: &mut Vec<BodyChange>) {
        let Some(usage) = self.usage else { return };
        let continuous = usage == RequestedUsage::Continuous;
        match &request.ranges.stream_options {
            None => changes.push(insert(request.ranges.start, &format!("\"stream_options\":{},", usage.options()))),
            Some(StreamOptionsRanges::Null(place)) => changes.push((place.clone(), usage.options().into())),
            Some(StreamOptionsRanges::Object { start, empty, include_usage, continuous_usage }) => {
                let mut missing = Vec::with_capacity(2);
                match include_usage {
                    Some(place) if !request.include_usage => changes.push((place.clone(), b"true".to_vec())),
                    Some(_) => {}
                    None => missing.push("\"include_usage\":true"),
                }
                match continuous_usage {
                    Some(place) if continuous && !request.continuous_usage => changes.push((place.clone(), b"true".to_vec())),
                    None if continuous => missing.push("\"continuous_usage_stats\":true"),
                    _ => {}
                }
                if !missing.is_empty() {
                    let comma = if *empty { "" } else { "," };
                    changes.push(insert(*start, &format!("{}{comma}", missing.join(","))));
                }
            }
        }
    }
}

impl RequestedUsage {
    fn options(self) -> &'static str {
        match self {
            Self::Final => r#"{"include_usage":true}"#,
            Self::Continuous => r#"{"include_usage":true,"continuous_usage_stats":true}"#,
        }
    }
}

fn insert(at: usize, text: &str) -> BodyChange {
    (at..at, text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Operation;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn edited(body: &str, edit: &BodyEdit<'_>) -> String {
        let request = Request::parse(body.as_bytes(), Operation::Chat).unwrap();
        match edit.changes(&request, Vec::new()).splice(body.as_bytes()) {
            None => body.to_owned(),
            Some(splice) => String::from_utf8([&splice.bytes, &body.as_bytes()[splice.length..]].concat()).unwrap(),
        }
    }

    #[test]
    fn only_what_is_named_changes() {
        let all = BodyEdit {
            model: Some("m/1"),
            limit: Some(7),
            limit_field: LimitField::MaxTokens,
            usage: Some(RequestedUsage::Continuous),
        };
        let limit = BodyEdit { limit: Some(7), ..BodyEdit::default() };
        let newer = BodyEdit { limit: Some(7), limit_field: LimitField::MaxCompletionTokens, ..BodyEdit::default() };
        let usage = BodyEdit { usage: Some(RequestedUsage::Continuous), ..BodyEdit::default() };
        let last = BodyEdit { usage: Some(RequestedUsage::Final), ..BodyEdit::default() };
        for (body, edit, expected) in [
            (
                r#"{"model":"p/m/1","messages":[]}"#,
                &all,
                r#"{"max_tokens":7,"stream_options":{"include_usage":true,"continuous_usage_stats":true},"model":"m/1","messages":[]}"#,
            ),
            (
                r#" { "messages" : [], "x":1e400, "mod\u0065l" : "p\/m/1" , "max_tokens" : 9 } "#,
                &BodyEdit { usage: None, ..all },
                r#" { "messages" : [], "x":1e400, "mod\u0065l" : "m/1" , "max_tokens" : 7 } "#,
            ),
            (r#"{"model":"m","messages":[],"max_tokens":null}"#, &limit, r#"{"model":"m","messages":[],"max_tokens":7}"#),
            (
                r#"{"model":"m","messages":[],"max_tokens":null}"#,
                &newer,
                r#"{"max_completion_tokens":7,"model":"m","messages":[],"max_tokens":null}"#,
            ),
            (
                r#"{"model":"m","messages":[],"max_tokens":9,"max_completion_tokens":null}"#,
                &newer,
                r#"{"model":"m","messages":[],"max_tokens":7,"max_completion_tokens":null}"#,
            ),
            (
                r#"{"model":"m","messages":[],"max_tokens":9,"max_completion_tokens":8}"#,
                &limit,
                r#"{"model":"m","messages":[],"max_tokens":7,"max_completion_tokens":7}"#,
            ),
            (
                r#"{"model":"m","messages":[],"stream_options":null}"#,
                &last,
                r#"{"model":"m","messages":[],"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"model":"m","messages":[],"stream_options":{}}"#,
                &usage,
                r#"{"model":"m","messages":[],"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#,
            ),
            (
                r#"{"model":"m","messages":[],"stream_options":{"a":1,"include_usage":false}}"#,
                &usage,
                r#"{"model":"m","messages":[],"stream_options":{"continuous_usage_stats":true,"a":1,"include_usage":true}}"#,
            ),
            (
                r#"{"model":"m","messages":[],"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#,
                &usage,
                r#"{"model":"m","messages":[],"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#,
            ),
            (
                r#"{"model":"m","messages":[],"stream_options":{"include_usage":true,"continuous_usage_stats":null}}"#,
                &last,
                r#"{"model":"m","messages":[],"stream_options":{"include_usage":true,"continuous_usage_stats":null}}"#,
            ),
        ] {
            assert_eq!(edited(body, edit), expected, "{body}");
        }
    }

    #[test]
    fn numbers_are_sent_in_digits() {
        let body = r#"{"model":"m","messages":[],"max_tokens":9.0,"n":2e0,"min_tokens":5,"temperature":1.0}"#;
        for (limit, expected) in [
            (None, r#"{"model":"m","messages":[],"max_tokens":9,"n":2,"min_tokens":5,"temperature":1.0}"#),
            (Some(7), r#"{"model":"m","messages":[],"max_tokens":7,"n":2,"min_tokens":5,"temperature":1.0}"#),
        ] {
            assert_eq!(edited(body, &BodyEdit { limit, ..BodyEdit::default() }), expected);
        }
    }

    #[test]
    fn what_is_written_is_json_again() {
        let body = r#"{"model":"x","messages":[],"stream":true}"#;
        let edit = BodyEdit { model: Some("a\"b\\c"), limit: Some(1), usage: Some(RequestedUsage::Final), ..BodyEdit::default() };
        let value: serde_json::Value = serde_json::from_str(&edited(body, &edit)).unwrap();
        assert_eq!(value["model"], "a\"b\\c");
        assert_eq!((&value["max_tokens"], &value["stream_options"]["include_usage"]), (&1.into(), &true.into()));
    }
}
