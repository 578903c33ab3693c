//! Fixtures: an agent with three references, the three providers, and their responses.

use std::fmt::Write as _;

use e2e::harness::{Answer, Gate, GateBuilder, Received, Reply, Request, SLASHED, Upstream, gateway, named_provider, responses};
use serde_json::{Value, json};

/// The identity header that a trusted proxy sets.
pub const IDENTITY: &str = "x-agent-id";
/// The identity of the Agent `researcher`.
pub const RESEARCHER: &str = "spiffe://cluster.local/ns/agents/sa/researcher";
/// The default daily budget of each provider.
pub const CAP: u64 = 1_000_000;

/// A provider: its configuration in the gateway, and what it expects from the gateway.
#[derive(Debug, PartialEq, Eq)]
pub struct TestProvider {
    /// `metadata.name`.
    pub name: &'static str,
    dialect: &'static str,
    endpoint: &'static str,
    /// The model that the agent uses.
    pub model: &'static str,
    /// The path of its chat API.
    pub path: &'static str,
    /// Its authority (`host`).
    pub authority: &'static str,
    /// Its API key.
    pub key: &'static str,
    /// The prompt and completion tokens of each response.
    pub usage: (u64, u64),
}

/// The first in the agent's order.
pub const VLLM: TestProvider = TestProvider {
    name: "vllm-local",
    dialect: "vllm",
    endpoint: "http://vllm-local.test:8000/v1",
    model: SLASHED,
    path: "/v1/chat/completions",
    authority: "vllm-local.test:8000",
    key: "key-of-vllm-3b1f",
    usage: (5, 3),
};
/// The second.
pub const OPENAI: TestProvider = TestProvider {
    name: "openai",
    dialect: "openai",
    endpoint: "https://api.openai.test/v1",
    model: "gpt-5-mini",
    path: "/v1/chat/completions",
    authority: "api.openai.test",
    key: "key-of-openai-84ac",
    usage: (7, 5),
};
/// The third.
pub const ANTHROPIC: TestProvider = TestProvider {
    name: "anthropic",
    dialect: "anthropic",
    endpoint: "https://api.anthropic.test/compatible/v1",
    model: "claude-haiku-4-5",
    path: "/compatible/v1/chat/completions",
    authority: "api.anthropic.test",
    key: "key-of-anthropic-d92e",
    usage: (11, 6),
};
/// All providers, in the agent's order.
pub const PROVIDERS: [&TestProvider; 3] = [&VLLM, &OPENAI, &ANTHROPIC];

/// Builds a [`Scene`].
#[must_use]
pub struct SceneBuilder {
    specs: [String; 3],
    dialects: [&'static str; 3],
    agent: Option<String>,
    models: Vec<String>,
    settings: String,
    others: String,
    upstreams: [Option<Upstream>; 3],
    bare: Option<usize>,
    builder: GateBuilder,
}

/// A gateway with its three providers. Dropping it checks all requests that they received.
#[derive(Debug)]
pub struct Scene {
    pub gate: Gate,
    upstreams: [Upstream; 3],
    bare: Option<usize>,
}

// === impl TestProvider ===

impl TestProvider {
    fn index(&self) -> usize {
        PROVIDERS.iter().position(|member| *member == self).unwrap()
    }

    /// Returns `<provider>/<model-id>`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.name, self.model)
    }

    /// Returns the total tokens of one response.
    pub fn tokens(&self) -> u64 {
        self.usage.0 + self.usage.1
    }

    fn variable(&self) -> String {
        format!("PAI_SECRET_{}_API_KEY", self.name.to_uppercase().replace('-', "_"))
    }

    fn manifest(&self, dialect: &str, spec: &str) -> String {
        let manifest = named_provider(self.name, &format!("apiKeySecretRef: {{ name: {}, key: api-key }}\n{spec}", self.name));
        let endpoint = format!("http://{}.test:8000/v1", self.name);
        manifest.replace("provider: vllm", &format!("provider: {dialect}")).replace(&endpoint, self.endpoint)
    }

    /// Returns the text of its responses.
    pub fn text(&self) -> String {
        format!("I am {}.", self.name)
    }

    /// Returns its response to this request: JSON, or a stream.
    pub fn serve(&self, body: &Value) -> Answer {
        let (prompt, completion) = self.usage;
        if body["stream"] != json!(true) {
            return Answer::json(&responses::chat_of(&self.text(), responses::usage(prompt, completion)));
        }
        let words = vec!["word "; usize::try_from(completion).unwrap()];
        let options = &body["stream_options"];
        let mut events = responses::stream(&words, prompt, options["continuous_usage_stats"] == json!(true));
        if options["continuous_usage_stats"] != json!(true) && options["include_usage"] == json!(true) {
            events.insert(events.len() - 1, responses::final_usage(prompt, completion));
        }
        Answer::stream(events)
    }

