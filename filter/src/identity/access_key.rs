//! Access keys: how developers outside are authenticated.
//!
//! The configuration holds the SHA-256 of a key, never the key. A presented key is hashed and looked up by its hash, so that the time
//! of a lookup reveals nothing that helps in guessing keys.

use std::collections::HashMap;
use std::num::NonZeroU64;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock::Time;
use crate::policy::name_pattern::NamePattern;

/// The prefix of every access key.
pub const KEY_PREFIX: &[u8] = b"pak_";

/// The maximum length of a key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// The SHA-256 of a whole key.
pub type KeyHash = [u8; 32];

/// One `AccessKey` manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `metadata.name`
    pub name: Box<str>,
    /// The hash of the key.
    pub sha256: KeyHash,
    /// The key that this one has replaced, as long as it is valid too.
    pub previous: Option<PreviousKey>,
    /// The models that the key may use; `None` for all that are open to developers.
    pub models: Option<Box<[ReferencePattern]>>,
    /// Tokens per UTC day.
    pub max_tokens_per_day: Option<NonZeroU64>,
    /// Requests per minute, to any endpoint.
    pub requests_per_minute: Option<NonZeroU64>,
    /// Tokens per minute.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// The time from which the key is rejected, in seconds since 1970.
    pub expires: Option<u64>,
    /// Whether the key is rejected at the moment.
    pub disabled: bool,
}

/// A replaced key, which shares the limits of the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousKey {
    /// The hash of the key.
    pub sha256: KeyHash,
    /// The time from which it is rejected, in seconds since 1970.
    pub expires: u64,
}

/// A pattern of models of one provider, or of all providers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePattern {
    /// The index of the provider in the policy; `None` for any.
    pub provider: Option<usize>,
    /// The model ids.
    pub model: NamePattern,
}

/// All access keys of a configuration.
#[derive(Debug, Default)]
pub struct AccessKeys {
    list: Vec<AccessKey>,
    /// Indexes into `list` by the first half of the hash, of previous keys too.
    by_hash: HashMap<u128, usize>,
}

/// Two manifests have the hash of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The index of the later manifest.
    pub key: usize,
    /// The index of the earlier one.
    pub other: usize,
}

/// Why a presented access key is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidAccessKey<'a> {
    /// No manifest has the key's hash.
    Unknown,
    /// The key of this name is disabled.
    Disabled(&'a str),
    /// The key of this name has expired, at this time in seconds since 1970.
    Expired(&'a str, u64),
}

// === impl AccessKey ===

impl AccessKey {
    /// Returns whether the key may use this model of this provider, as far as its own list goes.
    pub fn allows(&self, provider: usize, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|pattern| pattern.matches(provider, model)))
    }

    /// Returns the hashes of the key and of the one that it has replaced.
    fn hashes(&self) -> impl Iterator<Item = &KeyHash> {
        std::iter::once(&self.sha256).chain(self.previous.as_ref().map(|previous| &previous.sha256))
    }

    /// Returns whether the key's list names this model of this provider without a wildcard.
    pub fn lists_exactly(&self, provider: usize, model: &str) -> bool {
        self.exact_models().any(|(index, name)| index == provider && name == model)
    }

    /// Returns the entries of the key's list without a wildcard: the index of the provider, and the model id.
    pub fn exact_models(&self) -> impl Iterator<Item = (usize, &str)> {
        self.models.iter().flatten().filter_map(|pattern| match (&pattern.model, pattern.provider) {
            (NamePattern::Exact(model), Some(provider)) => Some((provider, &**model)),
            _ => None,
        })
    }
}

// === impl ReferencePattern ===

impl ReferencePattern {
    fn matches(&self, provider: usize, model: &str) -> bool {
        self.provider.is_none_or(|index| index == provider) && self.model.matches(model)
    }
}

// === impl AccessKeys ===

impl AccessKeys {
    /// Collects the keys of a configuration. Calls `report` for each key that two manifests have. If there is one, the result of the
    /// last call is the error.
    pub fn new<E>(list: Vec<AccessKey>, mut report: impl FnMut(DuplicateKey) -> E) -> Result<Self, E> {
        let mut failed = None;
        let mut by_hash = HashMap::with_capacity(list.len());
        for (key, entry) in list.iter().enumerate() {
            // Two hashes with the same first half are of the same key: different keys with such hashes cannot be computed.
            for hash in entry.hashes() {
                if let Some(other) = by_hash.insert(first_half(hash), key) {
                    failed = Some(report(DuplicateKey { key, other }));
                }
            }
        }
        failed.map_or(Ok(Self { list, by_hash }), Err)
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the key at this index.
    pub fn get(&self, index: usize) -> Option<&AccessKey> {
        self.list.get(index)
    }

    /// Returns all keys, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &AccessKey> {
        self.list.iter()
    }

