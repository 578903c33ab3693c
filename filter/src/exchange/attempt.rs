//! One attempt to have a request answered by one candidate: the answer as it passes, and what it costs in the end.

use std::rc::Rc;

use crate::budget::ledger::Permit;
use crate::clock::Time;
use crate::estimate::context_length;
use crate::exchange::access_log::AccessLogEntry;
use crate::exchange::access_log::SkipReason;
use crate::exchange::environment::Environment;
use crate::exchange::gate::{Gate, ModelState, ProviderState};
use crate::exchange::inbound::InboundRequest;
use crate::exchange::step::{BodyStep, ResponseStep};
use crate::http::headers::{HeaderEdit, Headers, media_type};
use crate::http::refusal::{Case, Refusal, Reply};
use crate::identity::caller::Caller;
use crate::metrics::status_class;
use crate::openai::{BodyChanges, HideUsage, Request, ResponseBody, Usage};
use crate::policy::{Candidate, Dialect, Provider};

/// Bytes of a refusal's body that are kept: vLLM's longest sentence about its window takes a quarter of it.
pub const REFUSAL_LIMIT: usize = 2048;

/// An attempt.
#[derive(Debug)]
pub struct Attempt {
    gate: Rc<Gate>,
    provider: usize,
    model: String,
    /// What it holds, until that is settled.
    permit: Option<Permit>,
    /// What the prompt is charged where nobody counted it: its upper bound, as reserved.
    prompt_estimate: u64,
    unsure_limit: bool,
    /// What makes the body its own.
    changes: BodyChanges,
    response: Response,
}

/// What a request was granted.
#[derive(Debug)]
pub struct Admission {
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
    answer: ResponseBody,
    first_token: Option<Time>,
    /// The beginning of a 400, which may tell the model's window.
    refusal: Vec<u8>,
    /// What the client is told instead, where the answer was not for it.
    replaced: Option<Case>,
    /// The headers wait for the beginning of the body.
    held: bool,
}

// === impl Attempt ===

impl Attempt {
    /// For a candidate that was granted what the request needs, if its body is changed so.
    pub fn new(gate: Rc<Gate>, candidate: Candidate<'_>, grant: Admission, changes: BodyChanges) -> Self {
        let Admission { permit, prompt_estimate, unsure_limit } = grant;
        Self {
            provider: candidate.provider,
            model: candidate.model.to_owned(),
            permit: Some(permit),
            prompt_estimate,
            unsure_limit,
            changes,
            response: Response::Awaited,
            gate,
        }
    }

