//! One attempt at one candidate: its reservations, its response, and its charge.

use std::rc::Rc;

use crate::budget::ledger::Permit;
use crate::budget::plan::InjectedLimit;
use crate::clock::Time;
use crate::estimate::model_limits::{self, StatedLimit};
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

/// The number of bytes stored of a 400 response's body. vLLM's longest message about its context length has a quarter of that.
pub const REFUSAL_LIMIT: usize = 2048;

/// An attempt to serve a request with one candidate.
#[derive(Debug)]
pub struct Attempt {
    gate: Rc<Gate>,
    provider: usize,
    model: String,
    /// The reservations, until they are settled.
    permit: Option<Permit>,
    /// The tokens charged for a prompt whose usage was not reported: its upper bound, as reserved.
    prompt_estimate: u64,
    /// The limit that was injected.
    limit: Option<InjectedLimit>,
    limit_may_be_rejected: bool,
    /// The changes to the body for this candidate.
    changes: BodyChanges,
    response: Response,
}

/// The result of a successful reservation.
#[derive(Debug)]
pub struct Admission {
    /// The reservations.
    pub permit: Permit,
    /// The part of the reservations that is for prompts.
    pub prompt_estimate: u64,
    /// The limit that was injected.
    pub limit: Option<InjectedLimit>,
    /// Whether the provider could reject that limit, because the model's own is not known.
    pub limit_may_be_rejected: bool,
}

#[derive(Debug)]
enum Response {
    /// No response was received.
    Awaited,
    /// Envoy sent a local reply.
    Local(Case),
    /// The provider responded.
    Provider(Box<ProviderAnswer>),
}

#[derive(Debug)]
struct ProviderAnswer {
    status: u16,
    answer: ResponseBody,
    first_token: Option<Time>,
    /// The beginning of the body of a 400, which may state a limit of the model.
    refusal: Vec<u8>,
    /// The error that replaces the response, if it must not reach the client.
    replaced: Option<Case>,
    /// Whether the headers are held back until the beginning of the body is received.
    held: bool,
}

// === impl Attempt ===

impl Attempt {
    /// Creates an attempt at a candidate that has admitted the request, with these changes to the body.
    pub fn new(gate: Rc<Gate>, candidate: Candidate<'_>, admission: Admission, changes: BodyChanges) -> Self {
        let Admission { permit, prompt_estimate, limit, limit_may_be_rejected } = admission;
        Self {
            provider: candidate.provider,
            model: candidate.model.to_owned(),
            permit: Some(permit),
            prompt_estimate,
            limit,
            limit_may_be_rejected,
            changes,
            response: Response::Awaited,
            gate,
        }
    }

