//! Exact numbers of prompt tokens: vLLM counts them at `POST /tokenize`, where the estimates of a prompt leave open what becomes of the
//! request.
//!
//! A server that does not answer well is left alone for a while, and few requests ask at once: counting must never become what requests
//! wait for.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Time;
use crate::exchange::environment::Environment;
use crate::exchange::gate::Gate;
use crate::exchange::step::{CalloutEnd, CalloutRequest};
use crate::json::{Reader, whole_number, write_string};
use crate::metrics::{LabelledCounter, token_counts};
use crate::openai::{Operation, Request};
use crate::policy::Candidate;

/// How long a server may take to count.
const TIMEOUT: Duration = Duration::from_millis(250);
/// The number of bytes of the largest body that is sent to be counted.
const MAX_BODY: usize = 256 * 1024;
/// The number of requests of one worker that wait for one provider's counts at once.
const MAX_UNDER_WAY: usize = 4;
/// How long a provider gets no such request after it has failed to count, in nanoseconds.
const PAUSE: u64 = 30_000_000_000;
/// The number of timeouts in a row that count as a failure.
const MAX_TIMEOUTS: u32 = 2;

/// Members of a chat that determine its prompt, and that `POST /tokenize` accepts as they are.
const CHAT_MEMBERS: [&str; 7] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template_kwargs",
    "mm_processor_kwargs",
];
/// Members of a text completion that determine its prompt.
const TEXT_MEMBERS: [&str; 2] = ["prompt", "add_special_tokens"];
/// Members that reach the prompt, and that `POST /tokenize` does not accept.
const UNCOUNTED_MEMBERS: [&str; 2] = ["documents", "suffix"];

/// Whether a provider can be requested to count now.
#[derive(Debug)]
pub struct TokenCounts {
    under_way: Rc<Cell<usize>>,
    timeouts: Cell<u32>,
    paused_until: Cell<Time>,
    results: LabelledCounter,
}

/// One request that waits for its count.
#[derive(Debug)]
pub struct PendingCount {
    provider: usize,
    model: String,
    under_way: Rc<Cell<usize>>,
}

/// The number of prompt tokens that a candidate's server has counted; the default for a request that is not counted (any more).
#[derive(Debug, Clone, Default)]
pub struct Counted {
    provider: usize,
    model: String,
    /// The tokens, with a margin; `None` if the server did not count them.
    tokens: Option<u64>,
}

/// Returns whether the prompt of a request is one that a server can count.
pub fn is_countable(request: &Request, operation: Operation, body_length: usize) -> bool {
    let prompt = &request.prompt;
    let text_only = prompt.parts == 0 && prompt.token_ids == 0 && !prompt.truncated;
    text_only && request.prompts == 1 && operation != Operation::Embeddings && body_length <= MAX_BODY
}

/// Returns the callout that asks the candidate's server to count the prompt of the request with this body; `None` if the server would count
/// another prompt, or the gate has no cluster for callouts to it.
pub fn ask(gate: &Gate, candidate: Candidate<'_>, operation: Operation, body: &[u8]) -> Option<(CalloutRequest, PendingCount)> {
    let state = gate.providers.get(candidate.provider)?;
    let path = |base_path: &str| format!("{}/tokenize", base_path.strip_suffix("/v1").unwrap_or(base_path));
    let body = count_request(candidate.model, operation, body)?;
    let request = CalloutRequest::to_provider(&gate.policy, candidate.provider, "POST", path, body, TIMEOUT)?;
    let under_way = Rc::clone(&state.token_counts.under_way);
    under_way.set(under_way.get() + 1);
    Some((request, PendingCount { provider: candidate.provider, model: candidate.model.to_owned(), under_way }))
}

/// Returns the body that asks for the count of the prompt in `body`.
fn count_request(model: &str, operation: Operation, body: &[u8]) -> Option<Vec<u8>> {
    let members: &[&str] = match operation {
        Operation::Chat => &CHAT_MEMBERS,
        Operation::TextCompletion => &TEXT_MEMBERS,
        Operation::Embeddings => return None,
    };
    let mut request = b"{\"model\":".to_vec();
    write_string(&mut request, model);
    let mut reader = Reader::new(body);
    let mut object = reader.object().ok()?;
    while let Some(key) = object.next(&mut reader).ok()? {
        if UNCOUNTED_MEMBERS.iter().any(|name| key.is(name)) {
            return None;
        }
        let range = reader.skip().ok()?;
        if let Some(name) = members.iter().find(|name| key.is(name)) {
            request.push(b',');
            write_string(&mut request, name);
            request.push(b':');
            request.extend_from_slice(body.get(range)?);
        }
    }
    request.push(b'}');
    Some(request)
}

/// Reads a number from the beginning of an answer. vLLM writes `count` before the tokens themselves.
fn read_number(body: &[u8], name: &str) -> Option<u64> {
    let mut reader = Reader::new(body);
    let mut object = reader.object().ok()?;
    while let Some(key) = object.next(&mut reader).ok()? {
        if key.is(name) {
            return u64::try_from(whole_number(reader.number().ok()?)?).ok();
        }
        reader.skip().ok()?;
    }
    None
}

