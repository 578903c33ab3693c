//! Limits of models: context lengths and the largest numbers of completion tokens. They are reported by `GET /models`, and by the errors
//! with which providers reject a limit or a prompt that is too large.

use crate::json::{Reader, ValueKind};
use crate::openai::is_model_name;

/// What is known of a model's own limits, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelLimits {
    /// The context length (`max_model_len`), if known.
    pub context_length: Option<u64>,
    /// The largest total of a completion and its prompt that was seen. The context length is at least this.
    pub context_length_floor: u64,
    /// The largest number of completion tokens, if known.
    pub completion: Option<u64>,
    /// The largest number of completion tokens that was seen.
    pub completion_floor: u64,
}

/// The known limits of one provider's models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsByModel {
    models: Vec<(String, ModelLimits)>,
}

/// A limit that an error message states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatedLimit {
    /// The context length.
    ContextLength(u64),
    /// The largest number of completion tokens.
    Completion(u64),
}

/// The maximum number of models remembered for one provider, above what any server serves.
const MAX_MODELS: usize = 256;

// === impl LimitsByModel ===

impl LimitsByModel {
    /// Returns what is known of a model.
    pub fn of(&self, model: &str) -> ModelLimits {
        self.models.iter().find(|(name, _)| name == model).map_or_else(ModelLimits::default, |(_, limits)| *limits)
    }

    /// Returns the models whose context length is known, with that length in tokens.
    pub fn context_lengths(&self) -> impl Iterator<Item = (&str, u64)> {
        self.models.iter().filter_map(|(name, limits)| Some((&**name, limits.context_length?)))
    }

    /// Records `max_model_len` of a model. Returns whether anything changed.
    pub fn record_context_length(&mut self, model: &str, length: u64) -> bool {
        self.update(model, |limits| {
            // A restarted server may have a shorter context length than before.
            limits.context_length_floor = limits.context_length_floor.min(length);
            limits.context_length = Some(length);
        })
    }

    /// Records a limit that an error of the provider states. Returns whether anything changed.
    pub fn record_stated(&mut self, model: &str, limit: StatedLimit) -> bool {
        match limit {
            StatedLimit::ContextLength(length) => self.record_context_length(model, length),
            StatedLimit::Completion(tokens) => self.update(model, |limits| {
                limits.completion_floor = limits.completion_floor.min(tokens);
                limits.completion = Some(tokens);
            }),
        }
    }

    /// Records one completion that was seen, and its prompt. Returns whether anything changed.
    pub fn record_seen(&mut self, model: &str, prompt: u64, completion: u64) -> bool {
        let (total, known) = (prompt.saturating_add(completion), self.of(model));
        if known.context_length_floor.max(known.context_length.unwrap_or(0)) >= total && known.completion_floor >= completion {
            return false;
        }
        self.update(model, |limits| {
            limits.context_length_floor = limits.context_length_floor.max(total);
            limits.completion_floor = limits.completion_floor.max(completion);
            // The provider has raised its maximum.
            limits.completion = limits.completion.filter(|most| *most >= completion);
        })
    }

    /// Records the body of `GET /models`. Returns whether anything changed.
    pub fn record_model_list(&mut self, body: &[u8]) -> bool {
        let mut changed = false;
        each_model(body, &mut |model, length| {
            if let Some(length) = length {
                changed |= self.record_context_length(model, length);
            }
        });
        changed
    }

    /// Changes what is known of a model. Returns whether anything changed.
    fn update(&mut self, model: &str, change: impl FnOnce(&mut ModelLimits)) -> bool {
        let index = match self.models.iter().position(|(name, _)| name == model) {
            Some(index) => index,
            None if self.models.len() < MAX_MODELS && is_model_name(model) => {
                self.models.push((model.to_owned(), ModelLimits::default()));
                self.models.len() - 1
            }
            None => return false,
        };
        let Some((_, limits)) = self.models.get_mut(index) else { return false };
        let before = *limits;
        change(limits);
        before != *limits
    }

    /// Encodes the limits, one line for each model.
    pub fn encode(&self) -> Vec<u8> {
        let line = |(model, limits): &(String, ModelLimits)| {
            let ModelLimits { context_length, context_length_floor, completion, completion_floor } = limits;
            let [context_length, completion] = [context_length, completion].map(|limit| limit.unwrap_or(0));
            format!("{model} {context_length} {context_length_floor} {completion} {completion_floor}\n")
        };
        self.models.iter().map(line).collect::<String>().into_bytes()
    }

