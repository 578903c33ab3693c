//! The kinds of manifests, and what they are called on the command line.

/// A kind of manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// Returns the kind as kubectl would write it in `modelprovider.pai.io/vllm-local`.
    pub fn resource(self) -> &'static str {
        match self {
            Self::ModelProvider => "modelprovider.pai.io",
            Self::Agent => "agent.pai.io",
            Self::AccessKey => "accesskey.pai.io",
            Self::Gateway => "gateway.pai.io",
        }
    }
}
