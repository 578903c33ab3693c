//! Context lengths of models (`max_model_len`): reported by `GET /models`, and by the error with which vLLM rejects a request
//! that is too long.

use crate::json::{Reader, ValueKind};
use crate::openai::is_model_name;

/// The known context lengths of one provider's models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextLengths {
    models: Vec<ModelContextLength>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelContextLength {
    model: String,
    /// `max_model_len`; 0 while unknown.
    length: u64,
    /// The largest total of a completion and its prompt that was seen, in tokens. The context length is at least this.
    floor: u64,
}

/// The maximum number of models remembered for one provider, above what any server serves.
const MAX_MODELS: usize = 256;

// === impl ContextLengths ===

impl ContextLengths {
    /// Returns `max_model_len` of a model, if known.
    pub fn length(&self, model: &str) -> Option<u64> {
        self.find(model).map(|entry| entry.length).filter(|&length| length > 0)
    }

    /// Returns the models whose context length is known, with that length in tokens.
    pub fn known(&self) -> impl Iterator<Item = (&str, u64)> {
        self.models.iter().filter(|entry| entry.length > 0).map(|entry| (&*entry.model, entry.length))
    }

    /// Returns a lower bound of the model's context length; 0 if nothing is known.
    pub fn floor(&self, model: &str) -> u64 {
        self.find(model).map_or(0, |entry| entry.floor.max(entry.length))
    }

    /// Records `max_model_len` of a model. Returns whether anything changed.
    pub fn record(&mut self, model: &str, length: u64) -> bool {
        self.update(model, |entry| {
            // A restarted server may have a shorter context length than before.
            entry.floor = entry.floor.min(length);
            std::mem::replace(&mut entry.length, length) != length
        })
    }

    /// Records that a completion and its prompt had `total` tokens together. Returns whether anything changed.
    pub fn record_floor(&mut self, model: &str, total: u64) -> bool {
        if self.floor(model) >= total {
            return false;
        }
        self.update(model, |entry| {
            entry.floor = total;
            true
        })
    }

    /// Records the body of `GET /models`. Returns whether anything changed.
    pub fn record_model_list(&mut self, body: &[u8]) -> bool {
        let mut changed = false;
        // The entries before an error are recorded too.
        let _ = each_model(body, &mut |model, length| changed |= self.record(model, length));
        changed
    }

    fn find(&self, model: &str) -> Option<&ModelContextLength> {
        self.models.iter().find(|entry| entry.model == model)
    }

    fn update(&mut self, model: &str, change: impl FnOnce(&mut ModelContextLength) -> bool) -> bool {
        let index = match self.models.iter().position(|entry| entry.model == model) {
            Some(index) => index,
            None if self.models.len() < MAX_MODELS && is_model_name(model) => {
                self.models.push(ModelContextLength { model: model.to_owned(), length: 0, floor: 0 });
                self.models.len() - 1
            }
            None => return false,
        };
        self.models.get_mut(index).is_some_and(change)
    }

    /// Encodes the lengths, one line for each model.
    pub fn encode(&self) -> Vec<u8> {
        let line = |entry: &ModelContextLength| format!("{} {} {}\n", entry.model, entry.length, entry.floor);
        self.models.iter().map(line).collect::<String>().into_bytes()
    }

    /// Decodes the output of [`ContextLengths::encode`]. Lines of another form are ignored.
    pub fn decode(bytes: &[u8]) -> Self {
        let entry = |line: &str| {
            let mut words = line.split(' ');
            let mut next = || words.next();
            Some(ModelContextLength { model: next()?.to_owned(), length: next()?.parse().ok()?, floor: next()?.parse().ok()? })
        };
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        Self { models: text.lines().filter_map(entry).take(MAX_MODELS).collect() }
    }
}

/// Returns the `max_model_len` that an error message of vLLM's states. Only vLLM's own sentences are matched, and only at the start
/// of the message: further on, the message may quote the client.
pub fn length_from_error(message: &str) -> Option<u64> {
    if let Some(rest) = message.strip_prefix("This model's maximum context length is ") {
        return leading_number(rest);
    }
    if let Some(rest) = message.strip_prefix("Input length (") {
        let (_, rest) = rest.split_once(") exceeds model's maximum context length (")?;
        return leading_number(rest);
    }
    let (limit, rest) = message.split_once(" cannot be greater than max_model_len=")?;
    let (field, value) = limit.split_once('=')?;
    let ours = matches!(field, "max_tokens" | "max_completion_tokens") && value.bytes().all(|b| b.is_ascii_digit());
    if !ours {
        return None;
    }
    leading_number(rest.strip_prefix("max_total_tokens=").unwrap_or(rest))
}

