//! Where a provider is: the host, the port, and whether it uses TLS.

use std::net::{IpAddr, Ipv6Addr};

/// The parts of an endpoint that Envoy needs. The path is the filter's to rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) is_tls: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

// === impl Endpoint ===

impl Endpoint {
    /// Parses `http(s)://host[:port][/path]`, which has been validated.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let is_tls = scheme.eq_ignore_ascii_case("https");
        let (host, port) = split_port(authority);
        let default = if is_tls { 443 } else { 80 };
        let port = port.map_or(Some(default), |port| port.parse().ok())?;
        Some(Self { is_tls, host: canonical(host), port })
    }

    /// Returns the address, if the host is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Returns the name as it is in certificates and in TLS handshakes.
    pub(super) fn server_name(&self) -> String {
        let name = self.host.to_ascii_lowercase();
        name.strip_suffix('.').map_or(name.clone(), str::to_owned)
    }
}

/// Splits a port off, which follows the last colon outside of brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Removes the brackets of an IPv6 address, and writes it in its shortest form.
fn canonical(host: &str) -> String {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok());
    address.map_or_else(|| host.to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let cases = [
            ("http://127.0.0.1:8000/v1", (false, "127.0.0.1", 8000)),
            ("http://vllm.test", (false, "vllm.test", 80)),
            ("HTTPS://api.openai.com/v1", (true, "api.openai.com", 443)),
            ("https://[::1]:8443/v1", (true, "::1", 8443)),
            ("http://[2001:DB8:0:0::1]", (false, "2001:db8::1", 80)),
            ("http://localhost:8000", (false, "localhost", 8000)),
        ];
        for (url, (is_tls, host, port)) in cases {
            assert_eq!(Endpoint::parse(url), Some(Endpoint { is_tls, host: host.to_owned(), port }), "{url}");
        }
    }

    #[test]
    fn a_server_name_is_as_in_certificates() {
        assert_eq!(Endpoint::parse("https://API.Test./v1").unwrap().server_name(), "api.test");
    }
}
