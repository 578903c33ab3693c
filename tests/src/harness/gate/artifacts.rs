//! Built modules, and installed binaries.

use std::path::{Path, PathBuf};

pub(super) fn built_module() -> PathBuf {
    let path = std::env::var_os("PAI_FILTER_WASM");
    existing(path.map_or_else(|| target("wasm32-wasip1/release/pai_filter.wasm"), PathBuf::from), "scripts/build")
}

/// Returns the module built with test hooks.
pub(super) fn hooked_module() -> PathBuf {
    let path = std::env::var_os("PAI_HOOKED_WASM");
    let path = path.map_or_else(|| target("test-hooks/wasm32-wasip1/release/pai_filter.wasm"), PathBuf::from);
    existing(path, "scripts/test e2e, which builds it")
}

/// Returns a module that `remedy` builds, by its path below `target`.
pub fn built(module: &str, remedy: &str) -> PathBuf {
    existing(target(module), remedy)
}

fn target(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(module)
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| panic!("no module at {}: run {remedy}", path.display()))
}

/// Returns the Envoy binary under test.
pub fn envoy_binary() -> PathBuf {
    let path = std::env::var_os("PAI_ENVOY").map_or_else(|| cached("envoy-1.40.0/envoy"), PathBuf::from);
    assert!(path.is_file(), "no Envoy at {}: run scripts/install-envoy", path.display());
    path
}

/// Returns the directory where the official OpenAI clients are installed.
pub fn installed_clients() -> PathBuf {
    let path = std::env::var_os("PAI_CLIENTS").map_or_else(|| cached("clients"), PathBuf::from);
    assert!(path.join("pins").is_file(), "no clients at {}: run scripts/install-clients", path.display());
    path
}

fn cached(what: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.expect("HOME is set").join("pai").join(what)
}
