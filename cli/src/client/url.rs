//! The URL of a gateway. `https://host`, `https://host/` and `https://host/v1/` are the same gateway.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// The URL of a gateway, without `/v1` and without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GatewayUrl(Url);

/// Why a text is not the URL of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidUrl(String);

// === impl GatewayUrl ===

impl GatewayUrl {
    /// Returns the URL for Anthropic clients and for messages: without `/v1`.
    pub fn base(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// Returns the URL for OpenAI clients: with `/v1`.
    pub fn openai(&self) -> String {
        format!("{}/v1", self.base())
    }

    /// Returns what a login is called by default: the host, and the port if the URL has one.
    pub fn name(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns true for `https`.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns true if the gateway is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback_address = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        is_loopback_address || host == "localhost" || host.ends_with(".localhost")
    }
}

impl FromStr for GatewayUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let text = text.trim();
        if !text.contains("://") {
            return Err(InvalidUrl(format!("the scheme is missing: write `https://{text}`")));
        }
        let url = Url::parse(text).map_err(|error| InvalidUrl(error.to_string()))?;
        Self::try_from(url)
    }
}

impl TryFrom<Url> for GatewayUrl {
    type Error = InvalidUrl;

    fn try_from(mut url: Url) -> Result<Self, InvalidUrl> {
        let refused = |reason: &str| Err(InvalidUrl(reason.to_owned()));
        if !["http", "https"].contains(&url.scheme()) {
            return refused("the scheme is not `https` or `http`");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("it contains a user name or a password: use `--access-key`");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refused("it has a query or a fragment");
        }
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl TryFrom<String> for GatewayUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<GatewayUrl> for String {
    fn from(url: GatewayUrl) -> Self {
        url.base().to_owned()
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base())
    }
}

// === impl InvalidUrl ===

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidUrl {}

#[cfg(test)]
mod tests {
    use super::GatewayUrl;

    #[test]
    fn one_gateway_has_one_url_and_one_name() {
        for (text, base, name) in [
            ("https://api.pairun.dev", "https://api.pairun.dev", "api.pairun.dev"),
            ("https://api.pairun.dev/", "https://api.pairun.dev", "api.pairun.dev"),
            ("https://api.pairun.dev/v1", "https://api.pairun.dev", "api.pairun.dev"),
            ("HTTPS://API.pairun.dev:443/v1/", "https://api.pairun.dev", "api.pairun.dev"),
            ("http://127.0.0.1:8080/v1//", "http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://example.com/llm/v1", "https://example.com/llm", "example.com"),
            ("https://example.com/dev1", "https://example.com/dev1", "example.com"),
            ("http://[::1]:8080", "http://[::1]:8080", "[::1]:8080"),
        ] {
            let url: GatewayUrl = text.parse().unwrap();
            assert_eq!((url.base(), url.name().as_str()), (base, name), "{text}");
            assert_eq!(url.openai(), format!("{base}/v1"), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        for (text, reason) in [
            ("api.pairun.dev", "the scheme is missing: write `https://api.pairun.dev`"),
            ("localhost:8080", "the scheme is missing: write `https://localhost:8080`"),
            ("ftp://a", "the scheme is not `https` or `http`"),
            ("https://u:p@a", "it contains a user name or a password: use `--access-key`"),
            ("https://a?key=b", "it has a query or a fragment"),
            ("https://", "empty host"),
        ] {
            assert_eq!(text.parse::<GatewayUrl>().unwrap_err().to_string(), reason, "{text}");
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        for (text, expected) in [
            ("http://127.8.0.1", true),
            ("http://[::1]:1", true),
            ("http://localhost:8080", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(text.parse::<GatewayUrl>().unwrap().is_loopback(), expected, "{text}");
        }
    }
}