    /// Who is asked.
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate { provider: self.provider, model: &self.model }
    }

    /// The provider that is asked.
    pub fn provider(&self) -> Option<&Provider> {
        self.gate.policy.providers.get(self.provider)
    }

    /// The name of that provider.
    pub fn provider_name(&self) -> &str {
        self.gate.policy.provider_name(self.provider)
    }

    /// What makes the body its own.
    pub fn changes(&self) -> &BodyChanges {
        &self.changes
    }

    /// Whether it holds nothing any more.
    pub fn is_settled(&self) -> bool {
        self.permit.is_none()
    }

    /// It has failed before an answer was passed on: settles it. Where the provider had the body and has not answered, it is charged
    /// for the prompt. Returns the tokens charged.
    pub fn fail(&mut self, caller: Caller, why: SkipReason, env: &Environment<'_>) -> u64 {
        let charge = if why == SkipReason::Reset { self.prompt_estimate } else { 0 };
        match why {
            SkipReason::Status(status) => self.note(status, env),
            _ => self.with_model(|model| model.cooldown.record_failure(env.now())),
        }
        self.gate.count_tokens(caller, self.candidate(), charge, 0, env);
        self.settle(charge, env);
        charge
    }

    /// Gives back what it holds, as nobody was asked.
    pub fn release(&mut self, env: &Environment<'_>) {
        self.settle(0, env);
    }

    fn settle(&mut self, charge: u64, env: &Environment<'_>) {
        if let Some(permit) = self.permit.take() {
            env.settle(permit, charge);
        }
    }

    /// Whether the answer's headers have come.
    pub fn is_answered(&self) -> bool {
        !matches!(self.response, Response::Awaited)
    }

    /// Whether anything is to be learned or hidden from the answer's body.
    pub fn reads_answer(&self) -> bool {
        matches!(&self.response, Response::Provider(provider) if provider.replaced.is_none() && provider.answer.is_read())
    }

    /// Whether the answer is held.
    pub fn holds_answer(&self) -> bool {
        matches!(&self.response, Response::Provider(provider) if provider.held)
    }

    /// Envoy answers in place of the provider; `details` are its `response.code_details`.
    pub fn on_local_reply(&mut self, status: u16, details: &[u8], inbound: &InboundRequest, env: &Environment<'_>) -> ResponseStep {
        let refusal = Refusal::from_local_reply(status, Some(self.provider_name()));
        self.response = Response::Local(refusal.case);
        // What was settled has been noted.
        if !self.is_settled() && matches!(refusal.case, Case::UpstreamUnavailable | Case::UpstreamTimeout) {
            self.with_model(|model| {
                if is_gone(details) { model.cooldown.record_no_host(env.now()) } else { model.cooldown.record_failure(env.now()) }
            });
        }
        self.replace(&refusal, inbound, env)
    }

    /// The provider's headers have come.
    pub fn on_response_headers(
        &mut self,
        status: u16,
        headers: &Headers<'_>,
        end_of_stream: bool,
        inbound: &InboundRequest,
        env: &Environment<'_>,
    ) -> ResponseStep {
        let replaced = matches!(status, 401 | 403).then_some(Case::UpstreamAuth);
        if !self.is_settled() {
            self.note(status, env);
        }
        let answer = self.read(headers, inbound);
        let rewrites = answer.may_change_length();
        let held = self.unsure_limit && status == 400 && !end_of_stream && answer.is_read();
        let answer = ProviderAnswer { status, answer, first_token: None, refusal: Vec::new(), replaced, held };
        self.response = Response::Provider(Box::new(answer));
        if replaced.is_some() {
            let refusal = Refusal::upstream_auth(&format!("model provider `{}`", self.provider_name()));
            return self.replace(&refusal, inbound, env);
        }
        let mut edits = headers.strip_response_headers();
        if rewrites && headers.get("content-length").is_some() {
            edits.push(HeaderEdit::Remove("content-length".into()));
        }
        edits.push(HeaderEdit::Set("x-pai-provider", self.provider_name().to_owned().into()));
        edits.push(HeaderEdit::Set("x-pai-model", self.model.clone().into()));
        edits.extend(self.rate_limit_headers(inbound, env).into_iter().map(|(name, value)| HeaderEdit::Set(name, value.into())));
        if held { ResponseStep::Hold(edits) } else { ResponseStep::Edit(edits) }
    }

    /// A piece of the answer has come; all there is of it so far, if it is held.
    pub fn on_response_body(
        &mut self,
        chunk: &[u8],
        end_of_stream: bool,
        inbound: &InboundRequest,
        env: &Environment<'_>,
    ) -> BodyStep {
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
            return BodyStep::Reply(self.ask_again(inbound, env));
        }
        let passed = answer.feed(chunk, end_of_stream);
        // An answer that is no stream is timed at its end.
        if first_token.is_none() && answer.may_change_length() && answer.started() {
            *first_token = Some(env.now());
        }
        passed.map_or(BodyStep::Continue, BodyStep::Replace)
    }

    /// All is over: settles it and counts. `connected` tells whether the request ever reached the provider.
    pub fn close(mut self, inbound: &InboundRequest, connected: impl FnOnce() -> bool, env: &Environment<'_>) -> AccessLogEntry {
        if let Response::Provider(provider) = &mut self.response {
            provider.answer.finish();
        }
        let reported = self.reported();
        // What was settled before is not charged again.
        let usage = if self.permit.is_some() { self.charge(reported, inbound, connected) } else { Usage::default() };
        let decision = self.decision();
        if let Some((provider, model)) = self.gate.model(self.candidate()) {
            self.learn(reported, inbound, provider, model, env);
            self.measure(usage, inbound.started, model, env);
            env.count(&model.series.requests.of(decision), 1);
            self.gate.count_tokens(inbound.caller, self.candidate(), usage.prompt, usage.completion, env);
        }
        self.settle(usage.total(), env);
        AccessLogEntry {
            provider: self.provider_name().to_owned(),
            model: self.model,
            decision,
            tokens: Some((usage.prompt, usage.completion)),
            ..AccessLogEntry::default()
        }
    }

    /// Notes whether the provider does anything for anybody.
    fn note(&self, status: u16, env: &Environment<'_>) {
        self.with_model(|model| env.count(&model.series.responses.of(status_class(status)), 1));
        let named = || self.provider().is_some_and(|provider| provider.models.lists_exactly(&self.model));
        self.with_model(|model| match status {
            // What is not there, or not for us, says nothing of the others that are let through by the same pattern.
            403 | 404 if !named() => {}
            _ if is_failure(status) => model.cooldown.record_failure(env.now()),
            _ => model.cooldown.record_success(),
        });
    }

    fn with_model(&self, act: impl FnOnce(&ModelState)) {
        if let Some((_, model)) = self.gate.model(self.candidate()) {
            act(model);
        }
    }

    /// The usage that the provider reported.
    fn reported(&self) -> Option<Usage> {
        match &self.response {
            Response::Provider(provider) => provider.answer.usage(),
            Response::Awaited | Response::Local(_) => None,
        }
    }

    /// What is charged: `docs/budgets.md`, "Settle".
    fn charge(&self, reported: Option<Usage>, inbound: &InboundRequest, connected: impl FnOnce() -> bool) -> Usage {
        let prompt_only = Usage { prompt: self.prompt_estimate, completion: 0 };
        match &self.response {
            Response::Provider(provider) => match reported {
                // A stream over many prompts was cut: the server has read those, too, of which nothing was seen.
                Some(usage) if inbound.request.prompts > 1 && !provider.answer.usage_is_whole() => {
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
    fn learn(
        &self,
        reported: Option<Usage>,
        inbound: &InboundRequest,
        state: &ProviderState,
        model: &ModelState,
        env: &Environment<'_>,
    ) {
        let Request { prompt, sequences, .. } = &inbound.request;
        let Response::Provider(provider) = &self.response else { return };
        let ProviderAnswer { status, answer, refusal, .. } = &**provider;
        let vllm = self.dialect() == Dialect::Vllm;
        if let Some(usage) = reported.filter(|_| answer.usage_is_whole() || *sequences == 1) {
            model.prompt_estimator.borrow_mut().record(env.store, prompt, usage.prompt);
            if vllm && *sequences == 1 {
                state.context_lengths.borrow_mut().update(env.store, |lengths| lengths.record_floor(&self.model, usage.total()));
            }
        }
        if let (400, true, Some(length)) = (*status, vllm, told_window(refusal)) {
            state.context_lengths.borrow_mut().update(env.store, |lengths| lengths.record(&self.model, length));
        }
    }

    fn measure(&self, usage: Usage, started: Time, model: &ModelState, env: &Environment<'_>) {
        let Some(first) = self.first_token(env) else { return };
        env.observe(&model.series.time_to_first_token, first.since(started));
        if self.is_stream() && usage.completion > 1 {
            let each = env.now().since(first) / (usage.completion - 1);
            env.observe(&model.series.time_per_output_token, each);
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
        matches!(&self.response, Response::Provider(provider) if provider.answer.may_change_length())
    }

    /// Returns when the first token arrived; of an answer that is no stream, all of them arrive at its end, which is now.
    fn first_token(&self, env: &Environment<'_>) -> Option<Time> {
        match &self.response {
            Response::Provider(provider) if provider.answer.may_change_length() => provider.first_token,
            Response::Provider(provider) => provider.answer.started().then(|| env.now()),
            Response::Awaited | Response::Local(_) => None,
        }
    }

    fn ask_again(&self, inbound: &InboundRequest, env: &Environment<'_>) -> Reply {
        let why = "The model's window has only just become known. Send the request again.";
        let mut reply = Refusal { retry_after: Some(1), ..Refusal::new(Case::UpstreamUnavailable, why) }.reply();
        reply.headers.push(("x-should-retry", "true".to_owned()));
        reply.headers.extend(self.rate_limit_headers(inbound, env));
        reply
    }

    fn replace(&self, refusal: &Refusal, inbound: &InboundRequest, env: &Environment<'_>) -> ResponseStep {
        let mut reply = refusal.reply();
        reply.headers.extend(self.rate_limit_headers(inbound, env));
        ResponseStep::Reply(reply)
    }

    /// How the answer is to be read, by its headers.
    fn read(&self, headers: &Headers<'_>, inbound: &InboundRequest) -> ResponseBody {
        let request = &inbound.request;
        if headers.is_encoded() {
            return ResponseBody::opaque();
        }
        match &*media_type(headers.get("content-type").unwrap_or_default()) {
            b"text/event-stream" => ResponseBody::stream(request.choices, request.sequences, hide(request, self.dialect())),
            b"application/json" => ResponseBody::json(request.choices),
            _ => ResponseBody::opaque(),
        }
    }

    fn rate_limit_headers(&self, inbound: &InboundRequest, env: &Environment<'_>) -> Vec<(&'static str, String)> {
        self.gate.rate_limit_headers(inbound.caller, Some(self.provider), env)
    }

    fn dialect(&self) -> Dialect {
        self.gate.policy.dialect(self.provider)
    }
}

/// Whether an answer of this status is one that another provider may do better.
pub fn is_failure(status: u16) -> bool {
    matches!(status, 401 | 403 | 404 | 408 | 429 | 500..)
}

/// Whether Envoy has found no server to ask. It does not try again then.
pub fn is_gone(details: &[u8]) -> bool {
    [b"no_healthy_upstream".as_slice(), b"cluster_not_found"].into_iter().any(|known| details.starts_with(known))
}

/// The window that a refusal tells of.
fn told_window(refusal: &[u8]) -> Option<u64> {
    context_length::length_from_error(&context_length::error_message(refusal)?)
}

/// What the client did not ask for of the usage that the gate asks for.
fn hide(request: &Request, dialect: Dialect) -> HideUsage {
    match (request.include_usage, request.continuous_usage) {
        (false, _) => HideUsage::All,
        (true, false) if dialect == Dialect::Vllm => HideUsage::Continuous,
        (true, _) => HideUsage::Nothing,
    }
}