    /// Decodes the output of [`LimitsByModel::encode`]. Lines of another form are ignored.
    pub fn decode(bytes: &[u8]) -> Self {
        let entry = |line: &str| {
            let mut words = line.split(' ');
            let model = words.next()?.to_owned();
            let mut number = || words.next()?.parse::<u64>().ok();
            let limits = ModelLimits {
                context_length: Some(number()?).filter(|length| *length > 0),
                context_length_floor: number()?,
                completion: Some(number()?).filter(|tokens| *tokens > 0),
                completion_floor: number()?,
            };
            Some((model, limits))
        };
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        Self { models: text.lines().filter_map(entry).take(MAX_MODELS).collect() }
    }
}

/// Returns the models that the body of `GET /models` lists, in its order; `None` if it contains no list. Names that no request can have
/// are left out, as are those above the maximum number.
pub fn listed_models(body: &[u8]) -> Option<Vec<String>> {
    let mut listed: Vec<String> = Vec::new();
    let has_list = each_model(body, &mut |model, _| {
        if listed.len() < MAX_MODELS && is_model_name(model) && !listed.iter().any(|known| known == model) {
            listed.push(model.to_owned());
        }
    });
    has_list.then_some(listed)
}

/// Returns the limit that a provider's error message states. Only known sentences are matched, and only at the start of the message:
/// further on, the message may quote the client.
pub fn stated_limit(message: &str) -> Option<StatedLimit> {
    context_length(message).map(StatedLimit::ContextLength).or_else(|| completion(message).map(StatedLimit::Completion))
}

/// Matches vLLM's and OpenAI's sentences about the context length.
fn context_length(message: &str) -> Option<u64> {
    if let Some(rest) = message.strip_prefix("This model's maximum context length is ") {
        return leading_number(rest);
    }
    if let Some(rest) = message.strip_prefix("Input length (") {
        let (_, rest) = rest.split_once(") exceeds model's maximum context length (")?;
        return leading_number(rest);
    }
    let (limit, rest) = message.split_once(" cannot be greater than max_model_len=")?;
    let (field, value) = limit.split_once('=')?;
    let ours = is_limit(field) && is_number(value);
    if !ours {
        return None;
    }
    leading_number(rest.strip_prefix("max_total_tokens=").unwrap_or(rest))
}

/// Matches the sentences about the largest limit of hosted models: OpenAI's (`max_tokens is too large: 100000. This model supports at most
/// 16384 completion tokens, whereas you provided 100000.`) and Anthropic's (`max_tokens: 100000 > 8192, which is the maximum allowed number
/// of output tokens for claude-…`).
fn completion(message: &str) -> Option<u64> {
    if let Some((field, rest)) = message.split_once(" is too large: ") {
        let (value, rest) = rest.split_once(". This model supports at most ")?;
        return leading_number(rest).filter(|_| is_limit(field) && is_number(value));
    }
    let (field, rest) = message.split_once(": ")?;
    let (value, rest) = rest.split_once(" > ")?;
    let most = leading_number(rest)?;
    let ours = is_limit(field) && is_number(value) && rest.contains(", which is the maximum allowed number of output tokens");
    ours.then_some(most)
}

