//! Shared data: values and their versions, common to all workers of one Envoy, changed by compare-and-swap.

use std::cell::RefCell;
use std::collections::HashMap;

/// The host's shared data.
pub trait Store {
    /// The value of `key` and its version; version 0 where there is none.
    fn get(&self, key: &str) -> (Option<Vec<u8>>, u32);
    /// Writes `value` if `key` still has `version` (0: if it still has no value). `false`: somebody else wrote.
    fn set(&self, key: &str, value: &[u8], version: u32) -> bool;
}

/// A store for one thread, in place of a host in tests and measurements.
#[derive(Debug, Default)]
pub struct Memory {
    values: RefCell<HashMap<String, (Vec<u8>, u32)>>,
}

impl Store for Memory {
    fn get(&self, key: &str) -> (Option<Vec<u8>>, u32) {
        match self.values.borrow().get(key) {
            Some((value, version)) => (Some(value.clone()), *version),
            None => (None, 0),
        }
    }

    fn set(&self, key: &str, value: &[u8], version: u32) -> bool {
        let mut values = self.values.borrow_mut();
        let current = values.get(key).map_or(0, |(_, version)| *version);
        if current == version {
            values.insert(key.to_owned(), (value.to_vec(), version + 1));
        }
        current == version
    }
}
