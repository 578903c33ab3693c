//! One request from its headers to its settling: the only state machine of the filter.
//!
//! ```text
//! Open ──headers──> Reading ──body evaluated──> Admitted ──log──> Closed
//!   │                │    ▲ │                      │
//!   │         callout│    │ │                      │
//!   │                ▼    │ │                      │
//!   │               Waiting │                      │
//!   └───────────────────────┴── refused, answered ─┴──> Answered ──log──> Closed
//! ```
//!
//! In `Admitted`, attempts begin and end: `admitted.rs`. Both filters, the gate and the attempt at each provider, report to one exchange. It
//! receives what the host saw and returns what the host is to do. Every callback may occur in every phase: one that does not fit the
//! phase changes nothing.

pub mod access_log;
pub mod admitted;
pub mod attempt;
pub mod caller_series;
pub mod cooldown;
pub mod credential;
pub mod environment;
pub mod evaluation;
pub mod gate;
pub mod inbound;
pub mod live_workers;
pub mod report;
pub mod request_rate;
pub mod selection;
pub mod step;
pub mod token_count;
pub mod worker;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use crate::clock::Time;
use crate::exchange::access_log::AccessLogEntry;
use crate::exchange::access_log::DecisionLog;
use crate::exchange::admitted::Admitted;
use crate::exchange::attempt::REFUSAL_LIMIT;
use crate::exchange::environment::Environment;
use crate::exchange::evaluation::Evaluation;
use crate::exchange::gate::Gate;
use crate::exchange::inbound::InboundRequest;
use crate::exchange::request_rate::count_request;
use crate::exchange::selection::{Other, Selected, Selection, Stop};
use crate::exchange::step::{AttemptEdits, AttemptStep, BodyStep, CalloutEnd, CalloutRequest, Forward, ResponseStep, Step};
use crate::exchange::token_count::{Counted, PendingCount};
use crate::exchange::worker::Retries;
use crate::http::api::models;
use crate::http::api::page::Page;
use crate::http::cors;
use crate::http::headers::{HeaderEdit, Headers, is_json_for_vllm, media_type};
use crate::http::refusal::{Case, Refusal, Reply};
use crate::http::route::Route;
use crate::identity::caller::{Caller, Identification};
use crate::identity::credentials::Credentials;
use crate::identity::model_access::ModelAccess;
use crate::identity::model_refusals;
use crate::openai::{Operation, Request, Splice};
use crate::policy::{Candidate, Gateway, Policy, Routing};

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    gate: Rc<Gate>,
    phase: Phase,
    /// Whether the request arrived at a control listener.
    control: bool,
    /// The headers of every answer, for browsers.
    cors: Vec<(&'static str, String)>,
    /// Whether an attempt was refused because its provider's credential is missing.
    lacks_credential: bool,
    /// Who asks, once that is known.
    caller: Option<Caller>,
    notes: DecisionLog,
    /// The model that the body names, for the access log of a refusal.
    asked_model: Option<String>,
    /// A callout that is due before the request is evaluated.
    ask_first: Option<CalloutRequest>,
    /// What a server has counted; `None` if none was requested to.
    counted: Option<Counted>,
    /// When the body was whole.
    started: Option<Time>,
}

#[derive(Debug)]
enum Phase {
    /// Nothing was seen.
    Open,
    /// The headers were read, the body is awaited.
    Reading(Reading),
    /// The body is whole, the answer to a callout is awaited.
    Waiting(Waiting),
    /// The request is on its way, or was answered by its provider.
    Admitted(Box<Admitted>),
    /// Somebody else than the provider has answered: the gate, as a rule.
    Answered {
        decision: &'static str,
        /// Provider and model, where the request got as far.
        candidate: Option<(usize, String)>,
    },
    /// The end was logged.
    Closed,
}

/// What the headers said.
#[derive(Debug)]
struct Reading {
    caller: Caller,
    operation: Operation,
    json: bool,
    target: Vec<u8>,
    has_length: bool,
    /// Changes that do not depend on the provider.
    edits: Vec<HeaderEdit>,
}

