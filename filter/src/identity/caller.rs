//! The caller of a request: an agent (a workload inside), or a developer with an access key.
//!
//! The filter does not trust what a caller claims. A developer is authenticated by an access key; an agent by the identity in its
//! verified certificate, or in a header that the operator has configured as trusted.

use crate::clock::{Time, rfc3339};
use crate::http::refusal::{Case, Refusal, printable};
use crate::http::route::Readers;
use crate::identity::access_key::InvalidAccessKey;
use crate::identity::credentials::{Credentials, PresentedKeys};
use crate::policy::{Audience, Policy};

/// An authenticated caller, or an anonymous one that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An unauthenticated workload, where the configuration does not require authentication.
    Anonymous,
    /// The agent at this index of the policy.
    Agent(usize),
    /// The owner of the access key at this index of the policy.
    Developer(usize),
    /// A workload that may read the operator endpoints and use no model.
    Operator,
}

/// The result of [`Caller::identify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identification {
    /// The caller is known.
    Caller(Caller),
    /// A workload whose identity no Agent has. Requests for governed paths get this refusal; other paths get a 404.
    UnknownAgent(Refusal),
}

// === impl Caller ===

impl Caller {
    /// Identifies the caller of a request. `now` returns the time; it is called only for keys that expire.
    pub fn identify(credentials: &Credentials<'_>, policy: &Policy, now: &dyn Fn() -> Time) -> Result<Identification, Refusal> {
        let audience = policy.gateway.audience;
        match credentials.presented_keys() {
            PresentedKeys::None if audience == Audience::External => Err(key_needed("")),
            PresentedKeys::None => identify_workload(credentials, policy),
            _ if audience == Audience::Agents => {
                Err(invalid_key("Access keys are not accepted here. Send the request without an access key."))
            }
            PresentedKeys::One(key) => match policy.keys.authenticate(key, now) {
                Ok(index) => Ok(Identification::Caller(Self::Developer(index))),
                Err(invalid) => Err(invalid.into()),
            },
            PresentedKeys::Several => Err(invalid_key("The request has two different access keys. Send one.")),
        }
    }

    /// Returns the caller's name in access logs and metrics.
    pub fn subject(self, policy: &Policy) -> String {
        let name = |kind: &str, name: Option<&str>| format!("{kind}/{}", name.unwrap_or_default());
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Agent(index) => name("agent", policy.agents.get(index).map(|agent| &*agent.name)),
            Self::Developer(index) => name("key", policy.keys.get(index).map(|key| &*key.name)),
            Self::Operator => "operator".to_owned(),
        }
    }

    /// Returns whether the caller is among these readers of an endpoint under `/pai/v1/`.
    pub fn is_among(self, readers: Readers, policy: &Policy) -> bool {
        match self {
            Self::Anonymous | Self::Agent(_) => readers == Readers::Workloads,
            Self::Operator => true,
            Self::Developer(index) => policy.gateway.operators.keys.contains(&index),
        }
    }
}

/// Identifies a caller that presents no access key.
fn identify_workload(credentials: &Credentials<'_>, policy: &Policy) -> Result<Identification, Refusal> {
    let agents_only = policy.gateway.audience == Audience::Agents;
    let operators = &policy.gateway.operators.identities;
    let is_operator =
        |identity: Option<&str>| identity.is_some_and(|identity| operators.iter().any(|pattern| pattern.matches(identity)));
    let identify = || credentials.workload_identity(policy.gateway.identity_header.as_deref());
    // An agent that is an operator too reads these as an operator.
    if credentials.readers == Some(Readers::Operators) && !operators.is_empty() && is_operator(identify().as_deref()) {
        return Ok(Identification::Caller(Caller::Operator));
    }
    if policy.agents.is_empty() && (agents_only || policy.is_open()) {
        return Ok(Identification::Caller(Caller::Anonymous));
    }
    let needed = !policy.agents.is_empty() || credentials.readers.is_some() && !operators.is_empty();
    let identity = if needed { identify() } else { None };
    if let Some(index) = identity.as_deref().and_then(|identity| policy.agents.find(identity)) {
        return Ok(Identification::Caller(Caller::Agent(index)));
    }
    if credentials.readers.is_some() && is_operator(identity.as_deref()) {
        return Ok(Identification::Caller(Caller::Operator));
    }
    match (agents_only, identity) {
        (true, identity) => Ok(Identification::UnknownAgent(unknown_agent(identity.as_deref()))),
        (false, None) => Err(key_needed("")),
        (false, Some(identity)) => Err(key_needed(&format!(
            " No Agent has the identity `{}`: to admit it, the operator adds it to `spec.identities` of an Agent.",
            printable(&identity)
        ))),
    }
}

impl From<InvalidAccessKey<'_>> for Refusal {
    fn from(invalid: InvalidAccessKey<'_>) -> Self {
        match invalid {
            InvalidAccessKey::Unknown => {
                invalid_key("The access key is not known here. Check the key, or ask the operator for another.")
            }
            InvalidAccessKey::Disabled(name) => invalid_key(format!("The access key `{name}` is disabled. Ask the operator.")),
            InvalidAccessKey::Expired(name, end) => {
                let end = rfc3339(end);
                invalid_key(format!("The access key `{name}` has expired ({end}). Ask the operator for another."))
            }
        }
    }
}

fn key_needed(more: &str) -> Refusal {
    invalid_key(format!("An access key is needed: send it as `Authorization: Bearer pak_…`, or ask the operator for one.{more}"))
}

fn invalid_key(message: impl Into<String>) -> Refusal {
    Refusal::new(Case::InvalidApiKey, message)
}

fn unknown_agent(identity: Option<&str>) -> Refusal {
    let reason = match identity {
        Some(identity) => format!("No Agent has the identity `{}`", printable(identity)),
        None => {
            "The connection shows no identity (no verified client certificate with a URI), and agents are authenticated by theirs"
                .to_owned()
        }
    };
    Refusal::new(Case::CallerNotAllowed, format!("{reason}. The operator adds identities to `spec.identities` of an Agent."))
}
