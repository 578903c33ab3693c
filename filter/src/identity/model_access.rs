//! What of the policy one caller may use: references, bare model ids and lists (design 3.2).

use crate::identity::access_key::AccessKey;
use crate::identity::agent::Agent;
use crate::identity::caller::Caller;
use crate::policy::{Candidate, Policy, Provider};

/// A policy as one caller sees it.
#[derive(Debug, Clone, Copy)]
pub struct ModelAccess<'a> {
    policy: &'a Policy,
    caller: ResolvedCaller<'a>,
}

#[derive(Debug, Clone, Copy)]
enum ResolvedCaller<'a> {
    Anonymous,
    Agent(&'a Agent),
    Developer(&'a AccessKey),
    /// May use no model.
    Operator,
}

/// Why a reference or a bare model id names no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnresolvedModel {
    /// No provider serves it, as far as this caller can see.
    NotFound,
    /// More than one provider serves it.
    Ambiguous,
    /// The provider at this index exists and does not let this caller use the model.
    NotAllowed(usize, DenialReason),
}

/// What stands between a caller and a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    /// The provider's lists of models.
    NotAllowedByProvider,
    /// The provider is not open to developers.
    NotExternal,
    /// The list of the caller's own Agent.
    NotAllowedForAgent,
    /// The list of the caller's access key.
    NotAllowedForKey,
}

/// References named in a message at most.
const MAX_SUGGESTIONS: usize = 5;

// === impl ModelAccess ===

impl<'a> ModelAccess<'a> {
    /// For a caller of this policy.
    pub fn new(policy: &'a Policy, caller: Caller) -> Self {
        let who = match caller {
            Caller::Anonymous => Some(ResolvedCaller::Anonymous),
            Caller::Agent(place) => policy.agents.get(place).map(ResolvedCaller::Agent),
            Caller::Developer(place) => policy.keys.get(place).map(ResolvedCaller::Developer),
            Caller::Operator => None,
        };
        Self { policy, caller: who.unwrap_or(ResolvedCaller::Operator) }
    }

    /// Finds who serves `name`, a reference or a bare model id.
    pub fn resolve<'n>(&self, name: &'n str) -> Result<Candidate<'n>, UnresolvedModel> {
        if let Some((provider, model)) = self.policy.split_reference(name) {
            if model.is_empty() {
                // To vLLM, no model is its base model, whatever the lists say.
                return Err(UnresolvedModel::NotFound);
            }
            return match self.denial(provider, model) {
                None => Ok(Candidate { provider, model }),
                Some(denial) => Err(UnresolvedModel::NotAllowed(provider, denial)),
            };
        }
        let open = |place: usize, provider: &Provider| {
            let listed = provider.models.allowed.is_some() || !name.contains('/');
            listed && self.denial(place, name).is_none()
        };
        let found = match self.single_provider(|place, provider| self.lists_exactly(place, provider, name)) {
            Err(UnresolvedModel::NotFound) => self.single_provider(open),
            found => found,
        };
        found.map(|provider| Candidate { provider, model: name })
    }

    /// The candidates behind `named`: the other models of the caller's agent that it may use, with their places in its list.
    pub fn fallbacks(&self, named: Candidate<'_>) -> Vec<(usize, Candidate<'a>)> {
        let ResolvedCaller::Agent(agent) = self.caller else { return Vec::new() };
        let listed = agent.models.iter().map(|reference| Candidate { provider: reference.provider, model: &reference.model });
        let usable = |candidate: &Candidate<'_>| *candidate != named && self.denial(candidate.provider, candidate.model).is_none();
        listed.enumerate().filter(|(_, candidate)| usable(candidate)).collect()
    }

    /// The model at this place in the list of the caller's agent.
    pub fn agent_model(&self, place: usize) -> Option<Candidate<'a>> {
        let ResolvedCaller::Agent(agent) = self.caller else { return None };
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
        let listed = listed.flat_map(|(place, provider)| provider.models.exact_ids().map(move |model| (place, model)));
        let (listed, own): (Option<_>, Vec<(usize, &str)>) = match self.caller {
            ResolvedCaller::Operator => (None, Vec::new()),
            ResolvedCaller::Anonymous => (Some(listed), Vec::new()),
            ResolvedCaller::Agent(agent) => {
                (None, agent.models.iter().map(|reference| (reference.provider, &*reference.model)).collect())
            }
            ResolvedCaller::Developer(key) => (Some(listed), key.exact_models().collect()),
        };
        let named = move |place: usize, model: &str| {
            policy.providers.get(place).is_some_and(|provider| provider.models.lists_exactly(model))
        };
        // What is listed by its provider stands there already.
        let listed_too = listed.is_some();
        let own = own.into_iter().filter(move |(place, model)| !(listed_too && named(*place, model)));
        let usable = listed.into_iter().flatten().chain(own).filter(move |(place, model)| this.denial(*place, model).is_none());
        usable.filter_map(move |(place, model)| {
            let provider = policy.providers.get(place)?;
            Some((provider, format!("{}/{model}", provider.name)))
        })
    }

    /// A few references for a message that says what else there is.
    pub fn suggestions(&self) -> Vec<String> {
        self.references().map(|(_, reference)| reference).take(MAX_SUGGESTIONS).collect()
    }

    /// What keeps this caller from a model, if anything does.
    fn denial(&self, place: usize, model: &str) -> Option<DenialReason> {
        let Some(provider) = self.policy.providers.get(place) else { return Some(DenialReason::NotExternal) };
        let denial = match self.caller {
            ResolvedCaller::Agent(agent) if !agent.allows(place, model) => DenialReason::NotAllowedForAgent,
            ResolvedCaller::Developer(_) if !provider.is_external() => DenialReason::NotExternal,
            ResolvedCaller::Developer(key) if !key.allows(place, model) => DenialReason::NotAllowedForKey,
            ResolvedCaller::Operator => DenialReason::NotExternal,
            ResolvedCaller::Anonymous | ResolvedCaller::Agent(_) | ResolvedCaller::Developer(_)
                if provider.models.allows(model) =>
            {
                return None;
            }
            ResolvedCaller::Anonymous | ResolvedCaller::Agent(_) | ResolvedCaller::Developer(_) => {
                DenialReason::NotAllowedByProvider
            }
        };
        Some(denial)
    }

    /// Whether `model` stands by itself in a list that counts for this caller.
    fn lists_exactly(&self, place: usize, provider: &Provider, model: &str) -> bool {
        let named = match self.caller {
            ResolvedCaller::Agent(_) => true,
            ResolvedCaller::Developer(key) => provider.models.lists_exactly(model) || key.lists_exactly(place, model),
            ResolvedCaller::Anonymous | ResolvedCaller::Operator => provider.models.lists_exactly(model),
        };
        named && self.denial(place, model).is_none()
    }

    /// The only provider for which `serves` holds.
    fn single_provider(&self, serves: impl Fn(usize, &Provider) -> bool) -> Result<usize, UnresolvedModel> {
        let providers = self.policy.providers.iter().enumerate();
        let mut found = providers.filter(|(place, provider)| serves(*place, provider)).map(|(place, _)| place);
        match (found.next(), found.next()) {
            (Some(place), None) => Ok(place),
            (None, _) => Err(UnresolvedModel::NotFound),
            (Some(_), Some(_)) => Err(UnresolvedModel::Ambiguous),
        }
    }
}