/// A request that waits for the answer to a callout.
#[derive(Debug)]
struct Waiting {
    reading: Reading,
    /// The count that the callout requests, if it requests one.
    count: Option<PendingCount>,
}

// === impl Exchange ===

impl Exchange {
    /// A new request.
    pub fn new(gate: Rc<Gate>) -> Self {
        Self {
            gate,
            phase: Phase::Open,
            control: false,
            cors: Vec::new(),
            lacks_credential: false,
            caller: None,
            notes: DecisionLog::default(),
            asked_model: None,
            ask_first: None,
            counted: None,
            started: None,
        }
    }

    /// Notes that the request arrived at a control listener, whose callers are operators. No request can claim this: it is in the
    /// metadata of the listener.
    pub fn enter_control_listener(&mut self) {
        self.control = true;
    }

    /// The configuration that it goes by.
    #[cfg(feature = "test-hooks")]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Returns the tokens reserved, until they are settled.
    #[cfg(feature = "test-hooks")]
    pub fn reserved(&self) -> Option<u64> {
        self.admitted()?.reserved()
    }

    /// Sends this callout once the body is whole, and waits for its answer before the request is evaluated.
    #[cfg(any(test, feature = "test-hooks"))]
    pub fn ask_first(&mut self, callout: CalloutRequest) {
        self.ask_first = Some(callout);
    }

    /// Returns whether more of the request's body is awaited.
    pub fn awaits_body(&self) -> bool {
        matches!(self.phase, Phase::Reading(_))
    }

    /// Returns whether the headers have been read and the request is not decided yet.
    pub fn awaits_decision(&self) -> bool {
        matches!(self.phase, Phase::Reading(_) | Phase::Waiting(_))
    }

    /// Whether anything follows from an answer. What the gate itself has said is known.
    pub fn awaits_answer(&self) -> bool {
        matches!(self.phase, Phase::Reading(_) | Phase::Waiting(_) | Phase::Admitted(_))
    }

    /// Whether the answer's body must be shown to [`Exchange::on_response_body`].
    pub fn reads_answer(&self) -> bool {
        matches!(&self.phase, Phase::Admitted(admitted) if admitted.reads_answer())
    }

    /// How many bytes of what is held of an answer are enough for [`Exchange::on_response_body`].
    pub fn answer_limit(&self) -> usize {
        match &self.phase {
            Phase::Admitted(admitted) if admitted.holds_answer() => REFUSAL_LIMIT,
            _ => usize::MAX,
        }
    }

    /// The request's headers have come; `end_of_stream`: and nothing else will. `peer` tells the verified identity of who sent them.
    pub fn on_request_headers(
        &mut self,
        headers: &Headers<'_>,
        end_of_stream: bool,
        peer: &dyn Fn() -> Option<Vec<u8>>,
        env: &Environment<'_>,
    ) -> Step {
        if !matches!(self.phase, Phase::Open) {
            return Step::Continue;
        }
        match self.read_headers(headers, peer, env) {
            Ok(Opening::Answer(mut reply)) => {
                self.phase = Phase::Answered { decision: "answered", candidate: None };
                reply.headers.extend(self.own_rate_limit_headers(env));
                self.add_cors(&mut reply);
                Step::Reply(reply)
            }
            Ok(Opening::Read(reading)) => {
                self.phase = Phase::Reading(reading);
                if end_of_stream { self.evaluate(&[], env) } else { self.await_body() }
            }
            Err(refusal) => {
                let mut step = self.refuse(&refusal, None);
                if let (Step::Reply(reply), Case::RequestRate) = (&mut step, refusal.case) {
                    reply.headers.extend(self.own_rate_limit_headers(env));
                }
                step
            }
        }
    }

