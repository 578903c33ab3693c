//! Which budgets apply to a caller at a provider, and which of them the caller may see.

use std::rc::Rc;

use crate::budget::account::BudgetSet;
use crate::budget::subject::{BudgetKind, Subject, SubjectBudgets, SubjectKind};
use crate::identity::access_key::AccessKey;
use crate::identity::agent::Agent;
use crate::identity::caller::Caller;
use crate::policy::{Policy, Provider};

/// The budgets of all providers, agents and access keys of a policy, each in the order of the policy.
#[derive(Debug)]
pub struct Budgets {
    providers: Vec<Rc<Subject>>,
    agents: Vec<Rc<Subject>>,
    keys: Vec<Rc<Subject>>,
}

// === impl Budgets ===

impl Budgets {
    /// Collects the budgets of a policy.
    pub fn new(policy: &Policy) -> Self {
        Self {
            providers: policy.providers.iter().map(of_provider).collect(),
            agents: policy.agents.iter().map(of_agent).collect(),
            keys: policy.keys.iter().map(of_key).collect(),
        }
    }

    /// Returns the budgets of the provider at this index.
    pub fn provider(&self, provider: usize) -> Option<&Rc<Subject>> {
        self.providers.get(provider)
    }

    /// Returns the caller's own budgets, `None` for callers who have none.
    pub fn caller(&self, caller: Caller) -> Option<&Rc<Subject>> {
        match caller {
            Caller::Anonymous | Caller::Operator => None,
            Caller::Agent(index) => self.agents.get(index),
            Caller::Developer(index) => self.keys.get(index),
        }
    }

    /// Returns whether the ledger counts this caller's own tokens: it does where one of its token budgets has a cap.
    pub fn counts_tokens(&self, caller: Caller) -> bool {
        self.caller(caller).is_some_and(|subject| !own_tokens(subject).is_empty())
    }

    /// Returns the token budgets that a request of this caller to this provider must fit, the caller's own first.
    pub fn required(&self, caller: Caller, provider: usize) -> Vec<SubjectBudgets<'_>> {
        let own = self.caller(caller).map(|subject| SubjectBudgets { subject, budgets: own_tokens(subject) });
        let external = matches!(caller, Caller::Developer(_));
        let at_provider: &[BudgetKind] =
            if external { &[BudgetKind::Daily, BudgetKind::ExternalDaily] } else { &[BudgetKind::Daily] };
        let of_provider = self.provider(provider).map(|subject| SubjectBudgets { subject, budgets: subject.select(at_provider) });
        own.into_iter().filter(|own| !own.budgets.is_empty()).chain(of_provider).collect()
    }

    /// Returns the caller's requests per minute, where they have a cap.
    pub fn request_rate(&self, caller: Caller) -> Option<SubjectBudgets<'_>> {
        let subject = self.caller(caller).filter(|subject| subject.cap(BudgetKind::RequestsPerMinute).is_some())?;
        Some(SubjectBudgets { subject, budgets: subject.select(&[BudgetKind::RequestsPerMinute]) })
    }

    /// Returns the budgets that `x-ratelimit-*` may show to this caller: a developer's own; an agent's own, else its provider's.
    pub fn visible(&self, caller: Caller, provider: Option<usize>) -> Option<(&Rc<Subject>, &'static [BudgetKind])> {
        match (caller, self.caller(caller)) {
            (Caller::Developer(_), Some(own)) => Some((own, SubjectKind::AccessKey.budgets())),
            (Caller::Agent(_), Some(own)) if own.cap(BudgetKind::Daily).is_some() => Some((own, &[BudgetKind::Daily])),
            _ => Some((self.provider(provider?)?, &[BudgetKind::Daily])),
        }
    }

    /// Returns the subjects of the providers.
    pub fn providers(&self) -> impl Iterator<Item = &Rc<Subject>> {
        self.providers.iter()
    }

    /// Returns every subject.
    pub fn all(&self) -> impl Iterator<Item = &Rc<Subject>> {
        self.providers.iter().chain(&self.agents).chain(&self.keys)
    }
}

/// Returns the caller's own token budgets that apply; none where none has a cap.
fn own_tokens(subject: &Subject) -> BudgetSet {
    match (subject.cap(BudgetKind::Daily), subject.cap(BudgetKind::TokensPerMinute)) {
        (None, None) => BudgetSet::default(),
        (Some(_), None) => subject.select(&[BudgetKind::Daily]),
        // The day's use is counted too: a later configuration may set a cap.
        (_, Some(_)) => subject.select(&[BudgetKind::Daily, BudgetKind::TokensPerMinute]),
    }
}

fn of_provider(provider: &Provider) -> Rc<Subject> {
    Subject::new(SubjectKind::Provider, &provider.name, |budget| match budget {
        BudgetKind::Daily => provider.max_tokens_per_day,
        BudgetKind::ExternalDaily => provider.external?.max_tokens_per_day,
        BudgetKind::TokensPerMinute | BudgetKind::RequestsPerMinute => None,
    })
}

fn of_agent(agent: &Agent) -> Rc<Subject> {
    Subject::new(SubjectKind::Agent, &agent.name, |_| agent.max_tokens_per_day)
}

fn of_key(key: &AccessKey) -> Rc<Subject> {
    Subject::new(SubjectKind::AccessKey, &key.name, |budget| match budget {
        BudgetKind::Daily => key.max_tokens_per_day,
        BudgetKind::TokensPerMinute => key.tokens_per_minute,
        BudgetKind::RequestsPerMinute => key.requests_per_minute,
        BudgetKind::ExternalDaily => None,
    })
}