    /// Checks a presented key. Returns its index. `now` returns the time; it is called only for keys that expire.
    pub fn authenticate(&self, key: &[u8], now: &dyn Fn() -> Time) -> Result<usize, InvalidAccessKey<'_>> {
        let (index, key, replaced) = self.find(key).ok_or(InvalidAccessKey::Unknown)?;
        if key.disabled {
            return Err(InvalidAccessKey::Disabled(&key.name));
        }
        match [key.expires, replaced].into_iter().flatten().min() {
            Some(end) if now().seconds() >= end => Err(InvalidAccessKey::Expired(&key.name, end)),
            _ => Ok(index),
        }
    }

    /// Returns a key, valid or not, with its index, and the time from which it is rejected where it was replaced.
    fn find(&self, key: &[u8]) -> Option<(usize, &AccessKey, Option<u64>)> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        let sha256: KeyHash = Sha256::digest(key).into();
        let index = *self.by_hash.get(&first_half(&sha256))?;
        let known = self.list.get(index)?;
        if bool::from(known.sha256.ct_eq(&sha256)) {
            return Some((index, known, None));
        }
        let previous = known.previous.filter(|previous| previous.sha256.ct_eq(&sha256).into())?;
        Some((index, known, Some(previous.expires)))
    }
}

fn first_half(sha256: &KeyHash) -> u128 {
    sha256.first_chunk().map_or(0, |half| u128::from_le_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn key(sha256: KeyHash) -> AccessKey {
        AccessKey {
            name: "k".into(),
            sha256,
            previous: None,
            models: None,
            max_tokens_per_day: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            expires: None,
            disabled: false,
        }
    }

    #[test]
    fn keys_are_found_by_their_hashes() {
        let list = ["pak_a", "pak_b"].map(|text| key(Sha256::digest(text).into()));
        let mut half = list[0].clone();
        half.sha256[31] ^= 1;
        let duplicate = AccessKeys::new(vec![list[0].clone(), half.clone()], |duplicate| duplicate).unwrap_err();
        assert_eq!(duplicate, DuplicateKey { key: 1, other: 0 });
        let keys = AccessKeys::new(vec![half, list[1].clone()], |duplicate| duplicate).unwrap();
        let find = |key: &[u8]| keys.find(key).map(|(index, ..)| index);
        assert_eq!((find(b"pak_b"), find(b"pak_c"), find(b"")), (Some(1), None, None));
        assert_eq!(find(b"pak_a"), None, "the whole hash counts");
        assert_eq!(find(&[b'a'; MAX_KEY_BYTES + 1]), None);
    }

    #[test]
    fn a_replaced_key_is_valid_until_its_own_end() {
        let hash = |text: &str| KeyHash::from(Sha256::digest(text));
        let previous = Some(PreviousKey { sha256: hash("pak_old"), expires: 100 });
        let new = AccessKey { previous, expires: Some(200), ..key(hash("pak_new")) };
        let keys = AccessKeys::new(vec![new.clone()], |duplicate| duplicate).unwrap();
        let at = |key: &[u8], seconds: u64| keys.authenticate(key, &|| Time(seconds * 1_000_000_000));
        assert_eq!((at(b"pak_new", 99), at(b"pak_old", 99)), (Ok(0), Ok(0)), "one key, one index, one budget");
        assert_eq!((at(b"pak_new", 100), at(b"pak_old", 100)), (Ok(0), Err(InvalidAccessKey::Expired("k", 100))));
        assert_eq!(at(b"pak_new", 200), Err(InvalidAccessKey::Expired("k", 200)));
        assert_eq!(at(b"pak_other", 0), Err(InvalidAccessKey::Unknown));
        let disabled = AccessKeys::new(vec![AccessKey { disabled: true, ..new.clone() }], |duplicate| duplicate).unwrap();
        assert_eq!(disabled.authenticate(b"pak_old", &|| Time(0)), Err(InvalidAccessKey::Disabled("k")));
        let twice = AccessKeys::new(vec![new, key(hash("pak_old"))], |duplicate| duplicate);
        assert_eq!(twice.unwrap_err(), DuplicateKey { key: 1, other: 0 });
    }

    #[test]
    fn lists_are_patterns_over_references() {
        let pattern = |provider, model| ReferencePattern { provider, model: NamePattern::new(model) };
        let with = |models: Vec<ReferencePattern>| AccessKey { models: Some(models.into()), ..key([0; 32]) };
        for (list, good, bad) in [
            (vec![pattern(None, "*")], vec![(0, "a"), (7, "b/c")], vec![]),
            (vec![pattern(Some(1), "*")], vec![(1, "a"), (1, "b/c")], vec![(0, "a")]),
            (vec![pattern(Some(1), "b/*")], vec![(1, "b/c")], vec![(1, "a"), (0, "b/c")]),
            (vec![pattern(Some(1), "b/c")], vec![(1, "b/c")], vec![(1, "b/cd"), (0, "b/c")]),
            (vec![], vec![], vec![(0, "a")]),
        ] {
            let key = with(list);
            assert!(good.iter().all(|(provider, model)| key.allows(*provider, model)), "{key:?}");
            assert!(bad.iter().all(|(provider, model)| !key.allows(*provider, model)), "{key:?}");
        }
        assert!(key([0; 32]).allows(3, "x"), "no list: all");
        let key = with(vec![pattern(Some(1), "b*"), pattern(Some(1), "c")]);
        assert_eq!(key.exact_models().collect::<Vec<_>>(), [(1, "c")]);
    }
}
