//! `kind: Gateway`.

use crate::http::stripped_headers::is_stripped_request_header;
use crate::policy::{Audience, Callout, Credentials, Gateway, Operators, Routing};

use super::agent::identity;
use super::cors;
use super::field::Field;
use super::identifier;
use super::invalid::{Reason, Reported};
use super::manifest::Manifest;
use super::node::Node;
use super::quote::quoted;
use super::references::{Known, Target};

pub(super) const FIELDS: &[&str] =
    &["audience", "routing", "credentials", "maxRequestBytes", "maxAttempts", "identityHeader", "operators", "callouts", "cors"];
pub(super) const OPERATOR_FIELDS: &[&str] = &["identities", "keys"];

const AUDIENCES: &[(&str, Audience)] = &[("agents", Audience::Agents), ("external", Audience::External), ("auto", Audience::Auto)];
const ROUTINGS: &[(&str, Routing)] = &[("body", Routing::Body), ("fixed", Routing::Fixed)];
const CREDENTIALS: &[(&str, Credentials)] = &[("environment", Credentials::Environment), ("proxy", Credentials::Proxy)];

/// The largest value of `maxRequestBytes`: 1 GiB.
const MAX_REQUEST_BYTES: u64 = 1024 * 1024 * 1024;
/// The largest value of `maxAttempts`.
const MAX_ATTEMPTS: u64 = 10;
/// The longest header name or cluster name, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Headers of the message itself. Like the headers that are removed from requests, they cannot be the `identityHeader`.
const FRAMING: &[&str] =
    &["connection", "content-encoding", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade"];

/// Reads the `Gateway`.
pub(super) fn compile(manifest: Manifest<'_>, known: &Known<'_>) -> Result<Gateway, Reported> {
    let default = Gateway::default();
    let mut spec = manifest.spec.fields(FIELDS)?;
    let audience = spec.optional("audience", |field| field.one_of(AUDIENCES));
    let routing = spec.optional("routing", |field| routing(field, known));
    let credentials = spec.optional("credentials", |field| field.one_of(CREDENTIALS));
    let max_request_bytes = spec.optional("maxRequestBytes", |field| field.count(MAX_REQUEST_BYTES));
    let max_attempts = spec.optional("maxAttempts", |field| field.count(MAX_ATTEMPTS));
    let identity_header = spec.optional("identityHeader", |field| field.text(identity_header));
    let operators = spec.optional("operators", |block| operators(block, known));
    let callouts = spec.optional("callouts", |map| map.map(|name, field| callout(name, field, known)));
    let cors = spec.optional("cors", cors::read);
    Ok(Gateway {
        audience: audience?.unwrap_or_default(),
        routing: routing?.unwrap_or_default(),
        credentials: credentials?.unwrap_or_default(),
        max_request_bytes: max_request_bytes?.map_or(default.max_request_bytes, u64::from),
        max_attempts: max_attempts?.and_then(|count| count.get().try_into().ok()).unwrap_or(default.max_attempts),
        identity_header: identity_header?,
        operators: operators?.unwrap_or_default(),
        // An entry of a provider that could not be read is left out: the configuration is refused for that provider.
        callouts: callouts?.unwrap_or_default().into_iter().flatten().collect(),
        cors: cors?,
    })
}

/// Returns whether a `Gateway` that was not read yet leaves credentials to the proxy.
pub(super) fn leaves_credentials(manifest: &Manifest<'_>) -> bool {
    matches!(manifest.spec.get("credentials"), Some(Node::Text(text)) if text == "proxy")
}

fn routing(field: Field<'_>, known: &Known<'_>) -> Result<Routing, Reported> {
    match (field.one_of(ROUTINGS)?, known.provider_count()) {
        (Routing::Fixed, Some(count)) if count != 1 => {
            Err(field.refuse(format!("`fixed` needs exactly one ModelProvider, and there are {count}")))
        }
        (routing, _) => Ok(routing),
    }
}

fn identity_header(text: &str) -> Result<Box<str>, Reason> {
    identifier::header_name(text, MAX_NAME_BYTES)?;
    let name = text.to_ascii_lowercase();
    if is_stripped_request_header(&name) || name.starts_with("x-envoy-") || FRAMING.contains(&name.as_str()) {
        let hint = "cannot name a caller; use a header of its own, such as x-agent-id";
        return Err(format!("{} {hint}", quoted(&name)).into());
    }
    Ok(name.into())
}

fn operators(block: Field<'_>, known: &Known<'_>) -> Result<Operators, Reported> {
    let find = known.access_keys();
    let key = |name: &str| match find(name) {
        Target::Found(index) => Ok(Some(index)),
        Target::Unreadable => Ok(None),
        Target::Unknown => Err(format!("no AccessKey is named {}", quoted(name)).into()),
    };
    let mut block = block.fields(OPERATOR_FIELDS)?;
    let identities = block.optional("identities", |list| list.list(|entry| entry.text(identity)));
    let keys = block.optional("keys", |list| list.list(|entry| entry.text(key)));
    Ok(Operators { identities: identities?.unwrap_or_default(), keys: keys?.unwrap_or_default().into_iter().flatten().collect() })
}

/// Reads an entry of `callouts`; `None` if its provider could not be read.
fn callout(provider: &str, field: Field<'_>, known: &Known<'_>) -> Result<Option<Callout>, Reported> {
    let provider = match known.provider(provider) {
        Target::Found(provider) => Some(provider),
        Target::Unreadable => None,
        Target::Unknown => return Err(field.refuse("no ModelProvider has this name")),
    };
    let cluster = field.text(|text| identifier::visible_ascii(text, MAX_NAME_BYTES).map(Box::from))?;
    Ok(provider.map(|provider| Callout { provider, cluster }))
}
