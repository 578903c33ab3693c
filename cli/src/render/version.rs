//! The version of the Envoy that reads the configuration.

use std::fmt;
use std::str::FromStr;

/// The major and the minor version of an Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvoyVersion {
    major: u32,
    minor: u32,
}

// === impl EnvoyVersion ===

impl EnvoyVersion {
    /// The oldest version that is supported.
    pub const OLDEST: Self = Self { major: 1, minor: 36 };
    /// The newest version that is tested.
    pub const NEWEST: Self = Self { major: 1, minor: 40 };
    /// The first version in which a retry can select another cluster (`refresh_cluster_on_retry`).
    pub const REFRESHES_CLUSTERS: Self = Self { major: 1, minor: 39 };
}

impl fmt::Display for EnvoyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for EnvoyVersion {
    type Err = String;

    /// Parses `1.40` and `1.40.0`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = text.split('.').map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Err("must be a version such as 1.40".to_owned());
        };
        let version = Self { major, minor };
        if version < Self::OLDEST {
            return Err(format!("must be {} or newer", Self::OLDEST));
        }
        Ok(version)
    }
}