    /// More of the body has come: `size` bytes are held so far, which `body` fetches.
    pub fn on_request_body<B: AsRef<[u8]>>(
        &mut self,
        size: usize,
        end_of_stream: bool,
        body: impl FnOnce() -> B,
        env: &Environment<'_>,
    ) -> Step {
        match &self.phase {
            Phase::Reading(_) if size as u64 > self.gate.policy.gateway.max_request_bytes => {
                let refusal = self.too_large();
                self.refuse(&refusal, None)
            }
            Phase::Reading(_) if end_of_stream => self.evaluate(body().as_ref(), env),
            Phase::Reading(_) | Phase::Waiting(_) | Phase::Answered { .. } => Step::Hold,
            Phase::Open | Phase::Admitted(_) | Phase::Closed => Step::Continue,
        }
    }

    /// Trailers have come: the body is whole.
    pub fn on_request_trailers<B: AsRef<[u8]>>(&mut self, body: impl FnOnce() -> B, env: &Environment<'_>) -> Step {
        match &self.phase {
            Phase::Reading(_) => self.evaluate(body().as_ref(), env),
            Phase::Waiting(_) | Phase::Answered { .. } => Step::Hold,
            Phase::Open | Phase::Admitted(_) | Phase::Closed => Step::Continue,
        }
    }

