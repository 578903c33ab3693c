//! Embeds the filter module in release builds. Other builds read it at run time, so that tests and lints need no module.

use std::path::{Path, PathBuf};

const BUILT: &str = "target/wasm32-wasip1/release/pai_filter.wasm";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(pai_embeds_module)");
    println!("cargo::rerun-if-env-changed=PAI_FILTER_WASM");
    if var("PROFILE") != Path::new("release") {
        println!("cargo::rerun-if-changed=build.rs");
        return;
    }
    let module = var("CARGO_MANIFEST_DIR").join("..").join(std::env::var_os("PAI_FILTER_WASM").unwrap_or(BUILT.into()));
    println!("cargo::rerun-if-changed={}", module.display());
    match std::fs::read(&module) {
        Ok(bytes) if bytes.starts_with(b"\0asm") => embed(&bytes),
        Ok(_) => {
            println!("cargo::error={} is not a WebAssembly module: run scripts/build, or set PAI_FILTER_WASM", module.display())
        }
        Err(error) => {
            println!("cargo::error=no filter module at {}: run scripts/build, or set PAI_FILTER_WASM ({error})", module.display())
        }
    }
}

fn embed(module: &[u8]) {
    println!("cargo::rustc-cfg=pai_embeds_module");
    if let Err(error) = std::fs::write(var("OUT_DIR").join("pai_filter.wasm"), module) {
        println!("cargo::error=the filter module cannot be copied: {error}");
    }
}

/// Returns a variable that Cargo sets for build scripts.
fn var(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_default().into()
}
