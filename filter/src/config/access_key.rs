//! `kind: AccessKey`.

use crate::access_key::{AccessKey, AccessKeys, KeyHash, ReferencePattern, Repeated};
use crate::clock::parse_rfc3339;
use crate::policy::{Pattern, Provider, split_reference};

use super::field::{Field, Fields};
use super::invalid::{InvalidConfig, Reason, quoted};
use super::manifest::Manifest;
use super::word;

pub(super) const FIELDS: &[&str] =
    &["sha256", "models", "maxTokensPerDay", "requestsPerMinute", "tokensPerMinute", "expires", "disabled"];

/// The most that `requestsPerMinute` may be: a million a second.
const MOST_REQUESTS: u64 = 60_000_000;

/// Reads all manifests of access keys, which may be good for models of `providers`.
pub(super) fn compile(manifests: Vec<Manifest>, providers: &[Provider]) -> Result<AccessKeys, InvalidConfig> {
    let subjects: Vec<String> = manifests.iter().map(|manifest| manifest.subject().to_owned()).collect();
    let key = |manifest: Manifest| manifest.compile(FIELDS, |name, spec| key(name, spec, providers));
    let keys = manifests.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
    AccessKeys::new(keys).map_err(|Repeated { key, other }| {
        let subject = |place: usize| subjects.get(place).map_or("", |subject| subject.as_str());
        InvalidConfig::new("spec.sha256", format!("{} is of the same key", subject(other))).within(subject(key))
    })
}

fn key(name: Box<str>, mut spec: Fields, providers: &[Provider]) -> Result<AccessKey, InvalidConfig> {
    let models = spec.optional("models", |list| list.list(|entry| entry.text(|text| pattern(text, providers))))?;
    Ok(AccessKey {
        name,
        sha256: spec.required("sha256", |field| field.text(hash))?,
        models: models.map(Vec::into_boxed_slice),
        max_tokens_per_day: spec.optional("maxTokensPerDay", Field::tokens)?,
        requests_per_minute: spec.optional("requestsPerMinute", |field| field.count(MOST_REQUESTS))?,
        tokens_per_minute: spec.optional("tokensPerMinute", Field::tokens)?,
        expires: spec.optional("expires", |field| field.text(moment))?,
        disabled: spec.optional("disabled", Field::flag)?.unwrap_or(false),
    })
}

/// A hash in hex. What does not look like one is not repeated: it may be the key itself.
fn hash(text: &str) -> Result<KeyHash, Reason> {
    let wrong = || Reason::from("must be the SHA-256 of the whole key: 64 hexadecimal digits");
    let mut hash = KeyHash::default();
    if text.len() != hash.len() * 2 {
        return Err(wrong());
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for digit in digits {
            let digit = char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(wrong)?;
            *byte = *byte << 4 | digit;
        }
    }
    Ok(hash)
}

fn moment(text: &str) -> Result<u64, Reason> {
    parse_rfc3339(text).ok_or_else(|| format!("must be a moment such as 2027-01-01T00:00:00Z, got {}", quoted(text)).into())
}

/// `*`, `<provider>/*`, `<provider>/<prefix>*`, or a reference.
fn pattern(text: &str, providers: &[Provider]) -> Result<ReferencePattern, Reason> {
    let text = word::reference(text)?;
    if text == "*" {
        return Ok(ReferencePattern { provider: None, model: Pattern::new(text) });
    }
    match split_reference(providers, text) {
        Some((provider, model)) if !model.is_empty() => {
            Ok(ReferencePattern { provider: Some(provider), model: Pattern::new(model) })
        }
        _ => {
            let rule = "must be `*`, or begin with the name of a ModelProvider of this configuration and a slash";
            Err(format!("{rule}, got {}", quoted(text)).into())
        }
    }
}
