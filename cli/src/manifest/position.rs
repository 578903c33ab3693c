//! The lines of fields in a YAML text.

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

/// Where the manifests of a text are.
pub struct Positions<'t> {
    /// For each manifest, the number of its document, from 1.
    manifests: Vec<(usize, MarkedYaml<'t>)>,
}

/// A step of a path: `.key` or `[index]`.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

// === impl Positions ===

impl<'t> Positions<'t> {
    /// Reads a text; `None` where its syntax is wrong.
    pub fn of(text: &'t str) -> Option<Self> {
        let mut manifests = Vec::new();
        for (index, document) in MarkedYaml::load_from_str(text).ok()?.into_iter().enumerate() {
            let number = index.saturating_add(1);
            match list_of(&document) {
                Some(items) => manifests.extend(items.iter().map(|item| (number, item.clone()))),
                None if matches!(document.data, YamlData::Value(Scalar::Null)) => {}
                None => manifests.push((number, document)),
            }
        }
        Some(Self { manifests })
    }

    /// Returns the document and the line of this field, both from 1, or of the closest field around it that is written.
    pub fn find(&self, manifest: usize, field: &str) -> Option<(usize, usize)> {
        let (document, mut node) = self.manifests.get(manifest).map(|(document, node)| (*document, node))?;
        let mut line = node.span.start.line();
        for step in steps(field) {
            let Some((at, next)) = child(node, &step) else { break };
            (line, node) = (at, next);
        }
        Some((document, line))
    }
}

/// Returns the elements of `items`, where a document is a list of manifests.
fn list_of<'n, 't>(document: &'n MarkedYaml<'t>) -> Option<&'n Vec<MarkedYaml<'t>>> {
    let (_, items) = child(document, &Step::Key("items".to_owned()))?;
    match &items.data {
        YamlData::Sequence(items) if child(document, &Step::Key("kind".to_owned())).is_none() => Some(items),
        _ => None,
    }
}

/// Returns the line and the value of a child.
fn child<'n, 't>(node: &'n MarkedYaml<'t>, step: &Step) -> Option<(usize, &'n MarkedYaml<'t>)> {
    match (&node.data, step) {
        (YamlData::Mapping(map), Step::Key(name)) => {
            let is_it = |key: &MarkedYaml<'_>| matches!(&key.data, YamlData::Value(Scalar::String(text)) if text == name);
            map.iter().find(|(key, _)| is_it(key)).map(|(key, value)| (key.span.start.line(), value))
        }
        (YamlData::Sequence(list), Step::Index(index)) => list.get(*index).map(|value| (value.span.start.line(), value)),
        _ => None,
    }
}

/// Splits `spec.models[2]["a b"]`.
fn steps(field: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = field;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some((index, after)) = inner.split_once(']') else { break };
            steps.push(index.parse().map_or_else(|_| Step::Key(index.trim_matches(['"', '`']).to_owned()), Step::Index));
            rest = after;
        } else {
            let word = rest.strip_prefix('.').unwrap_or(rest);
            let (key, after) = word.split_at(word.find(['.', '[']).unwrap_or(word.len()));
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::{Positions, Step, steps};

    const TEXT: &str = "\
# a comment
---
kind: ModelProvider
spec:
  allowedModels:
    - a
    - b
  externalAccess: { enabled: true }
---
---
kind: Agent
metadata:
  labels: { 'a b': c }
";

    #[test]
    fn fields_have_their_lines() {
        let positions = Positions::of(TEXT).unwrap();
        for (manifest, field, expected) in [
            (0, "", Some(3)),
            (0, "kind", Some(3)),
            (0, "spec", Some(4)),
            (0, "spec.allowedModels[1]", Some(7)),
            (0, "spec.externalAccess.enabled", Some(8)),
            (0, "spec.absent", Some(4)),
            (1, "metadata.labels[`a b`]", Some(13)),
            (2, "kind", None),
        ] {
            assert_eq!(positions.find(manifest, field).map(|(_, line)| line), expected, "{manifest} {field}");
        }
    }

    #[test]
    fn items_are_manifests() {
        let positions = Positions::of("items:\n- kind: A\n- kind: B\n  spec:\n    x: 1\n").unwrap();
        assert_eq!(positions.find(1, "spec.x"), Some((1, 5)));
    }

    #[test]
    fn a_text_that_cannot_be_parsed_has_no_lines() {
        assert!(Positions::of("a: [").is_none());
    }

    #[test]
    fn paths_are_split_into_their_steps() {
        let key = |name: &str| Step::Key(name.to_owned());
        assert_eq!(steps("spec.models[2]"), [key("spec"), key("models"), Step::Index(2)]);
        assert_eq!(steps(r#"a["b.c"].d"#), [key("a"), key("b.c"), key("d")]);
        assert_eq!(steps(""), []);
    }
}
