//! Who is asking: an agent inside, or a developer with an access key.

use crate::headers::Headers;
use crate::policy::{Audience, Policy};
use crate::refusal::{Case, Refusal};

/// Someone who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A workload inside that no manifest names, while none has to.
    Anonymous,
}

/// Headers in which clients send a key.
const KEY_HEADERS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

// === impl Caller ===

impl Caller {
    /// Tells who is asking (design 3.1). This version serves no access keys: whoever needs one is refused.
    pub fn identify(headers: &Headers<'_>, policy: &Policy) -> Result<Self, Refusal> {
        if has_access_key(headers) {
            let why = match policy.gateway.audience {
                Audience::Agents => "Access keys are not accepted here. Leave out the key.",
                Audience::External | Audience::Auto => {
                    "The access key is not known here. Check the key, or ask the operator for another."
                }
            };
            return Err(Refusal::new(Case::InvalidApiKey, why));
        }
        match policy.gateway.audience {
            Audience::Agents => Ok(Self::Anonymous),
            Audience::Auto if policy.providers.iter().all(|provider| provider.external.is_none()) => Ok(Self::Anonymous),
            Audience::Auto | Audience::External => Err(Refusal::new(
                Case::InvalidApiKey,
                "An access key is needed: send it as `Authorization: Bearer pak_…`, or ask the operator for one.",
            )),
        }
    }

    /// What access logs call the caller.
    pub fn subject(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
        }
    }
}

fn has_access_key(headers: &Headers<'_>) -> bool {
    KEY_HEADERS.iter().flat_map(|name| headers.all(name)).any(|value| {
        // Hosts join the values of a header that comes twice.
        value.split(|&b| b == b',').any(|value| credential(value).starts_with(b"pak_"))
    })
}

/// What follows the scheme `Bearer`, or the whole value.
fn credential(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") || scheme.eq_ignore_ascii_case(b"bearer\t") => {
            rest.trim_ascii()
        }
        _ => value,
    }
}
