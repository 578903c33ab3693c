//! One configuration at work: the policy, its budgets, and for each provider and model the state that goes with it.

use std::cell::RefCell;
use std::rc::Rc;

use crate::budget::rate_limit_headers::rate_limit_headers;
use crate::budget::subject::BudgetKind;
use crate::estimate::prompt_estimator::PromptEstimator;
use crate::estimate::provider_model_limits::ProviderModelLimits;
use crate::exchange::caller_series::CallerSeries;
use crate::exchange::cooldown::Cooldown;
use crate::exchange::environment::Environment;
use crate::exchange::token_count::TokenCounts;
use crate::identity::budgets::Budgets;
use crate::identity::caller::Caller;
use crate::metrics::{self, BudgetSeries, LabelledCounter, ModelSeries, Series, requests_without_provider};
use crate::policy::{Candidate, Policy, Provider};

/// A policy with its budgets, metrics and estimates.
#[derive(Debug)]
pub struct Gate {
    /// The policy.
    pub policy: Policy,
    /// The budgets of its providers and callers.
    pub budgets: Budgets,
    /// The state of each provider, in the order of the policy.
    pub providers: Vec<ProviderState>,
    /// The metrics of its agents and access keys.
    pub callers: CallerSeries,
    /// Requests that reach no provider, by how they ended.
    pub without_provider: LabelledCounter,
}

/// The state of one provider.
#[derive(Debug)]
pub struct ProviderState {
    /// What is known of its models.
    pub model_limits: RefCell<ProviderModelLimits>,
    /// Whether its server can be requested to count tokens.
    pub token_counts: TokenCounts,
    /// One for each label of its list of models.
    pub models: Vec<ModelState>,
    /// Gauges of its budgets, in the order of its account.
    gauges: [BudgetSeries; 2],
    /// Matches of its guards, in their order.
    guard_matches: Vec<Rc<Series>>,
}

/// The state of one model, or of all models that one pattern allows.
#[derive(Debug)]
pub struct ModelState {
    /// Its metrics.
    pub series: ModelSeries,
    /// Estimates its prompts.
    pub prompt_estimator: RefCell<PromptEstimator>,
    /// Whether it is cooling down after failures.
    pub cooldown: Cooldown,
}

// === impl Gate ===

impl Gate {
    /// Puts a policy to work.
    pub fn new(policy: Policy) -> Self {
        Self {
            budgets: Budgets::new(&policy),
            providers: policy.providers.iter().map(ProviderState::new).collect(),
            callers: CallerSeries::new(&policy),
            without_provider: requests_without_provider(),
            policy,
        }
    }

    /// Returns the state of a candidate, `None` where the policy has no such provider.
    pub fn model(&self, candidate: Candidate<'_>) -> Option<(&ProviderState, &ModelState)> {
        let state = self.providers.get(candidate.provider)?;
        let label = self.policy.providers.get(candidate.provider)?.models.label_index(candidate.model);
        Some((state, state.models.get(label)?))
    }

    /// Returns the `x-ratelimit-*` headers that show the budgets which this caller may see.
    pub fn rate_limit_headers(
        &self,
        caller: Caller,
        provider: Option<usize>,
        env: &Environment<'_>,
    ) -> Vec<(&'static str, String)> {
        let visible = self.budgets.visible(caller, provider);
        visible.map_or_else(Vec::new, |(subject, budgets)| rate_limit_headers(subject, budgets, &env.recent_ledger()))
    }

    /// Counts the tokens that a request of this caller was charged for a candidate.
    pub fn count_tokens(&self, caller: Caller, candidate: Candidate<'_>, prompt: u64, completion: u64, env: &Environment<'_>) {
        if let Some((_, model)) = self.model(candidate) {
            env.count(&model.series.prompt_tokens, prompt);
            env.count(&model.series.completion_tokens, completion);
        }
        if let (Caller::Agent(_) | Caller::Developer(_), Some(provider)) = (caller, self.policy.providers.get(candidate.provider)) {
            let label = provider.models.label_index(candidate.model);
            if let Some(tokens) = self.callers.tokens(caller, (candidate.provider, label), &self.policy) {
                tokens.add(&env.worker.borrow().counts, prompt, completion);
            }
        }
    }

    /// Renews the gauges of the budgets: of all providers, and of the next agents and access keys that have made a request.
    pub fn show_budgets(&self, env: &Environment<'_>) {
        for (subject, state) in self.budgets.providers().zip(&self.providers) {
            let Ok(account) = env.ledger().read(subject) else { continue };
            for (index, (gauges, limit)) in state.gauges.iter().zip(&subject.limits).enumerate() {
                // An external share without a cap is no budget.
                let shown = limit.cap.is_some() || subject.index(BudgetKind::Daily) == Some(index);
                if let Some(record) = account.record(index).filter(|_| shown) {
                    gauges.show(env.meter, record, limit.cap);
                }
            }
        }
        self.callers.show_budgets(&self.budgets, env);
    }

    /// Makes the providers known to the ledger, so that their age counts from now.
    pub fn introduce(&self, env: &Environment<'_>) {
        for subject in self.budgets.providers() {
            if env.ledger().introduce(subject).is_err() {
                metrics::filter_error(env.meter, "ledger");
            }
        }
        env.worker.borrow_mut().heartbeat.guard(self.budgets.all());
    }
}

// === impl ProviderState ===

impl ProviderState {
    fn new(provider: &Provider) -> Self {
        let model = |label: String| ModelState {
            series: ModelSeries::new(&provider.name, &label),
            prompt_estimator: RefCell::new(PromptEstimator::new(&provider.name, &label, provider.prompt_estimate)),
            cooldown: Cooldown::default(),
        };
        Self {
            model_limits: RefCell::new(ProviderModelLimits::new(&provider.name)),
            token_counts: TokenCounts::new(&provider.name),
            models: provider.models.labels().into_iter().map(model).collect(),
            gauges: BudgetSeries::of_provider(&provider.name),
            guard_matches: provider.guards.iter().map(|guard| metrics::guard_matches(&provider.name, guard)).collect(),
        }
    }

    /// Counts a match of the guard at this index.
    pub fn count_guard_match(&self, guard: usize, env: &Environment<'_>) {
        if let Some(series) = self.guard_matches.get(guard) {
            env.count(series, 1);
        }
    }
}
