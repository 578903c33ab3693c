//! What every manifest has: `apiVersion`, `kind`, `metadata`, `spec`.
//!
//! `kind` is read first: a manifest of an unknown kind, or of another API, has fields that are not ours to check.

use super::field::{Field, did_you_mean};
use super::identifier::dns_label;
use super::invalid::Reported;
use super::node::Node;
use super::path::Path;
use super::quote::quoted;

/// The only `apiVersion`.
const API_VERSION: &str = "pai.io/v1";

pub(super) const FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "spec"];
pub(super) const METADATA_FIELDS: &[&str] = &["name", "namespace", "labels", "annotations"];

const KINDS: &[(&str, Kind)] =
    &[("ModelProvider", Kind::ModelProvider), ("Agent", Kind::Agent), ("AccessKey", Kind::AccessKey), ("Gateway", Kind::Gateway)];

/// The kinds that this version serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ModelProvider,
    Agent,
    AccessKey,
    Gateway,
}

/// A manifest whose spec was not read yet.
#[derive(Debug)]
pub(super) struct Manifest<'a> {
    pub(super) path: Path,
    pub(super) kind: Kind,
    /// A DNS-1123 label, fit for headers, metrics and ledger keys.
    pub(super) name: Result<Box<str>, Reported>,
    pub(super) spec: Field<'a>,
}

// === impl Kind ===

impl Kind {
    /// Returns the kind as written.
    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    fn read(text: &str) -> Option<Self> {
        KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind)
    }

    /// Returns the path of the manifest of this kind and name.
    pub(super) fn path_of(self, name: &str) -> Path {
        Path::root(format!("{} {name}", self.name()))
    }
}

// === impl Manifest ===

impl<'a> Manifest<'a> {
    /// Reads everything but the spec.
    pub(super) fn read(document: Field<'a>) -> Result<Self, Reported> {
        let document = named(document);
        check_api(&document)?;
        let path = document.path().clone();
        let mut fields = document.fields(FIELDS)?;
        let kind = fields.required("kind", |kind| kind.one_of(KINDS))?;
        // That it is the right one was checked, if it is there.
        let _ = fields.required("apiVersion", |version| version.text(|_| Ok(())));
        let name = fields.required("metadata", name);
        Ok(Self { path, kind, name, spec: fields.required("spec", Ok)? })
    }
}

/// Returns `metadata.name` of a manifest as written, valid or not.
pub(super) fn written_name<'d>(document: &'d Field<'_>) -> Option<&'d str> {
    match document.get("metadata")? {
        Node::Map(metadata) => metadata.get("name")?.text(),
        _ => None,
    }
}

/// Lets errors call the manifest by its kind and name, where both are valid.
fn named(document: Field<'_>) -> Field<'_> {
    let kind = document.get("kind").and_then(Node::text).and_then(Kind::read);
    let name = written_name(&document).filter(|name| dns_label(name).is_ok());
    match kind.zip(name).map(|(kind, name)| kind.path_of(name)) {
        Some(path) => document.at(path),
        None => document,
    }
}

/// Refuses a manifest of an unknown kind, or of another API. Its other fields are not looked at.
fn check_api(document: &Field<'_>) -> Result<(), Reported> {
    if let Some(Node::Text(kind)) = document.get("kind")
        && Kind::read(kind).is_none()
    {
        return Err(document.refuse_field("kind", unknown_kind(kind, document)));
    }
    match document.get("apiVersion") {
        Some(Node::Text(version)) if version != API_VERSION => {
            Err(document.refuse_field("apiVersion", format!("must be {API_VERSION}, got {}", quoted(version))))
        }
        _ => Ok(()),
    }
}

fn unknown_kind(kind: &str, document: &Field<'_>) -> String {
    let hint = match kind {
        _ if document.get("items").is_some() => "; a list of manifests is `{\"items\": […]}`, without `kind` and `apiVersion`",
        "Secret" => "; a secret is an environment variable `PAI_SECRET_<NAME>_<KEY>`, see docs/configuration.md#secrets",
        _ => &did_you_mean(kind, KINDS.iter().map(|(name, _)| *name)),
    };
    format!("unknown kind {}; known are ModelProvider, Agent, AccessKey and Gateway{hint}", quoted(kind))
}

/// Reads `metadata` for its name. Labels and annotations are the operator's own.
fn name(metadata: Field<'_>) -> Result<Box<str>, Reported> {
    let mut metadata = metadata.fields(METADATA_FIELDS)?;
    let name = metadata.required("name", |name| name.text(dns_label));
    // No value of these is used: errors are reported, and the manifest can be read without them.
    let _ = metadata.optional("namespace", |namespace| namespace.text(dns_label));
    for strings in ["labels", "annotations"] {
        let _ = metadata.optional(strings, |map| map.map(|_, value| value.text(|_| Ok(()))));
    }
    name
}
