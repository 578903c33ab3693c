//! Agents: workloads inside that manifests name, by their identities.

use std::collections::HashMap;
use std::num::NonZeroU64;

use crate::policy::name_pattern::NamePattern;

/// One `Agent` manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// `metadata.name`
    pub name: Box<str>,
    /// Who is this agent.
    pub identities: Vec<NamePattern>,
    /// What it may use, in its order of preference, each once.
    pub models: Vec<ModelReference>,
    /// Tokens per UTC day.
    pub max_tokens_per_day: Option<NonZeroU64>,
}

/// A model of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelReference {
    /// Index into the policy's providers.
    pub provider: usize,
    /// The id that the provider knows.
    pub model: Box<str>,
}

/// All agents of a configuration, and who is which.
#[derive(Debug, Default)]
pub struct Agents {
    list: Vec<Agent>,
    exact: HashMap<Box<str>, usize>,
    /// The longest first.
    prefixes: Vec<(Box<str>, usize)>,
}

/// Two agents have an identity in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateIdentity {
    /// The later of the two.
    pub agent: usize,
    /// Place of the identity in its list.
    pub identity: usize,
    /// The earlier one.
    pub other: usize,
}

// === impl Agent ===

impl Agent {
    /// Whether its list has this model of this provider.
    pub fn allows(&self, provider: usize, model: &str) -> bool {
        self.models.iter().any(|reference| reference.provider == provider && *reference.model == *model)
    }
}

// === impl Agents ===

impl Agents {
    /// Takes in the agents of a configuration, no two of which may have one identity. Where one matches several, the exact one
    /// counts, else the longest. `report` gets each identity that two agents have; the last one is the error.
    pub fn new<E>(list: Vec<Agent>, mut report: impl FnMut(DuplicateIdentity) -> E) -> Result<Self, E> {
        let mut agents = Self::default();
        let mut failed = None;
        let mut prefixes = HashMap::new();
        for (agent, entry) in list.iter().enumerate() {
            for (identity, pattern) in entry.identities.iter().enumerate() {
                let before = match pattern {
                    NamePattern::Exact(text) => agents.exact.insert(text.clone(), agent),
                    NamePattern::Prefix(text) => prefixes.insert(text.clone(), agent),
                };
                if let Some(other) = before.filter(|&other| other != agent) {
                    failed = Some(report(DuplicateIdentity { agent, identity, other }));
                }
            }
        }
        agents.prefixes = prefixes.into_iter().collect();
        agents.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        agents.list = list;
        failed.map_or(Ok(agents), Err)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The agent at this place.
    pub fn get(&self, place: usize) -> Option<&Agent> {
        self.list.get(place)
    }

    /// All, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.list.iter()
    }

    /// The place of the agent who has this identity.
    pub fn find(&self, identity: &str) -> Option<usize> {
        let exact = self.exact.get(identity).copied();
        exact.or_else(|| Some(self.prefixes.iter().find(|(prefix, _)| identity.starts_with(&**prefix))?.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn agent(name: &str, identities: &[&str]) -> Agent {
        let identities = identities.iter().map(|text| NamePattern::new(text)).collect();
        Agent { name: name.into(), identities, models: Vec::new(), max_tokens_per_day: None }
    }

    #[test]
    fn the_closest_identity_counts() {
        let list = vec![agent("all", &["*"]), agent("team", &["td/ns/a/*"]), agent("one", &["td/ns/a/sa/x", "td/ns/a/sa/y*"])];
        let agents = Agents::new(list, |duplicate| duplicate).unwrap();
        for (identity, place) in [("td/ns/a/sa/x", 2), ("td/ns/a/sa/yz", 2), ("td/ns/a/sa/z", 1), ("td/ns/b", 0), ("", 0)] {
            assert_eq!(agents.find(identity), Some(place), "{identity}");
        }
        assert_eq!(Agents::new(vec![agent("one", &["a", "b*"])], |duplicate| duplicate).unwrap().find("A"), None);
    }

    #[test]
    fn no_two_agents_share_an_identity() {
        for identity in ["a", "a*"] {
            let shared = Agents::new(vec![agent("one", &["b", identity]), agent("two", &["c", identity])], |duplicate| duplicate);
            assert_eq!(shared.unwrap_err(), DuplicateIdentity { agent: 1, identity: 1, other: 0 });
            assert!(
                Agents::new(vec![agent("one", &[identity, identity])], |duplicate| duplicate).is_ok(),
                "twice in one list does no harm"
            );
        }
    }
}