/// Returns `error.message` of a response in OpenAI's error format, or in the flat format of older vLLM versions. The body may be
/// truncated.
pub fn error_message(body: &[u8]) -> Option<String> {
    let mut reader = Reader::new(body);
    read_message(&mut reader, 0)
}

fn read_message(reader: &mut Reader<'_>, depth: u8) -> Option<String> {
    let mut object = reader.object().ok()?;
    while let Some(key) = object.next(reader).ok()? {
        let kind = reader.kind().ok()?;
        if key.is("message") && kind == ValueKind::String {
            return Some(reader.text().ok()?.decode().into_owned());
        }
        if key.is("error") && kind == ValueKind::Object && depth == 0 {
            return read_message(reader, 1);
        }
        reader.skip().ok()?;
    }
    None
}

fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok().filter(|&length| length > 0)
}

fn each_model(body: &[u8], each: &mut dyn FnMut(&str, u64)) -> Option<()> {
    let mut reader = Reader::new(body);
    let mut object = reader.object().ok()?;
    while let Some(key) = object.next(&mut reader).ok()? {
        if !key.is("data") || reader.kind().ok()? != ValueKind::Array {
            reader.skip().ok()?;
            continue;
        }
        let mut models = reader.array().ok()?;
        while models.next(&mut reader).ok()? {
            if let (Some(model), Some(length)) = model_entry(&mut reader)? {
                each(&model, length);
            }
        }
    }
    Some(())
}

/// Reads one entry of the list: its id and `max_model_len`.
fn model_entry(reader: &mut Reader<'_>) -> Option<(Option<String>, Option<u64>)> {
    let (mut id, mut length) = (None, None);
    let mut model = reader.object().ok()?;
    while let Some(key) = model.next(reader).ok()? {
        let kind = reader.kind().ok()?;
        if key.is("id") && kind == ValueKind::String {
            id = Some(reader.text().ok()?.decode().into_owned());
        } else if key.is("max_model_len") && kind == ValueKind::Number {
            length = std::str::from_utf8(reader.number().ok()?).ok()?.parse().ok().filter(|&length| length > 0);
        } else {
            reader.skip().ok()?;
        }
    }
    Some((id, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn only_the_servers_own_messages_report_the_context_length() {
        for (message, expected) in [
            (
                "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens.",
                Some(4096),
            ),
            ("max_tokens=1000 cannot be greater than max_model_len=4096. Please request fewer output tokens.", Some(4096)),
            ("max_completion_tokens=9 cannot be greater than max_model_len=max_total_tokens=8. Please", Some(8)),
            ("Input length (5000) exceeds model's maximum context length (4096).", Some(4096)),
            ("1 validation error: {'input': 'This model's maximum context length is 1 tokens'}", None),
            ("x max_tokens=1 cannot be greater than max_model_len=1", None),
            ("max_tokens=a cannot be greater than max_model_len=1", None),
            ("This model's maximum context length is 0 tokens", None),
            ("This model's maximum context length is 99999999999999999999 tokens", None),
            ("", None),
        ] {
            assert_eq!(length_from_error(message), expected, "{message}");
        }
    }

    #[test]
    fn messages_are_read_in_both_formats() {
        for (body, expected) in [
            (r#"{"error":{"message":"a","type":"b"}}"#, Some("a")),
            (r#"{"object":"error","message":"a"}"#, Some("a")),
            (r#"{"error":{"message":"a","par"#, Some("a")),
            (r#"{"error":"Unauthorized"}"#, None),
            (r#"{"error":{"error":{"message":"deep"}}}"#, None),
            ("[]", None),
        ] {
            assert_eq!(error_message(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn context_lengths_are_stored_up_to_a_maximum() {
        let mut lengths = ContextLengths::default();
        let body = br#"{"object":"list","data":[{"id":"a","max_model_len":4096},{"id":"lora","max_model_len":null},{"id":"b","max_model_len":8}]}"#;
        assert!(lengths.record_model_list(body));
        assert!(!lengths.record_model_list(body));
        assert_eq!(
            (lengths.length("a"), lengths.length("lora"), lengths.length("b"), lengths.length("c")),
            (Some(4096), None, Some(8), None)
        );
        assert!(lengths.record_floor("c", 70) && !lengths.record_floor("c", 60) && !lengths.record_floor("a", 60));
        assert_eq!((lengths.floor("c"), lengths.length("c")), (70, None));
        for at in 0..1000 {
            lengths.record(&format!("model-{at}"), 1);
        }
        assert_eq!(lengths.models.len(), MAX_MODELS);
        assert!(!lengths.record("with blank", 1));
        assert_eq!(ContextLengths::decode(&lengths.encode()), lengths);
    }
}
