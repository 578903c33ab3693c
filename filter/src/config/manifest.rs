//! What every manifest has: `apiVersion`, `kind`, `metadata`, `spec`.
//!
//! A [`Manifest`] has a kind that this version serves and a name that is fit for headers, metrics and ledger keys.

use super::document::Document;
use super::field::{Field, Fields};
use super::invalid::{InvalidConfig, Reason, quoted};
use super::node::Node;
use super::word::label;

/// The only `apiVersion`.
const API_VERSION: &str = "pai.io/v1";

pub(super) const FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "spec"];
pub(super) const METADATA_FIELDS: &[&str] = &["name", "namespace", "labels", "annotations"];

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
pub(super) struct Manifest {
    pub(super) kind: Kind,
    pub(super) name: Box<str>,
    /// What errors call it: `ModelProvider vllm-local`.
    subject: String,
    spec: Field,
}

/// What errors call a manifest: its kind and name where they are fit to be shown, else its place.
fn subject(node: &Node, place: &str) -> String {
    let text = |node: Option<&Node>| match node {
        Some(Node::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let kind_and_name = || {
        let Node::Map(map) = node else { return None };
        let Some(Node::Map(metadata)) = map.get("metadata") else {
            return None;
        };
        let kind = text(map.get("kind")).filter(|kind| Kind::read(kind).is_ok())?;
        let name = text(metadata.get("name")).filter(|name| label(name).is_ok())?;
        Some(format!("{kind} {name}"))
    };
    kind_and_name().unwrap_or_else(|| place.to_owned())
}

fn api_version(text: &str) -> Result<(), Reason> {
    match text {
        API_VERSION => Ok(()),
        other => Err(format!("must be {API_VERSION}, got {}", quoted(other)).into()),
    }
}

/// Reads `metadata` for its name; labels and annotations are the operator's own.
fn name(metadata: Field) -> Result<Box<str>, InvalidConfig> {
    let mut metadata = metadata.fields(METADATA_FIELDS)?;
    metadata.optional("namespace", |namespace| namespace.text(label))?;
    metadata.optional("labels", strings)?;
    metadata.optional("annotations", strings)?;
    metadata.required("name", |name| name.text(label))
}

fn strings(map: Field) -> Result<(), InvalidConfig> {
    map.entries()?.into_iter().try_for_each(|(_, value)| value.text(|_| Ok(())))
}

// === impl Kind ===

impl Kind {
    fn read(text: &str) -> Result<Self, Reason> {
        match text {
            "ModelProvider" => Ok(Self::ModelProvider),
            "Agent" => Ok(Self::Agent),
            "AccessKey" => Ok(Self::AccessKey),
            "Gateway" => Ok(Self::Gateway),
            other => Err(format!("unknown kind {}; known are ModelProvider, Agent, AccessKey and Gateway", quoted(other)).into()),
        }
    }
}

// === impl Manifest ===

impl Manifest {
    pub(super) fn read(document: Document) -> Result<Self, InvalidConfig> {
        let Document { place, node } = document;
        let subject = subject(&node, &place);
        Self::read_as(&subject, node).map_err(|error| error.within(&subject))
    }

    fn read_as(subject: &str, node: Node) -> Result<Self, InvalidConfig> {
        let mut fields = Field::root(node).fields(FIELDS)?;
        fields.required("apiVersion", |version| version.text(api_version))?;
        Ok(Self {
            kind: fields.required("kind", |kind| kind.text(Kind::read))?,
            name: fields.required("metadata", name)?,
            spec: fields.required("spec", Ok)?,
            subject: subject.to_owned(),
        })
    }

    /// Reads the spec, whose fields are those in `known`, by `read`.
    pub(super) fn compile<T>(
        self,
        known: &'static [&'static str],
        read: impl FnOnce(Box<str>, Fields) -> Result<T, InvalidConfig>,
    ) -> Result<T, InvalidConfig> {
        let Self { kind: _, name, subject, spec } = self;
        let compiled = spec.fields(known).and_then(|spec| read(name, spec));
        compiled.map_err(|error| error.within(&subject))
    }

    /// What errors call it.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// The error that `field` of this manifest is at fault.
    pub(super) fn refuse(&self, field: &str, reason: impl Into<Reason>) -> InvalidConfig {
        InvalidConfig::new(field, reason).within(&self.subject)
    }
}
