//! A request that was let through: its answer as it passes, and what it costs in the end.

use std::rc::Rc;

use crate::caller::Caller;
use crate::clock::Time;
use crate::gate::{Gate, ModelState, ProviderState};
use crate::headers::{HeaderEdit, Headers, media_type};
use crate::host::{BodyStep, Entry, Host, ResponseStep};
use crate::ledger::Permit;
use crate::openai::{Answer, Hide, PromptSize, Request, Usage};
use crate::policy::{Candidate, Dialect};
use crate::refusal::{Case, Refusal, Reply};
use crate::window;

/// Bytes of a refusal's body that are kept: vLLM's longest sentence about its window takes a quarter of it.
pub const REFUSAL_LIMIT: usize = 2048;

/// An admitted request.
#[derive(Debug)]
pub struct Admitted {
    gate: Rc<Gate>,
    caller: Caller,
    provider: usize,
    model: String,
    permit: Permit,
    /// What the prompt is charged where nobody counted it: its upper bound, as reserved.
    prompt_estimate: u64,
    unsure_limit: bool,
    size: PromptSize,
    choices: u64,
    prompts: u64,
    sequences: u64,
    hide: Hide,
    started: Time,
    response: Response,
}

/// What a request was granted.
#[derive(Debug)]
pub struct Grant {
    /// The reservations.
    pub permit: Permit,
    /// The prompts' share of them.
    pub prompt_estimate: u64,
    /// A limit was written into the request that the model's window, which is not known, may not hold.
    pub unsure_limit: bool,
}

#[derive(Debug)]
enum Response {
    /// Nothing has come.
    Awaited,
    /// Envoy answered in place of the provider.
    Local(Case),
    /// The provider answered.
    Provider(Box<ProviderAnswer>),
}

#[derive(Debug)]
struct ProviderAnswer {
    status: u16,
    answer: Answer,
    first_token: Option<Time>,
    /// The beginning of a 400, which may tell the model's window.
    refusal: Vec<u8>,
    /// What the client is told instead, where the answer was not for it.
    replaced: Option<Case>,
    /// The headers wait for the beginning of the body.
    held: bool,
}

// === impl Admitted ===

impl Admitted {
    /// A request that came at `started` and was granted what it needs.
    pub fn new(gate: Rc<Gate>, caller: Caller, candidate: Candidate<'_>, request: &Request, grant: Grant, started: Time) -> Self {
        let Grant { permit, prompt_estimate, unsure_limit } = grant;
        let dialect = gate.policy.providers.get(candidate.provider).map_or(Dialect::OpenAi, |provider| provider.dialect);
        Self {
            caller,
            provider: candidate.provider,
            model: candidate.model.to_owned(),
            permit,
            prompt_estimate,
            unsure_limit,
            size: request.prompt,
            choices: request.choices,
            prompts: request.prompts,
            sequences: request.sequences,
            hide: hide(request, dialect),
            started,
            response: Response::Awaited,
            gate,
        }
    }

    /// Whether the answer's headers have come.
    pub fn is_answered(&self) -> bool {
        !matches!(self.response, Response::Awaited)
    }

    /// Whether anything is to be learned or hidden from the answer's body.
    pub fn reads_answer(&self) -> bool {
        matches!(&self.response, Response::Provider(provider) if provider.replaced.is_none() && provider.answer.reads())
    }

    /// Whether the answer is held.
    pub fn holds_answer(&self) -> bool {
        matches!(&self.response, Response::Provider(provider) if provider.held)
    }

    /// Envoy answers in place of the provider.
    pub fn on_local_reply(&mut self, status: u16, host: &Host<'_>) -> ResponseStep {
        let refusal = Refusal::local(status, Some(self.provider_name()));
        self.response = Response::Local(refusal.case);
        self.replace(&refusal, host)
    }

