//! The evaluation of one candidate for one request: sizes, guards and budgets, in this order.
//!
//! The candidate that the request names is evaluated completely. For the other candidates, sizes and guards are checked before the
//! request is sent, because the body is available only then. Sizes and budgets are checked again when they are tried.

use crate::budget::account::{Ask, Shortfall};
use crate::budget::ledger::{Permit, Refused};
use crate::budget::plan::{Bounds, COMPLETIONS_DEFAULT, Plan, RequestSize, TooLarge};
use crate::budget::subject::SubjectBudgets;
use crate::clock::go_duration;
use crate::estimate::model_limits::ModelLimits;
use crate::estimate::prompt_tokens::Estimate;
use crate::exchange::access_log::DecisionLog;
use crate::exchange::attempt::Admission;
use crate::exchange::environment::Environment;
use crate::exchange::gate::{Gate, ModelState, ProviderState};
use crate::exchange::inbound::InboundRequest;
use crate::exchange::token_count;
use crate::guard::{self, GuardMatch, MatchReason};
use crate::http::refusal::{Case, Refusal};
use crate::openai::{BodyChanges, BodyEdit, Operation, RequestedUsage, Translation, UnsupportedFields, Untranslatable};
use crate::policy::{Candidate, Dialect, LimitField, PromptEstimate, Provider, Routing};

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
    /// What the exact number of the prompt's tokens could change; `None` if it is known, or cannot be requested.
    count: Option<CountMatters>,
}

/// How the exact number of the prompt's tokens could change what becomes of a request.
struct CountMatters {
    /// Whether it could change the limit that is injected, or show that the request can never fit.
    changes_limit: bool,
    /// The least ask it could lead to.
    least: Ask,
}

/// Why a candidate does not get the request now.
pub enum Declined {
    /// Its budgets, or the ledger.
    Short(Short),
    /// The exact number of the prompt's tokens decides, and the server can be requested to count them.
    Uncounted,
}

