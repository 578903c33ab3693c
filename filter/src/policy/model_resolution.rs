//! How the `model` of a request is resolved to a provider and a model id.
//!
//! - `<provider>/<model-id>` is a reference if a provider has that name. It resolves to that provider, if the caller may use the model.
//! - Any other name is a bare model id. It resolves to the one provider that lists the id without a wildcard and lets the caller use
//!   it. If none does, it resolves to the one provider whose wildcards, or missing list, admit it; a provider without `allowedModels`
//!   counts only for ids without a slash.
//! - Two such providers make the id ambiguous.

use super::{Candidate, Provider};
use crate::identity::model_access::{DenialReason, ModelAccess};

/// Why a reference or a bare model id does not resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnresolvedModel {
    /// No provider that this caller may use serves it.
    NotFound,
    /// More than one provider serves it.
    Ambiguous,
    /// The provider at this index exists, and the caller may not use the model there.
    NotAllowed(usize, DenialReason),
}

impl ModelAccess<'_> {
    /// Resolves `name`, a reference or a bare model id, for this caller.
    pub fn resolve<'n>(&self, name: &'n str) -> Result<Candidate<'n>, UnresolvedModel> {
        if let Some((provider, model)) = self.policy().split_reference(name) {
            return self.resolve_reference(provider, model);
        }
        let provider = match self.single_provider(|index, provider| self.lists_exactly(index, provider, name)) {
            Err(UnresolvedModel::NotFound) => self.single_provider(|index, provider| self.admits(index, provider, name))?,
            found => found?,
        };
        Ok(Candidate { provider, model: name })
    }

    fn resolve_reference<'n>(&self, provider: usize, model: &'n str) -> Result<Candidate<'n>, UnresolvedModel> {
        if model.is_empty() {
            // vLLM serves its base model for an empty id, whatever the lists contain.
            return Err(UnresolvedModel::NotFound);
        }
        match self.denial(provider, model) {
            None => Ok(Candidate { provider, model }),
            Some(denial) => Err(UnresolvedModel::NotAllowed(provider, denial)),
        }
    }

    /// Returns whether the caller may use the bare id `model` of a provider that need not list it.
    fn admits(&self, index: usize, provider: &Provider, model: &str) -> bool {
        let has_list = provider.models.allowed.is_some() || !model.contains('/');
        has_list && self.denial(index, model).is_none()
    }

    /// Returns the index of the only provider for which `serves` holds.
    fn single_provider(&self, serves: impl Fn(usize, &Provider) -> bool) -> Result<usize, UnresolvedModel> {
        let providers = self.policy().providers.iter().enumerate();
        let mut found = providers.filter(|(index, provider)| serves(*index, provider)).map(|(index, _)| index);
        match (found.next(), found.next()) {
            (Some(index), None) => Ok(index),
            (None, _) => Err(UnresolvedModel::NotFound),
            (Some(_), Some(_)) => Err(UnresolvedModel::Ambiguous),
        }
    }
}
