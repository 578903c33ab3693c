//! The manifests of a gateway, and how commands change them.
//!
//! Every change yields a whole new set, which the filter's configuration code has accepted. There is no half of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pai_filter::config::{self, ConfigError, InvalidConfig};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Document, Kind, Manifest};
use crate::failure::Failure;

/// The manifests of a gateway, by kind and name. A copy is cheap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManifestSet(Arc<BTreeMap<(Kind, String), Manifest>>);

/// What a command did to a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It has another content.
    Configured,
    /// It is as it was.
    Unchanged,
    /// It was removed, by `--prune` or `delete`.
    Pruned,
}

// === impl Change ===

impl Change {
    /// Returns kubectl's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Pruned => "pruned",
        }
    }
}

// === impl ManifestSet ===

impl ManifestSet {
    /// Returns the manifests, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &Manifest> {
        self.0.values()
    }

    /// Returns the manifests of a kind, by name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Manifest> {
        self.iter().filter(move |manifest| manifest.kind == kind)
    }

    /// Returns whether callers need neither a key nor an identity, unless `audience` says otherwise.
    pub fn is_open(&self) -> bool {
        let restricts = |manifest: &Manifest| match manifest.kind {
            Kind::Agent | Kind::AccessKey => true,
            Kind::ModelProvider => manifest.spec().get("externalAccess").is_some(),
            Kind::Gateway => false,
        };
        !self.iter().any(restricts)
    }

    /// Returns one manifest.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Manifest> {
        self.0.get(&(kind, name.to_owned()))
    }

    /// Adds a manifest that was valid when it was stored.
    pub fn insert(&mut self, manifest: Manifest) {
        Arc::make_mut(&mut self.0).insert((manifest.kind, manifest.name.clone()), manifest);
    }

    /// Removes a manifest.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Option<Manifest> {
        Arc::make_mut(&mut self.0).remove(&(kind, name.to_owned()))
    }

    /// Returns the set after `documents` were applied at the time `now`, and what changed. With `prune`, what is not in `documents` is removed.
    pub fn apply(&self, documents: &[Document], now: u64, prune: bool) -> Result<(Self, Vec<(Manifest, Change)>), Failure> {
        let keys: BTreeSet<_> = documents.iter().filter_map(|document| key_of(&document.value)).collect();
        let is_kept = |manifest: &&Manifest| !prune && !keys.contains(&(manifest.kind, manifest.name.as_str()));
        let kept: Vec<&Manifest> = self.iter().filter(is_kept).collect();
        validate(&kept, documents)?;
        let mut set: BTreeMap<_, _> =
            kept.into_iter().map(|manifest| ((manifest.kind, manifest.name.clone()), manifest.clone())).collect();
        let mut changes = Vec::with_capacity(documents.len());
        for manifest in documents.iter().filter_map(|document| Manifest::from_value(document.value.clone(), now)) {
            let old = self.get(manifest.kind, &manifest.name);
            let manifest = Manifest { created: old.map_or(now, |old| old.created), ..manifest };
            changes.push((manifest.clone(), Change::between(old, &manifest)));
            set.insert((manifest.kind, manifest.name.clone()), manifest);
        }
        let set = Self(Arc::new(set));
        let pruned = self.iter().filter(|old| set.get(old.kind, &old.name).is_none());
        changes.extend(pruned.map(|old| (old.clone(), Change::Pruned)));
        Ok((set, changes))
    }

    /// Checks the whole set, as after a deletion.
    pub fn validate(&self) -> Result<(), Failure> {
        validate(&self.iter().collect::<Vec<_>>(), &[])
    }
}

/// Checks `kept` together with `documents`.
fn validate(kept: &[&Manifest], documents: &[Document]) -> Result<(), Failure> {
    let mut items: Vec<&Value> = kept.iter().map(|manifest| &manifest.value).collect();
    items.extend(documents.iter().map(|document| &document.value));
    let default = default_gateway();
    if !items.iter().any(|item| item.get("kind").and_then(Value::as_str) == Some(Kind::Gateway.name())) {
        items.push(&default);
    }
    let text = serde_json::to_vec(&Items { items }).unwrap_or_default();
    // Whether a secret is there is checked by the caller, which has the gateway directory.
    let loaded = config::load(&text, &|_| Some("present".to_owned()));
    loaded.map(drop).map_err(|invalid| explain(&invalid, kept.len(), documents))
}

/// A configuration in the form of one object.
#[derive(Serialize)]
struct Items<'a> {
    items: Vec<&'a Value>,
}

/// Adds to each error the place of the manifest.
fn explain(invalid: &InvalidConfig, kept: usize, documents: &[Document]) -> Failure {
    let lines = invalid.errors().iter().map(|error| explain_one(error, kept, documents));
    let lines: Vec<String> = lines.chain(invalid.omitted()).collect();
    Failure::refused(lines.join("\n"))
}

fn explain_one(error: &ConfigError, kept: usize, documents: &[Document]) -> String {
    let position = error.manifest.strip_prefix("items[").and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
    let by_position = position.and_then(|index| documents.get(index.checked_sub(kept)?));
    let by_name = || documents.iter().rfind(|document| named(&document.value).as_ref() == Some(&error.manifest));
    match by_position.or_else(by_name) {
        Some(document) if position.is_some() => {
            let field = if error.field.is_empty() { String::new() } else { format!("{}: ", error.field) };
            format!("{}: {field}{}", document.place(&error.field), error.reason)
        }
        Some(document) => format!("{}: {error}", document.place(&error.field)),
        None => error.to_string(),
    }
}

