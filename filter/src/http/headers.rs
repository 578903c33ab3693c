//! Request and response headers as the host passes them: bytes, in their order.

use std::borrow::Cow;

/// The headers of one message. Names are in lower case.
#[derive(Debug, Clone, Default)]
pub struct Headers<'a>(pub Vec<(&'a [u8], &'a [u8])>);

/// A change to the headers of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Removes the header, all its values.
    Remove(Cow<'static, str>),
    /// Sets the header to this value, in place of all its values.
    Set(&'static str, Cow<'static, str>),
}

// === impl Headers ===

impl<'a> Headers<'a> {
    /// Returns the first value of a header.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Returns every value of a header.
    pub fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a [u8]> + 'b {
        self.0.iter().filter(move |(key, _)| *key == name.as_bytes()).map(|(_, value)| *value)
    }

    /// Returns whether the body is encoded.
    pub fn is_encoded(&self) -> bool {
        self.all("content-encoding")
            .any(|value| !value.trim_ascii().is_empty() && !value.trim_ascii().eq_ignore_ascii_case(b"identity"))
    }

    /// Returns whether the request asks for a protocol upgrade. What follows an upgrade is not a request body, and does not end.
    pub fn is_upgrade(&self) -> bool {
        let mut options = self.all("connection").flat_map(|value| value.split(|&b| b == b','));
        self.get("upgrade").is_some() && options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    }

    /// Returns the status of a response, if it is a number.
    pub fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.get(":status")?).ok()?.parse().ok()
    }

    /// Returns `content-length`, if it is a number.
    pub fn content_length(&self) -> Option<u64> {
        std::str::from_utf8(self.get("content-length")?).ok()?.trim().parse().ok()
    }
}

/// Returns the media type of a `content-type` value in lower case, without its parameters.
pub fn media_type(value: &[u8]) -> Vec<u8> {
    without_parameters(value).trim_ascii().to_ascii_lowercase()
}

/// Returns whether vLLM accepts a `content-type` value as JSON. It does not trim white space before the parameters.
pub fn is_json_for_vllm(value: &[u8]) -> bool {
    without_parameters(value).eq_ignore_ascii_case(b"application/json")
}

fn without_parameters(value: &[u8]) -> &[u8] {
    value.split(|&b| b == b';').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn encodings_and_media_types_are_told_apart() {
        let encoded = |value: &'static [u8]| Headers(vec![(b"content-encoding", value)]).is_encoded();
        assert!(encoded(b"gzip") && encoded(b"identity, gzip") && encoded(b"\xff"));
        assert!(!encoded(b"identity") && !encoded(b" Identity ") && !encoded(b""));
        let upgrades = |connection: &'static [u8]| Headers(vec![(b"connection", connection), (b"upgrade", b"x")]).is_upgrade();
        assert!(
            upgrades(b"keep-alive, Upgrade")
                && !upgrades(b"keep-alive")
                && !Headers(vec![(b"connection", b"upgrade")]).is_upgrade()
        );
        assert_eq!(media_type(b"Application/JSON ; charset=utf-8"), b"application/json");
        assert_eq!(media_type(b""), b"");
        assert!(is_json_for_vllm(b"Application/json;charset=utf-8") && !is_json_for_vllm(b"application/json ;charset=utf-8"));
    }
}
