//! Who is asking: an agent inside, or a developer with an access key (design 3.1).
//!
//! Nobody is taken at his word: a developer is known by a key, an agent by what the host has verified of its certificate or by a
//! header that the operator vouches for.

use crate::clock::Time;
use crate::http::headers::Headers;
use crate::http::refusal::{Case, Refusal, printable};
use crate::identity::access_key::{AccessKey, KEY_PREFIX};
use crate::policy::{Audience, Policy};

/// Someone who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A workload inside that no manifest names, while none has to.
    Anonymous,
    /// The agent at this place of the policy.
    Agent(usize),
    /// Whoever has the access key at this place of the policy.
    Developer(usize),
    /// Somebody who may see how the gateway does and nothing else.
    Operator,
}

/// What is known of who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identification {
    /// Somebody.
    Caller(Caller),
    /// An agent that no manifest names, to be refused so wherever there is something to ask for.
    UnknownAgent(Refusal),
}

/// What a request says about who is asking.
pub struct Credentials<'a> {
    /// Its headers.
    pub headers: &'a Headers<'a>,
    /// The verified identity of the peer, to be looked up only where it matters.
    pub peer: &'a dyn Fn() -> Option<Vec<u8>>,
    /// Whether it asks for what operators may see.
    pub operator_endpoint: bool,
}

/// Headers in which clients send a key.
const KEY_HEADERS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

/// Access keys that a request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PresentedKeys<'a> {
    None,
    One(&'a [u8]),
    /// Different ones.
    Several,
}

// === impl Caller ===

impl Caller {
    /// Identifies the caller. `now` returns the time, which matters for keys that expire only.
    pub fn identify(credentials: &Credentials<'_>, policy: &Policy, now: &dyn Fn() -> Time) -> Result<Identification, Refusal> {
        let audience = policy.gateway.audience;
        match presented_keys(credentials.headers) {
            PresentedKeys::None if audience == Audience::External => Err(key_needed("")),
            PresentedKeys::None => identify_workload(credentials, policy),
            _ if audience == Audience::Agents => Err(invalid_key("Access keys are not accepted here. Leave out the key.")),
            PresentedKeys::One(key) => identify_by_key(key, policy, now).map(Identification::Caller),
            PresentedKeys::Several => Err(invalid_key("The request has two different access keys. Send one.")),
        }
    }

    /// What access logs and metrics call the caller.
    pub fn subject(self, policy: &Policy) -> String {
        let name = |kind: &str, name: Option<&str>| format!("{kind}/{}", name.unwrap_or_default());
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Agent(place) => name("agent", policy.agents.get(place).map(|agent| &*agent.name)),
            Self::Developer(place) => name("key", policy.keys.get(place).map(|key| &*key.name)),
            Self::Operator => "operator".to_owned(),
        }
    }

    /// Whether the caller may read `/pai/v1/…`.
    pub fn is_operator(self, policy: &Policy) -> bool {
        match self {
            Self::Anonymous | Self::Agent(_) | Self::Operator => true,
            Self::Developer(place) => policy.gateway.operators.keys.contains(&place),
        }
    }
}

fn presented_keys<'a>(headers: &Headers<'a>) -> PresentedKeys<'a> {
    let mut presented_keys = PresentedKeys::None;
    for value in KEY_HEADERS.iter().flat_map(|name| headers.all(name)) {
        // Hosts join the values of a header that comes twice.
        for key in value.split(|&b| b == b',').map(key_in).filter(|key| key.starts_with(KEY_PREFIX)) {
            presented_keys = match presented_keys {
                PresentedKeys::None => PresentedKeys::One(key),
                PresentedKeys::One(other) if other == key => presented_keys,
                PresentedKeys::One(_) | PresentedKeys::Several => return PresentedKeys::Several,
            };
        }
    }
    presented_keys
}

