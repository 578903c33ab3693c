//! What of the policy one caller may use: references, bare model ids and lists (design 3.2).

use crate::identity::access_key::AccessKey;
use crate::identity::agent::Agent;
use crate::identity::caller::Caller;
use crate::policy::{Candidate, Policy, Provider};

/// A policy as one caller sees it.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    policy: &'a Policy,
    who: Who<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Who<'a> {
    Anonymous,
    Agent(&'a Agent),
    Developer(&'a AccessKey),
    /// May use no model.
    Operator,
}

/// Why a reference or a bare model id names no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// No provider serves it, as far as this caller can see.
    NotFound,
    /// More than one provider serves it.
    Ambiguous,
    /// The provider at this index exists and does not let this caller use the model.
    NotAllowed(usize, Barrier),
}

/// What stands between a caller and a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// The provider's lists of models.
    Lists,
    /// The provider is not open to developers.
    Closed,
    /// The list of the caller's own Agent.
    Agent,
    /// The list of the caller's access key.
    Key,
}

/// References named in a message at most.
const SUGGESTIONS: usize = 5;

// === impl Access ===

impl<'a> Access<'a> {
    /// For a caller of this policy.
    pub fn new(policy: &'a Policy, caller: Caller) -> Self {
        let who = match caller {
            Caller::Anonymous => Some(Who::Anonymous),
            Caller::Agent(place) => policy.agents.get(place).map(Who::Agent),
            Caller::Developer(place) => policy.keys.get(place).map(Who::Developer),
            Caller::Operator => None,
        };
        Self { policy, who: who.unwrap_or(Who::Operator) }
    }

    /// Finds who serves `name`, a reference or a bare model id.
    pub fn resolve<'n>(&self, name: &'n str) -> Result<Candidate<'n>, Unresolved> {
        if let Some((provider, model)) = self.policy.split_reference(name) {
            if model.is_empty() {
                // To vLLM, no model is its base model, whatever the lists say.
                return Err(Unresolved::NotFound);
            }
            return match self.barrier(provider, model) {
                None => Ok(Candidate { provider, model }),
                Some(barrier) => Err(Unresolved::NotAllowed(provider, barrier)),
            };
        }
        let open = |place: usize, provider: &Provider| {
            let listed = provider.models.allowed.is_some() || !name.contains('/');
            listed && self.barrier(place, name).is_none()
        };
        let found = match self.only(|place, provider| self.names(place, provider, name)) {
            Err(Unresolved::NotFound) => self.only(open),
            found => found,
        };
        found.map(|provider| Candidate { provider, model: name })
    }

    /// The candidates behind `named`: the other models of the caller's agent that it may use, with their places in its list.
    pub fn others(&self, named: Candidate<'_>) -> Vec<(usize, Candidate<'a>)> {
        let Who::Agent(agent) = self.who else { return Vec::new() };
        let listed = agent.models.iter().map(|reference| Candidate { provider: reference.provider, model: &reference.model });
        let usable = |candidate: &Candidate<'_>| *candidate != named && self.barrier(candidate.provider, candidate.model).is_none();
        listed.enumerate().filter(|(_, candidate)| usable(candidate)).collect()
    }

    /// The model at this place in the list of the caller's agent.
    pub fn at(&self, place: usize) -> Option<Candidate<'a>> {
        let Who::Agent(agent) = self.who else { return None };
        agent.models.get(place).map(|reference| Candidate { provider: reference.provider, model: &reference.model })
    }

    /// The name of the provider at this index; empty if there is none.
    pub fn provider_name(&self, provider: usize) -> &'a str {
        self.policy.provider_name(provider)
    }

    /// The references that stand in lists and that this caller may use, in order.
    pub fn references(&self) -> impl Iterator<Item = (&'a Provider, String)> + use<'a> {
        let this = *self;
        let policy = self.policy;
        let listed = policy.providers.iter().enumerate();
        let listed = listed.flat_map(|(place, provider)| provider.models.exact().map(move |model| (place, model)));
        let (listed, own): (Option<_>, Vec<(usize, &str)>) = match self.who {
            Who::Operator => (None, Vec::new()),
            Who::Anonymous => (Some(listed), Vec::new()),
            Who::Agent(agent) => (None, agent.models.iter().map(|reference| (reference.provider, &*reference.model)).collect()),
            Who::Developer(key) => (Some(listed), key.references().collect()),
        };
        let named =
            move |place: usize, model: &str| policy.providers.get(place).is_some_and(|provider| provider.models.names(model));
        // What is listed by its provider stands there already.
        let listed_too = listed.is_some();
        let own = own.into_iter().filter(move |(place, model)| !(listed_too && named(*place, model)));
        let usable = listed.into_iter().flatten().chain(own).filter(move |(place, model)| this.barrier(*place, model).is_none());
        usable.filter_map(move |(place, model)| {
            let provider = policy.providers.get(place)?;
            Some((provider, format!("{}/{model}", provider.name)))
        })
    }

    /// A few references for a message that says what else there is.
    pub fn suggestions(&self) -> Vec<String> {
        self.references().map(|(_, reference)| reference).take(SUGGESTIONS).collect()
    }

    /// What keeps this caller from a model, if anything does.
    fn barrier(&self, place: usize, model: &str) -> Option<Barrier> {
        let Some(provider) = self.policy.providers.get(place) else { return Some(Barrier::Closed) };
        let barrier = match self.who {
            Who::Agent(agent) if !agent.lists(place, model) => Barrier::Agent,
            Who::Developer(_) if !provider.is_external() => Barrier::Closed,
            Who::Developer(key) if !key.lists(place, model) => Barrier::Key,
            Who::Operator => Barrier::Closed,
            Who::Anonymous | Who::Agent(_) | Who::Developer(_) if provider.models.permits(model) => return None,
            Who::Anonymous | Who::Agent(_) | Who::Developer(_) => Barrier::Lists,
        };
        Some(barrier)
    }

    /// Whether `model` stands by itself in a list that counts for this caller.
    fn names(&self, place: usize, provider: &Provider, model: &str) -> bool {
        let named = match self.who {
            Who::Agent(_) => true,
            Who::Developer(key) => provider.models.names(model) || key.names(place, model),
            Who::Anonymous | Who::Operator => provider.models.names(model),
        };
        named && self.barrier(place, model).is_none()
    }

    /// The only provider for which `serves` holds.
    fn only(&self, serves: impl Fn(usize, &Provider) -> bool) -> Result<usize, Unresolved> {
        let providers = self.policy.providers.iter().enumerate();
        let mut found = providers.filter(|(place, provider)| serves(*place, provider)).map(|(place, _)| place);
        match (found.next(), found.next()) {
            (Some(place), None) => Ok(place),
            (None, _) => Err(Unresolved::NotFound),
            (Some(_), Some(_)) => Err(Unresolved::Ambiguous),
        }
    }
}
