//! The `Gateway` manifest: what Envoy needs of it, and what it has to contain because of the clusters that are rendered.

use std::collections::BTreeSet;

use pai_filter::policy;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::manifest::{Kind, Manifest, default_gateway};

use super::spec::{self, GatewaySpec};
use super::upstream::{Upstreams, callout_cluster};

/// How the filter gets the providers' credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials {
    /// From environment variables of Envoy.
    Environment,
    /// Envoy adds them to requests, and reads them from files.
    Proxy,
}

/// What Envoy needs of the `Gateway` manifest.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) max_request_bytes: u64,
    /// The providers with an entry in `callouts`.
    pub(super) callouts: BTreeSet<String>,
    /// The header that identifies agents.
    pub(super) identity_header: Option<String>,
}

// === impl Settings ===

impl Settings {
    /// Reads the `Gateway` manifest, if there is one.
    pub(super) fn read(manifests: &[Manifest], credentials: Credentials) -> Result<Self, Failure> {
        let Some(manifest) = find(manifests) else { return Ok(Self::new(GatewaySpec::default())) };
        let spec: GatewaySpec = spec::read(manifest)?;
        credentials.check(manifest, spec.credentials.as_deref())?;
        for (provider, cluster) in spec.callouts.iter().flatten() {
            let expected = callout_cluster(provider);
            if *cluster != expected {
                let field = format!("spec.callouts.{provider}");
                let reason = format!("must be `{expected}`, got `{cluster}`; this cluster is rendered, so remove the entry");
                return Err(spec::refused(manifest, &field, reason));
            }
        }
        Ok(Self::new(spec))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the filter has checked that it is whole and at most 1 GiB"
    )]
    fn new(spec: GatewaySpec) -> Self {
        let default = policy::Gateway::default().max_request_bytes;
        Self {
            max_request_bytes: spec.max_request_bytes.map_or(default, |bytes| bytes as u64),
            callouts: spec.callouts.unwrap_or_default().into_keys().collect(),
            identity_header: spec.identity_header,
        }
    }
}

// === impl Credentials ===

impl Credentials {
    /// Returns the value of `spec.credentials`.
    fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Proxy => "proxy",
        }
    }

    /// Refuses another value than this one.
    fn check(self, manifest: &Manifest, written: Option<&str>) -> Result<(), Failure> {
        let expected = self.name();
        match written {
            Some(written) if written != expected => Err(spec::refused(
                manifest,
                "spec.credentials",
                format!("must be `{expected}` here, got `{written}`; remove the field"),
            )),
            _ => Ok(()),
        }
    }
}

/// Returns the manifests with a `Gateway` that has the callout clusters of all upstreams, and `credentials` where it is not the default.
pub(super) fn complete(manifests: &[Manifest], upstreams: &Upstreams, credentials: Credentials) -> Vec<Value> {
    let mut values: Vec<Value> = manifests.iter().map(|manifest| manifest.value.clone()).collect();
    let at = manifests.iter().position(|manifest| manifest.kind == Kind::Gateway);
    let mut gateway = at.map_or_else(default_gateway, |at| values.remove(at));
    let callouts = upstreams.list.iter().filter(|upstream| upstream.has_callouts);
    let callouts: serde_json::Map<String, Value> =
        callouts.map(|upstream| (upstream.name.clone(), callout_cluster(&upstream.name).into())).collect();
    if let Some(spec) = spec_of(&mut gateway) {
        if !callouts.is_empty() {
            spec.insert("callouts".to_owned(), callouts.into());
        }
        if credentials == Credentials::Proxy {
            spec.insert("credentials".to_owned(), credentials.name().into());
        }
    }
    values.insert(at.unwrap_or(values.len()), gateway);
    values
}

fn find(manifests: &[Manifest]) -> Option<&Manifest> {
    manifests.iter().find(|manifest| manifest.kind == Kind::Gateway)
}

/// Returns `spec`, and adds it where it is missing.
fn spec_of(gateway: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    let spec = gateway.as_object_mut()?.entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = json!({});
    }
    spec.as_object_mut()
}
