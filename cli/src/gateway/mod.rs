//! The running Envoy of a gateway: what it says about itself, and how a new configuration gets into force.

mod access_log;
mod admin;
mod control;
mod drift;
mod envoy_binary;
mod probe;
mod process;
mod rendering;
mod rollout;

pub use admin::Admin;
pub use control::{CallerStatus, Control, ModelProviderStatus};
pub use drift::Drift;
pub use envoy_binary::EnvoyBinary;
pub use probe::{Finding, probe};
pub use process::{EnvoyProcess, Start};
pub use rendering::{Rendering, max_request_bytes};
pub use rollout::{Applied, apply};

use std::fs;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::directory::GatewayDirectory;

/// A gateway that runs.
#[derive(Debug)]
pub struct Running {
    /// Its control listener.
    pub control: Control,
    /// Its admin port.
    pub admin: Admin,
    /// What it was started with.
    pub settings: Settings,
}

/// What a gateway was started with, and only a restart changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The URL for clients, without a path.
    pub url: String,
    /// The largest request body that its buffers hold, in bytes.
    pub max_request_bytes: u64,
    /// The version of Envoy, `1.40.0`.
    pub envoy: String,
}

// === impl Running ===

impl Running {
    /// Finds the gateway of a directory; `None` if none answers.
    pub fn find(directory: &GatewayDirectory) -> Option<Self> {
        let control = Control::new(&directory.control_socket())?;
        control.status().ok()?;
        let admin = Admin::new(fs::read_to_string(directory.admin_address()).ok()?.trim());
        Some(Self { control, admin, settings: Settings::read(directory)? })
    }
}

// === impl Settings ===

impl Settings {
    /// Reads the settings from the bootstrap, where they are metadata of the node.
    pub fn read(directory: &GatewayDirectory) -> Option<Self> {
        let bootstrap: Value = serde_json::from_slice(&fs::read(directory.bootstrap()).ok()?).ok()?;
        serde_json::from_value(bootstrap.pointer("/node/metadata/pai")?.clone()).ok()
    }

    /// Writes the settings into a bootstrap.
    pub fn write(&self, bootstrap: &mut Value) {
        if let Some(node) = bootstrap.get_mut("node").and_then(Value::as_object_mut) {
            node.insert("metadata".to_owned(), json!({ "pai": self }));
        }
    }
}
