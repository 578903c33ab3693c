//! The settings of this proxy.

use super::cors::Cors;
use super::name_pattern::NamePattern;

/// The settings of this proxy: the `Gateway` manifest, or its defaults.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Which callers count as developers.
    pub audience: Audience,
    /// Whether the route depends on the body.
    pub routing: Routing,
    /// Who adds the credentials of providers.
    pub credentials: Credentials,
    /// The maximum length of a request body, in bytes.
    pub max_request_bytes: u64,
    /// The maximum number of candidates tried for one request, the first included.
    pub max_attempts: u32,
    /// The header, in lower case, in which a trusted proxy in front sends the caller's identity.
    pub identity_header: Option<Box<str>>,
    /// Who may read `/pai/v1/…`, in addition to agents.
    pub operators: Operators,
    /// The clusters for the filter's own requests, for each provider that has one.
    pub callouts: Vec<Callout>,
    /// Which web pages may read answers; `None` if none may.
    pub cors: Option<Cors>,
}

/// A cluster without upstream filters, for the filter's own requests to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callout {
    /// The index of the provider in [`Policy::providers`].
    pub provider: usize,
    /// Envoy's name of the cluster.
    pub cluster: Box<str>,
}

/// `Gateway.spec.operators`.
#[derive(Debug, Clone, Default)]
pub struct Operators {
    /// The identities of workloads.
    pub identities: Vec<NamePattern>,
    /// Access keys, as indexes into [`Policy::keys`].
    pub keys: Vec<usize>,
}

/// Which callers count as developers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// All callers are agents; access keys are rejected.
    Agents,
    /// All callers are developers and need an access key.
    External,
    /// A caller with an access key is a developer; `docs/callers.md` defines the rest.
    #[default]
    Auto,
}

/// Whether request headers wait for the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routing {
    /// Headers are held until the body has been evaluated, so that the route follows the model.
    #[default]
    Body,
    /// There is one provider: headers are sent at once, and only the body is held.
    Fixed,
}

/// Who adds the credentials of providers to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Credentials {
    /// The filter, from the environment of the VM.
    #[default]
    Environment,
    /// The proxy, by a filter in each provider's cluster.
    Proxy,
}

// === impl Gateway ===

impl Gateway {
    /// The default of `maxRequestBytes`: 16 MiB.
    pub const DEFAULT_MAX_REQUEST_BYTES: u64 = 16 * 1024 * 1024;
    /// The default of `maxAttempts`.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            audience: Audience::default(),
            routing: Routing::default(),
            credentials: Credentials::default(),
            max_request_bytes: Self::DEFAULT_MAX_REQUEST_BYTES,
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
            identity_header: None,
            operators: Operators::default(),
            callouts: Vec::new(),
            cors: None,
        }
    }
}

// === impl Audience ===

impl Audience {
    /// Returns the name as written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::External => "external",
            Self::Auto => "auto",
        }
    }
}

// === impl Routing ===

impl Routing {
    /// Returns the name as written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Fixed => "fixed",
        }
    }
}
