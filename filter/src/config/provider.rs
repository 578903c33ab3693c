//! `kind: ModelProvider`.

use std::num::NonZeroU64;

use crate::openai::MAX_MODEL_BYTES;
use crate::policy::name_pattern::NamePattern;
use crate::policy::{Dialect, ExternalAccess, LimitField, ModelAllowlist, PromptEstimate, Provider, ProviderCredential};

use super::endpoint;
use super::field::Field;
use super::guard;
use super::identifier;
use super::invalid::Reported;
use super::manifest::Manifest;
use super::secret::{self, SecretRef};

pub(super) const FIELDS: &[&str] = &[
    "provider",
    "endpoint",
    "apiKeySecretRef",
    "allowedModels",
    "deniedModels",
    "maxTokensPerDay",
    "maxTokensPerRequest",
    "defaultMaxTokens",
    "limitField",
    "externalAccess",
    "guards",
    "promptEstimate",
];
pub(super) const EXTERNAL_FIELDS: &[&str] = &["enabled", "maxTokensPerDay"];

/// The values of `spec.provider`.
const DIALECTS: &[(&str, Dialect)] = &[("vllm", Dialect::Vllm), ("openai", Dialect::OpenAi), ("anthropic", Dialect::Anthropic)];
/// The values of `spec.limitField`.
const LIMIT_FIELDS: &[(&str, LimitField)] = &[
    (LimitField::MaxTokens.name(), LimitField::MaxTokens),
    (LimitField::MaxCompletionTokens.name(), LimitField::MaxCompletionTokens),
];
/// The values of `spec.promptEstimate`.
const PROMPT_ESTIMATES: &[(&str, PromptEstimate)] = &[("estimated", PromptEstimate::Estimated), ("strict", PromptEstimate::Strict)];
/// The default of `spec.defaultMaxTokens`.
const DEFAULT_MAX_TOKENS: NonZeroU64 = NonZeroU64::MIN.saturating_add(4095);

/// Reads a `ModelProvider`. The reference is resolved once the whole configuration is read.
pub(super) fn read(manifest: Manifest<'_>) -> Result<(Provider, Option<SecretRef<'_>>), Reported> {
    let mut spec = manifest.spec.fields(FIELDS)?;
    let dialect = spec.required("provider", |provider| provider.one_of(DIALECTS));
    let endpoint = spec.required("endpoint", |endpoint| endpoint.text(endpoint::parse));
    let reference = spec.optional("apiKeySecretRef", secret::read);
    let allowed = spec.optional("allowedModels", model_patterns);
    let denied = spec.optional("deniedModels", model_patterns);
    let max_tokens_per_day = spec.optional("maxTokensPerDay", Field::tokens);
    let max_tokens_per_request = spec.optional("maxTokensPerRequest", Field::tokens);
    let default_max_tokens = spec.optional("defaultMaxTokens", Field::tokens);
    let limit_field = spec.optional("limitField", |field| field.one_of(LIMIT_FIELDS));
    let external = spec.optional("externalAccess", external_access);
    let guards = spec.optional("guards", guard::read_list);
    let prompt_estimate = spec.optional("promptEstimate", |method| method.one_of(PROMPT_ESTIMATES));
    let dialect = dialect?;
    let provider = Provider {
        name: manifest.name?,
        dialect,
        endpoint: endpoint?,
        credential: ProviderCredential::None,
        models: ModelAllowlist { allowed: allowed?, denied: denied?.unwrap_or_default() },
        max_tokens_per_day: max_tokens_per_day?,
        max_tokens_per_request: max_tokens_per_request?,
        default_max_tokens: default_max_tokens?.unwrap_or(DEFAULT_MAX_TOKENS),
        limit_field: limit_field?.unwrap_or_else(|| LimitField::default_for(dialect)),
        external: external?,
        guards: guards?.unwrap_or_default(),
        prompt_estimate: prompt_estimate?.unwrap_or_default(),
    };
    Ok((provider, reference?))
}

fn external_access(block: Field<'_>) -> Result<ExternalAccess, Reported> {
    let mut block = block.fields(EXTERNAL_FIELDS)?;
    let enabled = block.optional("enabled", Field::flag);
    let max_tokens_per_day = block.optional("maxTokensPerDay", Field::tokens);
    Ok(ExternalAccess { enabled: enabled?.unwrap_or(false), max_tokens_per_day: max_tokens_per_day? })
}

fn model_patterns(list: Field<'_>) -> Result<Vec<NamePattern>, Reported> {
    list.list(|entry| entry.text(|text| identifier::name_pattern(text, MAX_MODEL_BYTES).map(NamePattern::new)))
}
