//! Access keys: how developers outside are known.
//!
//! A key is never stored: its SHA-256 is, and a key is looked up by its own. How long that takes depends on the hash of what was
//! sent only, of which whoever guesses keys can choose nothing.

use std::collections::HashMap;
use std::num::NonZeroU64;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::policy::name_pattern::NamePattern;

/// What every access key begins with.
pub const KEY_PREFIX: &[u8] = b"pak_";

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// SHA-256 of a whole key.
pub type KeyHash = [u8; 32];

/// One `AccessKey` manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `metadata.name`
    pub name: Box<str>,
    /// The key's hash.
    pub sha256: KeyHash,
    /// What it is good for; `None`: whatever is open to developers.
    pub models: Option<Box<[ReferencePattern]>>,
    /// Tokens per UTC day.
    pub max_tokens_per_day: Option<NonZeroU64>,
    /// Requests per minute, of whatever kind.
    pub requests_per_minute: Option<NonZeroU64>,
    /// Tokens per minute.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// When it ceases to be good, in seconds since 1970.
    pub expires: Option<u64>,
    /// Whether it is good for nothing at the moment.
    pub disabled: bool,
}

/// Some models of one provider, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePattern {
    /// Index into the policy's providers; `None`: any.
    pub provider: Option<usize>,
    /// The model ids.
    pub model: NamePattern,
}

/// All access keys of a configuration.
#[derive(Debug, Default)]
pub struct AccessKeys {
    list: Vec<AccessKey>,
    /// Places by the first half of the hash.
    places: HashMap<u128, usize>,
}

/// Two manifests are of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The later of the two.
    pub key: usize,
    /// The earlier one.
    pub other: usize,
}

// === impl AccessKey ===

impl AccessKey {
    /// Whether its list has this model of this provider.
    pub fn allows(&self, provider: usize, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|pattern| pattern.matches(provider, model)))
    }

    /// Whether its list names this very model of this provider.
    pub fn lists_exactly(&self, provider: usize, model: &str) -> bool {
        self.exact_models().any(|(place, name)| place == provider && name == model)
    }

    /// The models that stand in its list by themselves.
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
        self.provider.is_none_or(|place| place == provider) && self.model.matches(model)
    }
}

// === impl AccessKeys ===

impl AccessKeys {
    /// Takes in the keys of a configuration. `report` gets each key that two manifests have; the last one is the error.
    pub fn new<E>(list: Vec<AccessKey>, mut report: impl FnMut(DuplicateKey) -> E) -> Result<Self, E> {
        let mut failed = None;
        let mut places = HashMap::with_capacity(list.len());
        for (key, entry) in list.iter().enumerate() {
            // Hashes that have the first half in common are of one key: nobody can make two such keys.
            if let Some(other) = places.insert(first_half(&entry.sha256), key) {
                failed = Some(report(DuplicateKey { key, other }));
            }
        }
        failed.map_or(Ok(Self { list, places }), Err)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The key at this place.
    pub fn get(&self, place: usize) -> Option<&AccessKey> {
        self.list.get(place)
    }

    /// All, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &AccessKey> {
        self.list.iter()
    }

    /// The place of a key, good or not.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        let sha256: KeyHash = Sha256::digest(key).into();
        let place = *self.places.get(&first_half(&sha256))?;
        let known = self.list.get(place)?;
        bool::from(known.sha256.ct_eq(&sha256)).then_some(place)
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
        assert_eq!((keys.find(b"pak_b"), keys.find(b"pak_c"), keys.find(b"")), (Some(1), None, None));
        assert_eq!(keys.find(b"pak_a"), None, "the whole hash counts");
        assert_eq!(keys.find(&[b'a'; MAX_KEY_BYTES + 1]), None);
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
