//! The models that a caller may use.

use crate::identity::access_key::AccessKey;
use crate::identity::agent::Agent;
use crate::identity::caller::Caller;
use crate::policy::{Candidate, Policy, Provider};

/// A policy, restricted to what one caller may use.
#[derive(Debug, Clone, Copy)]
pub struct ModelAccess<'a> {
    policy: &'a Policy,
    caller: ResolvedCaller<'a>,
}

/// A caller with its manifest.
#[derive(Debug, Clone, Copy)]
enum ResolvedCaller<'a> {
    Anonymous,
    Agent(&'a Agent),
    Developer(&'a AccessKey),
    /// Operators may use no model.
    Operator,
}

/// Why a caller may not use a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    /// The provider's `allowedModels` or `deniedModels` exclude it.
    NotAllowedByProvider,
    /// The provider is not open to developers.
    NotExternal,
    /// The caller's Agent does not list it.
    NotAllowedForAgent,
    /// The caller's access key does not list it.
    NotAllowedForKey,
}

/// The maximum number of references named in an error message.
const MAX_SUGGESTIONS: usize = 5;

// === impl ModelAccess ===

impl<'a> ModelAccess<'a> {
    /// Restricts `policy` to what `caller` may use.
    pub fn new(policy: &'a Policy, caller: Caller) -> Self {
        let resolved = match caller {
            Caller::Anonymous => Some(ResolvedCaller::Anonymous),
            Caller::Agent(index) => policy.agents.get(index).map(ResolvedCaller::Agent),
            Caller::Developer(index) => policy.keys.get(index).map(ResolvedCaller::Developer),
            Caller::Operator => None,
        };
        Self { policy, caller: resolved.unwrap_or(ResolvedCaller::Operator) }
    }

    /// Returns the unrestricted policy.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// Returns the fallback candidates for a request that names `named`: the other models of the caller's Agent that it may use, with
    /// their indexes in the Agent's list.
    pub fn fallbacks(&self, named: Candidate<'_>) -> Vec<(usize, Candidate<'a>)> {
        let ResolvedCaller::Agent(agent) = self.caller else { return Vec::new() };
        let listed = agent.models.iter().map(|reference| Candidate { provider: reference.provider, model: &reference.model });
        let usable = |candidate: &Candidate<'_>| *candidate != named && self.denial(candidate.provider, candidate.model).is_none();
        listed.enumerate().filter(|(_, candidate)| usable(candidate)).collect()
    }

    /// Returns the model at this index in the list of the caller's Agent.
    pub fn agent_model(&self, index: usize) -> Option<Candidate<'a>> {
        let ResolvedCaller::Agent(agent) = self.caller else { return None };
        agent.models.get(index).map(|reference| Candidate { provider: reference.provider, model: &reference.model })
    }

    /// Returns the name of the provider at this index; empty if there is none.
    pub fn provider_name(&self, provider: usize) -> &'a str {
        self.policy.provider_name(provider)
    }

    /// Returns the references that are listed without a wildcard and that this caller may use, in the order of the lists.
    pub fn references(&self) -> impl Iterator<Item = String> + use<'a> {
        let policy = self.policy;
        self.models().map(move |(provider, model)| format!("{}/{model}", policy.provider_name(provider)))
    }

    /// Returns those of `listed`, models that the provider at `index` lists itself, that this caller may use and that no list contains
    /// without a wildcard.
    pub fn only_listed_by(&self, index: usize, listed: Vec<String>) -> impl Iterator<Item = String> + use<'a> {
        let this = *self;
        let provider = self.policy.providers.get(index);
        let known = move |model: &str| provider.is_none_or(|provider| this.lists_exactly(index, provider, model));
        listed.into_iter().filter(move |model| !known(model) && this.denial(index, model).is_none())
    }

    /// Returns the models of those references, with the indexes of their providers.
    pub fn models(&self) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
        let this = *self;
        let policy = self.policy;
        let listed = policy.providers.iter().enumerate();
        let listed = listed.flat_map(|(index, provider)| provider.models.exact_ids().map(move |model| (index, model)));
        let (listed, own): (Option<_>, Vec<(usize, &str)>) = match self.caller {
            ResolvedCaller::Operator => (None, Vec::new()),
            ResolvedCaller::Anonymous => (Some(listed), Vec::new()),
            ResolvedCaller::Agent(agent) => {
                (None, agent.models.iter().map(|reference| (reference.provider, &*reference.model)).collect())
            }
            ResolvedCaller::Developer(key) => (Some(listed), key.exact_models().collect()),
        };
        let by_provider = move |index: usize, model: &str| {
            policy.providers.get(index).is_some_and(|provider| provider.models.lists_exactly(model))
        };
        // What the provider lists is returned already.
        let with_providers = listed.is_some();
        let own = own.into_iter().filter(move |(index, model)| !(with_providers && by_provider(*index, model)));
        listed.into_iter().flatten().chain(own).filter(move |(index, model)| this.denial(*index, model).is_none())
    }

    /// Returns a few references that this caller may use, for error messages.
    pub fn suggestions(&self) -> Vec<String> {
        self.references().take(MAX_SUGGESTIONS).collect()
    }

    /// Returns why this caller may not use `model` of the provider at `index`; `None` if it may.
    pub fn denial(&self, index: usize, model: &str) -> Option<DenialReason> {
        let Some(provider) = self.policy.providers.get(index) else { return Some(DenialReason::NotExternal) };
        match self.caller {
            ResolvedCaller::Agent(agent) if !agent.allows(index, model) => Some(DenialReason::NotAllowedForAgent),
            ResolvedCaller::Developer(_) if !provider.is_external() => Some(DenialReason::NotExternal),
            ResolvedCaller::Developer(key) if !key.allows(index, model) => Some(DenialReason::NotAllowedForKey),
            ResolvedCaller::Operator => Some(DenialReason::NotExternal),
            ResolvedCaller::Anonymous | ResolvedCaller::Agent(_) | ResolvedCaller::Developer(_) => {
                (!provider.models.allows(model)).then_some(DenialReason::NotAllowedByProvider)
            }
        }
    }

    /// Returns whether a list that applies to this caller names `model` without a wildcard, and the caller may use it.
    pub fn lists_exactly(&self, index: usize, provider: &Provider, model: &str) -> bool {
        let listed = match self.caller {
            ResolvedCaller::Agent(_) => true,
            ResolvedCaller::Developer(key) => provider.models.lists_exactly(model) || key.lists_exactly(index, model),
            ResolvedCaller::Anonymous | ResolvedCaller::Operator => provider.models.lists_exactly(model),
        };
        listed && self.denial(index, model).is_none()
    }
}
