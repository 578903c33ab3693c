//! The gateway in one of its two forms, and providers that record what they send.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::harness::{Answer, Gate, Key, Received, Rng, TextKind, Upstream, gateway, named_provider, responses};
use serde_json::{Value, json};

use crate::plan::{Caller, Form, Plan, PlannedRequest, ProviderBehaviour};

/// The identity header that a trusted proxy sets.
pub const IDENTITY: &str = "x-agent-id";
pub const RESEARCHER: &str = "spiffe://cluster.local/ns/agents/sa/researcher";
/// The word that guards reject.
pub const FORBIDDEN: &str = "forbidden-7";
/// The speed of the uptime by which a trapped VM is detected: 60 seconds take 6.
pub const SPEED: u32 = 10;
/// The words of a response to a request without a limit; as many are reserved.
const DEFAULT_MAX_TOKENS: u64 = 300;
const NAMES: [&str; 3] = ["vllm-local", "openai", "anthropic"];
const DIALECTS: [&str; 3] = ["vllm", "openai", "anthropic"];
const MODELS: [&str; 3] = ["llama", "gpt-5-mini", "claude-haiku-4-5"];
const KEYS: [&str; 3] = ["alice", "bob", "carol"];
/// The timeouts of receiving a request, and of a provider's response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
const ROUTE_TIMEOUT: Duration = Duration::from_secs(8);
/// The timeout of one attempt. A request that ends sooner was not timed out.
pub const TRY_TIMEOUT: Duration = Duration::from_secs(3);

/// A provider's record of one request.
#[derive(Debug, Clone)]
pub struct Record {
    pub provider: usize,
    pub at: Instant,
    pub behaviour: ProviderBehaviour,
    pub stream: bool,
    /// The tokens that a complete response reports.
    pub prompt: u64,
    pub words: u64,
    /// The number of chunks that were started, and the number of events per chunk.
    begun: Arc<AtomicUsize>,
    group: usize,
}

/// The records of all providers, by request.
pub type Records = Arc<Mutex<BTreeMap<String, Vec<Record>>>>;

/// A gateway and its providers.
pub struct Scene {
    pub gate: Gate,
    pub upstreams: Vec<Upstream>,
    pub records: Records,
    /// Requests that reached the wrong provider.
    pub misrouted: Arc<Mutex<Vec<String>>>,
}

pub fn name(provider: usize) -> &'static str {
    NAMES[provider]
}

