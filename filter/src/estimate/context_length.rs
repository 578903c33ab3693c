//! How many tokens a model can hold: `max_model_len`, told by `GET /models` or by a refusal.

use crate::json::{Reader, ValueKind};
use crate::openai::is_model_name;

/// What is known of the windows of one provider's models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextLengths {
    models: Vec<ModelContextLength>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelContextLength {
    model: String,
    /// `max_model_len`; 0 while unknown.
    length: u64,
    /// The largest total of one completion and its prompt that was seen: the window is no smaller.
    floor: u64,
}

/// Models remembered for each provider; more than any server serves.
const MAX_MODELS: usize = 256;

// === impl ContextLengths ===

impl ContextLengths {
    /// `max_model_len` of a model, if known.
    pub fn length(&self, model: &str) -> Option<u64> {
        self.find(model).map(|window| window.length).filter(|&length| length > 0)
    }

    /// A length that the model's window is known to reach.
    pub fn floor(&self, model: &str) -> u64 {
        self.find(model).map_or(0, |window| window.floor.max(window.length))
    }

    /// Learns `max_model_len`; says whether that is news.
    pub fn record(&mut self, model: &str, length: u64) -> bool {
        self.update(model, |window| {
            // A server may come back with a smaller window than it had.
            window.floor = window.floor.min(length);
            std::mem::replace(&mut window.length, length) != length
        })
    }

    /// Learns that a completion and its prompt had `total` tokens; says whether that is news.
    pub fn record_floor(&mut self, model: &str, total: u64) -> bool {
        if self.floor(model) >= total {
            return false;
        }
        self.update(model, |window| {
            window.floor = total;
            true
        })
    }

    /// Learns from the body of `GET /models`; says whether there was news.
    pub fn record_model_list(&mut self, body: &[u8]) -> bool {
        let mut news = false;
        // A list that breaks off has taught what stood before.
        let _ = each_model(body, &mut |model, length| news |= self.record(model, length));
        news
    }

    fn find(&self, model: &str) -> Option<&ModelContextLength> {
        self.models.iter().find(|window| window.model == model)
    }

    fn update(&mut self, model: &str, change: impl FnOnce(&mut ModelContextLength) -> bool) -> bool {
        let place = match self.models.iter().position(|window| window.model == model) {
            Some(place) => place,
            None if self.models.len() < MAX_MODELS && is_model_name(model) => {
                self.models.push(ModelContextLength { model: model.to_owned(), length: 0, floor: 0 });
                self.models.len() - 1
            }
            None => return false,
        };
        self.models.get_mut(place).is_some_and(change)
    }

    /// One line for each model.
    pub fn encode(&self) -> Vec<u8> {
        let line = |window: &ModelContextLength| format!("{} {} {}\n", window.model, window.length, window.floor);
        self.models.iter().map(line).collect::<String>().into_bytes()
    }

    /// Reads what [`ContextLengths::encode`] wrote; what is not of its form is left out.
    pub fn decode(bytes: &[u8]) -> Self {
        let window = |line: &str| {
            let mut words = line.split(' ');
            let mut next = || words.next();
            Some(ModelContextLength { model: next()?.to_owned(), length: next()?.parse().ok()?, floor: next()?.parse().ok()? })
        };
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        Self { models: text.lines().filter_map(window).take(MAX_MODELS).collect() }
    }
}

/// The `max_model_len` that a refusal tells. Only vLLM's own sentences count, and only from their first word on: what a client
/// wrote may be quoted further in.
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

/// `error.message` of an answer in OpenAI's error shape (or the flat shape of older vLLMs), even if the end is missing.
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

/// Reads one entry of the list.
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
    fn refusals_tell_the_window_in_their_own_words_only() {
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
    fn messages_are_found_in_both_shapes() {
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
    fn windows_are_remembered_up_to_a_bound() {
        let mut windows = ContextLengths::default();
        let body = br#"{"object":"list","data":[{"id":"a","max_model_len":4096},{"id":"lora","max_model_len":null},{"id":"b","max_model_len":8}]}"#;
        assert!(windows.record_model_list(body));
        assert!(!windows.record_model_list(body));
        assert_eq!(
            (windows.length("a"), windows.length("lora"), windows.length("b"), windows.length("c")),
            (Some(4096), None, Some(8), None)
        );
        assert!(windows.record_floor("c", 70) && !windows.record_floor("c", 60) && !windows.record_floor("a", 60));
        assert_eq!((windows.floor("c"), windows.length("c")), (70, None));
        for at in 0..1000 {
            windows.record(&format!("model-{at}"), 1);
        }
        assert_eq!(windows.models.len(), MAX_MODELS);
        assert!(!windows.record("with blank", 1));
        assert_eq!(ContextLengths::decode(&windows.encode()), windows);
    }
}