    /// The provider's headers have come.
    pub fn on_response_headers(
        &mut self,
        status: u16,
        headers: &Headers<'_>,
        end_of_stream: bool,
        host: &Host<'_>,
    ) -> ResponseStep {
        let replaced = matches!(status, 401 | 403).then_some(Case::UpstreamAuth);
        let answer = self.read(headers);
        let rewrites = answer.rewrites();
        let held = self.unsure_limit && status == 400 && !end_of_stream;
        let answer = ProviderAnswer { status, answer, first_token: None, refusal: Vec::new(), replaced, held };
        self.response = Response::Provider(Box::new(answer));
        if replaced.is_some() {
            let refusal = Refusal::upstream_auth(&format!("model provider `{}`", self.provider_name()));
            return self.replace(&refusal, host);
        }
        let mut edits = headers.drop_provider_headers();
        if rewrites && headers.get("content-length").is_some() {
            edits.push(HeaderEdit::Remove("content-length".into()));
        }
        edits.push(HeaderEdit::Set("x-pai-provider", self.provider_name().to_owned().into()));
        edits.push(HeaderEdit::Set("x-pai-model", self.model.clone().into()));
        edits.extend(self.budget_headers(host).into_iter().map(|(name, value)| HeaderEdit::Set(name, value.into())));
        if held { ResponseStep::Hold(edits) } else { ResponseStep::Edit(edits) }
    }

    /// A piece of the answer has come; all there is of it so far, if it is held.
    pub fn on_response_body(&mut self, chunk: &[u8], end_of_stream: bool, host: &Host<'_>) -> BodyStep {
        let Response::Provider(provider) = &mut self.response else { return BodyStep::Continue };
        let ProviderAnswer { status, answer, first_token, refusal, replaced, held } = &mut **provider;
        if replaced.is_some() {
            return BodyStep::Continue;
        }
        if *status == 400 {
            let room = REFUSAL_LIMIT.saturating_sub(refusal.len()).min(chunk.len());
            refusal.extend_from_slice(chunk.get(..room).unwrap_or_default());
        }
        if *held {
            if refusal.len() < REFUSAL_LIMIT && !end_of_stream {
                refusal.clear();
                return BodyStep::Hold;
            }
            *held = false;
            if told_window(refusal).is_none() {
                return BodyStep::Continue;
            }
            // The limit was the gate's, so that the refusal is not for the client. Now the window is known.
            *replaced = Some(Case::UpstreamUnavailable);
            return BodyStep::Reply(self.ask_again(host));
        }
        let passed = answer.feed(chunk, end_of_stream);
        if first_token.is_none() && answer.started() {
            *first_token = Some(host.now());
        }
        passed.map_or(BodyStep::Continue, BodyStep::Replace)
    }

    /// All is over: settles the permit and counts.
    pub fn close(mut self, subject: String, connected: impl FnOnce() -> bool, host: &Host<'_>) -> Entry {
        if let Response::Provider(provider) = &mut self.response {
            provider.answer.finish();
        }
        let reported = self.reported();
        let usage = self.charge(reported, connected);
        let decision = self.decision();
        if let Some((provider, model)) = self.gate.model(Candidate { provider: self.provider, model: &self.model }) {
            self.learn(reported, provider, model, host);
            self.measure(usage, model, host);
            model.series.requests.count(host.meter, decision);
            model.series.prompt_tokens.add(host.meter, usage.prompt);
            model.series.completion_tokens.add(host.meter, usage.completion);
        }
        let entry = Entry {
            provider: self.provider_name().to_owned(),
            model: self.model,
            subject,
            decision,
            tokens: Some((usage.prompt, usage.completion)),
            guard: String::new(),
        };
        host.settle(self.permit, usage.total());
        entry
    }

    /// The usage that the provider reported.
    fn reported(&self) -> Option<Usage> {
        match &self.response {
            Response::Provider(provider) => provider.answer.usage(),
            Response::Awaited | Response::Local(_) => None,
        }
    }

    /// What is charged: `docs/budgets.md`, "Settle".
    fn charge(&self, reported: Option<Usage>, connected: impl FnOnce() -> bool) -> Usage {
        let prompt_only = Usage { prompt: self.prompt_estimate, completion: 0 };
        match &self.response {
            Response::Provider(provider) => match reported {
                // A stream over many prompts was cut: the server has read those, too, of which nothing was seen.
                Some(usage) if self.prompts > 1 && !provider.answer.usage_is_whole() => {
                    Usage { prompt: usage.prompt.max(self.prompt_estimate), ..usage }
                }
                Some(usage) => usage,
                None if provider.status >= 400 => Usage::default(),
                None => Usage { completion: provider.answer.deltas(), ..prompt_only },
            },
            // The provider had the whole body if it had any of it: the gate lets it go in one piece.
            Response::Awaited | Response::Local(_) => {
                if connected() {
                    prompt_only
                } else {
                    Usage::default()
                }
            }
        }
    }