// === impl TokenCounts ===

impl TokenCounts {
    /// Creates the state of the provider of this name.
    pub fn new(provider: &str) -> Self {
        Self { under_way: Rc::default(), timeouts: Cell::default(), paused_until: Cell::default(), results: token_counts(provider) }
    }

    /// Returns whether the provider can be requested to count now.
    pub fn are_available(&self, now: Time) -> bool {
        self.under_way.get() < MAX_UNDER_WAY && now >= self.paused_until.get()
    }

    /// Records how a callout has ended.
    fn record(&self, end: CalloutEnd<'_>, count: Option<u64>, env: &Environment<'_>) {
        let (result, timeouts) = match (end, count) {
            (CalloutEnd::Answered { .. }, Some(_)) => ("answered", 0),
            // Envoy answers 504 in place of a server that does not answer in time.
            (CalloutEnd::Unanswered | CalloutEnd::Answered { status: 504, .. }, _) => ("timeout", self.timeouts.get() + 1),
            (CalloutEnd::Answered { .. }, None) => ("failed", MAX_TIMEOUTS),
            (CalloutEnd::NotSent, _) => ("not_sent", MAX_TIMEOUTS),
        };
        env.count(&self.results.of(result), 1);
        if timeouts >= MAX_TIMEOUTS {
            self.paused_until.set(Time(env.now().0.saturating_add(PAUSE)));
            self.timeouts.set(0);
        } else {
            self.timeouts.set(timeouts);
        }
    }
}

// === impl PendingCount ===

impl PendingCount {
    /// Ends the wait.
    pub fn end(self, end: CalloutEnd<'_>, gate: &Gate, env: &Environment<'_>) -> Counted {
        let body = match end {
            CalloutEnd::Answered { status: 200, body } => body,
            _ => b"",
        };
        let count = read_number(body, "count");
        if let Some(state) = gate.providers.get(self.provider) {
            state.token_counts.record(end, count, env);
            if let Some(length) = read_number(body, "max_model_len").filter(|length| count.is_some() && *length > 0) {
                state.model_limits.borrow_mut().update(env.store, |limits| limits.record_context_length(&self.model, length));
            }
        }
        // The server may count a few tokens less than it later processes.
        let tokens = count.map(|count| count.saturating_add(count.div_ceil(100)));
        Counted { provider: self.provider, model: self.model.clone(), tokens }
    }
}

impl Drop for PendingCount {
    fn drop(&mut self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
    }
}

// === impl Counted ===

impl Counted {
    /// Returns the number of prompt tokens at this candidate, if it was counted.
    pub fn of(&self, candidate: Candidate<'_>) -> Option<u64> {
        self.tokens.filter(|_| self.provider == candidate.provider && self.model == candidate.model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn the_same_prompt_is_counted() {
        let asked = |operation, body: &str| {
            count_request("org/m", operation, body.as_bytes()).map(|request| String::from_utf8(request).unwrap())
        };
        let chat = r#"{"model":"p/org/m","stream":true,"m\u0065ssages":[ {"role":"user"} ],"tools":[1.0],"max_tokens":5,"chat_template_kwargs":{"a":"\u00e9"}}"#;
        assert_eq!(
            asked(Operation::Chat, chat).as_deref(),
            Some(r#"{"model":"org/m","messages":[ {"role":"user"} ],"tools":[1.0],"chat_template_kwargs":{"a":"\u00e9"}}"#)
        );
        let text = r#"{"model":"p/org/m","prompt":"a\nb","messages":[],"n":2}"#;
        assert_eq!(asked(Operation::TextCompletion, text).as_deref(), Some(r#"{"model":"org/m","prompt":"a\nb"}"#));
        assert_eq!(asked(Operation::Chat, r#"{"messages":[],"documents":[]}"#), None);
        assert_eq!(asked(Operation::TextCompletion, r#"{"prompt":"a","suffix":"b"}"#), None);
        assert_eq!(asked(Operation::Chat, r#"{"messages":["#), None);
    }

    #[test]
    fn the_beginning_of_an_answer_is_enough() {
        for (body, expected) in [
            (r#"{"count":5,"max_model_len":4096,"tokens":[1,2,3,4,5],"token_strs":null}"#, Some(5)),
            (r#"{"count":5,"max_model_len":4096,"tokens":[1,2,"#, Some(5)),
            (r#"{"max_model_len":4096,"count":12345,"tok"#, Some(12_345)),
            (r#"{"count":-1}"#, None),
            (r#"{"count":"5"}"#, None),
            (r#"{"count":null}"#, None),
            (r#"{"tokens":[1,2"#, None),
            ("", None),
            ("[]", None),
            ("<html>", None),
        ] {
            assert_eq!(read_number(body.as_bytes(), "count"), expected, "{body}");
        }
    }
}