fn is_limit(field: &str) -> bool {
    matches!(field, "max_tokens" | "max_completion_tokens")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
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

/// Calls `each` with the id and the `max_model_len` of each entry of a list of models, those before an error included. Returns whether
/// there is a list.
fn each_model(body: &[u8], each: &mut dyn FnMut(&str, Option<u64>)) -> bool {
    let mut has_list = false;
    let _ = read_models(body, &mut has_list, each);
    has_list
}

fn read_models(body: &[u8], has_list: &mut bool, each: &mut dyn FnMut(&str, Option<u64>)) -> Option<()> {
    let mut reader = Reader::new(body);
    let mut object = reader.object().ok()?;
    while let Some(key) = object.next(&mut reader).ok()? {
        if !key.is("data") || reader.kind().ok()? != ValueKind::Array {
            reader.skip().ok()?;
            continue;
        }
        let mut models = reader.array().ok()?;
        *has_list = true;
        while models.next(&mut reader).ok()? {
            if let (Some(model), length) = model_entry(&mut reader)? {
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
    fn the_models_that_a_server_lists_are_read() {
        let many: Vec<String> = (0..300).map(|number| format!("{{\"id\":\"m{number}\"}}")).collect();
        let many = format!("{{\"data\":[{}]}}", many.join(","));
        assert_eq!(listed_models(many.as_bytes()).map(|listed| listed.len()), Some(256));
        for (body, expected) in [
            (r#"{"data":[{"id":"org/m","max_model_len":4096},{"id":"lora"},{"id":"org/m"}]}"#, Some(vec!["org/m", "lora"])),
            (r#"{"object":"list","data":[]}"#, Some(vec![])),
            (
                r#"{"data":[{"id":"a b"},{"id":""},{"id":7},{"root":"x"},{"id":"a\nb"},{"id":"\u00e4"},{"id":"ok"}]}"#,
                Some(vec!["ok"]),
            ),
            (r#"{"data":[{"id":"a"},{"id":"b"#, Some(vec!["a"])),
            (r#"{"data":{"id":"a"}}"#, None),
            (r#"{"models":[{"id":"a"}]}"#, None),
            ("[]", None),
            ("", None),
        ] {
            let expected = expected.map(|ids| ids.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(listed_models(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn only_the_servers_own_messages_state_limits() {
        use StatedLimit::{Completion, ContextLength};

        for (message, expected) in [
            (
                "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens.",
                Some(ContextLength(4096)),
            ),
            (
                "max_tokens=1000 cannot be greater than max_model_len=4096. Please request fewer output tokens.",
                Some(ContextLength(4096)),
            ),
            ("max_completion_tokens=9 cannot be greater than max_model_len=max_total_tokens=8. Please", Some(ContextLength(8))),
            ("Input length (5000) exceeds model's maximum context length (4096).", Some(ContextLength(4096))),
            ("1 validation error: {'input': 'This model's maximum context length is 1 tokens'}", None),
            (
                "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.",
                Some(Completion(16_384)),
            ),
            (
                "max_completion_tokens is too large: 9. This model supports at most 8 completion tokens, whereas you provided 9.",
                Some(Completion(8)),
            ),
            (
                "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku-latest",
                Some(Completion(8192)),
            ),
            ("x is too large: 9. This model supports at most 8 completion tokens", None),
            ("max_tokens is too large: a. This model supports at most 8 completion tokens", None),
            ("max_tokens: 5 > 4", None),
            ("max_tokens: a > 4, which is the maximum allowed number of output tokens", None),
            ("x max_tokens=1 cannot be greater than max_model_len=1", None),
            ("max_tokens=a cannot be greater than max_model_len=1", None),
            ("This model's maximum context length is 0 tokens", None),
            ("This model's maximum context length is 99999999999999999999 tokens", None),
            ("", None),
        ] {
            assert_eq!(stated_limit(message), expected, "{message}");
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
    fn limits_are_stored_up_to_a_maximum() {
        let mut limits = LimitsByModel::default();
        let body = br#"{"object":"list","data":[{"id":"a","max_model_len":4096},{"id":"lora","max_model_len":null},{"id":"b","max_model_len":8}]}"#;
        assert!(limits.record_model_list(body));
        assert!(!limits.record_model_list(body));
        let lengths = |limits: &LimitsByModel| ["a", "lora", "b", "c"].map(|model| limits.of(model).context_length);
        assert_eq!(lengths(&limits), [Some(4096), None, Some(8), None]);
        assert!(limits.record_seen("c", 60, 10) && !limits.record_seen("c", 50, 10) && !limits.record_seen("a", 60, 0));
        assert_eq!(limits.of("c"), ModelLimits { context_length_floor: 70, completion_floor: 10, ..ModelLimits::default() });
        assert_eq!(limits.context_lengths().collect::<Vec<_>>(), [("a", 4096), ("b", 8)]);
        for at in 0..1000 {
            limits.record_context_length(&format!("model-{at}"), 1);
        }
        assert_eq!(limits.models.len(), MAX_MODELS);
        assert!(!limits.record_context_length("with blank", 1));
        assert_eq!(LimitsByModel::decode(&limits.encode()), limits);
    }

    #[test]
    fn the_largest_completion_is_learned_from_answers_and_errors() {
        let mut limits = LimitsByModel::default();
        limits.record_seen("m", 10, 9000);
        assert_eq!((limits.of("m").completion, limits.of("m").completion_floor), (None, 9000));
        limits.record_stated("m", StatedLimit::Completion(8000));
        assert_eq!((limits.of("m").completion, limits.of("m").completion_floor), (Some(8000), 8000));
        limits.record_seen("m", 10, 12_000);
        assert_eq!((limits.of("m").completion, limits.of("m").completion_floor), (None, 12_000), "the maximum was raised");
    }
}
