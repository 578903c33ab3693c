//! The filter module that Envoy runs. Release builds contain it; other builds read it when it is needed.

use std::borrow::Cow;
use std::path::Path;

use crate::failure::Failure;

/// Returns the module that `PAI_FILTER_WASM` names, or else the one that was built with this program.
pub fn bytes() -> Result<Cow<'static, [u8]>, Failure> {
    match std::env::var_os("PAI_FILTER_WASM") {
        Some(file) => read(Path::new(&file)),
        None => built(),
    }
}

#[cfg(pai_embeds_module)]
#[expect(clippy::unnecessary_wraps, reason = "other builds can fail")]
fn built() -> Result<Cow<'static, [u8]>, Failure> {
    Ok(Cow::Borrowed(include_bytes!(concat!(env!("OUT_DIR"), "/pai_filter.wasm"))))
}

#[cfg(not(pai_embeds_module))]
fn built() -> Result<Cow<'static, [u8]>, Failure> {
    read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/wasm32-wasip1/release/pai_filter.wasm")))
}

fn read(file: &Path) -> Result<Cow<'static, [u8]>, Failure> {
    std::fs::read(file).map(Cow::Owned).map_err(|error| {
        Failure::refused(format!("no filter module at {}: {error}\n  Run scripts/build, or set PAI_FILTER_WASM", file.display()))
    })
}
