//! One configuration at work: the policy, and for each provider, model, agent and key what goes with it.

use std::cell::{Cell, OnceCell, RefCell};
use std::num::NonZeroU64;
use std::rc::Rc;

use crate::budget::account::{BudgetLimit, BudgetSet, Shortfall};
use crate::budget::ledger::{Subject, SubjectBudgets};
use crate::clock::go_duration;
use crate::estimate::prompt_estimator::{PromptEstimator, ProviderContextLengths};
use crate::exchange::cooldown::Cooldown;
use crate::exchange::environment::Environment;
use crate::http::refusal::{Case, Refusal};
use crate::identity::access_key::AccessKey;
use crate::identity::agent::Agent;
use crate::identity::caller::Caller;
use crate::metrics::{self, BudgetSeries, ModelSeries, Series, SubjectSeries};
use crate::policy::{Candidate, Policy, Provider};

/// Places of budgets in the accounts of their subjects.
pub mod place {
    /// Tokens per day: the first budget of every subject.
    pub const DAY: usize = 0;
    /// The developers' share of a provider.
    pub const EXTERNAL: usize = 1;
    /// Tokens per minute of an access key.
    pub const TOKENS: usize = 1;
    /// Requests per minute of an access key.
    pub const REQUESTS: usize = 2;
}

/// Headers that show a budget: its cap, what remains of it, and when all of it is there again.
const TOKEN_HEADERS: [&str; 3] = ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
const REQUEST_HEADERS: [&str; 3] = ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];

/// Gauges of agents and keys that are renewed in one tick.
const SHOWN: usize = 256;

/// A policy with its budgets, its series, and what was learned.
#[derive(Debug)]
pub struct Gate {
    /// The policy.
    pub policy: Policy,
    /// As many as the policy has providers, in their order.
    pub providers: Vec<ProviderState>,
    /// What is counted under no provider.
    pub without_provider: ModelSeries,
    agents: Vec<CallerState>,
    keys: Vec<CallerState>,
    /// Those of whom there is something to show, and where the last tick stopped.
    active: RefCell<Vec<Caller>>,
    shown: Cell<usize>,
}

/// What goes with one provider.
#[derive(Debug)]
pub struct ProviderState {
    /// Its daily budget and the developers' share of it.
    pub subject: Rc<Subject>,
    /// Context lengths of its models.
    pub context_lengths: RefCell<ProviderContextLengths>,
    /// One for each label of its list of models.
    pub models: Vec<ModelState>,
    series: [BudgetSeries; 2],
    /// Hits of its guards, in their order.
    hits: Vec<Series>,
}

/// What goes with one model, or with all that one pattern lets through.
#[derive(Debug)]
pub struct ModelState {
    /// Its series.
    pub series: ModelSeries,
    /// Its tokens per byte.
    pub prompt_estimator: RefCell<PromptEstimator>,
    /// Whether it is to be left alone.
    pub cooldown: Cooldown,
}

/// What goes with one agent or access key.
#[derive(Debug)]
struct CallerState {
    subject: Rc<Subject>,
    /// Made when it first asks: most keys of many are asleep.
    series: OnceCell<Box<SubjectSeries>>,
}

// === impl Gate ===

impl Gate {
    /// Puts a policy to work.
    pub fn new(policy: Policy) -> Self {
        Self {
            providers: policy.providers.iter().map(ProviderState::new).collect(),
            agents: policy.agents.iter().map(CallerState::of_agent).collect(),
            keys: policy.keys.iter().map(CallerState::of_key).collect(),
            without_provider: ModelSeries::new("none", "none"),
            active: RefCell::default(),
            shown: Cell::new(0),
            policy,
        }
    }

    /// What goes with a candidate.
    pub fn model(&self, candidate: Candidate<'_>) -> Option<(&ProviderState, &ModelState)> {
        let state = self.providers.get(candidate.provider)?;
        let label = self.policy.providers.get(candidate.provider)?.models.label_index(candidate.model);
        Some((state, state.models.get(label)?))
    }

    /// The series of an agent or a key.
    pub fn caller_series(&self, caller: Caller) -> Option<&SubjectSeries> {
        let state = self.caller(caller)?;
        let series = state.series.get_or_init(|| {
            self.active.borrow_mut().push(caller);
            Box::new(SubjectSeries::new(&caller.subject(&self.policy)))
        });
        Some(series)
    }

    /// The budgets that a request of this caller to this provider must fit: the caller's own first.
    pub fn claims<'a>(&'a self, caller: Caller, provider: &'a ProviderState) -> Vec<SubjectBudgets<'a>> {
        let mut claims = Vec::with_capacity(2);
        if let Some(state) = self.caller(caller) {
            let budgets = state.budgets();
            if !budgets.is_empty() {
                claims.push(SubjectBudgets { subject: &state.subject, budgets });
            }
        }
        let daily = BudgetSet::one(place::DAY);
        let budgets = if matches!(caller, Caller::Developer(_)) { daily.and(place::EXTERNAL) } else { daily };
        claims.push(SubjectBudgets { subject: &provider.subject, budgets });
        claims
    }

