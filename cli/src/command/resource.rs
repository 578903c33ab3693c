//! What commands name: a kind of manifest, or secrets.

use crate::failure::Failure;
use crate::manifest::Kind;

/// A kind of things that commands list, show and delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Manifests of a kind.
    Manifests(Kind),
    /// Secrets.
    Secrets,
}

/// A resource, and names of it: `agent researcher`, `agent/researcher`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What it is.
    pub resource: Resource,
    /// The names, in the order given; none for all.
    pub names: Vec<String>,
}

/// The names of resources, for help and errors.
pub const NAMES: &str = "model-providers (mp), agents, access-keys (ak), secrets, gateway";

// === impl Resource ===

impl Resource {
    fn parse(text: &str) -> Result<Self, Failure> {
        let lower = text.to_ascii_lowercase();
        match Kind::from_command_name(&lower) {
            Some(kind) => Ok(Self::Manifests(kind)),
            None if matches!(lower.as_str(), "secrets" | "secret") => Ok(Self::Secrets),
            None => Err(Failure::usage(format!("`{text}` is no resource; there are: {NAMES}"))),
        }
    }
}

// === impl Selection ===

impl Selection {
    /// Reads `KIND [NAME…]` or `KIND/NAME…`.
    pub fn parse(words: &[String]) -> Result<Self, Failure> {
        let Some((first, rest)) = words.split_first() else {
            return Err(Failure::usage(format!("name a resource: {NAMES}")));
        };
        let Some((kind, name)) = first.split_once('/') else {
            return Ok(Self { resource: Resource::parse(first)?, names: rest.to_vec() });
        };
        let (resource, mut names) = (Resource::parse(kind)?, vec![name.to_owned()]);
        for word in rest {
            match word.split_once('/') {
                Some((kind, name)) if Resource::parse(kind)? == resource => names.push(name.to_owned()),
                _ => return Err(Failure::usage(format!("`{word}`: write `{kind}/NAME` for each, all of one kind"))),
            }
        }
        Ok(Self { resource, names })
    }
}

#[cfg(test)]
mod tests {
    use super::{Resource, Selection};
    use crate::manifest::Kind;

    fn parse(line: &str) -> Option<(Resource, Vec<String>)> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Selection::parse(&words).ok().map(|selection| (selection.resource, selection.names))
    }

    #[test]
    fn resources_have_long_and_short_names() {
        for (line, kind, names) in [
            ("model-providers", Kind::ModelProvider, vec![]),
            ("mp vllm-local", Kind::ModelProvider, vec!["vllm-local"]),
            ("ModelProvider/a ModelProvider/b", Kind::ModelProvider, vec!["a", "b"]),
            ("modelprovider.pai.io/a", Kind::ModelProvider, vec!["a"]),
            ("agent researcher", Kind::Agent, vec!["researcher"]),
            ("ak", Kind::AccessKey, vec![]),
            ("gateway", Kind::Gateway, vec![]),
        ] {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            assert_eq!(parse(line), Some((Resource::Manifests(kind), names)), "{line}");
        }
        assert_eq!(parse("secret vllm-token"), Some((Resource::Secrets, vec!["vllm-token".to_owned()])));
        for line in ["", "pods", "agent/a b", "agent/a ak/b"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