    /// Returns the response that the prompt selects: `vllm-local=503`, `=reset`, `=half`, `=close`, `=hang`, `=exhaust`, or the
    /// same with the name of one of its models.
    pub fn respond(&self, request: &Received) -> Answer {
        let body = request.json();
        let text = body["messages"][0]["content"].as_str().unwrap_or_default();
        let wishes = text.split(' ').filter_map(|word| word.split_once('='));
        let wish = wishes.into_iter().find(|(who, _)| *who == self.name || body["model"] == *who).map(|(_, wish)| wish);
        match wish {
            None => self.serve(&body),
            Some("reset") => Answer::raw("").then_reset(),
            Some("close") => Answer::raw("").then_close(),
            Some("half") => Answer::raw("HTTP/1.1 200 OK\r\ncontent-ty").then_reset(),
            Some("hang") => Answer::raw_chunks(["", ""]).then_hang(),
            Some("exhaust") => Answer::json(&responses::chat(CAP, 0)),
            Some(status) => self.failing(status.parse().expect("a status")),
        }
    }

    /// Returns an error response of this provider.
    pub fn failing(&self, status: u16) -> Answer {
        Answer::error(status, &self.error(status))
    }

    /// Returns the body of the error response.
    pub fn error(&self, status: u16) -> Value {
        json!({ "error": { "message": format!("{} says {status}", self.name), "type": "some", "param": null, "code": status } })
    }

    /// Starts a server that responds as each prompt selects.
    pub async fn upstream_by_prompt(&'static self) -> Upstream {
        Upstream::answering(|request| self.respond(request)).await
    }
}

// === impl SceneBuilder ===

impl SceneBuilder {
    /// Returns a builder with the agent and its three providers, each with a cap.
    pub fn new() -> Self {
        let cap = format!("maxTokensPerDay: {CAP}");
        Self {
            specs: [cap.clone(), cap.clone(), cap],
            dialects: PROVIDERS.map(|member| member.dialect),
            agent: Some(String::new()),
            models: PROVIDERS.map(TestProvider::reference).to_vec(),
            settings: String::new(),
            others: String::new(),
            upstreams: [None, None, None],
            bare: None,
            builder: Gate::builder().fallback(),
        }
    }

    /// Replaces a provider's cap by these lines of `spec`.
    pub fn spec(mut self, member: &TestProvider, spec: &str) -> Self {
        self.specs[member.index()] = spec.to_owned();
        self
    }

    /// Sets the dialect of a provider.
    pub fn dialect(mut self, member: &TestProvider, dialect: &'static str) -> Self {
        self.dialects[member.index()] = dialect;
        self
    }

    /// Adds lines to the agent's `spec`.
    pub fn agent(mut self, spec: &str) -> Self {
        self.agent = Some(spec.to_owned());
        self
    }

    /// Sets the agent's models.
    pub fn models(mut self, providers: &[&TestProvider]) -> Self {
        self.models = providers.iter().map(|member| member.reference()).collect();
        self
    }

    /// Sets the agent's models by reference.
    pub fn references(mut self, references: &[&str]) -> Self {
        self.models = references.iter().map(|reference| (*reference).to_owned()).collect();
        self
    }

    /// Lets the agent use these models of the first provider, after those of the other providers. Each model has its own cooldown.
    pub fn with_models(mut self, models: &[String]) -> Self {
        let _ = write!(self.specs[VLLM.index()], "\nallowedModels: [{}]", models.join(", "));
        let references = models.iter().map(|model| format!("{}/{model}", VLLM.name));
        self.models = [OPENAI.reference(), ANTHROPIC.reference()].into_iter().chain(references).collect();
        self
    }

    /// Lets the agent use these models of the first provider, before those of the other providers.
    pub fn with_models_first(mut self, models: &[&str]) -> Self {
        let _ = write!(self.specs[VLLM.index()], "\nallowedModels: [{}]", models.join(", "));
        let references = models.iter().map(|model| format!("{}/{model}", VLLM.name));
        self.models = references.chain([OPENAI.reference(), ANTHROPIC.reference()]).collect();
        self
    }

