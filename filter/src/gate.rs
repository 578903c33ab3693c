//! One configuration at work: the policy, and for each provider and model what goes with it.

use std::cell::RefCell;

use crate::budget::Record;
use crate::clock::go_duration;
use crate::host::Host;
use crate::knowledge::{KnownWindows, Lessons};
use crate::ledger::{Budget, Unavailable};
use crate::metrics::{self, BudgetSeries, ModelSeries};
use crate::policy::{Candidate, Policy};

/// A policy with its budgets, its series, and what was learned.
#[derive(Debug)]
pub struct Gate {
    /// The policy.
    pub policy: Policy,
    /// As many as the policy has providers, in their order.
    pub providers: Vec<ProviderState>,
    /// What is counted under no provider.
    pub nowhere: ModelSeries,
}

/// What goes with one provider.
#[derive(Debug)]
pub struct ProviderState {
    /// Its daily budget.
    pub budget: Budget,
    /// Windows of its models.
    pub windows: RefCell<KnownWindows>,
    /// One for each label of its list of models.
    pub models: Vec<ModelState>,
    series: BudgetSeries,
}

/// What goes with one model, or with all that one pattern lets through.
#[derive(Debug)]
pub struct ModelState {
    /// Its series.
    pub series: ModelSeries,
    /// Its tokens per byte.
    pub lessons: RefCell<Lessons>,
}

// === impl Gate ===

impl Gate {
    /// Puts a policy to work.
    pub fn new(policy: Policy) -> Self {
        let providers = policy.providers.iter().map(ProviderState::new).collect();
        Self { policy, providers, nowhere: ModelSeries::new("none", "none") }
    }

    /// What goes with a candidate.
    pub fn model(&self, candidate: Candidate<'_>) -> Option<(&ProviderState, &ModelState)> {
        let state = self.providers.get(candidate.provider)?;
        let label = self.policy.providers.get(candidate.provider)?.models.label(candidate.model);
        Some((state, state.models.get(label)?))
    }

    /// Makes the budgets known to the ledger, so that their age counts from now.
    pub fn introduce(&self, host: &Host<'_>) {
        for provider in &self.providers {
            if host.ledger().introduce(&provider.budget.key).is_err() {
                metrics::filter_error(host.meter, "ledger");
            }
        }
        let keys = self.providers.iter().map(|provider| &*provider.budget.key);
        host.worker.borrow_mut().heartbeat.guard(keys);
    }

    /// The headers that show a provider's daily budget as it stands; none where it has no cap or cannot be read.
    pub fn budget_headers(&self, provider: usize, host: &Host<'_>) -> Vec<(&'static str, String)> {
        let Some(state) = self.providers.get(provider) else { return Vec::new() };
        let (Some(cap), Ok(record)) = (state.budget.cap, state.record(host)) else { return Vec::new() };
        vec![
            ("x-ratelimit-limit-tokens", cap.to_string()),
            ("x-ratelimit-remaining-tokens", record.remaining(cap).to_string()),
            ("x-ratelimit-reset-tokens", go_duration(host.now().seconds_to_midnight())),
        ]
    }

    /// Shows the budgets as gauges.
    pub fn show_budgets(&self, host: &Host<'_>) {
        for provider in &self.providers {
            let Ok(record) = host.ledger().read(&provider.budget.key) else { continue };
            provider.series.used.record(host.meter, record.used);
            provider.series.reserved.record(host.meter, record.reserved());
            if let Some(cap) = provider.budget.cap {
                provider.series.limit.record(host.meter, cap);
            }
        }
    }
}

// === impl ProviderState ===

impl ProviderState {
    fn new(provider: &crate::policy::Provider) -> Self {
        let model = |label: String| ModelState {
            series: ModelSeries::new(&provider.name, &label),
            lessons: RefCell::new(Lessons::new(&provider.name, &label)),
        };
        Self {
            budget: Budget {
                key: format!("pai/1/budget/provider/{}", provider.name).into(),
                cap: provider.max_tokens_per_day.map(Into::into),
            },
            windows: RefCell::new(KnownWindows::new(&provider.name)),
            models: provider.models.labels().into_iter().map(model).collect(),
            series: BudgetSeries::new(&provider.name),
        }
    }

    /// The record of the daily budget.
    pub fn record(&self, host: &Host<'_>) -> Result<Record, Unavailable> {
        host.ledger().read(&self.budget.key)
    }
}
