//! The difference between what a manifest allows and what the server lists.

use pai_filter::policy::name_pattern::NamePattern;
use serde_json::Value;

use crate::manifest::Manifest;

/// The difference between `allowedModels` and the models that a server lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Entries of `allowedModels` that match no model of the server.
    pub missing: Vec<String>,
    /// Models of the server that no entry matches.
    pub not_allowed: Vec<String>,
    listed: usize,
}

// === impl Drift ===

impl Drift {
    /// Compares a provider's manifest with what its server lists; `None` if the manifest has no `allowedModels`.
    pub fn between(manifest: &Manifest, listed: &[String]) -> Option<Self> {
        let allowed = manifest.spec().get("allowedModels").and_then(Value::as_array)?;
        let allowed: Vec<(&str, NamePattern)> =
            allowed.iter().filter_map(Value::as_str).map(|entry| (entry, NamePattern::new(entry))).collect();
        let missing = allowed.iter().filter(|(_, pattern)| !listed.iter().any(|model| pattern.matches(model)));
        let not_allowed = listed.iter().filter(|model| !allowed.iter().any(|(_, pattern)| pattern.matches(model)));
        Some(Self {
            missing: missing.map(|(entry, _)| (*entry).to_owned()).collect(),
            not_allowed: not_allowed.cloned().collect(),
            listed: listed.len(),
        })
    }

    /// Returns a few words: `2 served`, `1 not served`.
    pub fn summary(&self) -> String {
        match self.missing.len() {
            0 => format!("{} served", self.listed),
            missing => format!("{missing} not served"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Drift;
    use crate::manifest::Manifest;
    use serde_json::json;

    #[test]
    fn entries_and_models_are_compared() {
        let value = json!({ "kind": "ModelProvider", "metadata": { "name": "p" }, "spec": { "allowedModels": ["a", "b*", "c"] } });
        let manifest = Manifest::from_value(value, 0).unwrap();
        let drift = Drift::between(&manifest, &["a".to_owned(), "b1".to_owned(), "d".to_owned()]).unwrap();
        assert_eq!((drift.missing.clone(), drift.not_allowed.clone()), (vec!["c".to_owned()], vec!["d".to_owned()]));
        assert_eq!(drift.summary(), "1 not served");
    }
}
