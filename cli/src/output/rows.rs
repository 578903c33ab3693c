//! The tables of `pai get`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::age::human;
use super::table;
use crate::directory::Secret;
use crate::gateway::{Drift, Running};
use crate::manifest::{Kind, Manifest, ManifestSet};

/// What stands for a cap that is not set.
const NO_CAP: &str = "—";

/// Where the cells of manifests are from.
pub struct Rows<'a> {
    /// All manifests.
    pub set: &'a ManifestSet,
    /// The running gateway, if there is one.
    pub running: Option<&'a Running>,
    /// Whether there are more columns.
    pub wide: bool,
}

/// The use of a manifest, from the running gateway.
#[derive(Debug, Default, Clone)]
struct Used {
    today: Option<u64>,
    last: Option<String>,
    drift: Option<Drift>,
}

/// Returns the cells of a manifest.
type Row = fn(&Manifest, &Used) -> Vec<String>;

/// Returns the table of secrets.
pub fn secrets(secrets: &[Secret]) -> table::Rows {
    let row = |secret: &Secret| vec![secret.name.clone(), secret.keys.join(","), age(secret.created)];
    table::Rows { header: vec!["NAME", "KEYS", "AGE"], cells: secrets.iter().map(row).collect() }
}

/// Returns the first word of a line of a table.
pub fn first_cell(line: &str) -> String {
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Returns a line of a table without its last word, which is the age.
pub fn without_last_cell(line: &str) -> String {
    line.trim_end().rsplit_once(' ').map_or(line, |(rest, _)| rest).trim_end().to_owned()
}

/// Returns how long ago a time is, as kubectl prints it.
pub fn age(created: u64) -> String {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    human(now.saturating_sub(created))
}

/// Returns how long ago a time in RFC 3339 is: `5s ago`; empty where there is none.
pub fn ago(time: Option<&str>) -> String {
    time.and_then(seconds).map_or_else(String::new, |time| format!("{} ago", age(time)))
}

/// Reads a time in RFC 3339, in seconds since 1970.
fn seconds(time: &str) -> Option<u64> {
    time.parse::<Timestamp>().ok()?.as_second().try_into().ok()
}

// === impl Rows ===

impl Rows<'_> {
    /// Returns the table of these manifests.
    pub fn of(&self, kind: Kind, manifests: &[&Manifest]) -> table::Rows {
        let used = self.used(kind);
        let (mut header, row): (Vec<&'static str>, Row) = match kind {
            Kind::ModelProvider => (vec!["NAME", "PROVIDER", "ENDPOINT", "MAX/DAY", "LAST USED", "AGE"], provider),
            Kind::Agent => (vec!["NAME", "MODELS", "MAX/DAY", "LAST USED", "AGE"], agent),
            Kind::AccessKey => (vec!["NAME", "MODELS", "MAX/DAY", "EXPIRES", "LAST USED", "AGE"], access_key),
            Kind::Gateway => (vec!["NAME", "AUDIENCE", "ROUTING", "AGE"], gateway),
        };
        let wide = self.wide && kind != Kind::Gateway;
        if wide {
            header.push("USED TODAY");
            header.extend((kind == Kind::ModelProvider).then_some("MODELS"));
        }
        let cells = manifests.iter().map(|manifest| {
            let used = used.get(&manifest.name).cloned().unwrap_or_default();
            let mut cells = row(manifest, &used);
            if wide {
                cells.push(used.today.map_or_else(String::new, |today| today.to_string()));
                cells.extend((kind == Kind::ModelProvider).then(|| used.drift.map(|drift| drift.summary()).unwrap_or_default()));
            }
            cells
        });
        table::Rows { header, cells: cells.collect() }
    }

    fn used(&self, kind: Kind) -> BTreeMap<String, Used> {
        let Some(running) = self.running else { return BTreeMap::new() };
        if kind == Kind::ModelProvider {
            return running
                .control
                .model_providers()
                .unwrap_or_default()
                .into_iter()
                .map(|status| self.of_provider(status))
                .collect();
        }
        let callers = match kind {
            Kind::Agent => running.control.agents(),
            Kind::AccessKey => running.control.access_keys(),
            Kind::ModelProvider | Kind::Gateway => return BTreeMap::new(),
        };
        let used = |caller: crate::gateway::CallerStatus| {
            (caller.name, Used { today: caller.used_today, last: caller.last_used, drift: None })
        };
        callers.unwrap_or_default().into_iter().map(used).collect()
    }

    fn of_provider(&self, status: crate::gateway::ModelProviderStatus) -> (String, Used) {
        let manifest = self.set.get(Kind::ModelProvider, &status.name);
        let drift = manifest.and_then(|manifest| Drift::between(manifest, status.listed.as_deref()?));
        (status.name, Used { today: Some(status.used_today), last: status.last_used, drift })
    }
}

/// Returns when a manifest was last used. The gateway remembers names: a use before the manifest was created was of an earlier one.
fn last_used(manifest: &Manifest, used: &Used) -> String {
    let last = used.last.as_deref().filter(|last| seconds(last).is_some_and(|last| last >= manifest.created));
    ago(last)
}

fn provider(manifest: &Manifest, used: &Used) -> Vec<String> {
    let text = |field| manifest.spec_text(field).to_owned();
    vec![manifest.name.clone(), text("provider"), text("endpoint"), cap(manifest), last_used(manifest, used), age(manifest.created)]
}

fn agent(manifest: &Manifest, used: &Used) -> Vec<String> {
    vec![manifest.name.clone(), models(manifest), cap(manifest), last_used(manifest, used), age(manifest.created)]
}

fn access_key(manifest: &Manifest, used: &Used) -> Vec<String> {
    let expires = match manifest.spec_text("expires") {
        _ if manifest.spec().get("disabled") == Some(&Value::Bool(true)) => "disabled".to_owned(),
        "" => "never".to_owned(),
        time => time.to_owned(),
    };
    vec![manifest.name.clone(), models(manifest), cap(manifest), expires, last_used(manifest, used), age(manifest.created)]
}

fn gateway(manifest: &Manifest, _: &Used) -> Vec<String> {
    let or = |field, default: &str| match manifest.spec_text(field) {
        "" => default.to_owned(),
        text => text.to_owned(),
    };
    vec![manifest.name.clone(), or("audience", "auto"), or("routing", "body"), age(manifest.created)]
}

fn cap(manifest: &Manifest) -> String {
    let cap = manifest.spec().get("maxTokensPerDay").and_then(Value::as_f64);
    cap.map_or_else(|| NO_CAP.to_owned(), |cap| format!("{cap:.0}"))
}

fn models(manifest: &Manifest) -> String {
    let models = manifest.spec().get("models").and_then(Value::as_array);
    let models: Vec<&str> = models.into_iter().flatten().filter_map(Value::as_str).collect();
    if models.is_empty() { "*".to_owned() } else { models.join(",") }
}