    /// What messages call a budget.
    pub fn budget_name(&self, caller: Caller, candidate: Candidate<'_>, subject: &Subject, place: usize) -> String {
        let provider = self.policy.provider_name(candidate.provider);
        let of_provider = self.providers.get(candidate.provider).is_some_and(|state| state.subject.key == subject.key);
        match (of_provider, place) {
            (true, place::DAY) => format!("the daily token budget of model provider `{provider}`"),
            (true, _) => format!("the daily token budget for external use of model provider `{provider}`"),
            (false, place::DAY) => format!("the daily token budget of {}", self.who(caller)),
            (false, _) => format!("the tokens per minute of {}", self.who(caller)),
        }
    }

    /// What messages call a caller.
    fn who(&self, caller: Caller) -> String {
        let named = match caller {
            Caller::Developer(at) => self.policy.keys.get(at).map(|key| format!("access key `{}`", key.name)),
            Caller::Agent(at) => self.policy.agents.get(at).map(|agent| format!("agent `{}`", agent.name)),
            Caller::Anonymous | Caller::Operator => None,
        };
        named.unwrap_or_default()
    }

    /// Counts a request of this caller against its requests per minute.
    pub fn count_request(&self, caller: Caller, env: &Environment<'_>) -> Result<(), Refusal> {
        let Some(state) = self.caller(caller).filter(|state| state.has_cap(place::REQUESTS)) else { return Ok(()) };
        let claim = SubjectBudgets { subject: &state.subject, budgets: BudgetSet::one(place::REQUESTS) };
        match env.ledger().count(claim) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Shortfall::Drains(wait))) => Err(too_many(&self.who(caller), claim, wait)),
            Ok(Err(Shortfall::Reserved | Shortfall::Spent)) => Err(too_many(&self.who(caller), claim, 0)),
            Err(_) => Err(Refusal::ledger_unavailable()),
        }
    }

    /// The headers that show the budgets which are this caller's to see, as they stand: its own, else its provider's. Of several,
    /// the one with the least left. None where there is no cap, or the ledger cannot be read.
    pub fn budget_headers(&self, caller: Caller, provider: Option<usize>, env: &Environment<'_>) -> Vec<(&'static str, String)> {
        let own = self.caller(caller);
        let subject = match (caller, own) {
            (Caller::Developer(_), Some(state)) => &state.subject,
            (Caller::Agent(_), Some(state)) if state.has_cap(place::DAY) => &state.subject,
            _ => match provider.and_then(|provider| self.providers.get(provider)) {
                Some(state) => &state.subject,
                None => return Vec::new(),
            },
        };
        let visible: &[usize] = match caller {
            Caller::Developer(_) => &[place::DAY, place::TOKENS, place::REQUESTS],
            Caller::Anonymous | Caller::Agent(_) | Caller::Operator => &[place::DAY],
        };
        let limit = |place: usize| subject.limits.get(place).copied();
        if !visible.iter().any(|&place| limit(place).is_some_and(|limit| limit.cap.is_some())) {
            return Vec::new();
        }
        let (Ok(account), now) = (env.ledger().read(subject), env.now()) else { return Vec::new() };
        let shown = |&place: &usize| {
            let (limit, record) = (limit(place)?, account.record(place)?);
            let cap = limit.cap?;
            Some((place, cap, record.remaining(cap), record.reset(limit, now)))
        };
        let (requests, tokens): (Vec<_>, Vec<_>) = visible.iter().filter_map(shown).partition(|budget| budget.0 == place::REQUESTS);
        let tightest = tokens.into_iter().min_by_key(|budget| budget.2);
        let mut headers = Vec::with_capacity(6);
        for (names, budget) in [(TOKEN_HEADERS, tightest), (REQUEST_HEADERS, requests.into_iter().next())] {
            if let Some((_, cap, remaining, reset)) = budget {
                headers.extend(names.into_iter().zip([cap.to_string(), remaining.to_string(), go_duration(reset)]));
            }
        }
        headers
    }

    /// Shows the budgets as gauges; of agents and keys those that have asked, in turns.
    pub fn show_budgets(&self, env: &Environment<'_>) {
        for provider in &self.providers {
            let Ok(account) = env.ledger().read(&provider.subject) else { continue };
            for (place, (series, limit)) in provider.series.iter().zip(&provider.subject.limits).enumerate() {
                // Without a cap, the share is nothing that anybody set.
                if let Some(record) = account.record(place).filter(|_| place == place::DAY || limit.cap.is_some()) {
                    series.show(env.meter, record, limit.cap);
                }
            }
        }
        let active = self.active.borrow();
        let first = if self.shown.get() < active.len() { self.shown.get() } else { 0 };
        self.shown.set(first + SHOWN);
        for caller in active.iter().skip(first).take(SHOWN) {
            self.show_caller(*caller, env);
        }
    }

    fn show_caller(&self, caller: Caller, env: &Environment<'_>) {
        let Some(state) = self.caller(caller).filter(|state| state.has_cap(place::DAY)) else { return };
        let (Some(series), Ok(account)) = (state.series.get(), env.ledger().read(&state.subject)) else { return };
        if let (Some(record), Some(limit)) = (account.record(place::DAY), state.subject.limits.get(place::DAY)) {
            series.budget.show(env.meter, record, limit.cap);
        }
    }

    fn caller(&self, caller: Caller) -> Option<&CallerState> {
        match caller {
            Caller::Anonymous | Caller::Operator => None,
            Caller::Agent(place) => self.agents.get(place),
            Caller::Developer(place) => self.keys.get(place),
        }
    }

    /// Makes the providers known to the ledger, so that their age counts from now.
    pub fn introduce(&self, env: &Environment<'_>) {
        for provider in &self.providers {
            if env.ledger().introduce(&provider.subject).is_err() {
                metrics::filter_error(env.meter, "ledger");
            }
        }
        env.worker.borrow_mut().heartbeat.guard(self.subjects());
    }

    /// Everybody who has budgets.
    pub fn subjects(&self) -> impl Iterator<Item = &Rc<Subject>> {
        let callers = self.agents.iter().chain(&self.keys).map(|caller| &caller.subject);
        self.providers.iter().map(|provider| &provider.subject).chain(callers)
    }
}

