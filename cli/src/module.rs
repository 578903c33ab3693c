//! The filter module that Envoy runs. Release builds contain it; other builds read it when it is needed.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// Returns the module.
#[cfg(pai_embeds_module)]
#[expect(clippy::unnecessary_wraps, reason = "other builds can fail")]
pub fn bytes() -> Result<Cow<'static, [u8]>, Failure> {
    Ok(Cow::Borrowed(include_bytes!(concat!(env!("OUT_DIR"), "/pai_filter.wasm"))))
}

/// Returns the module.
#[cfg(not(pai_embeds_module))]
pub fn bytes() -> Result<Cow<'static, [u8]>, Failure> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/wasm32-wasip1/release/pai_filter.wasm");
    let file = std::env::var_os("PAI_FILTER_WASM").unwrap_or_else(|| built.into());
    let missing = |error| {
        Failure::refused(format!("no filter module at {}: {error}\n  Run scripts/build, or set PAI_FILTER_WASM", file.display()))
    };
    std::fs::read(&file).map(Cow::Owned).map_err(missing)
}

/// Returns the digest of a module, in hexadecimal digits.
pub fn sha256(module: &[u8]) -> String {
    Sha256::digest(module).iter().map(|byte| format!("{byte:02x}")).collect()
}
