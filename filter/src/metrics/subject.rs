//! The metrics of one agent or access key.

use std::cell::RefCell;
use std::rc::Rc;

use crate::metrics::{Batch, BudgetSeries, LabelledCounter, Series, label};

/// The metrics of one agent or access key.
#[derive(Debug)]
pub struct SubjectSeries {
    /// Requests, by how they ended.
    pub requests: LabelledCounter,
    /// Its daily budget.
    pub budget: BudgetSeries,
    labels: String,
    /// Tokens by provider and label of a model, in the order in which they occurred.
    tokens: RefCell<Vec<((usize, usize), TokenSeries)>>,
    /// Tokens of the models for which there is no more room.
    other: RefCell<Option<TokenSeries>>,
}

/// Tokens charged to a subject for one model.
#[derive(Debug, Clone)]
pub struct TokenSeries {
    prompt: Rc<Series>,
    completion: Rc<Series>,
}

// === impl SubjectSeries ===

impl SubjectSeries {
    /// Creates the metrics of a subject.
    pub fn new(subject: &str) -> Self {
        let mut labels = String::new();
        label(&mut labels, "subject", subject);
        Self {
            requests: LabelledCounter::new(&labels, "subject_requests_total", "decision"),
            budget: BudgetSeries::new(&labels, "subject_budget"),
            labels,
            tokens: RefCell::default(),
            other: RefCell::default(),
        }
    }

    /// Returns the counters for the model with these indices, a provider's and a label's. `names` returns their names for new counters, and
    /// `None` where there is no room for more: the tokens then count under `other`.
    pub fn tokens(&self, model: (usize, usize), names: impl FnOnce() -> Option<(String, String)>) -> TokenSeries {
        let mut tokens = self.tokens.borrow_mut();
        if let Some((_, series)) = tokens.iter().find(|(known, _)| *known == model) {
            return series.clone();
        }
        let Some((provider, model_label)) = names() else {
            return self.other.borrow_mut().get_or_insert_with(|| TokenSeries::new(&self.labels, "other", "other")).clone();
        };
        let series = TokenSeries::new(&self.labels, &provider, &model_label);
        tokens.push((model, series.clone()));
        series
    }
}

// === impl TokenSeries ===

impl TokenSeries {
    fn new(labels: &str, provider: &str, model: &str) -> Self {
        let mut labels = labels.to_owned();
        label(&mut labels, "provider", provider);
        label(&mut labels, "model", model);
        Self {
            prompt: Series::counter(&labels, "subject_prompt_tokens_total"),
            completion: Series::counter(&labels, "subject_completion_tokens_total"),
        }
    }

    /// Adds what a request was charged.
    pub fn add(&self, batch: &Batch, prompt: u64, completion: u64) {
        batch.add(&self.prompt, prompt);
        batch.add(&self.completion, completion);
    }
}
