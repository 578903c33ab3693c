//! Agents: workloads inside, identified by the identities that their manifests list.

use std::collections::HashMap;
use std::num::NonZeroU64;

use crate::policy::name_pattern::NamePattern;

/// One `Agent` manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// `metadata.name`
    pub name: Box<str>,
    /// The identities of the agent.
    pub identities: Vec<NamePattern>,
    /// The models that the agent may use, in order of preference, each once.
    pub models: Vec<ModelReference>,
    /// Tokens per UTC day.
    pub max_tokens_per_day: Option<NonZeroU64>,
}

/// A model of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelReference {
    /// The index of the provider in the policy.
    pub provider: usize,
    /// The model id at the provider.
    pub model: Box<str>,
}

/// All agents of a configuration, indexed by identity.
#[derive(Debug, Default)]
pub struct Agents {
    list: Vec<Agent>,
    exact: HashMap<Box<str>, usize>,
    /// Sorted by length, longest first.
    prefixes: Vec<(Box<str>, usize)>,
}

/// Two agents have the same identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateIdentity {
    /// The index of the later agent.
    pub agent: usize,
    /// The index of the identity in its list.
    pub identity: usize,
    /// The index of the earlier agent.
    pub other: usize,
}

// === impl Agent ===

impl Agent {
    /// Returns whether the agent's list has this model of this provider.
    pub fn allows(&self, provider: usize, model: &str) -> bool {
        self.models.iter().any(|reference| reference.provider == provider && *reference.model == *model)
    }
}

// === impl Agents ===

impl Agents {
    /// Collects the agents of a configuration. An identity that matches several entries belongs to the exact one, otherwise to the
    /// longest prefix. Calls `report` for each identity that two agents list. If there is one, the result of the last call is the
    /// error.
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

    /// Returns whether there are no agents.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the agent at this index.
    pub fn get(&self, index: usize) -> Option<&Agent> {
        self.list.get(index)
    }

    /// Returns all agents, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.list.iter()
    }

    /// Returns the index of the agent with this identity.
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
        for (identity, index) in [("td/ns/a/sa/x", 2), ("td/ns/a/sa/yz", 2), ("td/ns/a/sa/z", 1), ("td/ns/b", 0), ("", 0)] {
            assert_eq!(agents.find(identity), Some(index), "{identity}");
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
