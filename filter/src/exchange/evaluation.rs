//! The evaluation of one candidate for one request: sizes, guards and budgets, in this order.
//!
//! The candidate that the request names is evaluated completely. For the other candidates, sizes and guards are checked before the
//! request is sent, because the body is available only then. Sizes and budgets are checked again when they are tried.

use crate::budget::account::{Ask, Shortfall};
use crate::budget::ledger::{Permit, Refused};
use crate::budget::plan::{Bounds, COMPLETIONS_DEFAULT, Plan, RequestSize, TooLarge};
use crate::budget::subject::SubjectBudgets;
use crate::clock::go_duration;
use crate::exchange::attempt::Admission;
use crate::exchange::environment::Environment;
use crate::exchange::gate::{Gate, ModelState, ProviderState};
use crate::exchange::inbound::InboundRequest;
use crate::guard::{self, GuardMatch, MatchReason};
use crate::http::refusal::{Case, Refusal};
use crate::openai::{BodyChanges, BodyEdit, LimitField, Operation, RequestedUsage, Translation, UnsupportedFields, Untranslatable};
use crate::policy::{Candidate, Dialect, Provider, Routing};

/// The evaluation of one candidate for one request.
pub struct Evaluation<'a> {
    gate: &'a Gate,
    candidate: Candidate<'a>,
    provider: &'a Provider,
    state: &'a ProviderState,
    model: &'a ModelState,
    inbound: &'a InboundRequest,
    /// The budgets in which the request needs a reservation.
    budgets: Vec<SubjectBudgets<'a>>,
}

/// A request fits a candidate's size limits.
pub struct Fit {
    plan: Option<Plan>,
    bounds: Bounds,
    ask: Ask,
}

/// A request can never fit a candidate.
pub struct Oversize {
    /// The refusal for the client.
    pub refusal: Refusal,
    /// Whether the request exceeds the provider's `maxTokensPerRequest`, not the cap of a budget.
    pub of_request: bool,
}

// === impl Evaluation ===

impl<'a> Evaluation<'a> {
    /// Creates the evaluation of a candidate. Returns `None` if this gate does not have it.
    pub fn new(gate: &'a Gate, candidate: Candidate<'a>, inbound: &'a InboundRequest) -> Option<Self> {
        let provider = gate.policy.providers.get(candidate.provider)?;
        let (state, model) = gate.model(candidate)?;
        let budgets = gate.budgets.required(inbound.caller, candidate.provider);
        Some(Self { gate, candidate, provider, state, model, inbound, budgets })
    }

