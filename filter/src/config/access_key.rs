//! `kind: AccessKey`.

use crate::clock::parse_rfc3339;
use crate::identity::access_key::{AccessKey, AccessKeys, DuplicateKey, KeyHash, PreviousKey, ReferencePattern};
use crate::policy::name_pattern::NamePattern;

use super::field::Field;
use super::identifier;
use super::invalid::{Errors, Reason, Reported};
use super::manifest::{Kind, Manifest};
use super::quote::quoted;
use super::references::{Known, Target};

pub(super) const FIELDS: &[&str] =
    &["sha256", "previous", "models", "maxTokensPerDay", "requestsPerMinute", "tokensPerMinute", "expires", "disabled"];
pub(super) const PREVIOUS_FIELDS: &[&str] = &["sha256", "expires"];

/// The largest value of `requestsPerMinute`: a million a second.
const MAX_REQUESTS_PER_MINUTE: u64 = 60_000_000;

/// An access key whose `models` were not resolved yet. There may be many, so that no manifest is kept as it was written.
#[derive(Debug)]
pub(super) struct UnresolvedKey {
    /// Without `models`.
    key: AccessKey,
    /// `None` for an entry of which an error was reported.
    models: Option<Vec<Option<Box<str>>>>,
}

/// Reads an `AccessKey`.
pub(super) fn read(manifest: Manifest<'_>) -> Result<UnresolvedKey, Reported> {
    let mut spec = manifest.spec.fields(FIELDS)?;
    let sha256 = spec.required("sha256", |field| field.text(hash));
    let previous = spec.optional("previous", previous_key);
    let models = spec.optional("models", |list| list.list(|entry| Ok(entry.text(reference_pattern).ok())));
    let max_tokens_per_day = spec.optional("maxTokensPerDay", Field::tokens);
    let requests_per_minute = spec.optional("requestsPerMinute", |field| field.count(MAX_REQUESTS_PER_MINUTE));
    let tokens_per_minute = spec.optional("tokensPerMinute", Field::tokens);
    let expires = spec.optional("expires", |field| field.text(timestamp));
    let disabled = spec.optional("disabled", Field::flag);
    let key = AccessKey {
        name: manifest.name?,
        sha256: sha256?,
        previous: previous?,
        models: None,
        max_tokens_per_day: max_tokens_per_day?,
        requests_per_minute: requests_per_minute?,
        tokens_per_minute: tokens_per_minute?,
        expires: expires?,
        disabled: disabled?.unwrap_or(false),
    };
    Ok(UnresolvedKey { key, models: models? })
}

/// Resolves the models of all access keys.
pub(super) fn compile(keys: Vec<UnresolvedKey>, known: &Known<'_>, errors: &Errors) -> Result<AccessKeys, Reported> {
    let keys = keys.into_iter().map(|key| key.resolve(known, errors)).collect();
    AccessKeys::new(keys, |DuplicateKey { key, other }| {
        let path = |key: usize| Kind::AccessKey.path_of(known.keys.get(key).map_or("", |name| name));
        errors.report(&path(key).key("spec").key("sha256"), format!("{} has the same hash", path(other)))
    })
}

// === impl UnresolvedKey ===

impl UnresolvedKey {
    pub(super) fn name(&self) -> &str {
        &self.key.name
    }

    fn resolve(self, known: &Known<'_>, errors: &Errors) -> AccessKey {
        let Self { mut key, models } = self;
        let name = &key.name;
        let resolve = |(index, text): (usize, Option<Box<str>>)| {
            let text = text?;
            match resolve(&text, known) {
                Target::Found(pattern) => Some(pattern),
                Target::Unreadable => None,
                Target::Unknown => {
                    errors.report_with(|| {
                        let path = Kind::AccessKey.path_of(name).key("spec").key("models").index(index);
                        let rule = "must be `*`, or begin with the name of a ModelProvider of this configuration and a slash";
                        (path, format!("{rule}, got {}", quoted(&text)).into())
                    });
                    None
                }
            }
        };
        key.models = models.map(|models| models.into_iter().enumerate().filter_map(resolve).collect());
        key
    }
}

/// Resolves `*`, `<provider>/*`, `<provider>/<prefix>*`, or a reference.
fn resolve(text: &str, known: &Known<'_>) -> Target<ReferencePattern> {
    if text == "*" {
        return Target::Found(ReferencePattern { provider: None, model: NamePattern::new(text) });
    }
    match known.model(text) {
        Target::Found((provider, model)) => {
            Target::Found(ReferencePattern { provider: Some(provider), model: NamePattern::new(model) })
        }
        Target::Unreadable => Target::Unreadable,
        Target::Unknown => Target::Unknown,
    }
}

fn previous_key(block: Field<'_>) -> Result<PreviousKey, Reported> {
    let mut block = block.fields(PREVIOUS_FIELDS)?;
    let sha256 = block.required("sha256", |field| field.text(hash));
    let expires = block.required("expires", |field| field.text(timestamp));
    Ok(PreviousKey { sha256: sha256?, expires: expires? })
}

fn reference_pattern(text: &str) -> Result<Box<str>, Reason> {
    identifier::reference_pattern(text).map(Box::from)
}

/// Reads a hash in hexadecimal. An error does not repeat the value: it may be the key itself.
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

fn timestamp(text: &str) -> Result<u64, Reason> {
    parse_rfc3339(text).ok_or_else(|| format!("must be a timestamp such as 2027-01-01T00:00:00Z, got {}", quoted(text)).into())
}
