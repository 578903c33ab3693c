//! One candidate on trial for one request: the sizes, the guards and the budgets, in this order (design 4, rows 10 to 14).
//!
//! The one that the request names is tried whole. Of the others, sizes and guards are looked at before anything is sent, as the
//! body is there only then; sizes and budgets once more when their turn comes.

use crate::budget::account::{Ask, Shortfall};
use crate::budget::ledger::{Permit, Refused};
use crate::budget::plan::{Bounds, COMPLETIONS_DEFAULT, Demand, Plan, TooLarge};
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

/// A candidate, and the request that it may serve.
pub struct Evaluation<'a> {
    gate: &'a Gate,
    candidate: Candidate<'a>,
    provider: &'a Provider,
    state: &'a ProviderState,
    model: &'a ModelState,
    inbound: &'a InboundRequest,
    /// The budgets that it must fit.
    claims: Vec<SubjectBudgets<'a>>,
}

/// A request fits a candidate by its size.
pub struct Fit {
    plan: Option<Plan>,
    bounds: Bounds,
    ask: Ask,
}

/// A request can never fit.
pub struct Oversize {
    /// What its sender is told.
    pub refusal: Refusal,
    /// It is the provider's `maxTokensPerRequest`, not the whole of a budget, that is in the way.
    pub of_request: bool,
}

// === impl Evaluation ===

impl<'a> Evaluation<'a> {
    /// `None` where the candidate is none of this gate's.
    pub fn new(gate: &'a Gate, candidate: Candidate<'a>, inbound: &'a InboundRequest) -> Option<Self> {
        let provider = gate.policy.providers.get(candidate.provider)?;
        let (state, model) = gate.model(candidate)?;
        let claims = gate.budgets.required(inbound.caller, candidate.provider);
        Some(Self { gate, candidate, provider, state, model, inbound, claims })
    }

