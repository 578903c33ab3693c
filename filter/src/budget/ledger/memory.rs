//! A store for one thread: what tests and measurements use in place of a host.

use std::cell::RefCell;
use std::collections::HashMap;

use super::Store;

/// Values and versions in a map.
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