impl Change {
    fn between(old: Option<&Manifest>, new: &Manifest) -> Self {
        match old {
            None => Self::Created,
            Some(old) if old.value == new.value => Self::Unchanged,
            Some(_) => Self::Configured,
        }
    }
}

/// Returns what the filter's errors call a manifest: `ModelProvider vllm-local`.
fn named(value: &Value) -> Option<String> {
    key_of(value).map(|(kind, name)| format!("{} {name}", kind.name()))
}

/// Returns kind and name of a manifest, if it has them.
fn key_of(value: &Value) -> Option<(Kind, &str)> {
    let kind = Kind::from_name(value.get("kind")?.as_str()?)?;
    Some((kind, value.get("metadata")?.get("name")?.as_str()?))
}

/// Returns the Gateway that is in force where no manifest of this kind is there.
pub fn default_gateway() -> Value {
    json!({ "apiVersion": "pai.io/v1", "kind": "Gateway", "metadata": { "name": "default" }, "spec": {} })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::{Change, ManifestSet};
    use crate::manifest::{Document, Kind};
    use crate::output::yaml;

    /// Texts that YAML could read as something else, or that need quotes.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{1,20}",
            prop::sample::select(vec![
                "yes",
                "null",
                "~",
                "1e3",
                "0x10",
                "- a",
                "a: b",
                "#",
                "'",
                "\"",
                "2027-01-01",
                "é ☃",
                " x "
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-z]([a-z0-9-]{0,8}[a-z0-9])?"
    }

    fn fields(options: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Map<String, Value>> {
        let options: Vec<_> =
            options.into_iter().map(|(field, value)| prop::option::of(value).prop_map(move |value| (field, value))).collect();
        options.prop_map(|options| options.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect())
    }

    fn provider() -> impl Strategy<Value = Value> {
        let tokens = || (1_u64..1 << 53).prop_map(Value::from).boxed();
        let models = prop::collection::vec("[!-)+-~]{1,12}[*]?", 0..4).prop_map(Value::from).boxed();
        let external = fields(vec![("enabled", any::<bool>().prop_map(Value::from).boxed()), ("maxTokensPerDay", tokens())]);
        let optional = fields(vec![
            ("allowedModels", models),
            ("maxTokensPerDay", tokens()),
            ("maxTokensPerRequest", tokens()),
            ("externalAccess", external.prop_map(Value::from).boxed()),
        ]);
        let labels = prop::collection::btree_map("[a-z]{1,5}", text(), 0..3);
        (name(), optional, labels).prop_map(|(name, mut spec, labels)| {
            spec.insert("provider".to_owned(), "vllm".into());
            spec.insert("endpoint".to_owned(), "http://127.0.0.1:8000/v1".into());
            json!({ "apiVersion": "pai.io/v1", "kind": "ModelProvider", "metadata": { "name": name, "labels": labels }, "spec": spec })
        })
    }

    fn document(value: &Value) -> Document {
        Document::made_by("test", value.clone())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_was_applied_is_what_is_printed(providers in prop::collection::btree_map(name(), provider(), 1..6)) {
            let mut manifests: Vec<Value> = Vec::new();
            for (name, mut provider) in providers {
                provider["metadata"]["name"] = name.into();
                manifests.push(provider);
            }
            let documents: Vec<Document> = manifests.iter().map(document).collect();
            let (set, _) = ManifestSet::default().apply(&documents, 1, false).map_err(|failure| TestCaseError::fail(failure.to_string()))?;
            let printed = yaml::stream(set.iter().map(|manifest| &manifest.value));
            let read = pai_filter::config::parse(printed.as_bytes()).map_err(|invalid| TestCaseError::fail(format!("{invalid}\n{printed}")))?;
            prop_assert_eq!(&read, &set.iter().map(|manifest| manifest.value.clone()).collect::<Vec<_>>());
            let again: Vec<Document> = read.iter().map(document).collect();
            let (same, changes) = set.apply(&again, 2, true).map_err(|failure| TestCaseError::fail(failure.to_string()))?;
            prop_assert_eq!(&same, &set, "the creation is kept");
            prop_assert!(changes.iter().all(|(_, change)| *change == Change::Unchanged));
        }
    }

    #[test]
    fn what_is_in_no_file_is_pruned() {
        let provider = |name: &str| {
            let spec = json!({ "provider": "vllm", "endpoint": "http://a" });
            document(&json!({ "apiVersion": "pai.io/v1", "kind": "ModelProvider", "metadata": { "name": name }, "spec": spec }))
        };
        let (set, _) = ManifestSet::default().apply(&[provider("a"), provider("b")], 1, false).unwrap();
        let (kept, _) = set.apply(&[provider("b")], 2, false).unwrap();
        assert_eq!(kept, set);
        let (pruned, changes) = set.apply(&[provider("b")], 2, true).unwrap();
        assert_eq!(pruned.of_kind(Kind::ModelProvider).map(|manifest| manifest.name.as_str()).collect::<Vec<_>>(), ["b"]);
        let changes: Vec<_> = changes.iter().map(|(manifest, change)| (manifest.name.as_str(), *change)).collect();
        assert_eq!(changes, [("b", Change::Unchanged), ("a", Change::Pruned)]);
    }
}