    /// Continues after the callout of [`Step::Ask`] has ended. `body` fetches the request's body, which is still held.
    pub fn on_callout<B: AsRef<[u8]>>(&mut self, end: CalloutEnd<'_>, body: impl FnOnce() -> B, env: &Environment<'_>) -> Step {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Waiting(Waiting { reading, count }) => {
                self.phase = Phase::Reading(reading);
                self.counted = count.map(|count| count.end(end, &self.gate, env));
                self.evaluate(body().as_ref(), env)
            }
            phase => {
                self.phase = phase;
                Step::Hold
            }
        }
    }

    /// What of a request's headers or trailers no provider gets.
    pub fn strip(&self, headers: &Headers<'_>) -> Vec<HeaderEdit> {
        headers.strip_request_headers(self.gate.policy.gateway.identity_header.as_deref())
    }

    /// The body has not come in time.
    pub fn on_body_timeout(&mut self) -> Option<Reply> {
        if !self.awaits_body() {
            return None;
        }
        let refusal = Refusal::new(Case::RequestTimeout, "The request's body did not come in time. Send it again.");
        match self.refuse(&refusal, None) {
            Step::Reply(reply) => Some(reply),
            _ => None,
        }
    }

    /// Handles the response's headers. `details` returns their origin: Envoy's `response.code_details`.
    pub fn on_response_headers(
        &mut self,
        headers: &Headers<'_>,
        end_of_stream: bool,
        details: impl FnOnce() -> Option<Vec<u8>>,
        env: &Environment<'_>,
    ) -> ResponseStep {
        let mut step = self.read_response_headers(headers, end_of_stream, details, env);
        match &mut step {
            ResponseStep::Reply(reply) => self.add_cors(reply),
            ResponseStep::Edit(edits) | ResponseStep::Hold(edits) if !self.cors.is_empty() => {
                edits.extend(self.cors.iter().map(|(name, value)| match *name {
                    "vary" => HeaderEdit::Set("vary", cors::vary(headers).into()),
                    name => HeaderEdit::Set(name, value.clone().into()),
                }));
            }
            ResponseStep::Edit(_) | ResponseStep::Hold(_) | ResponseStep::Continue => {}
        }
        step
    }

    fn read_response_headers(
        &mut self,
        headers: &Headers<'_>,
        end_of_stream: bool,
        details: impl FnOnce() -> Option<Vec<u8>>,
        env: &Environment<'_>,
    ) -> ResponseStep {
        if matches!(&self.phase, Phase::Admitted(admitted) if admitted.is_answered()) {
            return ResponseStep::Continue;
        }
        let status = headers.status().unwrap_or(0);
        // Most responses are a provider's 200, whose origin is known.
        let asks = status != 200 && matches!(self.phase, Phase::Admitted(_) | Phase::Reading(_) | Phase::Waiting(_));
        let details = asks.then(|| details().unwrap_or_default());
        let local = details.filter(|details| details != b"via_upstream");
        let lacks_credential = self.lacks_credential || local.as_deref() == Some(NOT_INJECTED);
        let (step, decision) = match &mut self.phase {
            Phase::Admitted(admitted) => {
                return match local {
                    Some(_) if lacks_credential => admitted.on_missing_credential(env),
                    Some(details) => admitted.on_local_reply(status, &details, env),
                    None => admitted.on_response_headers(status, headers, end_of_stream, env),
                };
            }
            Phase::Reading(_) | Phase::Waiting(_) if lacks_credential && local.is_some() => {
                // With `routing: fixed`, the attempt starts before the body is evaluated.
                let provider = self.gate.policy.providers.first().map_or("", |only| &only.name);
                instead(&Refusal::missing_credential(provider))
            }
            Phase::Reading(_) | Phase::Waiting(_) if local.is_some() => instead(&Refusal::from_local_reply(status, None)),
            // With `routing: fixed`, a provider may answer before it has the body.
            Phase::Reading(_) | Phase::Waiting(_) if matches!(status, 401 | 403) => {
                instead(&Refusal::upstream_auth("the provider"))
            }
            Phase::Reading(_) | Phase::Waiting(_) => (ResponseStep::Edit(headers.strip_response_headers()), "unjudged"),
            Phase::Open | Phase::Answered { .. } | Phase::Closed => return ResponseStep::Continue,
        };
        self.phase = Phase::Answered { decision, candidate: None };
        step
    }

    /// Handles a chunk of the response's body.
    pub fn on_response_body(&mut self, chunk: &[u8], end_of_stream: bool, env: &Environment<'_>) -> BodyStep {
        match &mut self.phase {
            Phase::Admitted(admitted) => {
                let mut step = admitted.on_response_body(chunk, end_of_stream, env);
                if let BodyStep::Reply(reply) = &mut step {
                    self.add_cors(reply);
                }
                step
            }
            _ => BodyStep::Continue,
        }
    }

    /// The answer has ended with trailers. What is held of it, which `body` fetches, has to be decided about now.
    pub fn on_response_trailers<B: AsRef<[u8]>>(&mut self, body: impl FnOnce() -> B, env: &Environment<'_>) -> Option<Reply> {
        match &mut self.phase {
            Phase::Admitted(admitted) if admitted.holds_answer() => match self.on_response_body(body().as_ref(), true, env) {
                BodyStep::Reply(reply) => Some(reply),
                _ => None,
            },
            _ => None,
        }
    }

    /// An attempt begins at the provider of this name, as its own cluster tells it. `injected` returns the credential that the proxy has
    /// added there, if it has added one.
    pub fn on_attempt(
        &mut self,
        provider: Option<&[u8]>,
        injected: &dyn Fn() -> Option<Vec<u8>>,
        env: &Environment<'_>,
    ) -> AttemptStep {
        let step = match &mut self.phase {
            Phase::Admitted(admitted) => admitted.start(provider, injected, env),
            // With `routing: fixed`, the headers are sent before the body is evaluated.
            Phase::Reading(Reading { operation, .. }) | Phase::Waiting(Waiting { reading: Reading { operation, .. }, .. })
                if self.gate.policy.is_fixed_to(provider) =>
            {
                start_ahead(&self.gate.policy, *operation, injected)
            }
            Phase::Open | Phase::Reading(_) | Phase::Waiting(_) | Phase::Answered { .. } | Phase::Closed => no_exchange(),
        };
        self.lacks_credential = matches!(step, AttemptStep::MissingCredential(_));
        step
    }

    /// The number of the attempt that has begun last: what tells its end from that of one before.
    pub fn ordinal(&self) -> u32 {
        self.admitted().map_or(0, Admitted::ordinal)
    }

    /// How many bytes of the body the attempt has to see before it goes on: 0 where nothing of it changes.
    pub fn attempt_reach(&self) -> usize {
        self.admitted().map_or(0, Admitted::reach)
    }

    /// Returns what replaces the beginning of the attempt's body. `body` fetches as much of it as is needed.
    pub fn on_attempt_body<B: AsRef<[u8]>>(&self, body: impl FnOnce() -> B) -> Option<Splice> {
        self.admitted()?.splice(body().as_ref())
    }

    /// The attempt of this number was answered.
    pub fn on_attempt_answer(&mut self, ordinal: u32, headers: &Headers<'_>, env: &Environment<'_>) -> AttemptEdits {
        match &mut self.phase {
            Phase::Admitted(admitted) => admitted.answered(ordinal, headers.status().unwrap_or(0), headers, &mut self.notes, env),
            _ => AttemptEdits::default(),
        }
    }

    /// The attempt of this number has ended without an answer. Returns edits to the request's headers.
    pub fn on_attempt_end(&mut self, ordinal: u32, connected: impl FnOnce() -> bool, env: &Environment<'_>) -> Vec<HeaderEdit> {
        match &mut self.phase {
            Phase::Admitted(admitted) => admitted.ended_unanswered(ordinal, connected, &mut self.notes, env),
            _ => Vec::new(),
        }
    }

    /// Returns the name of the provider that the request was sent to.
    pub fn provider_name(&self) -> Option<&str> {
        self.admitted().map(Admitted::provider_name)
    }

    fn admitted(&self) -> Option<&Admitted> {
        match &self.phase {
            Phase::Admitted(admitted) => Some(admitted),
            _ => None,
        }
    }

    /// Settles and counts the request at its end. `connected` returns whether it ever reached a provider.
    pub fn on_log(&mut self, connected: impl FnOnce() -> bool, env: &Environment<'_>) -> Option<AccessLogEntry> {
        let subject = self.caller.map_or_else(|| "none".to_owned(), |caller| caller.subject(&self.gate.policy));
        let mut entry = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closed => return None,
            Phase::Admitted(admitted) => AccessLogEntry { subject, ..admitted.close(connected, env) },
            Phase::Answered { decision, candidate } => self.count(subject, decision, candidate, env),
            Phase::Open | Phase::Reading(_) | Phase::Waiting(_) => self.count(subject, "aborted", None, env),
        };
        if let Some(series) = self.caller.and_then(|caller| self.gate.callers.get(caller, &self.gate.policy)) {
            env.count(&series.requests.of(entry.decision), 1);
        }
        DecisionLog { matched_guards: entry.guard, attempts: entry.attempts, .. } = std::mem::take(&mut self.notes);
        if entry.model.is_empty() {
            entry.model = self.asked_model.take().unwrap_or_default();
        }
        Some(entry)
    }

    /// Applies rows 0 to 6 of the table of refusals, which need the headers only: an unauthenticated caller cannot make the proxy hold a body.
    fn read_headers(
        &mut self,
        headers: &Headers<'_>,
        peer: &dyn Fn() -> Option<Vec<u8>>,
        env: &Environment<'_>,
    ) -> Result<Opening, Refusal> {
        let gate = Rc::clone(&self.gate);
        let policy = &gate.policy;
        let target = headers.get(":path").unwrap_or_default();
        if let Some(cors) = policy.gateway.cors.as_ref().filter(|_| !self.control) {
            self.cors = cors::answer_headers(cors, headers);
            if let Some(reply) = cors::preflight(cors, headers) {
                return Ok(Opening::Answer(reply));
            }
        }
        let route = Route::parse(headers.get(":method").unwrap_or_default(), target);
        if route == Some(Route::Health) {
            return Ok(Opening::Answer(Reply::empty(200)));
        }
        if self.control {
            return self.answer_operator(route, env).map(Opening::Answer);
        }
        let credentials = Credentials { headers, peer, readers: route.as_ref().and_then(Route::readers) };
        let identified = Caller::identify(&credentials, policy, &|| env.now())?;
        // Whatever comes of it, a request of somebody who is known counts.
        let counted = match identified {
            Identification::Caller(caller) => {
                self.caller = Some(caller);
                count_request(&gate.budgets, caller, env)
            }
            Identification::UnknownAgent(_) => Ok(()),
        };
        let route = route.ok_or_else(unknown_url)?;
        let caller = match identified {
            Identification::Caller(caller) => caller,
            Identification::UnknownAgent(refusal) => return Err(refusal),
        };
        if route.readers().is_some_and(|readers| !caller.is_among(readers, policy)) {
            return Err(not_an_operator(caller));
        }
        let operation = match route {
            Route::Model(operation) => operation,
            other => {
                counted?;
                return answer(&other, &gate, caller, env).map(Opening::Answer);
            }
        };
        if headers.is_encoded() {
            let why = "Encoded request bodies are not accepted. Send the body as it is, without `content-encoding`.";
            return Err(Refusal::new(Case::UnsupportedEncoding, why));
        }
        if headers.content_length().is_some_and(|length| length > policy.gateway.max_request_bytes) {
            return Err(self.too_large());
        }
        counted?;
        if headers.is_upgrade() {
            return Err(Refusal::new(Case::InvalidBody, "The connection cannot be upgraded. Send the request without `upgrade`."));
        }
        let content_type = headers.get("content-type").unwrap_or_default();
        let mut edits = self.strip(headers);
        if !is_json_for_vllm(content_type) {
            edits.push(HeaderEdit::Set("content-type", "application/json".into()));
        }
        Ok(Opening::Read(Reading {
            caller,
            operation,
            json: media_type(content_type) == b"application/json",
            target: target.to_vec(),
            has_length: headers.get("content-length").is_some(),
            edits,
        }))
    }

    /// Answers a request at a control listener, which serves what operators read and nothing else.
    fn answer_operator(&mut self, route: Option<Route>, env: &Environment<'_>) -> Result<Reply, Refusal> {
        self.caller = Some(Caller::Operator);
        let route = route.filter(|route| route.readers().is_some());
        let nothing = || Refusal::new(Case::UnknownUrl, "This listener serves GET /pai/v1/… and /health only.");
        answer(&route.ok_or_else(nothing)?, &self.gate, Caller::Operator, env)
    }

    /// Holds the headers until the body is evaluated; with fixed routing, sends them ahead.
    fn await_body(&mut self) -> Step {
        let (Phase::Reading(reading), [provider]) = (&mut self.phase, &*self.gate.policy.providers) else { return Step::Hold };
        if self.gate.policy.gateway.routing != Routing::Fixed {
            return Step::Hold;
        }
        let mut edits = std::mem::take(&mut reading.edits);
        if reading.has_length {
            edits.push(HeaderEdit::Remove(Cow::Borrowed("content-length")));
        }
        edits.push(HeaderEdit::Set("x-pai-provider", provider.name.to_string().into()));
        inbound::rewrite_target(&mut edits, provider, reading.operation, &reading.target);
        Step::Forward(Forward { headers: edits, body: None })
    }

    /// Rows 7 to 14: the body is whole.
    fn evaluate(&mut self, body: &[u8], env: &Environment<'_>) -> Step {
        let Phase::Reading(reading) = std::mem::replace(&mut self.phase, Phase::Open) else { return Step::Continue };
        if let Some(callout) = self.ask_first.take() {
            self.phase = Phase::Waiting(Waiting { reading, count: None });
            return Step::Ask(Box::new(callout));
        }
        let request = match read_body(&reading, body) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(&refusal, None),
        };
        let caller = reading.caller;
        let gate = Rc::clone(&self.gate);
        let access = ModelAccess::new(&gate.policy, caller);
        let model = request.model.clone();
        let named = match access.resolve(&model) {
            Ok(named) => named,
            Err(unresolved) => {
                let refusal = model_refusals::unresolved(&access, &model, unresolved);
                self.asked_model = Some(model);
                return self.refuse(&refusal, None);
            }
        };
        let others = access.fallbacks(named);
        let mut inbound = self.inbound(named, request, &reading, body.len(), env);
        let stop = match self.select(named, &access, &inbound, others, body, env) {
            Ok(selected) => {
                // The request is not held any more: estimates decide about further candidates.
                inbound.counted.get_or_insert_with(Counted::default);
                return self.forward(inbound, selected, reading, body);
            }
            Err(stop) => stop,
        };
        match stop {
            Stop::Refused(refused) => {
                let mut step = self.refuse(&refused, Some((named.provider, named.model.to_owned())));
                if let (Step::Reply(reply), Case::BudgetExhausted | Case::BudgetReserved) = (&mut step, refused.case) {
                    reply.headers.extend(gate.rate_limit_headers(caller, Some(named.provider), env));
                }
                step
            }
            Stop::Count { provider, model } => {
                match token_count::ask(&gate, Candidate { provider, model: &model }, reading.operation, body) {
                    Some((callout, count)) => {
                        self.phase = Phase::Waiting(Waiting { reading, count: Some(count) });
                        Step::Ask(Box::new(callout))
                    }
                    None => {
                        self.counted = Some(Counted::default());
                        self.phase = Phase::Reading(reading);
                        self.evaluate(body, env)
                    }
                }
            }
        }
    }

    fn inbound(
        &mut self,
        named: Candidate<'_>,
        request: Request,
        reading: &Reading,
        length: usize,
        env: &Environment<'_>,
    ) -> InboundRequest {
        InboundRequest {
            caller: reading.caller,
            operation: reading.operation,
            started: *self.started.get_or_insert_with(|| env.now()),
            request,
            dialect: self.gate.policy.dialect(named.provider),
            unsupported_fields: OnceCell::new(),
            counted: self.counted.clone(),
            length,
            has_length: reading.has_length,
        }
    }

    /// Selects the candidate, and reserves what the request may use there.
    fn select(
        &mut self,
        named: Candidate<'_>,
        access: &ModelAccess<'_>,
        inbound: &InboundRequest,
        others: Vec<Other<'_>>,
        body: &[u8],
        env: &Environment<'_>,
    ) -> Result<Selected, Stop> {
        let gate = Rc::clone(&self.gate);
        let retries = match gate.policy.gateway {
            // The headers have gone ahead as one provider's.
            Gateway { routing: Routing::Fixed, .. } | Gateway { max_attempts: ..=1, .. } => Retries::None,
            _ => env.worker.borrow().retries,
        };
        let evaluation = Evaluation::new(&gate, named, inbound)
            .ok_or_else(|| Stop::Refused(model_refusals::not_found(access, &inbound.request.model)))?;
        Selection::new(&gate, inbound, body, &mut self.notes, env).select(evaluation, others, retries)
    }

    /// Rewrites the request for the selected candidate.
    fn forward(&mut self, inbound: InboundRequest, selected: Selected, reading: Reading, body: &[u8]) -> Step {
        let Reading { target, edits, .. } = reading;
        let admitted = Admitted::new(Rc::clone(&self.gate), inbound, selected);
        let forward = match self.gate.policy.gateway.routing {
            Routing::Body => admitted.forward(edits, &target, body),
            // The headers have gone ahead.
            Routing::Fixed => Forward { headers: Vec::new(), ..admitted.forward(edits, &target, body) },
        };
        self.phase = Phase::Admitted(Box::new(admitted));
        Step::Forward(forward)
    }

    /// The budgets that the caller sees where no provider is involved.
    fn own_rate_limit_headers(&self, env: &Environment<'_>) -> Vec<(&'static str, String)> {
        self.caller.map_or_else(Vec::new, |caller| self.gate.rate_limit_headers(caller, None, env))
    }

    fn refuse(&mut self, refusal: &Refusal, candidate: Option<(usize, String)>) -> Step {
        self.phase = Phase::Answered { decision: refusal.case.code(), candidate };
        let mut reply = refusal.reply();
        self.add_cors(&mut reply);
        Step::Reply(reply)
    }

    /// Adds the headers that browsers need to an answer.
    fn add_cors(&self, reply: &mut Reply) {
        reply.headers.extend(self.cors.iter().cloned());
    }

    fn too_large(&self) -> Refusal {
        let limit = self.gate.policy.gateway.max_request_bytes;
        Refusal::new(Case::RequestTooLarge, format!("The request's body is larger than {limit} bytes."))
    }

    fn count(
        &self,
        subject: String,
        decision: &'static str,
        candidate: Option<(usize, String)>,
        env: &Environment<'_>,
    ) -> AccessLogEntry {
        let mut entry = AccessLogEntry { subject, decision, ..AccessLogEntry::default() };
        let Some((provider, model)) = candidate else {
            env.count(&self.gate.without_provider.of(decision), 1);
            return entry;
        };
        if let Some((_, state)) = self.gate.model(Candidate { provider, model: &model }) {
            env.count(&state.series.requests.of(decision), 1);
        }
        entry.provider = self.gate.policy.provider_name(provider).to_owned();
        entry.model = model;
        entry
    }
}