    /// Learns from what the provider reported.
    fn learn(&self, reported: Option<Usage>, state: &ProviderState, model: &ModelState, host: &Host<'_>) {
        let Response::Provider(provider) = &self.response else { return };
        let ProviderAnswer { status, answer, refusal, .. } = &**provider;
        let vllm = self.dialect() == Dialect::Vllm;
        if let Some(usage) = reported.filter(|_| answer.usage_is_whole() || self.sequences == 1) {
            model.lessons.borrow_mut().learn(host.store, &self.size, usage.prompt);
            if vllm && self.sequences == 1 {
                state.windows.borrow_mut().change(host.store, |windows| windows.reached(&self.model, usage.total()));
            }
        }
        if let (400, true, Some(length)) = (*status, vllm, told_window(refusal)) {
            state.windows.borrow_mut().change(host.store, |windows| windows.learn(&self.model, length));
        }
    }

    fn measure(&self, usage: Usage, model: &ModelState, host: &Host<'_>) {
        let Some(first) = self.first_token() else { return };
        model.series.time_to_first_token.record(host.meter, first.since(self.started) / 1_000_000);
        if self.is_stream() && usage.completion > 1 {
            let each = host.now().since(first) / 1000 / (usage.completion - 1);
            model.series.time_per_output_token.record(host.meter, each);
        }
    }

    fn decision(&self) -> &'static str {
        match &self.response {
            Response::Awaited => "allowed",
            Response::Local(case) => case.code(),
            Response::Provider(provider) => provider.replaced.map_or("allowed", Case::code),
        }
    }

    fn is_stream(&self) -> bool {
        matches!(&self.response, Response::Provider(provider) if provider.answer.rewrites())
    }

    fn first_token(&self) -> Option<Time> {
        match &self.response {
            Response::Provider(provider) => provider.first_token,
            Response::Awaited | Response::Local(_) => None,
        }
    }

    fn ask_again(&self, host: &Host<'_>) -> Reply {
        let why = "The model's window has only just become known. Send the request again.";
        let mut reply = Refusal { retry_after: Some(1), ..Refusal::new(Case::UpstreamUnavailable, why) }.reply();
        reply.headers.push(("x-should-retry", "true".to_owned()));
        reply.headers.extend(self.budget_headers(host));
        reply
    }

    fn replace(&self, refusal: &Refusal, host: &Host<'_>) -> ResponseStep {
        let mut reply = refusal.reply();
        reply.headers.extend(self.budget_headers(host));
        ResponseStep::Reply(reply)
    }

    /// How the answer is to be read, by its headers.
    fn read(&self, headers: &Headers<'_>) -> Answer {
        if headers.encoded() {
            return Answer::opaque();
        }
        match &*media_type(headers.get("content-type").unwrap_or_default()) {
            b"text/event-stream" => Answer::stream(self.choices, self.sequences, self.hide),
            b"application/json" => Answer::json(self.choices),
            _ => Answer::opaque(),
        }
    }

    fn budget_headers(&self, host: &Host<'_>) -> Vec<(&'static str, String)> {
        self.gate.budget_headers(self.caller, Some(self.provider), host)
    }

    fn provider_name(&self) -> &str {
        self.gate.policy.provider_name(self.provider)
    }

    fn dialect(&self) -> Dialect {
        self.gate.policy.providers.get(self.provider).map_or(Dialect::OpenAi, |provider| provider.dialect)
    }
}

/// The window that a refusal tells of.
fn told_window(refusal: &[u8]) -> Option<u64> {
    window::told_by_refusal(&window::error_message(refusal)?)
}

/// What the client did not ask for of the usage that the gate asks for.
fn hide(request: &Request, dialect: Dialect) -> Hide {
    match (request.include_usage, request.continuous_usage) {
        (false, _) => Hide::Usage,
        (true, false) if dialect == Dialect::Vllm => Hide::Continuous,
        (true, _) => Hide::Nothing,
    }
}
