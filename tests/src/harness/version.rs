//! Which Envoy the suite runs. What an older one cannot do is left out of its configuration, and tests that need it say so.

use std::io::Write as _;
use std::process::Command;
use std::sync::LazyLock;

use super::gate::envoy_binary;

/// Major and minor number.
type Version = (u32, u32);

/// What Envoys before some version cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvoyFeature {
    /// A retry can go to another cluster (`refresh_cluster_on_retry`): a provider that fails is followed by another.
    ClusterRefresh,
    /// It tells filters whether a peer's certificate was verified (`connection.peer_certificate_valid`).
    PeerCertificateValid,
    /// Its HTTP/1 parser knows the method QUERY.
    QueryMethod,
    /// Its HTTP/2 codec closes the connection on what HTTP/2 forbids, wherever in a request it stands.
    StrictHttp2,
}

static VERSION: LazyLock<Version> = LazyLock::new(|| {
    let output = Command::new(envoy_binary()).arg("--version").output().expect("Envoy runs");
    let said = String::from_utf8_lossy(&output.stdout);
    version(&said).unwrap_or_else(|| panic!("no version in {said:?}"))
});

/// Ends the test where the Envoy of this run lacks this [`EnvoyFeature`], and says so.
#[macro_export]
macro_rules! needs {
    ($ability:ident) => {
        if $crate::harness::EnvoyFeature::$ability.is_unsupported() {
            return;
        }
    };
}

/// Major and minor number of the Envoy that the suite runs.
pub fn envoy_version() -> (u32, u32) {
    *VERSION
}

// === impl EnvoyFeature ===

impl EnvoyFeature {
    /// The first version that has it.
    fn since(self) -> Version {
        match self {
            Self::StrictHttp2 => (1, 37),
            Self::ClusterRefresh | Self::PeerCertificateValid => (1, 39),
            Self::QueryMethod => (1, 40),
        }
    }

    /// Whether the Envoy of this run has it.
    pub fn is_supported(self) -> bool {
        *VERSION >= self.since()
    }

    /// For tests that mean nothing without it: whether it is missing. If so, a line says that the test needs a newer Envoy, which
    /// `scripts/test matrix` counts.
    pub fn is_unsupported(self) -> bool {
        if !self.is_supported() {
            let (major, minor) = self.since();
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            // Not by a macro, whose output the test runner keeps to itself.
            let line = format!("needs Envoy {major}.{minor}: {test} ({self:?})\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        !self.is_supported()
    }
}

/// Takes the numbers from `… version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn version(said: &str) -> Option<Version> {
    let numbers = said.split_once("version: ")?.1.split('/').nth(1)?;
    let mut numbers = numbers.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
