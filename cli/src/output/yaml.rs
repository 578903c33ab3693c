//! Manifests as YAML, in the order in which people write them.

use serde_json::Value;

/// The fields that come first, in every map of a manifest. Others follow in their own order.
const FIRST: [&str; 13] = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "name",
    "provider",
    "endpoint",
    "apiKeySecretRef",
    "sha256",
    "identities",
    "models",
    "allowedModels",
    "deniedModels",
];

/// Returns a manifest as YAML, without `---`.
pub fn manifest(value: &Value) -> String {
    serde_yaml::to_string(&ordered(value)).unwrap_or_default()
}

/// Returns manifests as a YAML stream.
pub fn stream<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    values.map(manifest).collect::<Vec<_>>().join("---\n")
}

fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let first = FIRST.into_iter().filter_map(|key| map.get_key_value(key));
            let others = map.iter().filter(|(key, _)| !FIRST.contains(&key.as_str()));
            Value::Object(first.chain(others).map(|(key, value)| (key.clone(), ordered(value))).collect())
        }
        Value::Array(list) => list.iter().map(ordered).collect(),
        value => value.clone(),
    }
}