/// What the headers alone lead to.
enum Opening {
    Read(Reading),
    Answer(Reply),
}

/// The `response.code_details` of Envoy's `credential_injector` where it has no secret and may not forward a request without.
const NOT_INJECTED: &[u8] = b"failed_to_inject_credential";

/// Starts an attempt at the only provider before the body of its request is evaluated.
fn start_ahead(policy: &Policy, operation: Operation, injected: &dyn Fn() -> Option<Vec<u8>>) -> AttemptStep {
    let Some(provider) = policy.providers.first() else { return no_exchange() };
    match credential::edits(policy, provider, operation, injected) {
        Ok(mut edits) => {
            edits.push(HeaderEdit::Remove("x-pai-provider".into()));
            AttemptStep::Forward(edits)
        }
        Err(credential::MissingCredential) => AttemptStep::MissingCredential(Refusal::missing_credential(&provider.name).reply()),
    }
}

/// What an attempt is answered that no gate has let through.
pub fn no_exchange() -> AttemptStep {
    AttemptStep::Misrouted(Refusal::from_local_reply(503, None).reply())
}

/// A refusal in place of an answer, and what it is counted as.
fn instead(refusal: &Refusal) -> (ResponseStep, &'static str) {
    (ResponseStep::Reply(refusal.reply()), refusal.case.code())
}

