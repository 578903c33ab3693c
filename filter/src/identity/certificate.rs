//! When a certificate expires: the only field that the filter parses itself.

use crate::clock::days_before;

/// The maximum length of a certificate that is read, in bytes of PEM.
const MAX_BYTES: usize = 64 * 1024;

/// DER tags.
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, the version.
const VERSION: u8 = 0xa0;

/// Returns `notAfter` of the first certificate in `pem`, in seconds since 1970; `None` if there is no valid one.
pub fn not_after(pem: &[u8]) -> Option<u64> {
    let der = decode_pem(pem)?;
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version, serialNumber, signature, issuer, validity, … }, … }
    let (mut fields, _) = value(value(&der, SEQUENCE)?.0, SEQUENCE)?;
    if let Some((_, rest)) = value(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = value(fields, tag)?;
    }
    let (validity, _) = value(fields, SEQUENCE)?;
    let (_, rest) = time(validity)?;
    time(rest)?.0
}

/// Decodes the Base64 between the first `BEGIN CERTIFICATE` and `END CERTIFICATE` lines.
fn decode_pem(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok().filter(|text| text.len() <= MAX_BYTES)?;
    let (_, text) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (text, _) = text.split_once("-----END CERTIFICATE-----")?;
    let (mut der, mut bits, mut count) = (Vec::with_capacity(text.len()), 0u32, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            der.push((bits >> count & 0xff).try_into().ok()?);
        }
    }
    Some(der)
}

/// Returns the contents of the DER value at the start of `der` and the bytes after it; `None` if its tag is not `tag`.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    if first < 0x80 {
        return rest.split_at_checked(first.into());
    }
    let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f)).filter(|(length, _)| length.len() <= 4)?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

/// Reads a time, `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280, 4.1.2.5). Returns it with the bytes after it.
fn time(der: &[u8]) -> Option<(Option<u64>, &[u8])> {
    let (text, rest) = value(der, UTC_TIME).or_else(|| value(der, GENERALIZED_TIME))?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, text) = text.split_at_checked(text.len().checked_sub(10)?)?;
    let year: u64 = match (year.len(), year.parse().ok()?) {
        (2, year @ 0..50) => 2000 + year,
        (2, year) => 1900 + year,
        (4, year) => year,
        _ => return None,
    };
    let pair = |at: usize| text.get(at..at + 2)?.parse::<u64>().ok();
    let seconds = (pair(4)? * 60 + pair(6)?) * 60 + pair(8)?;
    Some((days_before(year, pair(0)?, pair(2)?).map(|days| days * 86_400 + seconds), rest))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::rfc3339;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// Two certificates of one Ed25519 key, generated for this test.
    pub const UTC: &str = "-----BEGIN CERTIFICATE-----
MIHNMIGAoAMCAQICAQcwBQYDK2VwMAAwHhcNMjAwMTAxMDAwMDAwWhcNMzEwMjAz
MDQwNTA2WjAAMCowBQYDK2VwAyEANirf7A2rEWqo04bIZWuJ16EF0hInTo43jua8
UJLtBxWjHzAdMBsGA1UdEQEB/wQRMA+GDXNwaWZmZTovL3RkL2EwBQYDK2VwA0EA
8jW2IwNR400JP6ctpP/8YC0ji4k4EU3RIYfCggAR4hb03iEPwPW12RGS0iUuUiq7
eSR1G0m6q6xR1CzJyG4YAg==
-----END CERTIFICATE-----";
    const GENERALIZED: &str = "-----BEGIN CERTIFICATE-----
MIHPMIGCoAMCAQICAQcwBQYDK2VwMAAwIBcNMjAwMTAxMDAwMDAwWhgPMjA2MTAy
MDMwNDA1MDZaMAAwKjAFBgMrZXADIQA2Kt/sDasRaqjThshla4nXoQXSEidOjjeO
5rxQku0HFaMfMB0wGwYDVR0RAQH/BBEwD4YNc3BpZmZlOi8vdGQvYTAFBgMrZXAD
QQCeDEd/6/hP/eAPW3+B5eTM6HUhuR6nIiMd+W7hfBKMdE2Eyoz1gymFyWY1ONFW
lLHLoVVxzXE5NvpzPqpdzUYO
-----END CERTIFICATE-----";

    #[test]
    fn the_end_is_found_in_both_forms() {
        for (pem, end) in [(UTC, "2031-02-03T04:05:06Z"), (GENERALIZED, "2061-02-03T04:05:06Z")] {
            assert_eq!(not_after(pem.as_bytes()).map(rfc3339).as_deref(), Some(end));
        }
    }

    #[test]
    fn nothing_breaks_on_what_is_no_certificate() {
        for pem in ["", "x", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"] {
            assert_eq!(not_after(pem.as_bytes()), None);
        }
        let bytes = UTC.as_bytes();
        for at in 0..bytes.len() {
            for byte in [b'A', b'/', b'z', b'-', b'\n', 0xff] {
                let mut broken = bytes.to_vec();
                broken[at] = byte;
                not_after(&broken);
            }
            assert!(not_after(&bytes[..at]).is_none(), "cut at {at}");
        }
        for der in [[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff].as_slice(), &[SEQUENCE, 0x82, 1], &[SEQUENCE, 0x89, 0, 0], &[SEQUENCE]]
        {
            assert_eq!(value(der, SEQUENCE), None, "{der:?}");
        }
    }
}
