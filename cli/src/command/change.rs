//! What all commands that change manifests have in common.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::secret;
use crate::directory::{GatewayDirectory, Lock};
use crate::failure::Failure;
use crate::gateway::{self, Applied};
use crate::manifest::{Kind, Manifest, ManifestSet};
use crate::output;

/// How long a command waits until a change is in force.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// How long to wait until the change is in force, such as 5s or 1m
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
}

/// Reads a duration such as `5s`, `90d` or `1h 30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().or_else(|error| days(text).ok_or(error)).map_err(|_| hint())?;
    Duration::try_from(span).map_err(|_| hint())
}

/// Reads a number of days, which jiff has no fixed length for.
fn days(text: &str) -> Option<jiff::SignedDuration> {
    let (number, length) = match text.strip_suffix('d') {
        Some(number) => (number, 24),
        None => (text.strip_suffix('w')?, 7 * 24),
    };
    number.parse::<i64>().ok()?.checked_mul(length).map(jiff::SignedDuration::from_hours)
}

fn hint() -> String {
    "write a duration such as 30s, 5m, 24h or 90d".to_owned()
}

/// Returns the time in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Puts a set of manifests in force, or makes it the one of the next start, and reports which.
pub fn commit(directory: &GatewayDirectory, lock: &Lock, set: ManifestSet, wait: &Wait) -> Result<(), Failure> {
    adopt_secrets(directory, &set)?;
    check_secrets(directory, &set)?;
    match gateway::apply(directory, set, wait.timeout, lock)? {
        Applied::InForce => {}
        Applied::NotRunning => {
            let root = directory.root().display();
            output::note(&format!("no gateway runs in {root}: this takes effect with the next `pai gateway run`"));
        }
    }
    Ok(())
}

/// Adds secrets that are not there from the environment variables that the filter would read them from, `PAI_SECRET_<NAME>_<KEY>`.
fn adopt_secrets(directory: &GatewayDirectory, set: &ManifestSet) -> Result<(), Failure> {
    let secrets = directory.secrets();
    for reference in set.of_kind(Kind::ModelProvider).filter_map(Manifest::secret_reference) {
        let variable = reference.variable();
        if let (false, Ok(value)) = (secrets.has(&reference), std::env::var(&variable)) {
            let value = secret::checked(&reference.key, &value)?;
            secrets.set(&reference.name, &BTreeMap::from([(reference.key.clone(), value)]))?;
            output::note(&format!("secret/{} created, with {} from {variable}", reference.name, reference.key));
        }
    }
    Ok(())
}

/// Refuses providers whose secret is not there.
pub fn check_secrets(directory: &GatewayDirectory, set: &ManifestSet) -> Result<(), Failure> {
    let secrets = directory.secrets();
    let mut lines = Vec::new();
    for provider in set.of_kind(Kind::ModelProvider) {
        if let Some(reference) = provider.secret_reference().filter(|reference| !secrets.has(reference)) {
            lines.push(format!(
                "ModelProvider {}: spec.apiKeySecretRef: secret `{}` has no key `{}`; add it with\n  pai add secret {} --from-literal {}=VALUE",
                provider.name, reference.name, reference.key, reference.name, reference.key
            ));
        }
    }
    if lines.is_empty() { Ok(()) } else { Err(Failure::refused(lines.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("5s", 5), ("1m", 60), ("24h", 86400), ("90d", 90 * 86400), ("2w", 14 * 86400), ("1h30m", 5400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "x", "-5s", "5y", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
