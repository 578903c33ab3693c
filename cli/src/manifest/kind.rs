//! The kinds of manifests, and what they are called on the command line.

use serde::{Deserialize, Serialize};

/// A kind of manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A model server.
    ModelProvider,
    /// A workload.
    Agent,
    /// The access key of a developer.
    AccessKey,
    /// The settings of the gateway.
    Gateway,
}

// === impl Kind ===

impl Kind {
    /// The kinds in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::ModelProvider, Self::Agent, Self::AccessKey, Self::Gateway];

    /// Returns the kind as written in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelProvider => "ModelProvider",
            Self::Agent => "Agent",
            Self::AccessKey => "AccessKey",
            Self::Gateway => "Gateway",
        }
    }

    /// Returns the kind as kubectl writes it in `modelprovider.pai.io/vllm-local`.
    pub fn resource(self) -> &'static str {
        match self {
            Self::ModelProvider => "modelprovider.pai.io",
            Self::Agent => "agent.pai.io",
            Self::AccessKey => "accesskey.pai.io",
            Self::Gateway => "gateway.pai.io",
        }
    }

    /// Returns the names of the kind on the command line, the one for lists first.
    pub fn command_names(self) -> &'static [&'static str] {
        match self {
            Self::ModelProvider => &["model-providers", "model-provider", "modelproviders", "modelprovider", "mp"],
            Self::Agent => &["agents", "agent"],
            Self::AccessKey => &["access-keys", "access-key", "accesskeys", "accesskey", "ak"],
            Self::Gateway => &["gateway", "gateways", "gw"],
        }
    }

    /// Finds a kind by its name in a manifest.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Finds a kind by one of its names on the command line, in any case.
    pub fn from_command_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| kind.command_names().contains(&name.as_str()) || kind.resource() == name)
    }
}
