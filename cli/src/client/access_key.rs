//! An access key: `pak_…`. It is not shown in debug output.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest key that is accepted. Keys from `pai create access-key` have 47 characters.
const MAX_LENGTH: usize = 512;

/// A well-formed access key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct AccessKey(String);

/// Why a text is not an access key. It does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidAccessKey {
    /// There is none.
    Empty,
    /// The prefix is missing.
    Prefix,
    /// It has a character that no access key has, or is too long.
    Character,
}

// === impl AccessKey ===

impl AccessKey {
    /// Reads a key. White space around it is removed.
    pub fn parse(text: &str) -> Result<Self, InvalidAccessKey> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidAccessKey::Empty);
        }
        if !text.starts_with("pak_") {
            return Err(InvalidAccessKey::Prefix);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._~:/%+=-".contains(c);
        if text.len() > MAX_LENGTH || !text.chars().all(is_plain) {
            return Err(InvalidAccessKey::Character);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the key itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pak_…")
    }
}

impl TryFrom<String> for AccessKey {
    type Error = InvalidAccessKey;

    fn try_from(text: String) -> Result<Self, InvalidAccessKey> {
        Self::parse(&text)
    }
}

// === impl InvalidAccessKey ===

impl fmt::Display for InvalidAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the access key is empty: use --access-key pak_…, or write the key as one line to stdin",
            Self::Prefix => "this is not an access key: access keys begin with `pak_`",
            Self::Character => {
                "this is not an access key: it has a character that access keys do not have, or is too long. Check what was copied"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{AccessKey, InvalidAccessKey};

    #[test]
    fn only_access_keys_are_accepted() {
        for (text, expected) in [
            ("pak_abc-DEF_019", Ok("pak_abc-DEF_019")),
            (" pak_a\n", Ok("pak_a")),
            ("", Err(InvalidAccessKey::Empty)),
            ("sk-abc", Err(InvalidAccessKey::Prefix)),
            ("pak_a b", Err(InvalidAccessKey::Character)),
            ("pak_'$(id)'", Err(InvalidAccessKey::Character)),
            ("pak_é", Err(InvalidAccessKey::Character)),
        ] {
            assert_eq!(AccessKey::parse(text).as_ref().map(AccessKey::reveal), expected.as_ref().copied(), "{text:?}");
        }
        assert_eq!(AccessKey::parse(&format!("pak_{}", "a".repeat(600))), Err(InvalidAccessKey::Character));
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", AccessKey::parse("pak_secret").unwrap()), "pak_…");
    }
}
