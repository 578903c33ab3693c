//! Which web pages may read answers: `Gateway.spec.cors`.

/// The settings of CORS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The origins whose pages may read answers.
    pub origins: Vec<AllowedOrigin>,
    /// The request headers that pages may set, as a header value; `None` allows those that a preflight asks for.
    pub headers: Option<Box<str>>,
    /// How long browsers may remember a preflight, in seconds.
    pub max_age: u64,
}

/// One entry of `allowOrigins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`
    Any,
    /// This origin, its port included.
    Exact(Box<str>),
    /// `https://*.example.com`: one or more labels in place of the `*`.
    Subdomains {
        /// What is before the `*`: `https://`.
        scheme: Box<str>,
        /// What follows it: `.example.com`, with the port if there is one.
        suffix: Box<str>,
    },
}

// === impl Cors ===

impl Cors {
    /// The default of `maxAge`: 10 minutes.
    pub const DEFAULT_MAX_AGE: u64 = 600;

    /// Returns the value of `access-control-allow-origin` for a page of this origin; `None` if it may read nothing. Pages without an
    /// origin of their own (`null`) never may.
    pub fn allow(&self, origin: &[u8]) -> Option<String> {
        let origin = std::str::from_utf8(origin).ok().filter(|origin| !origin.is_empty() && *origin != "null")?;
        if self.allows_any() {
            return Some("*".to_owned());
        }
        self.origins.iter().any(|allowed| allowed.matches(origin)).then(|| origin.to_owned())
    }

    /// Returns whether every page may read answers.
    pub fn allows_any(&self) -> bool {
        self.origins.contains(&AllowedOrigin::Any)
    }
}

// === impl AllowedOrigin ===

impl AllowedOrigin {
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => **exact == *origin,
            Self::Subdomains { scheme, suffix } => {
                let labels = origin.strip_prefix(&**scheme).and_then(|rest| rest.strip_suffix(&**suffix));
                labels.is_some_and(|labels| labels.split('.').all(is_label))
            }
        }
    }
}

/// Returns whether `text` is one label of a host name, as browsers write it.
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn origins_are_compared_whole() {
        let exact = || AllowedOrigin::Exact("https://chat.example.com".into());
        let below = |suffix: &str| AllowedOrigin::Subdomains { scheme: "https://".into(), suffix: suffix.into() };
        for (allowed, origin, expected) in [
            (exact(), "https://chat.example.com", Some("https://chat.example.com")),
            (exact(), "https://chat.example.com:8443", None),
            (exact(), "http://chat.example.com", None),
            (exact(), "https://CHAT.example.com", None),
            (exact(), "https://chat.example.com/", None),
            (exact(), "https://chat.example.com.evil.test", None),
            (exact(), "https://chat.example.com,https://evil.test", None),
            (below(".example.com"), "https://a.example.com", Some("https://a.example.com")),
            (below(".example.com"), "https://a.b-c.example.com", Some("https://a.b-c.example.com")),
            (below(".example.com"), "https://example.com", None),
            (below(".example.com"), "https://.example.com", None),
            (below(".example.com"), "https://a..example.com", None),
            (below(".example.com"), "https://aexample.com", None),
            (below(".example.com"), "https://evil.test/.example.com", None),
            (below(".example.com"), "https://evil.test\\.example.com", None),
            (below(".example.com"), "https://evil.test#.example.com", None),
            (below(".example.com"), "https://user@a.example.com", None),
            (below(".example.com"), "https://evil.test:1.example.com", None),
            (below(".example.com"), "https://a.example.com:8443", None),
            (below(".example.com"), "http://a.example.com", None),
            (below(".example.com:8443"), "https://a.example.com:8443", Some("https://a.example.com:8443")),
            (AllowedOrigin::Any, "https://evil.test", Some("*")),
            (AllowedOrigin::Any, "null", None),
            (AllowedOrigin::Any, "", None),
        ] {
            let cors = Cors { origins: vec![allowed], headers: None, max_age: 1 };
            assert_eq!(cors.allow(origin.as_bytes()).as_deref(), expected, "{cors:?} {origin}");
        }
        let cors = Cors { origins: vec![AllowedOrigin::Any], headers: None, max_age: 1 };
        assert_eq!(cors.allow(b"\xff"), None);
    }
}