fn unknown_url() -> Refusal {
    let why = "This path or method is not served here. See POST /v1/chat/completions, /v1/completions, /v1/embeddings and GET /v1/models.";
    Refusal::new(Case::UnknownUrl, why)
}

fn read_body(reading: &Reading, body: &[u8]) -> Result<Request, Refusal> {
    if !reading.json {
        return Err(Refusal::new(Case::InvalidBody, "The media type must be `application/json`."));
    }
    Request::parse(body, reading.operation).map_err(|invalid| {
        let mut message = invalid.to_string();
        message.push('.');
        Refusal::new(Case::InvalidBody, message).about(invalid.param())
    })
}

/// What the filter answers by itself.
fn answer(route: &Route, gate: &Gate, caller: Caller, env: &Environment<'_>) -> Result<Reply, Refusal> {
    let access = ModelAccess::new(&gate.policy, caller);
    match route {
        Route::ListModels => Ok(report::models(gate, &access, env)),
        Route::RetrieveModel(name) => {
            models::retrieve(&access, name, |provider, model| report::context_length(gate, provider, model, env))
        }
        Route::ModelProviders => report::model_providers(gate, env),
        Route::Agents(query) => report::agents(gate, &Page::parse(query)?, env),
        Route::AccessKeys(query) => report::access_keys(gate, &Page::parse(query)?, env),
        Route::Status => Ok(report::status(gate, env)),
        Route::Health | Route::Model(_) => Err(unknown_url()),
    }
}

fn not_an_operator(caller: Caller) -> Refusal {
    let why = match caller {
        Caller::Developer(_) => {
            "This access key may not read `/pai/v1/…`. The operator adds it to `operators.keys` of the Gateway."
        }
        _ => {
            "Only operators may read this. The Gateway names them: workloads in `operators.identities`, access keys in `operators.keys`."
        }
    };
    Refusal::new(Case::CallerNotAllowed, why)
}

#[cfg(test)]
mod tests;
