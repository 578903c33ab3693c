//! The URL of a provider, parsed.
//!
//! An accepted URL is fit for `:authority` and `:path`: visible ASCII, no credentials, and a path without `..` or `//`. An error
//! never repeats an endpoint, because it may contain credentials.

use std::net::Ipv6Addr;

use crate::policy::Endpoint;

use super::invalid::Reason;

/// The longest endpoint, in bytes.
const MAX_BYTES: usize = 2048;
/// The path of an endpoint that has none.
const DEFAULT_PATH: &str = "/v1";

/// Reads `http(s)://host[:port][/path]`.
pub(super) fn parse(url: &str) -> Result<Endpoint, Reason> {
    if url.len() > MAX_BYTES || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("must be visible ASCII, at most {MAX_BYTES} characters").into());
    }
    let Some(rest) = strip_scheme(url) else {
        return Err("must begin with http:// or https://".into());
    };
    if rest.contains(['?', '#']) {
        return Err("must not have a query or a fragment".into());
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    check_authority(authority)?;
    Ok(Endpoint { url: url.into(), authority: authority.into(), base_path: base_path(path)?.into() })
}

fn strip_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    known.then_some(rest)
}

fn check_authority(authority: &str) -> Result<(), Reason> {
    if authority.contains('@') {
        return Err("must not contain credentials; use apiKeySecretRef".into());
    }
    let (host, port) = split_port(authority);
    if !is_host(host) {
        return Err("must name a host: a DNS name, an IPv4 address or an IPv6 address in brackets".into());
    }
    if !port.is_none_or(is_port) {
        return Err("must have a port from 1 to 65535, or none".into());
    }
    Ok(())
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_brackets = authority.rfind(']').unwrap_or(0);
    match authority.rfind(':') {
        Some(colon) if colon >= after_brackets => {
            let (host, port) = authority.split_at(colon);
            (host, port.strip_prefix(':'))
        }
        _ => (authority, None),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(inner)
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    labels.len() <= 253 && labels.split('.').all(is_label)
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn base_path(path: &str) -> Result<&str, Reason> {
    if path.is_empty() {
        return Ok(DEFAULT_PATH);
    }
    if path.contains("//") || path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("must not have `//`, `.` or `..` in its path".into());
    }
    if !path.bytes().all(is_path_byte) {
        return Err("must not have quotes, brackets, backslashes or `%` in its path".into());
    }
    Ok(path.strip_suffix('/').unwrap_or(path))
}

/// `pchar` of RFC 3986 and `/`, without `%`: an encoded path would be compared and routed by two spellings.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte)
}
