//! `kind: Gateway`.

use std::collections::HashMap;

use crate::http::stripped_headers::is_stripped_request_header;
use crate::identity::access_key::AccessKeys;
use crate::policy::{Audience, Callout, Gateway, Operators, Provider, Routing};

use super::agent::identity;
use super::field::{Field, Fields};
use super::invalid::{InvalidConfig, Reason, quoted};
use super::manifest::Manifest;
use super::word;

pub(super) const FIELDS: &[&str] =
    &["audience", "routing", "maxRequestBytes", "maxAttempts", "identityHeader", "operators", "callouts"];
pub(super) const OPERATOR_FIELDS: &[&str] = &["identities", "keys"];

const AUDIENCES: &[(&str, Audience)] = &[("agents", Audience::Agents), ("external", Audience::External), ("auto", Audience::Auto)];
const ROUTINGS: &[(&str, Routing)] = &[("body", Routing::Body), ("fixed", Routing::Fixed)];

/// 1 GiB, the most that `maxRequestBytes` may be.
const MOST_REQUEST_BYTES: u64 = 1024 * 1024 * 1024;
/// The most that `maxAttempts` may be.
const MOST_ATTEMPTS: u64 = 10;
/// The longest header name or cluster name, in bytes.
const MAX_BYTES: usize = 256;

/// Headers of the message itself: like those that never reach a provider, none can name a caller.
const FRAMING: &[&str] =
    &["connection", "content-encoding", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"];

/// Reads the spec of the `Gateway`, which may name `providers` and `keys`.
pub(super) fn compile(manifest: Manifest, providers: &[Provider], keys: &AccessKeys) -> Result<Gateway, InvalidConfig> {
    manifest.compile(FIELDS, |_, spec| gateway(spec, providers, keys))
}

fn gateway(mut spec: Fields, providers: &[Provider], keys: &AccessKeys) -> Result<Gateway, InvalidConfig> {
    let default = Gateway::default();
    let max_attempts = spec.optional("maxAttempts", |field| field.count(MOST_ATTEMPTS))?;
    Ok(Gateway {
        audience: spec.optional("audience", |field| field.one_of(AUDIENCES))?.unwrap_or_default(),
        routing: spec.optional("routing", |field| routing(field, providers))?.unwrap_or_default(),
        max_request_bytes: spec
            .optional("maxRequestBytes", |field| field.count(MOST_REQUEST_BYTES))?
            .map_or(default.max_request_bytes, u64::from),
        max_attempts: max_attempts.and_then(|count| count.get().try_into().ok()).unwrap_or(default.max_attempts),
        identity_header: spec.optional("identityHeader", |field| field.text(identity_header))?,
        operators: spec.optional("operators", |block| operators(block, keys))?.unwrap_or_default(),
        callouts: spec.optional("callouts", |field| callouts(field, providers))?.unwrap_or_default(),
    })
}

fn routing(field: Field, providers: &[Provider]) -> Result<Routing, InvalidConfig> {
    let reason = format!("`fixed` needs exactly one ModelProvider, and there are {}", providers.len());
    let too_many = field.refuse(reason);
    match field.one_of(ROUTINGS)? {
        Routing::Fixed if providers.len() != 1 => Err(too_many),
        routing => Ok(routing),
    }
}

fn identity_header(text: &str) -> Result<Box<str>, Reason> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !(1..=MAX_BYTES).contains(&text.len()) || !text.bytes().all(token) {
        return Err(format!("must be a header name, got {}", quoted(text)).into());
    }
    let name = text.to_ascii_lowercase();
    if is_stripped_request_header(&name) || name.starts_with("x-envoy-") || FRAMING.contains(&name.as_str()) {
        let hint = "cannot name a caller; use a header of its own, such as x-agent-id";
        return Err(format!("{} {hint}", quoted(&name)).into());
    }
    Ok(name.into())
}

fn operators(block: Field, keys: &AccessKeys) -> Result<Operators, InvalidConfig> {
    let places: HashMap<&str, usize> = keys.iter().enumerate().map(|(place, key)| (&*key.name, place)).collect();
    let mut block = block.fields(OPERATOR_FIELDS)?;
    Ok(Operators {
        identities: block.optional("identities", |list| list.list(|entry| entry.text(identity)))?.unwrap_or_default(),
        keys: block.optional("keys", |list| list.list(|entry| entry.text(|name| access_key(name, &places))))?.unwrap_or_default(),
    })
}

fn access_key(name: &str, places: &HashMap<&str, usize>) -> Result<usize, Reason> {
    places.get(name).copied().ok_or_else(|| format!("no AccessKey is named {}", quoted(name)).into())
}

fn callouts(map: Field, providers: &[Provider]) -> Result<Vec<Callout>, InvalidConfig> {
    let callout = |(name, field): (String, Field)| {
        let Some(provider) = providers.iter().position(|provider| *provider.name == *name) else {
            return Err(field.refuse("no ModelProvider has this name"));
        };
        Ok(Callout { provider, cluster: field.text(cluster)? })
    };
    map.entries()?.into_iter().map(callout).collect()
}

fn cluster(text: &str) -> Result<Box<str>, Reason> {
    word::visible(text, MAX_BYTES).map(Box::from)
}
