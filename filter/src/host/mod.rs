//! The boundary: what drives an exchange from the callbacks of a host.

#[cfg(target_os = "wasi")]
mod envoy;
