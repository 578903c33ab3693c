//! The compiled configuration: who may use what, and within which caps.
//!
//! A [`Policy`] is what the hot path reads. It is built once per configuration by [`crate::config`], never changes, and
//! holds nothing that still has to be checked.

pub mod name_pattern;

use std::num::NonZeroU64;

use crate::guard::Guard;
use crate::identity::access_key::AccessKeys;
use crate::identity::agent::Agents;
use crate::policy::name_pattern::NamePattern;

/// Everything one configuration decides.
#[derive(Debug, Default)]
pub struct Policy {
    /// Providers in the order of the configuration.
    pub providers: Vec<Provider>,
    /// Workloads inside that manifests name.
    pub agents: Agents,
    /// Developers.
    pub keys: AccessKeys,
    /// Settings of this proxy.
    pub gateway: Gateway,
}

/// One model server behind one Envoy cluster.
#[derive(Debug)]
pub struct Provider {
    /// `metadata.name`: what references begin with and routes match on.
    pub name: Box<str>,
    /// How the server differs from OpenAI's API.
    pub dialect: Dialect,
    /// Where it is.
    pub endpoint: Endpoint,
    /// The whole `authorization` value sent to the provider (`Bearer …`), if it wants one.
    pub credential: Option<Credential>,
    /// Which models it may serve.
    pub models: ModelAllowlist,
    /// Tokens per UTC day, all callers.
    pub max_tokens_per_day: Option<NonZeroU64>,
    /// Prompt(s) and completions of one request, in tokens.
    pub max_tokens_per_request: Option<NonZeroU64>,
    /// Completion tokens assumed where nothing else bounds them.
    pub default_max_tokens: NonZeroU64,
    /// The developers' share; `Some` when the block is there, enabled or not.
    pub external: Option<ExternalAccess>,
    /// What it does not want to be asked, in the order of the configuration.
    pub guards: Vec<Guard>,
}

/// The flavour of the OpenAI API that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// vLLM's OpenAI-compatible server.
    Vllm,
    /// OpenAI's own API, and servers that follow it.
    OpenAi,
    /// Anthropic's OpenAI-compatible endpoint.
    Anthropic,
}

/// A provider's URL, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As written in the configuration.
    pub url: Box<str>,
    /// Host and port as written: the `:authority` of requests.
    pub authority: Box<str>,
    /// What replaces the leading `/v1` of a governed path; no trailing slash, may be empty only for `http://host/`.
    pub base_path: Box<str>,
}

/// A secret header value. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Box<str>);

/// `allowedModels` and `deniedModels`.
#[derive(Debug, Clone, Default)]
pub struct ModelAllowlist {
    /// `None`: any model that is not denied. Empty: none.
    pub allowed: Option<Vec<NamePattern>>,
    /// Wins over `allowed`.
    pub denied: Vec<NamePattern>,
}

/// `externalAccess` of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExternalAccess {
    /// Whether developers may use the provider.
    pub enabled: bool,
    /// Tokens per UTC day for all developers together.
    pub max_tokens_per_day: Option<NonZeroU64>,
}

/// Settings of this proxy: the `Gateway` manifest, or its defaults.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Who counts as a developer.
    pub audience: Audience,
    /// Whether the route is chosen by what the body says.
    pub routing: Routing,
    /// Request bodies above this many bytes are refused.
    pub max_request_bytes: u64,
    /// Candidates tried for one request, the first included.
    pub max_attempts: u32,
    /// A header, in lower case, that a proxy in front vouches for.
    pub identity_header: Option<Box<str>>,
    /// Who may read `/pai/v1/…` besides agents.
    pub operators: Operators,
    /// For each provider with one (by index into [`Policy::providers`]), the cluster for the filter's own requests.
    pub callouts: Vec<Callout>,
}

/// A cluster without upstream filters through which a provider can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callout {
    /// Index into [`Policy::providers`].
    pub provider: usize,
    /// Envoy's name of the cluster.
    pub cluster: Box<str>,
}

/// `Gateway.spec.operators`.
#[derive(Debug, Clone, Default)]
pub struct Operators {
    /// Identities of workloads.
    pub identities: Vec<NamePattern>,
    /// Access keys, by their places in [`Policy::keys`].
    pub keys: Vec<usize>,
}

/// Design 3.1: who counts as a developer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// Everyone is an agent; access keys are refused.
    Agents,
    /// Everyone is a developer and needs a key.
    External,
    /// A key makes a developer; see the documentation for the rest.
    #[default]
    Auto,
}