    /// Returns the candidate.
    pub fn candidate(&self) -> Candidate<'a> {
        self.candidate
    }

    /// Returns whether the candidate is not cooling down, or is due for a probe.
    pub fn is_available(&self, env: &Environment<'_>) -> bool {
        self.model.cooldown.allows(env.now())
    }

    /// Records that the request is sent to the candidate. After a cooldown, this is the only request that probes it.
    pub fn record_start(&self, env: &Environment<'_>) {
        self.model.cooldown.record_start(env.now());
    }

    /// Plans the request for the candidate. Fails if the request can never fit.
    pub fn fit(&self, env: &Environment<'_>) -> Result<Fit, Oversize> {
        let request = &self.inbound.request;
        let prompt = self.model.prompt_estimator.borrow_mut().estimate(env.store, env.now(), &request.prompt);
        let size = RequestSize {
            prompt,
            limit: self.limit(),
            min_tokens: request.min_tokens,
            choices: request.choices,
            sequences: request.sequences,
        };
        let bounds = self.bounds(env);
        let plan = Plan::new(size, &bounds).map_err(|too_large| self.never_fits(&too_large))?;
        // Without a plan no limit applies, and no budget has a cap.
        let ask = plan.map_or(Ask { least: 1, most: prompt.high, prompt: prompt.high }, |plan| plan.ask);
        Ok(Fit { plan, bounds, ask })
    }

    /// Reserves the tokens of the request. Returns the reservations and the changes to the body.
    pub fn reserve(&self, fit: &Fit, env: &Environment<'_>) -> Result<(Admission, BodyChanges), Refusal> {
        let Fit { plan, bounds, ask } = fit;
        let permit = self.reserve_budgets(*ask, env)?;
        env.count(&self.model.series.reserved_tokens, permit.granted.unwrap_or(0));
        let granted = permit.granted.unwrap_or(ask.most);
        let limit = plan.and_then(|plan| plan.limit(granted));
        let admission = Admission {
            permit,
            prompt_estimate: ask.prompt.min(granted),
            // With `routing: fixed` the host may be unable to hold back the headers of a response.
            limit_may_exceed_context: bounds.limit_may_exceed_context()
                && limit.is_some()
                && self.gate.policy.gateway.routing == Routing::Body,
        };
        let translation = self.translation().unwrap_or_default();
        let usage = self.usage_to_request().filter(|_| !translation.stream_options);
        let edit = BodyEdit {
            model: Some(self.candidate.model),
            limit,
            limit_field: LimitField::injected_for(self.provider.dialect, self.inbound.operation),
            usage,
        };
        Ok((admission, edit.changes(&self.inbound.request, translation.changes)))
    }

    /// Returns whether the request with this body can be translated to the candidate's dialect.
    pub fn can_translate(&self, body: &[u8]) -> bool {
        if self.provider.dialect != self.inbound.dialect {
            self.inbound.unsupported_fields.get_or_init(|| UnsupportedFields::read(body, self.inbound.operation));
        }
        self.translation().is_ok()
    }

    /// Translates the request to the candidate's dialect.
    fn translation(&self) -> Result<Translation, Untranslatable> {
        let InboundRequest { request, dialect, unsupported_fields, .. } = self.inbound;
        match unsupported_fields.get() {
            Some(unsupported_fields) => unsupported_fields.translate(request, *dialect, self.provider.dialect),
            None => Ok(Translation::default()),
        }
    }

    /// Returns the limit that the server applies to the request, if one is known.
    fn limit(&self) -> Option<u64> {
        let request = &self.inbound.request;
        match self.inbound.operation {
            Operation::TextCompletion => Some(request.limit.unwrap_or(COMPLETIONS_DEFAULT)),
            Operation::Chat | Operation::Embeddings if self.provider.dialect == Dialect::Vllm => request.limit,
            Operation::Chat | Operation::Embeddings => request.largest_limit,
        }
    }

    fn bounds(&self, env: &Environment<'_>) -> Bounds {
        let (context_length, context_length_floor) = if self.provider.dialect == Dialect::Vllm {
            let mut lengths = self.state.context_lengths.borrow_mut();
            let known = lengths.get(env.store, env.now());
            (known.length(self.candidate.model), known.floor(self.candidate.model))
        } else {
            (None, 0)
        };
        let per_request = self.provider.max_tokens_per_request.map(u64::from);
        let caps = self.budgets.iter().flat_map(SubjectBudgets::capped).map(|(_, cap)| cap);
        Bounds {
            dialect: self.provider.dialect,
            ceiling: per_request.into_iter().chain(caps).min(),
            request_cap: per_request.is_some(),
            default_max_tokens: self.provider.default_max_tokens.into(),
            context_length,
            context_length_floor,
        }
    }

    /// Returns the refusal of a request that exceeds `maxTokensPerRequest` or the cap of a budget.
    fn never_fits(&self, TooLarge { needed, ceiling }: &TooLarge) -> Oversize {
        let exceeded = |of_subject: &SubjectBudgets<'_>| {
            let index = of_subject.capped().find(|(_, cap)| cap == ceiling)?.0;
            Some(of_subject.subject.describe_budget(index))
        };
        let per_request = self.provider.max_tokens_per_request.map(u64::from).filter(|most| needed > most);
        let most = match per_request {
            Some(most) => format!("model provider `{}` accepts at most {most} per request", self.provider.name),
            None => format!("{} is {ceiling}", self.budgets.iter().find_map(exceeded).unwrap_or_default()),
        };
        let why = format!(
            "This request needs at least {needed} tokens; {most}. Shorten the prompt or lower the limit of completion tokens."
        );
        Oversize { refusal: Refusal::new(Case::ContextLengthExceeded, why), of_request: per_request.is_some() }
    }

    /// Evaluates the provider's guards on the body. Adds the names of the guards that match to `matched_guards`, whether or not the
    /// request is rejected.
    pub fn guard(&self, body: &[u8], matched_guards: &mut String, env: &Environment<'_>) -> Result<(), Refusal> {
        let verdict = guard::evaluate(&self.provider.guards, body, self.inbound.operation);
        let name = |matched: &GuardMatch| self.provider.guards.get(matched.guard).map_or("", |guard| &*guard.name);
        let matches: Vec<&GuardMatch> = verdict.audits.iter().chain(&verdict.rejection).collect();
        matches.iter().for_each(|matched| self.state.count_guard_match(matched.guard, env));
        for matched in &matches {
            if !matched_guards.is_empty() {
                matched_guards.push(',');
            }
            matched_guards.push_str(name(matched));
        }
        let Some(matched) = verdict.rejection else { return Ok(()) };
        let what = match matched.reason {
            MatchReason::Unreadable => "contains a part that the guard cannot read (an image, audio, a file or token ids)",
            MatchReason::TooLong => "takes too long to evaluate: shorten it",
            MatchReason::Injection(_) | MatchReason::Pattern | MatchReason::Malformed => "contains text that is not allowed there",
        };
        let provider = &self.provider.name;
        let why = format!("Guard `{}` of model provider `{provider}` rejected the prompt: it {what}.", name(&matched));
        Err(Refusal::new(Case::PromptRejected, why))
    }

    fn reserve_budgets(&self, ask: Ask, env: &Environment<'_>) -> Result<Permit, Refusal> {
        env.reserve(&self.budgets, ask).map_err(|refused| {
            let Refused::Short { subject, budget, shortfall } = refused else { return Refusal::ledger_unavailable() };
            let of_subject = self.budgets.get(subject);
            let name = of_subject.map(|of_subject| of_subject.subject.describe_budget(budget));
            short(&name.unwrap_or_default(), shortfall, env)
        })
    }

    /// Returns the usage to request from the provider in addition to what the client requested.
    fn usage_to_request(&self) -> Option<RequestedUsage> {
        match self.provider.dialect {
            _ if !self.inbound.request.stream || self.inbound.operation == Operation::Embeddings => None,
            Dialect::Vllm => Some(RequestedUsage::Continuous),
            Dialect::OpenAi | Dialect::Anthropic => Some(RequestedUsage::Final),
        }
    }
}

/// Returns the refusal of a request for which too few tokens remain in the budget of this name.
fn short(name: &str, shortfall: Shortfall, env: &Environment<'_>) -> Refusal {
    let now = env.now();
    match shortfall {
        Shortfall::Exhausted => {
            let reset = go_duration(now.seconds_to_midnight());
            Refusal::new(Case::BudgetExhausted, format!("This request does not fit {name}. It resets at 00:00 UTC, in {reset}."))
        }
        Shortfall::Reserved => {
            Refusal::budget_reserved(format!("Requests in flight have reserved what remains of {name}. Try again in a moment."))
        }
        Shortfall::Drains(wait) => {
            Refusal::rate_exceeded(Case::BudgetReserved, &format!("This request does not yet fit {name}."), wait)
        }
    }
}
