//! `kind: Agent`.

use std::collections::HashSet;

use crate::identity::agent::{Agent, Agents, DuplicateIdentity, ModelReference};
use crate::policy::name_pattern::NamePattern;
use crate::policy::{Provider, split_reference};

use super::field::{Field, Fields};
use super::invalid::{InvalidConfig, Reason, quoted};
use super::manifest::Manifest;
use super::word;

pub(super) const FIELDS: &[&str] = &["identities", "models", "maxTokensPerDay"];

/// The longest identity: SPIFFE allows no longer one.
const MAX_IDENTITY_BYTES: usize = 2048;

/// Reads all manifests of agents, whose models are of `providers`.
pub(super) fn compile(manifests: Vec<Manifest>, providers: &[Provider]) -> Result<Agents, InvalidConfig> {
    let subjects: Vec<String> = manifests.iter().map(|manifest| manifest.subject().to_owned()).collect();
    let agent = |manifest: Manifest| manifest.compile(FIELDS, |name, spec| agent(name, spec, providers));
    let agents = manifests.into_iter().map(agent).collect::<Result<Vec<_>, _>>()?;
    Agents::new(agents).map_err(|DuplicateIdentity { agent, identity, other }| {
        let subject = |place: usize| subjects.get(place).map_or("", |subject| subject.as_str());
        let reason = format!("{} has this identity, too", subject(other));
        InvalidConfig::new(format!("spec.identities[{identity}]"), reason).within(subject(agent))
    })
}

fn agent(name: Box<str>, mut spec: Fields, providers: &[Provider]) -> Result<Agent, InvalidConfig> {
    let identities = spec.required("identities", |list| list.some(|entry| entry.text(identity)))?;
    let mut models = spec.required("models", |list| list.some(|entry| entry.text(|text| reference(text, providers))))?;
    // Who stands there twice is asked once.
    let mut seen = HashSet::new();
    models.retain(|reference| seen.insert(reference.clone()));
    Ok(Agent { name, identities, models, max_tokens_per_day: spec.optional("maxTokensPerDay", Field::tokens)? })
}

/// An identity, exact or with a `*` at its end.
pub(super) fn identity(text: &str) -> Result<NamePattern, Reason> {
    word::pattern(text, MAX_IDENTITY_BYTES).map(NamePattern::new)
}

/// A model of one of `providers`.
fn reference(text: &str, providers: &[Provider]) -> Result<ModelReference, Reason> {
    let text = word::reference(text)?;
    if text.contains('*') {
        return Err(format!("must be an exact reference, without `*`, got {}", quoted(text)).into());
    }
    match split_reference(providers, text) {
        Some((provider, model)) if !model.is_empty() => Ok(ModelReference { provider, model: model.into() }),
        _ => Err(format!("must be `<provider>/<model-id>` of a ModelProvider of this configuration, got {}", quoted(text)).into()),
    }
}
