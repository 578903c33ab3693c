//! Manifests: what users write, and what a gateway keeps of it.

mod kind;

pub use kind::Kind;

use serde_json::Value;

/// One manifest. Its value has passed the filter's own validation.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The whole manifest.
    pub value: Value,
}
