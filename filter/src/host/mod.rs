//! The boundary: drives exchanges from the callbacks of a host.
//!
//! The drivers ([`root`], [`stream`], [`attempt`]) are written over [`io::Io`] and know no host. Each adapter implements it for one host
//! and translates callbacks; an adapter decides nothing.

pub mod attempt;
#[cfg(target_os = "wasi")]
mod envoy;
pub mod io;
pub mod root;
pub mod stream;
pub mod streams;
#[cfg(test)]
mod tests;

use crate::exchange::environment::Environment;

/// Returns whether this worker is the first of all workers to write `value` under `key` of the shared data.
fn once(env: &Environment<'_>, key: &str, value: &[u8]) -> bool {
    let (current, version) = env.store.get(key);
    current.as_deref() != Some(value) && env.store.set(key, value, version)
}