    /// Returns the candidate.
    pub fn candidate(&self) -> Candidate<'_> {
        Candidate { provider: self.provider, model: &self.model }
    }

    /// Returns the candidate's provider.
    pub fn provider(&self) -> Option<&Provider> {
        self.gate.policy.providers.get(self.provider)
    }

    /// Returns the name of the candidate's provider.
    pub fn provider_name(&self) -> &str {
        self.gate.policy.provider_name(self.provider)
    }

    /// Returns the changes to the body for this candidate.
    pub fn changes(&self) -> &BodyChanges {
        &self.changes
    }

    /// Returns whether the reservations were settled.
    pub fn is_settled(&self) -> bool {
        self.permit.is_none()
    }

    /// Settles an attempt that failed before a response was forwarded. If the provider received the body and did not respond, the
    /// prompt's estimate is charged. Returns the tokens charged.
    pub fn fail(&mut self, caller: Caller, why: SkipReason, env: &Environment<'_>) -> u64 {
        let charge = if why == SkipReason::Reset { self.prompt_estimate } else { 0 };
        match why {
            SkipReason::Status(status) => self.record_status(status, env),
            _ => self.with_model(|model| model.cooldown.record_failure(env.now())),
        }
        self.gate.count_tokens(caller, self.candidate(), charge, 0, env);
        self.settle(charge, env);
        charge
    }

    /// Releases the reservations of an attempt that was not sent.
    pub fn release(&mut self, env: &Environment<'_>) {
        self.settle(0, env);
    }

    /// Returns the tokens reserved, until they are settled.
    #[cfg(feature = "test-hooks")]
    pub fn reserved(&self) -> Option<u64> {
        self.permit.as_ref()?.reserved()
    }

    fn settle(&mut self, charge: u64, env: &Environment<'_>) {
        if let Some(permit) = self.permit.take() {
            env.settle(permit, charge);
        }
    }

    /// Returns whether a response was received.
    pub fn is_answered(&self) -> bool {
        !matches!(self.response, Response::Awaited)
    }

    /// Returns whether the response's body has to be read, to sample or to hide its usage.
    pub fn reads_answer(&self) -> bool {
        matches!(&self.response, Response::Provider(provider) if provider.replaced.is_none() && provider.answer.is_read())
    }

    /// Returns whether the response is held back.
    pub fn holds_answer(&self) -> bool {
        matches!(&self.response, Response::Provider(provider) if provider.held)
    }

    /// Handles a local reply of Envoy's; `details` are its `response.code_details`. Returns the error that replaces it.
    pub fn on_local_reply(&mut self, status: u16, details: &[u8], inbound: &InboundRequest, env: &Environment<'_>) -> ResponseStep {
        let refusal = Refusal::from_local_reply(status, Some(self.provider_name()));
        self.response = Response::Local(refusal.case);
        // The outcome of a settled attempt was recorded before.
        if !self.is_settled() && matches!(refusal.case, Case::UpstreamUnavailable | Case::UpstreamTimeout) {
            self.with_model(|model| {
                if is_gone(details) { model.cooldown.record_no_host(env.now()) } else { model.cooldown.record_failure(env.now()) }
            });
        }
        self.replace(&refusal, inbound, env)
    }

    /// Handles the local reply to an attempt whose credential is missing. Returns the error that replaces it. It is no failure of the
    /// provider, so that the next request is sent there, with the credential that may have been added meanwhile.
    pub fn on_missing_credential(&mut self, inbound: &InboundRequest, env: &Environment<'_>) -> ResponseStep {
        self.response = Response::Local(Case::UpstreamAuth);
        self.replace(&Refusal::missing_credential(self.provider_name()), inbound, env)
    }

    /// Handles the headers of the provider's response.
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
            self.record_status(status, env);
        }
        let answer = self.read(headers, inbound);
        let rewrites = answer.may_change_length();
        let held = self.limit_may_be_rejected && status == 400 && !end_of_stream && answer.is_read();
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
        if let Some(limit) = self.limit {
            edits.push(HeaderEdit::Set("x-pai-max-tokens", limit.tokens.to_string().into()));
            edits.push(HeaderEdit::Set("x-pai-limited-by", limit.by.name().into()));
        }
        edits.extend(self.rate_limit_headers(inbound, env).into_iter().map(|(name, value)| HeaderEdit::Set(name, value.into())));
        if held { ResponseStep::Hold(edits) } else { ResponseStep::Edit(edits) }
    }

    /// Handles a chunk of the response's body; all of the body so far if it is held back.
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
            if stated_limit(refusal).is_none() {
                return BodyStep::Continue;
            }
            // The gate injected the limit, so that the client must not get this error. The model's own limit is known from now on.
            *replaced = Some(Case::UpstreamUnavailable);
            return BodyStep::Reply(self.retry_later(inbound, env));
        }
        let passed = answer.feed(chunk, end_of_stream);
        // The time of a response that is not a stream is taken at its end.
        if first_token.is_none() && answer.may_change_length() && answer.started() {
            *first_token = Some(env.now());
        }
        passed.map_or(BodyStep::Continue, BodyStep::Replace)
    }

    /// Settles the attempt and updates the metrics. `connected` returns whether the request reached the provider.
    pub fn close(mut self, inbound: &InboundRequest, connected: impl FnOnce() -> bool, env: &Environment<'_>) -> AccessLogEntry {
        if let Response::Provider(provider) = &mut self.response {
            provider.answer.finish();
        }
        let reported = self.reported();
        // An attempt that was settled before is not charged again.
        let usage = if self.permit.is_some() { self.charge(reported, inbound, connected) } else { Usage::default() };
        let decision = self.decision();
        if let Some((provider, model)) = self.gate.model(self.candidate()) {
            self.record_samples(reported, inbound, provider, model, env);
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
            limit: self.limit,
            ..AccessLogEntry::default()
        }
    }

    /// Counts a response of this status, and records a success or a failure for the cooldown.
    fn record_status(&self, status: u16, env: &Environment<'_>) {
        self.with_model(|model| env.count(&model.series.responses.of(status_class(status)), 1));
        let is_listed = || self.provider().is_some_and(|provider| provider.models.lists_exactly(&self.model));
        self.with_model(|model| match status {
            // Models that one wildcard entry matches share a cooldown: a missing or forbidden model is no failure of the others.
            403 | 404 if !is_listed() => {}
            _ if is_failure(status) => model.cooldown.record_failure(env.now()),
            _ => model.cooldown.record_success(),
        });
    }

    fn with_model(&self, act: impl FnOnce(&ModelState)) {
        if let Some((_, model)) = self.gate.model(self.candidate()) {
            act(model);
        }
    }

    /// Returns the usage that the provider reported.
    fn reported(&self) -> Option<Usage> {
        match &self.response {
            Response::Provider(provider) => provider.answer.usage(),
            Response::Awaited | Response::Local(_) => None,
        }
    }

    /// Returns the tokens to charge. The rules are in `docs/budgets.md`, "Settle".
    fn charge(&self, reported: Option<Usage>, inbound: &InboundRequest, connected: impl FnOnce() -> bool) -> Usage {
        let prompt_only = Usage { prompt: self.prompt_estimate, completion: 0 };
        let Response::Provider(provider) = &self.response else {
            // If the provider received any of the body, it received all of it: the gate forwards the body as a whole.
            return if connected() { prompt_only } else { Usage::default() };
        };
        match reported {
            // A stream over several prompts was cut off: the server has also read the prompts without reported usage.
            Some(usage) if inbound.request.prompts > 1 && !provider.answer.usage_is_whole() => {
                Usage { prompt: usage.prompt.max(self.prompt_estimate), ..usage }
            }
            Some(usage) => usage,
            None if provider.status >= 400 => Usage::default(),
            None => Usage { completion: self.seen(&provider.answer), ..prompt_only },
        }
    }

    /// Returns the completion tokens of a response without usage: the number of its chunks, or what their text typically has if that is
    /// more.
    fn seen(&self, answer: &ResponseBody) -> u64 {
        let text = self.gate.model(self.candidate()).map(|(_, model)| model.prompt_estimator.borrow().typical(answer.text()));
        answer.deltas().max(text.unwrap_or(0))
    }

    /// Records the provider's report as samples of the prompt estimator and of the context length.
    fn record_samples(
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
        if let Some(usage) = reported.filter(|_| answer.usage_is_whole() || *sequences == 1) {
            model.prompt_estimator.borrow_mut().record(env.store, env.now(), prompt, usage.prompt);
            if *sequences == 1 {
                let Usage { prompt, completion } = usage;
                state.model_limits.borrow_mut().update(env.store, |limits| limits.record_seen(&self.model, prompt, completion));
            }
        }
        if let Some(limit) = (*status == 400).then(|| stated_limit(refusal)).flatten() {
            state.model_limits.borrow_mut().update(env.store, |limits| limits.record_stated(&self.model, limit));
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

    /// Returns the time of the first token. The tokens of a response that is not a stream arrive at its end, which is now.
    fn first_token(&self, env: &Environment<'_>) -> Option<Time> {
        match &self.response {
            Response::Provider(provider) if provider.answer.may_change_length() => provider.first_token,
            Response::Provider(provider) => provider.answer.started().then(|| env.now()),
            Response::Awaited | Response::Local(_) => None,
        }
    }

    fn retry_later(&self, inbound: &InboundRequest, env: &Environment<'_>) -> Reply {
        let why = "What the model can generate has only just become known. Send the request again.";
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

    /// Returns the reader for a response with these headers.
    fn read(&self, headers: &Headers<'_>, inbound: &InboundRequest) -> ResponseBody {
        let request = &inbound.request;
        if headers.is_encoded() {
            return ResponseBody::opaque();
        }
        match &*media_type(headers.get("content-type").unwrap_or_default()) {
            b"text/event-stream" => {
                ResponseBody::stream(request.choices, request.sequences, usage_to_hide(request, self.dialect()))
            }
            b"application/json" => ResponseBody::json(),
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

/// Returns whether a response of this status is a failure after which another candidate is tried.
pub fn is_failure(status: u16) -> bool {
    matches!(status, 401 | 403 | 404 | 408 | 429 | 500..)
}

/// Returns whether Envoy found no host for the request. It does not retry in this case.
pub fn is_gone(details: &[u8]) -> bool {
    [b"no_healthy_upstream".as_slice(), b"cluster_not_found"].into_iter().any(|known| details.starts_with(known))
}

/// Returns the limit of the model that the body of a 400 states.
fn stated_limit(refusal: &[u8]) -> Option<StatedLimit> {
    model_limits::stated_limit(&model_limits::error_message(refusal)?)
}

/// Returns the part of the usage that the gate requested and the client did not.
fn usage_to_hide(request: &Request, dialect: Dialect) -> HideUsage {
    match (request.include_usage, request.continuous_usage) {
        (false, _) => HideUsage::All,
        (true, false) if dialect == Dialect::Vllm => HideUsage::Continuous,
        (true, _) => HideUsage::Nothing,
    }
}
