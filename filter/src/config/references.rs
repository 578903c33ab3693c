//! References from one manifest to another, resolved when all manifests were read.

use std::collections::{BTreeSet, HashMap};

use crate::policy::{Provider, split_reference};

/// The manifests that are in the configuration but could not be read. What refers to one of them is not reported as well.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    names: BTreeSet<Box<str>>,
    /// Whether there are some whose names are unknown.
    unnamed: bool,
}

/// The manifests that a reference may name.
pub(super) struct Known<'a> {
    pub(super) providers: &'a [Provider],
    /// Names of the access keys, in the order of the configuration.
    pub(super) keys: &'a [Box<str>],
    pub(super) unreadable: &'a Unreadable,
}

/// What a reference refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<T> {
    Found(T),
    /// It may be a manifest that could not be read, which was reported.
    Unreadable,
    /// No manifest of the configuration.
    Unknown,
}

// === impl Unreadable ===

impl Unreadable {
    /// Adds a manifest; `None` if its name is unknown.
    pub(super) fn add(&mut self, name: Option<Box<str>>) {
        match name {
            Some(name) => drop(self.names.insert(name)),
            None => self.unnamed = true,
        }
    }

    /// Returns whether every manifest was read.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.unnamed
    }

    fn target<T>(&self, name: &str, found: Option<T>) -> Target<T> {
        match found {
            Some(found) => Target::Found(found),
            None if self.unnamed || self.names.contains(name) => Target::Unreadable,
            None => Target::Unknown,
        }
    }
}

// === impl Known ===

impl Known<'_> {
    /// Returns the number of providers, unless some manifest could not be read.
    pub(super) fn provider_count(&self) -> Option<usize> {
        self.unreadable.is_empty().then_some(self.providers.len())
    }

    /// Finds the index of the provider `name`.
    pub(super) fn provider(&self, name: &str) -> Target<usize> {
        self.unreadable.target(name, self.providers.iter().position(|provider| *provider.name == *name))
    }

    /// Finds the index of the provider, and the model id, of `<provider>/<model-id>`.
    pub(super) fn model<'t>(&self, reference: &'t str) -> Target<(usize, &'t str)> {
        match reference.split_once('/') {
            Some((provider, model)) if !model.is_empty() => {
                self.unreadable.target(provider, split_reference(self.providers, reference))
            }
            _ => Target::Unknown,
        }
    }

    /// Returns a function that finds the index of an access key by its name.
    pub(super) fn access_keys(&self) -> impl Fn(&str) -> Target<usize> {
        let indexes: HashMap<&str, usize> = self.keys.iter().enumerate().map(|(index, name)| (&**name, index)).collect();
        move |name| self.unreadable.target(name, indexes.get(name).copied())
    }
}
