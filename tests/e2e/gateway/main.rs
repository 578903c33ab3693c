//! A gateway that `pai` runs, and changes while it runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod changes;
mod refusals;
mod runs;

use e2e::harness::{RunningGateway, Shell};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A model of the stand-ins.
const MODEL: &str = "meta-llama/Meta-Llama-3-70B-Instruct";

/// A shell in an empty home directory, and a gateway that runs there.
struct Scene {
    shell: Shell,
    gateway: RunningGateway,
    client: reqwest::Client,
    _home: TempDir,
}

impl Scene {
    /// Starts a gateway without manifests.
    fn start() -> Self {
        let home = TempDir::new().unwrap();
        let shell = Shell::new(home.path());
        let gateway = shell.gateway(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--concurrency", "2"]);
        Self { shell, gateway, client: reqwest::Client::new(), _home: home }
    }

    /// Applies these manifests.
    fn apply(&self, manifests: &[Value]) {
        self.shell.write("manifests.json", &json!({ "items": manifests }).to_string());
        self.shell.run("pai apply -f manifests.json");
    }

    fn chat(&self, model: &str, fields: Value) -> reqwest::RequestBuilder {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 8 });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.client.post(format!("{}/v1/chat/completions", self.gateway.url())).json(&body)
    }

    /// Returns the tokens of today of a provider, when nothing is reserved any more.
    async fn used(&self, provider: &str) -> u64 {
        let url = format!("{}/pai/v1/model-providers", self.gateway.url());
        e2e::harness::until("nothing is reserved", async || {
            let list: Value = self.client.get(&url).send().await.unwrap().json().await.unwrap();
            let item = list["items"].as_array().unwrap().iter().find(|item| item["name"] == provider).unwrap().clone();
            (item["reserved"] == 0).then(|| item["usedToday"].as_u64().unwrap())
        })
        .await
    }
}

fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "pai.io/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn provider(name: &str, url: &str, fields: Value) -> Value {
    let mut spec = json!({ "provider": "vllm", "endpoint": format!("{url}/v1"), "allowedModels": [MODEL] });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    manifest("ModelProvider", name, spec)
}