    /// The candidate.
    pub fn candidate(&self) -> Candidate<'a> {
        self.candidate
    }

    /// Whether it may be asked although another could be, now that it may have failed everybody.
    pub fn is_available(&self, env: &Environment<'_>) -> bool {
        self.model.cooldown.allows(env.now())
    }

    /// It is asked although another could be.
    pub fn record_start(&self, env: &Environment<'_>) {
        self.model.cooldown.record_start(env.now());
    }

    /// Whether the size of the request is one that the candidate can take.
    pub fn fit(&self, env: &Environment<'_>) -> Result<Fit, Oversize> {
        let request = &self.inbound.request;
        let prompt = self.model.prompt_estimator.borrow_mut().estimate(env.store, env.now(), &request.prompt);
        let demand = Demand {
            prompt,
            limit: self.limit(),
            min_tokens: request.min_tokens,
            choices: request.choices,
            sequences: request.sequences,
        };
        let bounds = self.bounds(env);
        let plan = Plan::new(demand, &bounds).map_err(|size| self.never_fits(&size))?;
        // Without a plan nothing bounds the request, and no budget has a cap to hold anything of.
        let ask = plan.map_or(Ask { least: 1, most: prompt.high, prompt: prompt.high }, |plan| plan.ask);
        Ok(Fit { plan, bounds, ask })
    }

    /// Reserves what the request may take, and says how it is to be changed.
    pub fn reserve(&self, fitting: &Fit, env: &Environment<'_>) -> Result<(Admission, BodyChanges), Refusal> {
        let Fit { plan, bounds, ask } = fitting;
        let permit = self.claim(*ask, env)?;
        env.count(&self.model.series.reserved_tokens, permit.granted.unwrap_or(0));
        let granted = permit.granted.unwrap_or(ask.most);
        let limit = plan.and_then(|plan| plan.limit(granted));
        let grant = Admission {
            permit,
            prompt_estimate: ask.prompt.min(granted),
            // With fixed routing the host may not be able to hold an answer's headers.
            unsure_limit: bounds.is_unsure() && limit.is_some() && self.gate.policy.gateway.routing == Routing::Body,
        };
        let translation = self.translation().unwrap_or_default();
        let usage = self.ask_usage().filter(|_| !translation.stream_options);
        let edit = BodyEdit {
            model: Some(self.candidate.model),
            limit,
            limit_field: LimitField::injected_for(self.provider.dialect, self.inbound.operation),
            usage,
        };
        Ok((grant, edit.changes(&self.inbound.request, translation.changes)))
    }

    /// Whether the request, of which this is the body, can be said in the candidate's dialect.
    pub fn can_translate(&self, body: &[u8]) -> bool {
        if self.provider.dialect != self.inbound.dialect {
            self.inbound.unsupported_fields.get_or_init(|| UnsupportedFields::read(body, self.inbound.operation));
        }
        self.translation().is_ok()
    }

    /// What makes the request fit the candidate's dialect.
    fn translation(&self) -> Result<Translation, Untranslatable> {
        let InboundRequest { request, dialect, unsupported_fields, .. } = self.inbound;
        match unsupported_fields.get() {
            Some(unsupported_fields) => unsupported_fields.translate(request, *dialect, self.provider.dialect),
            None => Ok(Translation::default()),
        }
    }

    /// The limit that the server will go by, if one is known.
    fn limit(&self) -> Option<u64> {
        let request = &self.inbound.request;
        match self.inbound.operation {
            Operation::TextCompletion => Some(request.limit.unwrap_or(COMPLETIONS_DEFAULT)),
            Operation::Chat | Operation::Embeddings if self.provider.dialect == Dialect::Vllm => request.limit,
            Operation::Chat | Operation::Embeddings => request.largest_limit,
        }
    }

    fn bounds(&self, env: &Environment<'_>) -> Bounds {
        let (window, window_floor) = if self.provider.dialect == Dialect::Vllm {
            let mut lengths = self.state.context_lengths.borrow_mut();
            let known = lengths.get(env.store, env.now());
            (known.length(self.candidate.model), known.floor(self.candidate.model))
        } else {
            (None, 0)
        };
        let per_request = self.provider.max_tokens_per_request.map(u64::from);
        let whole_budgets = self.claims.iter().flat_map(SubjectBudgets::capped).map(|(_, cap)| cap);
        Bounds {
            dialect: self.provider.dialect,
            ceiling: per_request.into_iter().chain(whole_budgets).min(),
            request_cap: per_request.is_some(),
            default_max_tokens: self.provider.default_max_tokens.into(),
            window,
            window_floor,
        }
    }

    /// The request is larger than what one request, or all of a budget, may take.
    fn never_fits(&self, TooLarge { needed, ceiling }: &TooLarge) -> Oversize {
        let whole = |claim: &SubjectBudgets<'_>| {
            let place = claim.capped().find(|(_, cap)| cap == ceiling)?.0;
            Some(claim.subject.describe_budget(place))
        };
        let per_request = self.provider.max_tokens_per_request.map(u64::from).filter(|most| needed > most);
        let most = match per_request {
            Some(most) => format!("model provider `{}` takes {most} for one request", self.provider.name),
            None => format!("{} is {ceiling} in all", self.claims.iter().find_map(whole).unwrap_or_default()),
        };
        let why = format!(
            "This request needs at least {needed} tokens; {most}. Shorten the prompt or lower the limit of completion tokens."
        );
        Oversize { refusal: Refusal::new(Case::ContextLengthExceeded, why), of_request: per_request.is_some() }
    }

    /// Has the provider's guards judge the body. The names of those that find something go into `matched_guards`, whatever comes of it.
    pub fn guard(&self, body: &[u8], matched_guards: &mut String, env: &Environment<'_>) -> Result<(), Refusal> {
        let verdict = guard::evaluate(&self.provider.guards, body, self.inbound.operation);
        let name = |hit: &GuardMatch| self.provider.guards.get(hit.guard).map_or("", |guard| &*guard.name);
        let hits: Vec<&GuardMatch> = verdict.audits.iter().chain(&verdict.rejection).collect();
        hits.iter().for_each(|hit| self.state.count_guard_match(hit.guard, env));
        for hit in &hits {
            if !matched_guards.is_empty() {
                matched_guards.push(',');
            }
            matched_guards.push_str(name(hit));
        }
        let Some(hit) = verdict.rejection else { return Ok(()) };
        let what = match hit.reason {
            MatchReason::Unreadable => "that it cannot read (an image, audio, a file or token ids)",
            MatchReason::TooLong => "that it cannot judge in the time it has: shorten it",
            MatchReason::Injection(_) | MatchReason::Pattern | MatchReason::Malformed => "that is not allowed there",
        };
        let provider = &self.provider.name;
        let why = format!("Guard `{}` of model provider `{provider}` has found something in the prompt {what}.", name(&hit));
        Err(Refusal::new(Case::PromptRejected, why))
    }

    fn claim(&self, ask: Ask, env: &Environment<'_>) -> Result<Permit, Refusal> {
        env.reserve(&self.claims, ask).map_err(|refused| {
            let Refused::Short { claim, budget, shortfall } = refused else { return Refusal::ledger_unavailable() };
            let claim = self.claims.get(claim);
            let name = claim.map(|claim| claim.subject.describe_budget(budget));
            short(&name.unwrap_or_default(), shortfall, env)
        })
    }

    /// What usage to ask for beyond what the client asked for.
    fn ask_usage(&self) -> Option<RequestedUsage> {
        match self.provider.dialect {
            _ if !self.inbound.request.stream || self.inbound.operation == Operation::Embeddings => None,
            Dialect::Vllm => Some(RequestedUsage::Continuous),
            Dialect::OpenAi | Dialect::Anthropic => Some(RequestedUsage::Final),
        }
    }
}

/// A budget of this name does not hold the request.
fn short(name: &str, shortfall: Shortfall, env: &Environment<'_>) -> Refusal {
    let now = env.now();
    match shortfall {
        Shortfall::Spent => {
            let reset = go_duration(now.seconds_to_midnight());
            Refusal::budget_exhausted(format!("This request does not fit {name}. It resets at 00:00 UTC, in {reset}."), now)
        }
        Shortfall::Reserved => {
            Refusal::budget_reserved(format!("Requests in flight hold what is left of {name}. Try again in a moment."))
        }
        Shortfall::Drains(wait) => {
            Refusal::rate_exceeded(Case::BudgetReserved, &format!("This request does not yet fit {name}."), wait)
        }
    }
}
