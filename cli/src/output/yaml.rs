//! Manifests as YAML, in the order in which people write them.

use serde_json::{Map, Value};

/// The order of the fields of a manifest and of its metadata. Others follow in their own order.
const ORDER: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "name"];

/// Returns a manifest as YAML, without `---`.
pub fn manifest(value: &Value) -> String {
    serde_yaml::to_string(&ordered(value)).unwrap_or_default()
}

/// Returns manifests as a YAML stream.
pub fn stream<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    values.map(manifest).collect::<Vec<_>>().join("---\n")
}

fn ordered(value: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let mut sorted = Map::new();
    for key in ORDER {
        if let Some(value) = map.get(key) {
            sorted.insert(key.to_owned(), if key == "metadata" { ordered(value) } else { value.clone() });
        }
    }
    for (key, value) in map {
        sorted.entry(key).or_insert_with(|| value.clone());
    }
    Value::Object(sorted)
}