pub fn provider_index(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

pub fn is_vllm(provider: usize) -> bool {
    DIALECTS[provider] == "vllm"
}

pub fn key(developer: usize) -> Key {
    Key::new(KEYS[developer])
}

fn credential(provider: usize) -> String {
    format!("key-of-{}-3b1f", NAMES[provider])
}

/// Returns the request's body.
pub fn body(planned: &PlannedRequest) -> Value {
    let mut body = json!({ "model": format!("{}/{}", NAMES[planned.named], MODELS[planned.named]), "messages": [{ "role": "user", "content": text(planned) }] });
    if let Some(limit) = planned.limit {
        body["max_tokens"] = json!(limit);
    }
    if planned.stream {
        body["stream"] = json!(true);
        if planned.wants_usage {
            body["stream_options"] = json!({ "include_usage": true });
        }
    }
    body
}

fn text(planned: &PlannedRequest) -> String {
    let start = format!("{} {} ", planned.id, if planned.forbidden { FORBIDDEN } else { "" });
    let rest = planned.length.saturating_sub(start.len());
    start + &planned.kind.text(rest, &mut Rng::new(planned.length as u64))
}

/// Returns the tokens of a prompt, by the providers' rule.
fn prompt_tokens(kind: TextKind, text: &str) -> u64 {
    kind.tokens(text) + 4
}

/// Returns an upper bound of all estimates: a token per byte, 16 for the message, 64 for the request, and 16 for its role.
pub fn highest_estimate(planned: &PlannedRequest) -> u64 {
    text(planned).len() as u64 + 16 + 64 + 16
}

/// Returns a lower bound of the estimate that is reserved for a prompt: the least weight of a character times the least factor.
pub fn lowest_estimate(planned: &PlannedRequest, strict: bool) -> u64 {
    let bytes = text(planned).len() as u64;
    16 + 64 + if strict { bytes } else { bytes * 7 / 64 }
}

/// Returns the manifests of a round. `edition` changes the configuration without changing any rule.
pub fn manifests(plan: &Plan, edition: u64) -> String {
    let settings = format!("maxRequestBytes: {}", 100_000 + edition);
    let estimate = if plan.strict { "strict" } else { "estimated" };
    match plan.form {
        Form::OneProvider => {
            let cap = if plan.tight { 60_000 } else { 10_000_000 };
            let spec = format!("maxTokensPerDay: {cap}\ndefaultMaxTokens: {DEFAULT_MAX_TOKENS}\npromptEstimate: {estimate}");
            named_provider(NAMES[0], &spec) + &gateway(&settings)
        }
        Form::Everything => everything(plan.tight, estimate, &settings),
    }
}

fn everything(tight: bool, estimate: &str, settings: &str) -> String {
    let caps: [u64; 3] = if tight { [40_000, 20_000, 12_000] } else { [10_000_000; 3] };
    let share = if tight { 9000 } else { 5_000_000 };
    let mut manifests = String::new();
    for (provider, cap) in caps.into_iter().enumerate() {
        let name = NAMES[provider];
        let spec = format!(
            "apiKeySecretRef: {{ name: {name}, key: api-key }}\nallowedModels: [{}]\nmaxTokensPerDay: {cap}\ndefaultMaxTokens: {DEFAULT_MAX_TOKENS}\n\
             promptEstimate: {estimate}\n\
             externalAccess: {{ enabled: true, maxTokensPerDay: {share} }}\n\
             guards: [{{ name: forbidden, type: pattern, deny: ['forbidden-[0-9]+'] }}, {{ name: injection, type: promptInjection }}]",
            MODELS[provider]
        );
        let manifest = named_provider(name, &spec);
        manifests += &manifest.replace("provider: vllm\n", &format!("provider: {}\n", DIALECTS[provider]));
    }
    let models: Vec<String> = NAMES.iter().zip(MODELS).map(|(name, model)| format!("{name}/{model}")).collect();
    let cap = if tight { 55_000 } else { 20_000_000 };
    manifests += &format!(
        "---\napiVersion: pai.io/v1\nkind: Agent\nmetadata: {{ name: researcher }}\nspec:\n  identities: ['{RESEARCHER}']\n  models: [{}]\n  maxTokensPerDay: {cap}\n",
        models.join(", ")
    );
    let day = if tight { 8000 } else { 1_000_000 };
    manifests += &key(0).manifest(&format!("maxTokensPerDay: {day}"));
    manifests += &key(1).manifest(&format!("maxTokensPerDay: {}\ntokensPerMinute: 900000\nrequestsPerMinute: 60000", day * 2));
    manifests += &key(2).manifest("");
    manifests + &gateway(&format!("{settings}\nidentityHeader: {IDENTITY}"))
}

// === impl Scene ===

impl Scene {
    pub async fn new(plan: &Plan) -> Self {
        let (records, misrouted) = (Records::default(), Arc::new(Mutex::new(Vec::new())));
        let requests = Arc::new(plan.by_id());
        let mut builder = Gate::builder()
            .with_test_hooks()
            .workers(plan.workers)
            .buffer_limit(200_000)
            .route_timeout(ROUTE_TIMEOUT)
            .request_timeout(REQUEST_TIMEOUT);
        if plan.form == Form::Everything {
            builder = builder.fallback().try_timeout(TRY_TIMEOUT);
        }
        builder = builder.manifests(manifests(plan, 0)).env("PAI_TEST_SPEED", &SPEED.to_string());
        let mut upstreams = Vec::new();
        for (provider, name) in NAMES.iter().enumerate().take(plan.providers()) {
            let server = ProviderServer {
                provider,
                own: plan.form == Form::Everything,
                requests: Arc::clone(&requests),
                records: Arc::clone(&records),
                misrouted: Arc::clone(&misrouted),
            };
            let upstream = Upstream::answering(move |request| server.answer(request)).await;
            let variable = format!("PAI_SECRET_{}_API_KEY", name.to_uppercase().replace('-', "_"));
            builder = builder.upstream(name, &upstream).env(&variable, &credential(provider));
            upstreams.push(upstream);
        }
        Self { gate: builder.start().await, upstreams, records, misrouted }
    }
}

/// One provider.
struct ProviderServer {
    provider: usize,
    /// Whether the gateway has a credential for it.
    own: bool,
    requests: Arc<BTreeMap<String, PlannedRequest>>,
    records: Records,
    misrouted: Arc<Mutex<Vec<String>>>,
}

// === impl ProviderServer ===

impl ProviderServer {
    fn answer(&self, request: &Received) -> Answer {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let text = body["messages"][0]["content"].as_str().unwrap_or_default();
        let Some(planned) = text.split(' ').next().and_then(|id| self.requests.get(id)) else {
            return self.misrouted(format!("an unknown request: {}", request.text()));
        };
        let own = format!("Bearer {}", credential(self.provider));
        if self.own && request.header("authorization") != Some(own.as_bytes()) {
            return self.misrouted(format!("{} without its own credential", planned.id));
        }
        let forwarded_limit = body["max_tokens"].as_u64().or(body["max_completion_tokens"].as_u64());
        if planned.limit.is_some() && forwarded_limit.is_none() || body["model"] != MODELS[self.provider] || planned.forbidden {
            return self.misrouted(format!("{}: {}", planned.id, request.text()));
        }
        let record = Record {
            provider: self.provider,
            at: Instant::now(),
            behaviour: planned.behaviours[self.provider],
            stream: planned.stream,
            prompt: prompt_tokens(planned.kind, text),
            words: planned.words.min(forwarded_limit.unwrap_or(DEFAULT_MAX_TOKENS)),
            begun: Arc::default(),
            group: if planned.slow { 1 } else { 3 },
        };
        let answer = record.answer(&body["stream_options"], planned.slow).counting(&record.begun);
        self.records.lock().unwrap().entry(planned.id.clone()).or_default().push(record);
        answer
    }

    fn misrouted(&self, what: String) -> Answer {
        self.misrouted.lock().unwrap().push(format!("{} got {what}", NAMES[self.provider]));
        Answer::error(500, &json!({ "error": {} }))
    }
}

// === impl Record ===

impl Record {
    /// Returns the number of words of a stream that may have been sent, after the head and the first event.
    pub fn sent(&self) -> u64 {
        let events = self.begun.load(Ordering::SeqCst).saturating_sub(1) * self.group;
        (events as u64).saturating_sub(1).min(self.max_words())
    }

    /// Returns the maximum number of words to send.
    pub fn max_words(&self) -> u64 {
        match self.behaviour {
            ProviderBehaviour::CutReset(at) | ProviderBehaviour::CutClose(at) | ProviderBehaviour::HangAfter(at) => {
                at.min(self.words)
            }
            _ => self.words,
        }
    }

    fn answer(&self, options: &Value, large: bool) -> Answer {
        const PAUSE: Duration = Duration::from_millis(4);
        let pieces = if self.stream { self.events(options, large) } else { self.document() };
        match self.behaviour {
            ProviderBehaviour::Serve => Answer::raw_chunks(pieces).paced(PAUSE),
            ProviderBehaviour::Status(status) => Answer::error(status, &json!({ "error": { "message": "broken" } })),
            ProviderBehaviour::Reset => Answer::raw("").then_reset(),
            ProviderBehaviour::Close => Answer::raw("").then_close(),
            ProviderBehaviour::HalfHead => Answer::raw("HTTP/1.1 200 OK\r\ncontent-ty").then_reset(),
            ProviderBehaviour::CutReset(_) => Answer::raw_chunks(pieces).paced(PAUSE).then_reset(),
            ProviderBehaviour::CutClose(_) => Answer::raw_chunks(pieces).paced(PAUSE).then_close(),
            ProviderBehaviour::Hang => Answer::raw_chunks(["", ""]).then_hang(),
            ProviderBehaviour::HangAfter(_) => Answer::raw_chunks(pieces.into_iter().chain([Vec::new()])).paced(PAUSE).then_hang(),
        }
    }

    fn is_whole(&self) -> bool {
        self.behaviour == ProviderBehaviour::Serve
    }

    /// Returns the head and the chunks, with several events per chunk.
    fn events(&self, options: &Value, large: bool) -> Vec<Vec<u8>> {
        let words = vec!["w"; self.words as usize];
        let continuous = options["continuous_usage_stats"] == json!(true);
        let mut events = responses::stream(&words, self.prompt, continuous);
        if large {
            // It fills buffers, and is no text of the completion.
            let padding = format!("data: {{\"padding\":\"{}\",", "o".repeat(3000));
            events.iter_mut().for_each(|event| *event = event.replacen("data: {", &padding, 1));
        }
        if !continuous && options["include_usage"] == json!(true) {
            events.insert(events.len() - 1, responses::final_usage(self.prompt, self.words));
        }
        if !self.is_whole() {
            events.truncate(1 + self.max_words() as usize);
        }
        let chunk = |events: &[String]| {
            let text = events.concat();
            format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
        };
        let head =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let end = if self.is_whole() { b"0\r\n\r\n".to_vec() } else { Vec::new() };
        std::iter::once(head).chain(events.chunks(self.group).map(chunk)).chain([end]).collect()
    }

    fn document(&self) -> Vec<Vec<u8>> {
        let body = responses::chat(self.prompt, self.words).to_string().into_bytes();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        let (first, second) = body.split_at(body.len() / 3);
        // Nothing is counted while the provider computes.
        let begins = vec![Vec::new(), Vec::new(), head.into_bytes(), first.to_vec()];
        begins.into_iter().chain([if self.is_whole() { second.to_vec() } else { Vec::new() }]).collect()
    }
}

/// Returns the headers that identify the caller.
pub fn caller(planned: &PlannedRequest, form: Form) -> Vec<(&'static str, String)> {
    match (planned.caller, form) {
        (Caller::Developer(place), _) => vec![("authorization", format!("Bearer {}", key(place).secret()))],
        (Caller::Inside, Form::Everything) => vec![(IDENTITY, RESEARCHER.to_owned())],
        (Caller::Inside, Form::OneProvider) => Vec::new(),
    }
}