/// Whether the request headers wait for the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// Headers are held until the body is judged, and the route follows the model.
    #[default]
    Body,
    /// One provider: headers go on at once, the body is held.
    Fixed,
}

impl Gateway {
    /// 16 MiB, the default of `maxRequestBytes`.
    pub const DEFAULT_MAX_REQUEST_BYTES: u64 = 16 * 1024 * 1024;
    /// The default of `maxAttempts`.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            audience: Audience::default(),
            routing: Routing::default(),
            max_request_bytes: Self::DEFAULT_MAX_REQUEST_BYTES,
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
            identity_header: None,
            operators: Operators::default(),
            callouts: Vec::new(),
        }
    }
}

// === impl Credential ===

impl Credential {
    /// Wraps a whole header value.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The value, for the header that carries it and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

// === impl ModelAllowlist ===

impl ModelAllowlist {
    /// Whether the list lets `model` through.
    pub fn allows(&self, model: &str) -> bool {
        let denied = self.denied.iter().any(|pattern| pattern.matches(model));
        !denied && self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| pattern.matches(model)))
    }

    /// Whether `model` stands in the list by itself and is not denied.
    pub fn lists_exactly(&self, model: &str) -> bool {
        self.exact_ids().any(|id| id == model)
    }

    /// The ids that stand in the list by themselves and are not denied.
    pub fn exact_ids(&self) -> impl Iterator<Item = &str> {
        let exact = self.allowed.iter().flatten().filter_map(|pattern| match pattern {
            NamePattern::Exact(id) => Some(&**id),
            NamePattern::Prefix(_) => None,
        });
        exact.filter(|id| self.allows(id))
    }

    /// What a permitted model is counted under: itself if the list names it, else the pattern, else `*`. The labels of a list are
    /// as many as its entries, whatever clients ask for.
    pub fn label_index(&self, model: &str) -> usize {
        let allowed = self.allowed.as_deref().unwrap_or_default();
        let exact = |pattern: &NamePattern| matches!(pattern, NamePattern::Exact(id) if **id == *model);
        let place = allowed.iter().position(exact).or_else(|| allowed.iter().position(|pattern| pattern.matches(model)));
        place.unwrap_or(0)
    }

    /// The labels, by the numbers that [`ModelAllowlist::label_index`] gives.
    pub fn labels(&self) -> Vec<String> {
        match self.allowed.as_deref() {
            None | Some([]) => vec!["*".to_owned()],
            Some(allowed) => allowed.iter().map(NamePattern::to_string).collect(),
        }
    }
}

// === impl Policy ===

/// One (provider, model id) that may serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Index into [`Policy::providers`].
    pub provider: usize,
    /// The id that the provider knows.
    pub model: &'a str,
}

impl Policy {
    /// The name of the provider at this index; empty if there is none.
    pub fn provider_name(&self, provider: usize) -> &str {
        self.providers.get(provider).map_or("", |provider| &provider.name)
    }

    /// The dialect of the provider at this index; OpenAI's own if there is none.
    pub fn dialect(&self, provider: usize) -> Dialect {
        self.providers.get(provider).map_or(Dialect::OpenAi, |provider| provider.dialect)
    }

    /// Whether the route is fixed to the provider of this name.
    pub fn is_fixed_to(&self, provider: Option<&[u8]>) -> bool {
        let name = self.providers.first().map(|only| only.name.as_bytes());
        self.gateway.routing == Routing::Fixed && name.is_some() && name == provider
    }

    /// Splits `<provider>/<model-id>` if a provider has that name.
    pub fn split_reference<'a>(&self, name: &'a str) -> Option<(usize, &'a str)> {
        split_reference(&self.providers, name)
    }

    /// Whether nothing in the configuration speaks of who may ask.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty() && self.agents.is_empty() && self.providers.iter().all(|provider| provider.external.is_none())
    }
}

/// Splits `<provider>/<model-id>` if one of `providers` has that name.
pub fn split_reference<'a>(providers: &[Provider], name: &'a str) -> Option<(usize, &'a str)> {
    let (provider, model) = name.split_once('/')?;
    let place = providers.iter().position(|known| *known.name == *provider)?;
    Some((place, model))
}

impl Provider {
    /// Whether developers may use it.
    pub fn is_external(&self) -> bool {
        self.external.is_some_and(|external| external.enabled)
    }
}

impl Dialect {
    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}
