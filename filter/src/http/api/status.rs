//! `GET /pai/v1/status`: the module, its configuration, and the workers that serve it.

use serde::Serialize;

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version of the module.
    pub module_version: &'static str,
    /// The version of the configuration that the answering worker serves: SHA-256 of its text, in hex.
    pub version: String,
    /// When the ledger began, in RFC 3339.
    pub started: String,
    /// `open` where callers without identity or key are admitted, else `closed`.
    pub access: &'static str,
    /// The live workers of this process. Envoy's main thread, which serves no requests, is one of them.
    pub workers: Vec<Worker>,
}

/// One live worker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// The random id of its instance of the filter, in hex.
    pub instance: String,
    /// The version of the configuration that it serves.
    pub version: String,
}
