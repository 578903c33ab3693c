//! The models that a provider serves.

use super::name_pattern::NamePattern;

/// `allowedModels` and `deniedModels`.
#[derive(Debug, Clone, Default)]
pub struct ModelAllowlist {
    /// `None` allows any model that is not denied; an empty list allows none.
    pub allowed: Option<Vec<NamePattern>>,
    /// Takes precedence over `allowed`.
    pub denied: Vec<NamePattern>,
}

// === impl ModelAllowlist ===

impl ModelAllowlist {
    /// Returns whether `model` is allowed and not denied.
    pub fn allows(&self, model: &str) -> bool {
        let denied = self.denied.iter().any(|pattern| pattern.matches(model));
        !denied && self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| pattern.matches(model)))
    }

    /// Returns whether `allowedModels` contains `model` without a wildcard, and it is not denied.
    pub fn lists_exactly(&self, model: &str) -> bool {
        self.exact_ids().any(|id| id == model)
    }

    /// Returns the ids that `allowedModels` contains without a wildcard and that are not denied.
    pub fn exact_ids(&self) -> impl Iterator<Item = &str> {
        let exact = self.allowed.iter().flatten().filter_map(|pattern| match pattern {
            NamePattern::Exact(id) => Some(&**id),
            NamePattern::Prefix(_) => None,
        });
        exact.filter(|id| self.allows(id))
    }

    /// Returns the index of the label under which an allowed model is counted: its own if the list contains it, otherwise that of
    /// its pattern, otherwise `*`. A list has no more labels than entries, so that client input never creates a time series.
    pub fn label_index(&self, model: &str) -> usize {
        let allowed = self.allowed.as_deref().unwrap_or_default();
        let exact = |pattern: &NamePattern| matches!(pattern, NamePattern::Exact(id) if **id == *model);
        let index = allowed.iter().position(exact).or_else(|| allowed.iter().position(|pattern| pattern.matches(model)));
        index.unwrap_or(0)
    }

    /// Returns the labels, by the indexes that [`ModelAllowlist::label_index`] returns.
    pub fn labels(&self) -> Vec<String> {
        match self.allowed.as_deref() {
            None | Some([]) => vec!["*".to_owned()],
            Some(allowed) => allowed.iter().map(NamePattern::to_string).collect(),
        }
    }
}
