//! The owner of an account: a provider, an agent or an access key. A subject defines which budgets it has and how messages name them.

use std::num::NonZeroU64;
use std::rc::Rc;

use crate::budget::account::{BudgetLimit, BudgetSet, Period};

/// The kinds of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// A `ModelProvider`.
    Provider,
    /// An `Agent`.
    Agent,
    /// An `AccessKey`.
    AccessKey,
}

/// The kinds of budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetKind {
    /// Tokens per UTC day.
    Daily,
    /// Tokens per UTC day of all access keys together, at one provider.
    ExternalDaily,
    /// Tokens per minute.
    TokensPerMinute,
    /// Requests per minute.
    RequestsPerMinute,
}

/// One provider, agent or access key that has an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The account's key in the shared data. It contains names of the configuration only.
    pub key: Rc<str>,
    /// The kind of the subject.
    pub kind: SubjectKind,
    /// `metadata.name` of its manifest.
    pub name: Box<str>,
    /// The limits of its budgets, in the order of [`SubjectKind::budgets`] and of the account's records.
    pub limits: Box<[BudgetLimit]>,
}

/// The budgets of one subject in which a request needs a reservation.
#[derive(Debug, Clone, Copy)]
pub struct SubjectBudgets<'a> {
    /// The subject.
    pub subject: &'a Rc<Subject>,
    /// The set of its budgets.
    pub budgets: BudgetSet,
}

// === impl SubjectKind ===

impl SubjectKind {
    /// Returns the budgets that a subject of this kind has, in the order of its account.
    pub const fn budgets(self) -> &'static [BudgetKind] {
        match self {
            Self::Provider => &[BudgetKind::Daily, BudgetKind::ExternalDaily],
            Self::Agent => &[BudgetKind::Daily],
            Self::AccessKey => &[BudgetKind::Daily, BudgetKind::TokensPerMinute, BudgetKind::RequestsPerMinute],
        }
    }

    /// Returns the name of the kind in ledger keys, access logs and metric labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Agent => "agent",
            Self::AccessKey => "key",
        }
    }

    /// Returns the name of the kind in messages.
    const fn noun(self) -> &'static str {
        match self {
            Self::Provider => "model provider",
            Self::Agent => "agent",
            Self::AccessKey => "access key",
        }
    }
}

// === impl BudgetKind ===

impl BudgetKind {
    const fn period(self) -> Period {
        match self {
            Self::Daily | Self::ExternalDaily => Period::Day,
            Self::TokensPerMinute | Self::RequestsPerMinute => Period::Minute,
        }
    }
}

// === impl Subject ===

impl Subject {
    /// Builds a subject; `cap` returns the cap of each of its budgets, `None` if the budget is not limited.
    pub fn new(kind: SubjectKind, name: &str, cap: impl Fn(BudgetKind) -> Option<NonZeroU64>) -> Rc<Self> {
        let limit = |budget: &BudgetKind| BudgetLimit { cap: cap(*budget).map(NonZeroU64::get), period: budget.period() };
        Rc::new(Self {
            key: format!("pai/1/account/{}/{name}", kind.label()).into(),
            kind,
            name: name.into(),
            limits: kind.budgets().iter().map(limit).collect(),
        })
    }

    /// Returns the index of a budget in the account, `None` if subjects of this kind do not have it.
    pub fn index(&self, budget: BudgetKind) -> Option<usize> {
        self.kind.budgets().iter().position(|known| *known == budget)
    }

    /// Returns the cap of a budget, in tokens or requests.
    pub fn cap(&self, budget: BudgetKind) -> Option<u64> {
        self.limits.get(self.index(budget)?)?.cap
    }

    /// Returns the set of these budgets, for [`SubjectBudgets`].
    pub fn select(&self, budgets: &[BudgetKind]) -> BudgetSet {
        budgets.iter().filter_map(|budget| self.index(*budget)).fold(BudgetSet::default(), BudgetSet::and)
    }

    /// Returns the subject's name in messages.
    pub fn describe(&self) -> String {
        format!("{} `{}`", self.kind.noun(), self.name)
    }

    /// Returns the name in messages of the budget at this index.
    pub fn describe_budget(&self, index: usize) -> String {
        let what = match self.kind.budgets().get(index) {
            Some(BudgetKind::Daily) | None => "the daily token budget of",
            Some(BudgetKind::ExternalDaily) => "the daily token budget for external use of",
            Some(BudgetKind::TokensPerMinute) => "the tokens per minute of",
            Some(BudgetKind::RequestsPerMinute) => "the requests per minute of",
        };
        format!("{what} {}", self.describe())
    }
}

// === impl SubjectBudgets ===

impl<'a> SubjectBudgets<'a> {
    /// Returns indices and caps of those of the budgets that have a cap.
    pub fn capped(&self) -> impl Iterator<Item = (usize, u64)> + use<'a> {
        let budgets = self.budgets;
        let limits = self.subject.limits.iter().enumerate();
        limits.filter(move |(index, _)| budgets.has(*index)).filter_map(|(index, limit)| Some((index, limit.cap?)))
    }
}
