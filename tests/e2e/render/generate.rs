//! Random manifests that are valid.

use std::collections::BTreeSet;

use e2e::harness::Rng;
use pai::manifest::{Kind, Manifest};
use serde_json::{Value, json};

/// Names that YAML or Envoy could misread.
const NAMES: [&str; 14] = ["null", "true", "no", "y", "1", "1e3", "0x10", "007", "none", "inf", "default", "openai", "a-b", "pai"];
const HOSTS: [&str; 7] = ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "[2001:db8::1]", "127.0.0.2", "LOCALHOST"];
const PATHS: [&str; 4] = ["", "/", "/v1", "/openai/v1/"];
const MODELS: [&str; 5] = ["m", "meta-llama/Meta-Llama-3-70B-Instruct", "gpt-5-mini", "a:b@c", "x/y/z"];
const SECRETS: [(&str, &str); 5] =
    [("vllm-token", "api-key"), ("a.b", "c"), ("a", "b.c.d"), ("x#y'z\"", "k/../../v"), ("long", "key")];
/// The largest body of a generated configuration.
pub(crate) const MAX_REQUEST_BYTES: u64 = 32 * 1024 * 1024;

/// Returns a valid set of manifests.
pub(crate) fn manifests(rng: &mut Rng) -> Vec<Manifest> {
    let most = if one_in(rng, 10) { 30 } else { 6 };
    let names = names(rng, most);
    let mut items: Vec<Value> = names.iter().map(|name| provider(name, rng)).collect();
    if !names.is_empty() {
        items.extend((0..rng.below(4)).map(|agent| self::agent(agent, &names, rng)));
    }
    items.extend((0..rng.below(3)).map(access_key));
    if names.is_empty() || !one_in(rng, 3) {
        items.push(gateway(&names, rng));
    }
    let text = json!({ "items": items }).to_string();
    if let Err(invalid) = pai_filter::config::load(text.as_bytes(), &|_| Some("key".to_owned())) {
        panic!("{invalid}\n{text}");
    }
    items.into_iter().map(manifest).collect()
}

fn manifest(value: Value) -> Manifest {
    let written = value["kind"].as_str().unwrap();
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == written).unwrap();
    Manifest { kind, name: value["metadata"]["name"].as_str().unwrap().to_owned(), created: 0, value }
}

fn one_in(rng: &mut Rng, bound: u64) -> bool {
    rng.below(bound) == 0
}

fn pick<T: Copy>(list: &[T], rng: &mut Rng) -> T {
    list[rng.below(list.len() as u64) as usize]
}

fn names(rng: &mut Rng, most: u64) -> Vec<String> {
    let count = 1 + rng.below(most);
    let names: BTreeSet<String> = (0..count)
        .map(|_| match rng.below(3) {
            0 => pick(&NAMES, rng).to_owned(),
            1 => format!("provider-{}", rng.below(100)),
            _ => format!("p{}{}", "x".repeat(rng.below(55) as usize), rng.below(1000)),
        })
        .collect();
    names.into_iter().collect()
}

fn provider(name: &str, rng: &mut Rng) -> Value {
    let scheme = pick(&["http", "http", "https", "HTTPS"], rng);
    let port = if one_in(rng, 2) { format!(":{}", 1 + rng.below(65535)) } else { String::new() };
    let mut spec = json!({
        "provider": pick(&["vllm", "openai", "anthropic"], rng),
        "endpoint": format!("{scheme}://{}{port}{}", pick(&HOSTS, rng), pick(&PATHS, rng)),
        "maxTokensPerDay": 1 + rng.below(1 << 40),
    });
    if one_in(rng, 2) {
        spec["allowedModels"] = json!(MODELS);
    }
    if one_in(rng, 2) {
        let (name, key) = pick(&SECRETS, rng);
        spec["apiKeySecretRef"] = json!({ "name": name, "key": key });
    }
    json!({ "apiVersion": "pai.io/v1", "kind": "ModelProvider", "metadata": { "name": name }, "spec": spec })
}

fn agent(agent: u64, providers: &[String], rng: &mut Rng) -> Value {
    let reference = |rng: &mut Rng| {
        let provider = &providers[rng.below(providers.len() as u64) as usize];
        format!("{provider}/{}", pick(&MODELS, rng))
    };
    let models: Vec<String> = (0..=rng.below(4)).map(|_| reference(rng)).collect();
    json!({
        "apiVersion": "pai.io/v1", "kind": "Agent", "metadata": { "name": format!("agent-{agent}") },
        "spec": { "identities": [format!("spiffe://cluster.local/ns/agents/sa/{agent}")], "models": models },
    })
}

fn access_key(key: u64) -> Value {
    json!({
        "apiVersion": "pai.io/v1", "kind": "AccessKey", "metadata": { "name": format!("key-{key}") },
        "spec": { "sha256": key.to_string().repeat(64), "models": ["*"], "requestsPerMinute": 60 },
    })
}

fn gateway(providers: &[String], rng: &mut Rng) -> Value {
    let mut spec = json!({ "maxRequestBytes": 1 + rng.below(MAX_REQUEST_BYTES) });
    if one_in(rng, 2) {
        spec["audience"] = pick(&["agents", "external", "auto"], rng).into();
    }
    if let (Some(first), true) = (providers.first(), one_in(rng, 2)) {
        spec["callouts"] = json!({ first: format!("{first}-callouts") });
    }
    json!({ "apiVersion": "pai.io/v1", "kind": "Gateway", "metadata": { "name": "default" }, "spec": spec })
}