    /// Omits the agent: all callers are anonymous.
    pub fn anonymous(mut self) -> Self {
        self.agent = None;
        self
    }

    /// Adds lines to the gateway's `spec`.
    pub fn settings(mut self, spec: &str) -> Self {
        let _ = writeln!(self.settings, "{spec}");
        self
    }

    /// Adds manifests.
    pub fn manifests_of(mut self, others: &str) -> Self {
        self.others.push_str(others);
        self
    }

    /// Uses this server for a provider.
    pub fn with_upstream(mut self, member: &TestProvider, upstream: Upstream) -> Self {
        self.upstreams[member.index()] = Some(upstream);
        self
    }

    /// Leaves the attempt filter out of this provider's cluster.
    pub fn without_attempt_filter(mut self, member: &TestProvider) -> Self {
        self.bare = Some(member.index());
        self.with(|builder| builder.without_attempt_filter(member.name))
    }

    /// Changes the gateway.
    pub fn with(mut self, change: impl FnOnce(GateBuilder) -> GateBuilder) -> Self {
        self.builder = change(self.builder);
        self
    }

    /// Returns all manifests.
    pub fn manifests(&self) -> String {
        let mut settings = format!("{}\n", self.settings.trim());
        let mut manifests = String::new();
        if let Some(agent) = &self.agent {
            let _ = writeln!(settings, "identityHeader: {IDENTITY}");
            let lines: String = agent.lines().map(|line| format!("  {line}\n")).collect();
            let models = self.models.join(", ");
            let _ = write!(
                manifests,
                "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: researcher }}\nspec:\n  identities: ['{RESEARCHER}']\n  models: [{models}]\n{lines}"
            );
        }
        for (place, member) in PROVIDERS.iter().enumerate() {
            manifests += &member.manifest(self.dialects[place], &self.specs[place]);
        }
        if !settings.trim().is_empty() {
            manifests += &gateway(settings.trim());
        }
        manifests + &self.others
    }

    /// Starts the gateway and the providers.
    pub async fn start(self) -> Scene {
        let manifests = self.manifests();
        let mut builder = self.builder.manifests(manifests);
        if self.agent.is_some() {
            builder = builder.default_header(IDENTITY, RESEARCHER);
        }
        let [vllm, openai, anthropic] = self.upstreams;
        let upstreams = [or_default(vllm, &VLLM).await, or_default(openai, &OPENAI).await, or_default(anthropic, &ANTHROPIC).await];
        for (member, upstream) in PROVIDERS.iter().zip(&upstreams) {
            builder = builder.env(&member.variable(), member.key).upstream(member.name, upstream);
        }
        Scene { gate: builder.start().await, upstreams, bare: self.bare }
    }
}

async fn or_default(upstream: Option<Upstream>, member: &'static TestProvider) -> Upstream {
    match upstream {
        Some(upstream) => upstream,
        None => member.upstream_by_prompt().await,
    }
}

/// Starts the default scene.
pub async fn scene() -> Scene {
    SceneBuilder::new().start().await
}

// === impl Scene ===

impl Scene {
    /// Returns the server of a provider.
    pub fn upstream(&self, member: &TestProvider) -> &Upstream {
        &self.upstreams[member.index()]
    }

    /// Returns a chat request for the first provider.
    pub fn chat(&self, text: &str) -> Request {
        self.chat_with(&VLLM, text)
    }

    /// Returns a chat request for this provider.
    pub fn chat_with(&self, member: &TestProvider, text: &str) -> Request {
        self.gate.chat(&chat_body(member, text))
    }

    /// Sends a chat request for the first provider.
    pub async fn ask(&self, text: &str) -> Reply {
        self.send(self.chat(text)).await
    }

    /// Sends a chat request for this provider.
    pub async fn ask_with(&self, member: &TestProvider, text: &str) -> Reply {
        self.send(self.chat_with(member, text)).await
    }

    /// Sends a request, and checks that the response contains no internals of fallback.
    pub async fn send(&self, request: Request) -> Reply {
        let reply = request.send().await;
        check(&reply);
        reply
    }

    /// Returns the number of requests that each provider received.
    pub fn request_counts(&self) -> [usize; 3] {
        PROVIDERS.map(|member| self.upstream(member).requests().len())
    }

    /// Replaces the configuration by this builder's manifests.
    pub async fn reconfigure(&self, staging: &SceneBuilder) {
        self.gate.reconfigure(staging.manifests()).await.expect("a configuration that is accepted");
    }

