//! Envoy's shared data: common to all workers, and to all VMs of one `vm_id`.

use proxy_wasm::hostcalls;

use super::hostcalls::Envoy;
use crate::store::Store;

impl Store for Envoy {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, u32) {
        let (value, version) = hostcalls::get_shared_data(key).unwrap_or_default();
        (value, version.unwrap_or(0))
    }

    fn set(&self, key: &str, value: &[u8], version: u32) -> bool {
        // Version 0 means "whatever is there" to the host. A key that is not there accepts any other version, and one that is does not
        // accept this one, which the host reaches after four billion writes.
        let version = if version == 0 { u32::MAX } else { version };
        hostcalls::set_shared_data(key, Some(value), Some(version)).is_ok()
    }
}
