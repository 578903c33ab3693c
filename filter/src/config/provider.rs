//! `kind: ModelProvider`.

use std::num::NonZeroU64;

use crate::openai::MAX_MODEL_BYTES;
use crate::policy::name_pattern::NamePattern;
use crate::policy::{Dialect, ExternalAccess, ModelAllowlist, Provider};

use super::endpoint;
use super::field::{Field, Fields};
use super::guard;
use super::invalid::{InvalidConfig, Reason};
use super::manifest::Manifest;
use super::secret::Secrets;
use super::word;

pub(super) const FIELDS: &[&str] = &[
    "provider",
    "endpoint",
    "apiKeySecretRef",
    "allowedModels",
    "deniedModels",
    "maxTokensPerDay",
    "maxTokensPerRequest",
    "defaultMaxTokens",
    "externalAccess",
    "guards",
];
pub(super) const EXTERNAL_FIELDS: &[&str] = &["enabled", "maxTokensPerDay"];

/// The values of `spec.provider`.
const DIALECTS: &[(&str, Dialect)] = &[("vllm", Dialect::Vllm), ("openai", Dialect::OpenAi), ("anthropic", Dialect::Anthropic)];
/// The default of `spec.defaultMaxTokens`.
const DEFAULT_MAX_TOKENS: NonZeroU64 = NonZeroU64::MIN.saturating_add(4095);

/// Reads the spec of a `ModelProvider`.
pub(super) fn compile(manifest: Manifest, secrets: &mut Secrets<'_>) -> Result<Provider, InvalidConfig> {
    manifest.compile(FIELDS, |name, spec| provider(name, spec, secrets))
}

fn provider(name: Box<str>, mut spec: Fields, secrets: &mut Secrets<'_>) -> Result<Provider, InvalidConfig> {
    Ok(Provider {
        name,
        dialect: spec.required("provider", |provider| provider.one_of(DIALECTS))?,
        endpoint: spec.required("endpoint", |endpoint| endpoint.text(endpoint::parse))?,
        credential: spec.optional("apiKeySecretRef", |reference| secrets.credential(reference))?,
        models: ModelAllowlist {
            allowed: spec.optional("allowedModels", patterns)?,
            denied: spec.optional("deniedModels", patterns)?.unwrap_or_default(),
        },
        max_tokens_per_day: spec.optional("maxTokensPerDay", Field::tokens)?,
        max_tokens_per_request: spec.optional("maxTokensPerRequest", Field::tokens)?,
        default_max_tokens: spec.optional("defaultMaxTokens", Field::tokens)?.unwrap_or(DEFAULT_MAX_TOKENS),
        external: spec.optional("externalAccess", external)?,
        guards: spec.optional("guards", guard::compile)?.unwrap_or_default(),
    })
}

fn external(block: Field) -> Result<ExternalAccess, InvalidConfig> {
    let mut block = block.fields(EXTERNAL_FIELDS)?;
    Ok(ExternalAccess {
        enabled: block.optional("enabled", Field::flag)?.unwrap_or(false),
        max_tokens_per_day: block.optional("maxTokensPerDay", Field::tokens)?,
    })
}

fn patterns(list: Field) -> Result<Vec<NamePattern>, InvalidConfig> {
    list.list(|entry| entry.text(pattern))
}

fn pattern(text: &str) -> Result<NamePattern, Reason> {
    word::pattern(text, MAX_MODEL_BYTES).map(NamePattern::new)
}