/// The refusal of a request for which too few tokens remain.
pub struct Short {
    /// The refusal for the client.
    pub refusal: Refusal,
    /// Whether used tokens alone are the reason, without any reservation.
    pub only_used: bool,
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
        let exact = self.inbound.counted.as_ref().and_then(|counted| counted.of(self.candidate));
        let prompt = match exact {
            Some(tokens) => Estimate { low: tokens, typical: tokens, high: tokens },
            None => self.model.prompt_estimator.borrow_mut().estimate(env.store, env.now(), &request.prompt),
        };
        let size = RequestSize {
            prompt,
            limit: self.limit(),
            is_named: self.named_limit().is_some(),
            min_tokens: request.min_tokens,
            choices: request.choices,
            sequences: request.sequences,
        };
        let bounds = self.bounds(env);
        let plan = Plan::new(size, &bounds).map_err(|too_large| {
            let request_cap = bounds.request_cap.filter(|most| too_large.needed > *most);
            self.never_fits("needs at least", &too_large, request_cap)
        })?;
        // Without a plan no limit applies, and no budget has a cap.
        let ask = plan.map_or(Ask { least: 1, ..Ask::whole(prompt.high, prompt.high) }, |plan| plan.ask);
        let count = plan.filter(|_| self.can_count(env)).and_then(|plan| count_matters(&plan, size, &bounds));
        if let Some(too_large) = plan.filter(|_| count.is_none()).and_then(|plan| plan.beyond_caps(&bounds)) {
            return Err(self.never_fits("may need up to", &too_large, None));
        }
        Ok(Fit { plan, bounds, ask, count })
    }

    /// Returns whether the server can be requested to count the prompt's tokens.
    fn can_count(&self, env: &Environment<'_>) -> bool {
        let InboundRequest { request, counted, operation, length, .. } = self.inbound;
        counted.is_none()
            && self.provider.dialect == Dialect::Vllm
            && self.gate.policy.callout(self.candidate.provider).is_some()
            && token_count::is_countable(request, *operation, *length)
            && self.state.token_counts.are_available(env.now())
    }

    /// Reserves the tokens of the request. Returns the reservations and the changes to the body.
    pub fn reserve(&self, fit: &Fit, env: &Environment<'_>) -> Result<(Admission, BodyChanges), Declined> {
        let uncounted = |matters: &CountMatters| env.ledger().holds(&self.budgets, matters.least);
        if fit.count.as_ref().is_some_and(|matters| matters.changes_limit && uncounted(matters)) {
            return Err(Declined::Uncounted);
        }
        self.reserve_budgets(fit.ask, env).map(|permit| self.admit(fit, permit, env)).map_err(|short| {
            match &fit.count {
                // Without the ledger nothing is known.
                Some(matters) if short.refusal.case != Case::LedgerUnavailable && uncounted(matters) => Declined::Uncounted,
                _ => Declined::Short(short),
            }
        })
    }

    /// Reserves what the budgets have left for a request that names a limit, and lowers the limit to that. Returns `None` if the request
    /// names none, or too little is left.
    pub fn reserve_lowered(&self, fit: &Fit, env: &Environment<'_>) -> Option<Result<(Admission, BodyChanges), Short>> {
        let ask = fit.plan?.lowered?;
        Some(self.reserve_budgets(ask, env).map(|permit| self.admit(fit, permit, env)))
    }

    fn admit(&self, fit: &Fit, permit: Permit, env: &Environment<'_>) -> (Admission, BodyChanges) {
        let Fit { plan, bounds, ask, .. } = fit;
        env.count(&self.model.series.reserved_tokens, permit.grant.tokens.unwrap_or(0));
        let limit = plan.and_then(|plan| plan.limit(permit.grant));
        if let Some(limit) = limit {
            env.count(&self.model.series.limited.of(limit.by.name()), 1);
        }
        let admission = Admission {
            prompt_estimate: ask.prompt.min(permit.grant.tokens.unwrap_or(ask.most)),
            permit,
            limit,
            // With `routing: fixed` the host may be unable to hold back the headers of a response.
            limit_may_be_rejected: bounds.limit_may_be_rejected()
                && limit.is_some()
                && self.gate.policy.gateway.routing == Routing::Body,
        };
        let translation = self.translation().unwrap_or_default();
        let usage = self.usage_to_request().filter(|_| !translation.stream_options);
        let edit = BodyEdit {
            model: Some(self.candidate.model),
            limit: limit.map(|limit| limit.tokens),
            limit_field: match self.inbound.operation {
                Operation::Chat => self.provider.limit_field,
                Operation::TextCompletion | Operation::Embeddings => LimitField::MaxTokens,
            },
            usage,
        };
        (admission, edit.changes(&self.inbound.request, translation.changes))
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
        let default = (self.inbound.operation == Operation::TextCompletion).then_some(COMPLETIONS_DEFAULT);
        self.named_limit().or(default)
    }

    /// Returns the limit that the request names.
    fn named_limit(&self) -> Option<u64> {
        let request = &self.inbound.request;
        if self.provider.dialect == Dialect::Vllm { request.limit } else { request.largest_limit }
    }

    fn bounds(&self, env: &Environment<'_>) -> Bounds {
        let known = self.state.model_limits.borrow_mut().get(env.store, env.now()).of(self.candidate.model);
        let model = match self.provider.dialect {
            Dialect::Vllm => known,
            // Of hosted models, only the largest completion is recorded.
            Dialect::OpenAi | Dialect::Anthropic => ModelLimits { context_length: None, context_length_floor: 0, ..known },
        };
        Bounds {
            dialect: self.provider.dialect,
            request_cap: self.provider.max_tokens_per_request.map(u64::from),
            smallest_cap: self.budgets.iter().flat_map(SubjectBudgets::capped).map(|(_, cap)| cap).min(),
            default_max_tokens: self.provider.default_max_tokens.into(),
            model,
            is_strict: self.provider.prompt_estimate == PromptEstimate::Strict,
        }
    }

    /// Returns the refusal of a request that exceeds `maxTokensPerRequest` (`request_cap`) or the cap of a budget.
    fn never_fits(&self, needs: &str, TooLarge { needed, ceiling }: &TooLarge, request_cap: Option<u64>) -> Oversize {
        let exceeded = |of_subject: &SubjectBudgets<'_>| {
            let index = of_subject.capped().find(|(_, cap)| cap == ceiling)?.0;
            Some(of_subject.subject.describe_budget(index))
        };
        let most = match request_cap {
            Some(most) => format!("model provider `{}` accepts at most {most} per request", self.provider.name),
            None => format!("{} is {ceiling}", self.budgets.iter().find_map(exceeded).unwrap_or_default()),
        };
        let why =
            format!("This request {needs} {needed} tokens; {most}. Shorten the prompt or lower the limit of completion tokens.");
        Oversize { refusal: Refusal::new(Case::ContextLengthExceeded, why), of_request: request_cap.is_some() }
    }

    /// Evaluates the provider's guards on the body, once for a request. Adds the names of the guards that match to `notes`, whether or not
    /// the request is rejected.
    pub fn guard(&self, body: &[u8], notes: &mut DecisionLog, env: &Environment<'_>) -> Result<(), Refusal> {
        let provider = self.candidate.provider;
        if let Some((_, verdict)) = notes.verdicts.iter().find(|(evaluated, _)| *evaluated == provider) {
            return verdict.clone().map_or(Ok(()), Err);
        }
        let verdict = self.evaluate_guards(body, &mut notes.matched_guards, env);
        notes.verdicts.push((provider, verdict.clone().err()));
        verdict
    }

    fn evaluate_guards(&self, body: &[u8], matched_guards: &mut String, env: &Environment<'_>) -> Result<(), Refusal> {
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

    fn reserve_budgets(&self, ask: Ask, env: &Environment<'_>) -> Result<Permit, Short> {
        env.reserve(&self.budgets, ask).map_err(|refused| {
            let Refused::Short { subject, budget, shortfall } = refused else {
                return Short { refusal: Refusal::ledger_unavailable(), only_used: false };
            };
            let of_subject = self.budgets.get(subject);
            let name = of_subject.map(|of_subject| of_subject.subject.describe_budget(budget));
            Short { refusal: short(&name.unwrap_or_default(), shortfall, env), only_used: shortfall != Shortfall::Reserved }
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

/// Returns how the exact number of the prompt's tokens could change what becomes of a request with this plan; `None` if the bounds of the
/// prompt's tokens lead to one and the same.
fn count_matters(plan: &Plan, size: RequestSize, bounds: &Bounds) -> Option<CountMatters> {
    let Estimate { low, high, .. } = size.prompt;
    if low == high {
        return None;
    }
    let with = |tokens| Plan::new(RequestSize { prompt: Estimate { low: tokens, typical: tokens, high: tokens }, ..size }, bounds);
    let fewest = with(low).ok()??;
    let changes_limit = plan.differs_from(&fewest, bounds.default_max_tokens) || with(high).is_err();
    Some(CountMatters { changes_limit, least: fewest.ask })
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
