//! `Gateway.spec.cors`.

use crate::policy::{AllowedOrigin, Cors, is_label};

use super::field::Field;
use super::identifier;
use super::invalid::{Reason, Reported};
use super::quote::quoted;

pub(super) const FIELDS: &[&str] = &["allowOrigins", "allowHeaders", "maxAge"];

/// The longest header name, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// The largest value of `maxAge`: one day.
const MAX_AGE: u64 = 24 * 60 * 60;

/// Reads the block.
pub(super) fn read(block: Field<'_>) -> Result<Cors, Reported> {
    let mut block = block.fields(FIELDS)?;
    let origins = block.required("allowOrigins", |list| list.non_empty_list(|entry| entry.text(origin)));
    let headers = block.optional("allowHeaders", |list| list.list(|entry| entry.text(header_name)));
    let max_age = block.optional("maxAge", |field| field.seconds(MAX_AGE));
    Ok(Cors {
        origins: origins?,
        headers: headers?.map(|names| names.join(", ").into()),
        max_age: max_age?.unwrap_or(Cors::DEFAULT_MAX_AGE),
    })
}

fn header_name(text: &str) -> Result<String, Reason> {
    identifier::header_name(text, MAX_NAME_BYTES).map(|()| text.to_ascii_lowercase())
}

fn origin(text: &str) -> Result<AllowedOrigin, Reason> {
    if text == "*" {
        return Ok(AllowedOrigin::Any);
    }
    let invalid = |hint: &str| {
        Reason::from(format!(
            "must be an origin such as https://chat.example.com, https://*.example.com or *, got {}{hint}",
            quoted(text)
        ))
    };
    let (scheme, host) = text.split_once("://").ok_or_else(|| invalid(""))?;
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(invalid("; write it in lower case, as browsers do"));
    }
    let is_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.bytes().all(is_scheme) {
        return Err(invalid(""));
    }
    let (name, port) = split_port(host);
    match (scheme, port) {
        ("https", Some("443")) | ("http", Some("80")) => return Err(invalid("; leave out the default port, as browsers do")),
        (_, Some(port)) if !is_port(port) => return Err(invalid("")),
        _ => {}
    }
    let (is_wildcard, name) = name.strip_prefix("*.").map_or((false, name), |rest| (true, rest));
    let is_address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(is_ipv6);
    if !name.split('.').all(is_label) && (is_wildcard || !is_address) {
        return Err(invalid(if host.contains('/') { "; an origin has no path" } else { "" }));
    }
    Ok(if is_wildcard {
        let suffix = host.strip_prefix('*').unwrap_or(host);
        AllowedOrigin::Subdomains { scheme: format!("{scheme}://").into(), suffix: suffix.into() }
    } else {
        AllowedOrigin::Exact(text.into())
    })
}

/// Splits the port off. The colons of an IPv6 address are within brackets.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0') && text.parse::<u16>().is_ok()
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}