fn too_many(who: &str, claim: SubjectBudgets<'_>, wait: u64) -> Refusal {
    let most = claim.capped().next().map_or(0, |(_, cap)| cap);
    Refusal::drains(Case::RequestRate, &format!("The requests per minute of {who} are {most}."), wait)
}

// === impl ProviderState ===

impl ProviderState {
    fn new(provider: &Provider) -> Self {
        let model = |label: String| ModelState {
            series: ModelSeries::new(&provider.name, &label),
            prompt_estimator: RefCell::new(PromptEstimator::new(&provider.name, &label)),
            cooldown: Cooldown::default(),
        };
        let share = provider.external.and_then(|external| external.max_tokens_per_day);
        let limits = [BudgetLimit::per_day(cap(provider.max_tokens_per_day)), BudgetLimit::per_day(cap(share))];
        Self {
            subject: subject("provider", &provider.name, &limits),
            context_lengths: RefCell::new(ProviderContextLengths::new(&provider.name)),
            models: provider.models.labels().into_iter().map(model).collect(),
            series: BudgetSeries::of_provider(&provider.name),
            hits: provider.guards.iter().map(|guard| metrics::guard_hits(&provider.name, guard)).collect(),
        }
    }

    /// Counts what the guard at this place has found.
    pub fn count_hit(&self, guard: usize, env: &Environment<'_>) {
        if let Some(series) = self.hits.get(guard) {
            series.add(env.meter, 1);
        }
    }
}

// === impl CallerState ===

impl CallerState {
    fn of_agent(agent: &Agent) -> Self {
        Self::new(subject("agent", &agent.name, &[BudgetLimit::per_day(cap(agent.max_tokens_per_day))]))
    }

    fn of_key(key: &AccessKey) -> Self {
        let limits = [
            BudgetLimit::per_day(cap(key.max_tokens_per_day)),
            BudgetLimit::per_minute(cap(key.tokens_per_minute)),
            BudgetLimit::per_minute(cap(key.requests_per_minute)),
        ];
        Self::new(subject("key", &key.name, &limits))
    }

    fn new(subject: Rc<Subject>) -> Self {
        Self { subject, series: OnceCell::new() }
    }

    fn has_cap(&self, place: usize) -> bool {
        self.subject.limits.get(place).is_some_and(|limit| limit.cap.is_some())
    }

    /// The budgets of tokens that a request must fit; none where no cap is set.
    fn budgets(&self) -> BudgetSet {
        match (self.has_cap(place::DAY), self.has_cap(place::TOKENS)) {
            (false, false) => BudgetSet::default(),
            (true, false) => BudgetSet::one(place::DAY),
            // What is used in a day is counted along: a cap may be set later.
            (_, true) => BudgetSet::one(place::DAY).and(place::TOKENS),
        }
    }
}

fn subject(kind: &str, name: &str, limits: &[BudgetLimit]) -> Rc<Subject> {
    Rc::new(Subject { key: format!("pai/1/account/{kind}/{name}").into(), limits: limits.into() })
}

fn cap(tokens: Option<NonZeroU64>) -> Option<u64> {
    tokens.map(NonZeroU64::get)
}
