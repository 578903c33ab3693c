//! `kind: Agent`.

use std::collections::HashSet;
use std::num::NonZeroU64;

use crate::identity::agent::{Agent, Agents, DuplicateIdentity, ModelReference};
use crate::policy::name_pattern::NamePattern;

use super::field::Field;
use super::identifier;
use super::invalid::{Errors, Reason, Reported};
use super::manifest::{Kind, Manifest};
use super::quote::quoted;
use super::references::{Known, Target};

pub(super) const FIELDS: &[&str] = &["identities", "models", "maxTokensPerDay"];

/// The longest identity, in bytes: the limit of SPIFFE.
const MAX_IDENTITY_BYTES: usize = 2048;

/// An agent whose `models` were not resolved yet.
#[derive(Debug)]
pub(super) struct UnresolvedAgent {
    name: Box<str>,
    identities: Vec<NamePattern>,
    /// `None` for an entry of which an error was reported.
    models: Vec<Option<Box<str>>>,
    max_tokens_per_day: Option<NonZeroU64>,
}

/// Reads an `Agent`.
pub(super) fn read(manifest: Manifest<'_>) -> Result<UnresolvedAgent, Reported> {
    let mut spec = manifest.spec.fields(FIELDS)?;
    let identities = spec.required("identities", |list| list.non_empty_list(|entry| entry.text(identity)));
    let models = spec.required("models", |list| list.non_empty_list(|entry| Ok(entry.text(exact_reference).ok())));
    let max_tokens_per_day = spec.optional("maxTokensPerDay", Field::tokens);
    Ok(UnresolvedAgent { name: manifest.name?, identities: identities?, models: models?, max_tokens_per_day: max_tokens_per_day? })
}

/// Resolves the models of all agents.
pub(super) fn compile(agents: Vec<UnresolvedAgent>, known: &Known<'_>, errors: &Errors) -> Result<Agents, Reported> {
    let agents: Vec<Agent> = agents.into_iter().map(|agent| agent.resolve(known, errors)).collect();
    let names: Vec<Box<str>> = agents.iter().map(|agent| agent.name.clone()).collect();
    let path = |agent: usize| Kind::Agent.path_of(names.get(agent).map_or("", |name| name));
    Agents::new(agents, |DuplicateIdentity { agent, identity, other }| {
        let reason = format!("{} has the same identity", path(other));
        errors.report(&path(agent).key("spec").key("identities").index(identity), reason)
    })
}

// === impl UnresolvedAgent ===

impl UnresolvedAgent {
    fn resolve(self, known: &Known<'_>, errors: &Errors) -> Agent {
        let Self { name, identities, models, max_tokens_per_day } = self;
        let resolve = |(index, text): (usize, Option<Box<str>>)| {
            let text = text?;
            match known.model(&text) {
                Target::Found((provider, model)) => Some(ModelReference { provider, model: model.into() }),
                Target::Unreadable => None,
                Target::Unknown => {
                    errors.report_with(|| {
                        let path = Kind::Agent.path_of(&name).key("spec").key("models").index(index);
                        let rule = "must be `<provider>/<model-id>` of a ModelProvider of this configuration";
                        (path, format!("{rule}, got {}", quoted(&text)).into())
                    });
                    None
                }
            }
        };
        let mut models: Vec<ModelReference> = models.into_iter().enumerate().filter_map(resolve).collect();
        // A model that is listed twice is tried once.
        let mut seen = HashSet::new();
        models.retain(|reference| seen.insert(reference.clone()));
        Agent { name, identities, models, max_tokens_per_day }
    }
}

/// Reads an identity: exact, or a prefix with a `*` at its end.
pub(super) fn identity(text: &str) -> Result<NamePattern, Reason> {
    identifier::name_pattern(text, MAX_IDENTITY_BYTES).map(NamePattern::new)
}

/// Accepts a reference to one model.
fn exact_reference(text: &str) -> Result<Box<str>, Reason> {
    let text = identifier::reference_pattern(text)?;
    if text.contains('*') {
        return Err(format!("must be an exact reference, without `*`, got {}", quoted(text)).into());
    }
    Ok(text.into())
}
