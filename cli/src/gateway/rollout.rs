//! How a new configuration gets into force in a running gateway, without a restart and without a cut stream.
//!
//! Clusters and routes of the old and the new configuration first, then the policy, then what only the old one needed is removed. Each
//! step is one version of the directory, put in force by one rename. What Envoy refuses is rolled back.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Running;
use super::rendering::{CDS, Files, GATE, RDS, Rendering, max_request_bytes};
use crate::directory::{Configuration, GatewayDirectory, Lock, Version};
use crate::failure::Failure;
use crate::manifest::ManifestSet;
use crate::output;

/// The time between two looks at the gateway.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long new clusters may take to resolve their names.
const WARMING: Duration = Duration::from_secs(5);

/// Statistics that rise when Envoy refuses a configuration.
const REJECTED: &str = "update_rejected$";

/// What an apply has achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// All workers serve the configuration.
    InForce,
    /// No gateway runs: it takes effect at the next start.
    NotRunning,
}

/// Puts manifests in force. The lock proves that no other command changes the directory.
pub fn apply(directory: &GatewayDirectory, manifests: ManifestSet, timeout: Duration, _lock: &Lock) -> Result<Applied, Failure> {
    let rendering = Rendering::new(directory);
    let new = Configuration { files: rendering.files(&manifests)?, manifests };
    let Some(running) = Running::find(directory) else {
        let version = directory.write(&new)?;
        directory.switch_to(version)?;
        directory.clean_up(version);
        return Ok(Applied::NotRunning);
    };
    check_buffers(&running, &new.manifests)?;
    let rollout = Rollout {
        directory,
        rendering: &rendering,
        running: &running,
        old: directory.current()?,
        refusals: running.admin.stats(REJECTED)?,
        deadline: Instant::now() + timeout,
    };
    rollout.run(&new)?;
    Ok(Applied::InForce)
}

fn check_buffers(running: &Running, manifests: &ManifestSet) -> Result<(), Failure> {
    let (wanted, available) = (max_request_bytes(manifests), running.settings.max_request_bytes);
    if wanted <= available {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "Gateway: spec.maxRequestBytes: {wanted} is more than the running gateway was started with, {available}, and needs a restart; \
         nothing was changed\n  Stop the gateway, apply this, and start the gateway again"
    )))
}

struct Rollout<'a> {
    directory: &'a GatewayDirectory,
    rendering: &'a Rendering,
    running: &'a Running,
    old: Option<Version>,
    /// The statistics of refused updates before the first step.
    refusals: BTreeMap<String, u64>,
    deadline: Instant,
}

/// The versions that Envoy reports when a step is in force; `None` for a file that the step does not have.
struct Expected {
    clusters: Option<String>,
    routes: Option<String>,
    policy: Option<String>,
}

// === impl Rollout ===

impl Rollout<'_> {
    fn run(&self, new: &Configuration) -> Result<(), Failure> {
        let old = match self.old {
            Some(version) => self.directory.read(version)?,
            None => new.clone(),
        };
        let is_same = [CDS, RDS].iter().all(|file| old.files.get(*file) == new.files.get(*file));
        let both = if is_same { Files::new() } else { self.rendering.union(&old.manifests, &new.manifests)? };
        let mut widened = old.clone();
        widened.files.extend(both.clone());
        if widened.files != old.files {
            self.step(&widened, "clusters and routes")?;
        }
        let mut current = widened;
        if current.manifests != new.manifests || current.files.get(GATE) != new.files.get(GATE) {
            current = Configuration { manifests: new.manifests.clone(), files: new.files.clone() };
            current.files.extend(both);
            self.step(&current, "the policy")?;
        }
        if current != *new {
            self.step(new, "the removal of clusters")?;
        }
        if let Some(version) = self.directory.current()? {
            self.directory.clean_up(version);
        }
        Ok(())
    }

    fn step(&self, configuration: &Configuration, what: &str) -> Result<(), Failure> {
        let version = self.directory.write(configuration)?;
        self.directory.switch_to(version)?;
        self.wait(&Expected::of(&configuration.files), what).inspect_err(|_| self.roll_back())
    }

    /// Puts the configuration before this command back in force.
    fn roll_back(&self) {
        let Some(old) = self.old else { return };
        match self.directory.switch_to(old) {
            Ok(()) => self.directory.clean_up(old),
            Err(error) => output::warn(&format!("the configuration before could not be put in force again: {error:#}")),
        }
    }

    /// Waits until Envoy serves this, or refuses it.
    fn wait(&self, expected: &Expected, what: &str) -> Result<(), Failure> {
        let warming_until = Instant::now() + WARMING;
        loop {
            self.check_refusals()?;
            if self.serves(expected)? {
                if self.running.admin.stats("cluster_manager.warming_clusters")?.values().all(|count| *count == 0) {
                    return Ok(());
                }
                if Instant::now() >= warming_until {
                    output::warn("some clusters are not ready yet: the host name of a provider may not resolve");
                    return Ok(());
                }
            } else if Instant::now() >= self.deadline {
                return Err(Failure::refused(format!("the gateway did not put {what} in force in time; nothing was changed")));
            }
            sleep(INTERVAL);
        }
    }

    fn check_refusals(&self) -> Result<(), Failure> {
        let now = self.running.admin.stats(REJECTED)?;
        let rose = now.iter().any(|(name, count)| *count > self.refusals.get(name).copied().unwrap_or(0));
        if !rose {
            return Ok(());
        }
        let reason = self.directory.last_refusal().unwrap_or_else(|| "its log has the reason".to_owned());
        Err(Failure::refused(format!("Envoy refused the configuration, and the one before is in force again: {reason}")))
    }

    fn serves(&self, expected: &Expected) -> Result<bool, Failure> {
        let texts = self.running.admin.texts("version_text")?;
        let has = |version: &Option<String>, suffix: &str| {
            version.as_ref().is_none_or(|version| texts.iter().any(|(name, text)| name.ends_with(suffix) && text == version))
        };
        if !has(&expected.clusters, "cluster_manager.cds.version_text") || !has(&expected.routes, ".version_text") {
            return Ok(false);
        }
        let Some(version) = &expected.policy else { return Ok(true) };
        let status = self.running.control.status()?;
        Ok(status.version == *version && status.workers.iter().all(|worker| worker.version == *version))
    }
}

// === impl Expected ===

impl Expected {
    /// Reads the versions of these files.
    fn of(files: &Files) -> Self {
        let version = |file: &str| version_of(files.get(file)?);
        Self { clusters: version(CDS), routes: version(RDS), policy: version(GATE) }
    }
}

/// Returns `version_info` of an xDS file.
fn version_of(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Response {
        version_info: String,
    }
    serde_json::from_str(text).ok().map(|Response { version_info }| version_info)
}
