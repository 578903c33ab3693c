//! The version of the Envoy under test. Features that an older Envoy lacks are left out of its configuration, and tests that need
//! them are skipped with a message.

use std::io::Write as _;
use std::process::Command;
use std::sync::LazyLock;

use super::gate::envoy_binary;

/// Major and minor version.
type Version = (u32, u32);

/// Features that older Envoys lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvoyFeature {
    /// A retry can select another cluster (`refresh_cluster_on_retry`), and thus another provider.
    ClusterRefresh,
    /// Filters can read whether a peer's certificate was verified (`connection.peer_certificate_valid`).
    PeerCertificateValid,
    /// The HTTP/1 parser accepts the method QUERY.
    QueryMethod,
    /// The HTTP/2 codec closes the connection on any protocol violation, wherever in a request it occurs.
    StrictHttp2,
}

static VERSION: LazyLock<Version> = LazyLock::new(|| {
    let output = Command::new(envoy_binary()).arg("--version").output().expect("Envoy runs");
    let said = String::from_utf8_lossy(&output.stdout);
    version(&said).unwrap_or_else(|| panic!("no version in {said:?}"))
});

/// Returns from the test, with a message, if the Envoy under test lacks this [`EnvoyFeature`].
#[macro_export]
macro_rules! needs {
    ($ability:ident) => {
        if $crate::harness::EnvoyFeature::$ability.is_unsupported() {
            return;
        }
    };
}

/// Returns the major and minor version of the Envoy under test.
pub fn envoy_version() -> (u32, u32) {
    *VERSION
}

// === impl EnvoyFeature ===

impl EnvoyFeature {
    /// Returns the first version with the feature.
    fn since(self) -> Version {
        match self {
            Self::StrictHttp2 => (1, 37),
            Self::ClusterRefresh | Self::PeerCertificateValid => (1, 39),
            Self::QueryMethod => (1, 40),
        }
    }

    /// Returns whether the Envoy under test has the feature.
    pub fn is_supported(self) -> bool {
        *VERSION >= self.since()
    }

    /// Returns whether the feature is missing. If so, prints a line that `scripts/test matrix` counts.
    pub fn is_unsupported(self) -> bool {
        if !self.is_supported() {
            let (major, minor) = self.since();
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            // Written directly, because the test runner captures the output of `eprintln!`.
            let line = format!("needs Envoy {major}.{minor}: {test} ({self:?})\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        !self.is_supported()
    }
}

/// Parses the version from `… version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn version(said: &str) -> Option<Version> {
    let numbers = said.split_once("version: ")?.1.split('/').nth(1)?;
    let mut numbers = numbers.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
