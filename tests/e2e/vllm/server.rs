//! The vLLM started by `scripts/test vllm`, its own counts, and gateways in front of it.

use std::time::Duration;

use e2e::harness::{Gate, GateBuilder, Reply, Request, gateway, named_provider, until};
use serde_json::{Value, json};

/// The two names of its model.
pub const MODELS: [&str; 2] = ["meta-llama/Meta-Llama-3-70B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3"];
/// `max_model_len`.
pub const CONTEXT_LENGTH: u64 = 4096;
/// The timeout of a response: the full context length, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running vLLM.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    address: std::net::SocketAddr,
}

/// The engine's counts since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// `vllm:prompt_tokens_total`: the prompt of every completion, so that a prompt counts `n` times.
    pub prompt: u64,
    /// `vllm:generation_tokens_total`
    pub generation: u64,
    /// `vllm:num_preemptions_total`
    pub preemptions: u64,
}

// === impl Server ===

impl Server {
    /// Returns the server at `PAI_VLLM`.
    pub fn running() -> Self {
        let address = std::env::var("PAI_VLLM").expect("a vLLM: run scripts/test vllm");
        Self { address: address.parse().expect("an address") }
    }

    fn key() -> String {
        std::env::var("VLLM_API_KEY").expect("the server's key: run scripts/test vllm")
    }

    /// Builds a request that is sent directly to the server.
    pub fn request(self, method: &str, path: &str) -> Request {
        Request::direct(self.address, method, path).header("authorization", format!("Bearer {}", Self::key())).timeout(PATIENCE)
    }

    /// Returns its counts.
    pub async fn counts(self) -> Counts {
        let metrics = self.request("GET", "/metrics").send().await.ok().text();
        let total = |name: &str| sum(&metrics, name);
        Counts {
            prompt: total("vllm:prompt_tokens_total"),
            generation: total("vllm:generation_tokens_total"),
            preemptions: total("vllm:num_preemptions_total"),
        }
    }

    /// Returns the number of tokens of this request's prompt.
    pub async fn prompt_tokens(self, body: &Value) -> u64 {
        let asked = ["model", "messages", "prompt"].into_iter().filter_map(|name| Some((name.to_owned(), body.get(name)?.clone())));
        let asked = Value::Object(asked.collect());
        self.request("POST", "/tokenize").json(&asked).send().await.ok().json()["count"].as_u64().expect("a count")
    }

    /// Returns a gateway with its API key, whose provider `vllm-local` has these additional lines of `spec`.
    pub fn gate(self, spec: &str) -> GateBuilder {
        self.gate_with_key(&Self::key(), spec)
    }

    /// Starts a gateway with callouts, and waits until it knows the context length.
    pub async fn gate_with_known_context_length(self, spec: &str) -> Gate {
        let gate = self.gate(spec).manifests(gateway("callouts: { vllm-local: vllm-local-callouts }")).start().await;
        let counter = "cluster.vllm-local-callouts.upstream_rq_200";
        until("the context length was requested", async || gate.stats(counter).values().any(|count| *count > 0).then_some(()))
            .await;
        gate
    }

    /// Returns a gateway with this API key; see [`Server::gate`].
    pub fn gate_with_key(self, key: &str, spec: &str) -> GateBuilder {
        let spec = format!("apiKeySecretRef: {{ name: vllm-token, key: api-key }}\nallowedModels: {}\n{spec}", json!(MODELS));
        Gate::builder()
            .manifests(named_provider("vllm-local", &spec))
            .address("vllm-local", self.address)
            .env("PAI_SECRET_VLLM_TOKEN_API_KEY", key)
    }
}

// === impl Counts ===

impl Counts {
    /// Returns the difference to `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            prompt: self.prompt - before.prompt,
            generation: self.generation - before.generation,
            preemptions: self.preemptions - before.preemptions,
        }
    }
}

/// Returns the sum of all series of this name, in tokens. Prometheus also writes whole numbers as `1.7e+06`.
pub fn sum(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number"))
    });
    let sum = values.fold(0.0, |sum, value| sum + value);
    format!("{sum:.0}").parse().expect("a count")
}

/// Sends a request with a timeout for the full context length.
pub async fn answer(request: Request) -> Reply {
    request.timeout(PATIENCE).send().await
}

/// Returns the prompt and completion tokens that this response reports, JSON or stream.
pub fn reported(reply: &Reply) -> Option<(u64, u64)> {
    let count = |usage: &Value| Some((usage["prompt_tokens"].as_u64()?, usage["completion_tokens"].as_u64()?));
    match reply.header("content-type") {
        Some("application/json") => count(&reply.json()["usage"]),
        _ => events(reply).iter().rev().find_map(|event| count(&event["usage"])),
    }
}

/// Returns the JSON events of a stream: all except the last, `[DONE]`.
pub fn events(reply: &Reply) -> Vec<Value> {
    let text = reply.text();
    text.split("\n\n").filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok()).collect()
}