/// What follows the scheme `Bearer`, or the whole value.
fn key_in(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") || scheme.eq_ignore_ascii_case(b"bearer\t") => {
            rest.trim_ascii()
        }
        _ => value,
    }
}

fn identify_by_key(key: &[u8], policy: &Policy, now: &dyn Fn() -> Time) -> Result<Caller, Refusal> {
    let known = policy.keys.find(key).and_then(|place| Some((place, policy.keys.get(place)?)));
    match known {
        None => Err(invalid_key("The access key is not known here. Check the key, or ask the operator for another.")),
        Some((_, AccessKey { name, disabled: true, .. })) => {
            Err(invalid_key(format!("The access key `{name}` is disabled. Ask the operator.")))
        }
        Some((_, AccessKey { name, expires: Some(end), .. })) if now().seconds() >= *end => {
            let end = crate::clock::rfc3339(*end);
            Err(invalid_key(format!("The access key `{name}` has expired ({end}). Ask the operator for another.")))
        }
        Some((place, _)) => Ok(Caller::Developer(place)),
    }
}

/// Someone without an access key.
fn identify_workload(credentials: &Credentials<'_>, policy: &Policy) -> Result<Identification, Refusal> {
    let agents_only = policy.gateway.audience == Audience::Agents;
    if policy.agents.is_empty() && (agents_only || policy.is_open()) {
        return Ok(Identification::Caller(Caller::Anonymous));
    }
    let operators = &policy.gateway.operators.identities;
    let counts = !policy.agents.is_empty() || credentials.operator_endpoint && !operators.is_empty();
    let identity = if counts { workload_identity(credentials, policy) } else { None };
    if let Some(place) = identity.as_deref().and_then(|identity| policy.agents.find(identity)) {
        return Ok(Identification::Caller(Caller::Agent(place)));
    }
    if let (true, Some(identity)) = (credentials.operator_endpoint, &identity)
        && operators.iter().any(|pattern| pattern.matches(identity))
    {
        return Ok(Identification::Caller(Caller::Operator));
    }
    match (agents_only, identity) {
        (true, identity) => Ok(Identification::UnknownAgent(unknown_agent(identity.as_deref()))),
        (false, None) => Err(key_needed("")),
        (false, Some(identity)) => Err(key_needed(&format!(
            " No Agent has the identity `{}`: to let it in, the operator adds it to `spec.identities` of one.",
            printable(&identity)
        ))),
    }
}

/// The identity that counts: the header that a proxy in front vouches for, where it is there, else that of the certificate.
fn workload_identity(credentials: &Credentials<'_>, policy: &Policy) -> Option<String> {
    let header = policy.gateway.identity_header.as_deref();
    // Hosts and proxies join the values of a header that comes twice.
    let values = header.into_iter().flat_map(|name| credentials.headers.all(name)).flat_map(|value| value.split(|&b| b == b','));
    let mut values = values.map(<[u8]>::trim_ascii);
    let identity = match values.next() {
        // Of two proxies, or of a proxy and its client, only one can be right.
        Some(first) => values.all(|value| value == first).then(|| first.to_vec()),
        None => (credentials.peer)(),
    };
    let identity = String::from_utf8(identity?).ok()?;
    (!identity.is_empty()).then_some(identity)
}

fn key_needed(more: &str) -> Refusal {
    invalid_key(format!("An access key is needed: send it as `Authorization: Bearer pak_…`, or ask the operator for one.{more}"))
}

fn invalid_key(message: impl Into<String>) -> Refusal {
    Refusal::new(Case::InvalidApiKey, message)
}

fn unknown_agent(identity: Option<&str>) -> Refusal {
    let who = match identity {
        Some(identity) => format!("No Agent has the identity `{}`", printable(identity)),
        None => "The connection shows no identity (no verified client certificate with a URI), and agents are known by theirs"
            .to_owned(),
    };
    Refusal::new(Case::CallerNotAllowed, format!("{who}. The operator adds identities to `spec.identities` of an Agent."))
}
