//! `kind: AccessKey`.

use crate::clock::parse_rfc3339;
use crate::identity::access_key::{AccessKey, AccessKeys, DuplicateKey, KeyHash, ReferencePattern};
use crate::policy::name_pattern::NamePattern;
use crate::policy::{Provider, split_reference};

use super::field::{Field, Fields};
use super::invalid::{InvalidConfig, Reason, quoted};
use super::manifest::Manifest;
use super::word;

pub(super) const FIELDS: &[&str] =
    &["sha256", "models", "maxTokensPerDay", "requestsPerMinute", "tokensPerMinute", "expires", "disabled"];

/// The most that `requestsPerMinute` may be: a million a second.
const MOST_REQUESTS: u64 = 60_000_000;

/// An access key whose `models` were not looked up yet.
#[derive(Debug)]
pub(super) struct Draft {
    key: AccessKey,
    models: Option<Vec<Box<str>>>,
}

/// Reads a manifest. There may be many of them, so that none is kept as it was written.
pub(super) fn read(manifest: Manifest) -> Result<Draft, InvalidConfig> {
    manifest.compile(FIELDS, draft)
}

fn draft(name: Box<str>, mut spec: Fields) -> Result<Draft, InvalidConfig> {
    Ok(Draft {
        models: spec.optional("models", |list| list.list(|entry| entry.text(|text| word::reference(text).map(Box::from))))?,
        key: AccessKey {
            name,
            sha256: spec.required("sha256", |field| field.text(hash))?,
            models: None,
            max_tokens_per_day: spec.optional("maxTokensPerDay", Field::tokens)?,
            requests_per_minute: spec.optional("requestsPerMinute", |field| field.count(MOST_REQUESTS))?,
            tokens_per_minute: spec.optional("tokensPerMinute", Field::tokens)?,
            expires: spec.optional("expires", |field| field.text(moment))?,
            disabled: spec.optional("disabled", Field::flag)?.unwrap_or(false),
        },
    })
}

/// Makes keys of what was read; they may be good for models of `providers`.
pub(super) fn compile(drafts: Vec<Draft>, providers: &[Provider]) -> Result<AccessKeys, InvalidConfig> {
    let keys = drafts.into_iter().map(|draft| draft.look_up(providers)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<Box<str>> = keys.iter().map(|key| key.name.clone()).collect();
    AccessKeys::new(keys).map_err(|DuplicateKey { key, other }| {
        let subject = |place: usize| subject(names.get(place).map_or("", |name| name));
        InvalidConfig::new("spec.sha256", format!("{} is of the same key", subject(other))).within(&subject(key))
    })
}

fn subject(name: &str) -> String {
    format!("AccessKey {name}")
}

impl Draft {
    fn look_up(self, providers: &[Provider]) -> Result<AccessKey, InvalidConfig> {
        let Self { mut key, models } = self;
        let look_up = |(place, text): (usize, Box<str>)| {
            let field = format!("spec.models[{place}]");
            pattern(&text, providers).map_err(|reason| InvalidConfig::new(field, reason).within(&subject(&key.name)))
        };
        key.models = models.map(|models| models.into_iter().enumerate().map(look_up).collect()).transpose()?;
        Ok(key)
    }
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
    if text == "*" {
        return Ok(ReferencePattern { provider: None, model: NamePattern::new(text) });
    }
    match split_reference(providers, text) {
        Some((provider, model)) if !model.is_empty() => {
            Ok(ReferencePattern { provider: Some(provider), model: NamePattern::new(model) })
        }
        _ => {
            let rule = "must be `*`, or begin with the name of a ModelProvider of this configuration and a slash";
            Err(format!("{rule}, got {}", quoted(text)).into())
        }
    }
}
