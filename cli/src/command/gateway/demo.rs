//! `pai gateway run --demo`: stand-ins for vLLM, and the manifests for them.

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::command::change::now;
use crate::demo::{Options, Server};
use crate::failure::Failure;
use crate::manifest::{Document, Kind, ManifestSet};

/// The annotation of manifests that a demonstration has made, and may change.
const ANNOTATION: &str = "pai.io/demo";
/// The model of the demonstrations.
const MODEL: &str = "meta-llama/Meta-Llama-3-70B-Instruct";

/// What a demonstration shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scene {
    /// One server
    Chat,
    /// A server that fails, and one to fall back to
    Fallback,
}

/// A running demonstration.
#[derive(Debug)]
pub struct Demo {
    scene: Scene,
    servers: Vec<(&'static str, Server)>,
}

/// Starts the servers of a demonstration. They end with the process.
pub fn start(scene: Scene) -> Result<Demo, Failure> {
    let names: &[&'static str] = match scene {
        Scene::Chat => &["vllm-local"],
        Scene::Fallback => &["vllm-local", "vllm-backup"],
    };
    let mut servers = Vec::new();
    for name in names {
        servers.push((*name, Server::start(Options::default()).context("the stand-in for vLLM cannot be started")?));
    }
    if let (Scene::Fallback, Some((_, first))) = (scene, servers.first()) {
        first.set_fails(true);
    }
    Ok(Demo { scene, servers })
}

// === impl Demo ===

impl Demo {
    /// Returns the manifests with those of the demonstration, which replace those of an earlier one.
    pub fn add_to(&self, manifests: &ManifestSet) -> Result<ManifestSet, Failure> {
        let is_ours = |value: &Value| value.pointer("/metadata/annotations").and_then(|all| all.get(ANNOTATION)).is_some();
        if let Some(other) = manifests.of_kind(Kind::ModelProvider).find(|provider| !is_ours(&provider.value)) {
            return Err(Failure::refused(format!(
                "the directory has its own ModelProvider, {}; run the demonstration in another one: --dir /tmp/pai-demo",
                other.name
            )));
        }
        let mut kept = manifests.clone();
        for manifest in manifests.iter().filter(|manifest| is_ours(&manifest.value)) {
            kept.remove(manifest.kind, &manifest.name);
        }
        let documents = self.manifests().into_iter().map(|value| Document::made_by("--demo", value)).collect::<Vec<_>>();
        kept.apply(&documents, now(), false).map(|(set, _)| set)
    }

    fn manifests(&self) -> Vec<Value> {
        let mut manifests: Vec<Value> = self.servers.iter().map(|(name, server)| provider(name, server.url())).collect();
        if self.scene == Scene::Fallback {
            let models: Vec<String> = self.servers.iter().map(|(name, _)| format!("{name}/{MODEL}")).collect();
            manifests.push(manifest("Agent", "demo", json!({ "identities": ["demo"], "models": models })));
            manifests.push(manifest("Gateway", "default", json!({ "identityHeader": "x-agent-id" })));
        }
        manifests
    }
}

fn provider(name: &str, endpoint: &str) -> Value {
    let models = Options::default().models;
    manifest(
        "ModelProvider",
        name,
        json!({ "provider": "vllm", "endpoint": endpoint, "allowedModels": models, "maxTokensPerDay": 50_000_000 }),
    )
}

fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({ "name": name, "annotations": { ANNOTATION: "true" } });
    json!({ "apiVersion": "pai.io/v1", "kind": kind, "metadata": metadata, "spec": spec })
}