    /// Returns the number of requests that each provider received while `act` ran.
    pub async fn requests_during(&self, act: impl Future<Output = ()>) -> [usize; 3] {
        let before = self.request_counts();
        act.await;
        let after = self.request_counts();
        std::array::from_fn(|place| after[place] - before[place])
    }

    /// Returns the tokens used of each provider, once nothing is reserved.
    pub async fn charges(&self) -> [u64; 3] {
        let mut charges = [0; 3];
        for (member, charge) in PROVIDERS.iter().zip(&mut charges) {
            *charge = self.gate.used_of(member.name).await;
        }
        charges
    }

    /// Exhausts the budget of a provider.
    pub async fn exhaust(&self, member: &TestProvider) {
        self.ask_with(member, &format!("{}=exhaust", member.name)).await.ok();
        assert!(self.gate.used_of(member.name).await >= CAP);
    }

    /// Returns this field of the line in the access log that satisfies `wanted`.
    pub async fn logged(&self, field: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.gate.access_log(wanted).await[field].clone()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for (member, upstream) in PROVIDERS.iter().zip(&self.upstreams) {
            for request in upstream.requests() {
                if self.bare == Some(member.index()) {
                    check_without_attempt_filter(&request);
                } else {
                    check_request(member, &request);
                }
            }
        }
    }
}

/// Returns the body of a chat with `max_tokens: 8`.
pub fn chat_body(member: &TestProvider, text: &str) -> Value {
    json!({ "model": member.reference(), "messages": [{ "role": "user", "content": text }], "max_tokens": 8 })
}

/// Fails unless this provider has served the request.
#[track_caller]
pub fn assert_served(reply: &Reply, member: &TestProvider) {
    reply.ok();
    let by = (reply.header("x-pai-provider"), reply.header("x-pai-model"));
    assert_eq!(by, (Some(member.name), Some(member.model)), "{}", reply.describe());
    if reply.header("content-type") == Some("application/json") {
        assert_eq!(reply.json()["choices"][0]["message"]["content"], member.text(), "{}", reply.describe());
    }
}

/// Fails unless this is the provider's own error response, unmodified.
#[track_caller]
pub fn assert_failed(reply: &Reply, member: &TestProvider, status: u16) {
    assert_eq!(reply.status, status, "{}", reply.describe());
    assert_eq!(reply.json(), member.error(status));
    assert_eq!(reply.header("x-pai-provider"), Some(member.name), "{}", reply.describe());
}

/// Checks that a response contains no internals of fallback and no key.
#[track_caller]
pub fn check(reply: &Reply) {
    let known = ["x-pai-provider", "x-pai-model"];
    let odd = reply
        .headers
        .keys()
        .map(|name| name.as_str())
        .find(|name| (name.starts_with("x-pai-") || name.starts_with("x-envoy-")) && !known.contains(name));
    assert_eq!(odd, None, "{}", reply.describe());
    let text = reply.describe();
    assert!(PROVIDERS.iter().all(|member| !text.contains(member.key)), "{text}");
}

/// Checks a request to a cluster without the attempt filter: it is complete and contains no key.
#[track_caller]
fn check_without_attempt_filter(request: &Received) {
    let sent = String::from_utf8_lossy(&request.head).to_lowercase();
    assert!(!sent.contains("key-of-") && !sent.contains("authorization"), "{sent}");
    assert!(request.json()["messages"].is_array(), "{sent}");
}

/// Checks that a provider received its own key only, and no internals of fallback.
#[track_caller]
fn check_request(member: &TestProvider, request: &Received) {
    let sent = [request.head.as_slice(), &request.trailers].concat();
    let sent = String::from_utf8_lossy(&sent).to_lowercase();
    for other in PROVIDERS.iter().filter(|other| **other != member) {
        assert!(!sent.contains(other.key), "{} got the key of {}:\n{sent}", member.name, other.name);
    }
    for hidden in ["x-pai-", "x-envoy-", IDENTITY, RESEARCHER, "pak_"] {
        assert!(!sent.contains(hidden), "{} got {hidden}:\n{sent}", member.name);
    }
    let expected = format!("Bearer {}", member.key);
    assert_eq!(request.header("authorization"), Some(expected.as_bytes()), "{sent}");
    assert_eq!(request.header("host"), Some(member.authority.as_bytes()), "{sent}");
    let base_path = member.path.trim_end_matches("chat/completions");
    assert!(request.path.starts_with(base_path), "{sent}");
    assert_eq!(request.headers.iter().filter(|(name, _)| name == "authorization").count(), 1, "{sent}");
}
