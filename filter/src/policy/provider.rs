//! Providers: model servers, each behind one Envoy cluster.

use std::num::NonZeroU64;

use super::ModelAllowlist;
use crate::guard::Guard;

/// One model server behind one Envoy cluster.
#[derive(Debug)]
pub struct Provider {
    /// `metadata.name`: the prefix of references, and what routes match on.
    pub name: Box<str>,
    /// How the server differs from OpenAI's API.
    pub dialect: Dialect,
    /// The server's address.
    pub endpoint: Endpoint,
    /// The credential of requests to the provider.
    pub credential: ProviderCredential,
    /// The models that it serves.
    pub models: ModelAllowlist,
    /// Tokens per UTC day, for all callers together.
    pub max_tokens_per_day: Option<NonZeroU64>,
    /// Tokens of one request, prompts and completions together.
    pub max_tokens_per_request: Option<NonZeroU64>,
    /// Completion tokens assumed for a request that nothing else limits.
    pub default_max_tokens: NonZeroU64,
    /// The field in which a limit is injected into a chat that contains none.
    pub limit_field: LimitField,
    /// The developers' share; `Some` if the block is present, enabled or not.
    pub external: Option<ExternalAccess>,
    /// The guards that check prompts sent to it, in the order of the configuration.
    pub guards: Vec<Guard>,
    /// How the upper bound of a prompt's tokens is found.
    pub prompt_estimate: PromptEstimate,
}

/// The variant of the OpenAI API that a provider implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// vLLM's OpenAI-compatible server.
    Vllm,
    /// OpenAI's own API, and servers that are compatible with it.
    OpenAi,
    /// Anthropic's OpenAI-compatible endpoint.
    Anthropic,
}

/// The field of a chat that limits completion tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitField {
    /// `max_tokens`: the older field, which every vLLM and Anthropic's endpoint accept.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's reasoning models accept no other.
    MaxCompletionTokens,
}

/// How the upper bound of a prompt's tokens is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PromptEstimate {
    /// By the kinds of its characters, calibrated with what the provider reports.
    #[default]
    Estimated,
    /// One token for each byte of text.
    Strict,
}

/// A provider's URL, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As written in the configuration.
    pub url: Box<str>,
    /// Host and port as written: the `:authority` of requests.
    pub authority: Box<str>,
    /// The path that replaces the leading `/v1` of a governed path. It has no trailing slash, and is empty only for `http://host/`.
    pub base_path: Box<str>,
}

/// The credential of requests to a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProviderCredential {
    /// The provider needs none.
    #[default]
    None,
    /// The filter sends this whole value of `authorization` (`Bearer …`).
    Filter(Credential),
    /// The proxy adds one in the provider's cluster. The filter never has it before.
    Proxy,
}

/// A secret header value. Its `Debug` output does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Box<str>);

/// `externalAccess` of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExternalAccess {
    /// Whether developers may use the provider.
    pub enabled: bool,
    /// Tokens per UTC day for all developers together.
    pub max_tokens_per_day: Option<NonZeroU64>,
}

// === impl Provider ===

impl Provider {
    /// Returns whether developers may use the provider.
    pub fn is_external(&self) -> bool {
        self.external.is_some_and(|external| external.enabled)
    }
}

// === impl Dialect ===

impl Dialect {
    /// Returns the name as written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

// === impl LimitField ===

impl LimitField {
    /// Returns the default for a dialect.
    pub fn default_for(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAi => Self::MaxCompletionTokens,
            Dialect::Vllm | Dialect::Anthropic => Self::MaxTokens,
        }
    }

    /// Returns the field's name in a body and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

// === impl ProviderCredential ===

impl ProviderCredential {
    /// Returns the credential that the filter sends.
    pub fn value(&self) -> Option<&Credential> {
        match self {
            Self::Filter(credential) => Some(credential),
            Self::None | Self::Proxy => None,
        }
    }
}

// === impl Credential ===

impl Credential {
    /// Wraps a whole header value.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// Returns the value. Use it for the `authorization` header only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}
