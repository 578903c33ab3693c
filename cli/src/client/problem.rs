//! Why a request to a gateway failed, in plain words.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as TlsError};

use super::GatewayUrl;
use crate::failure::{Failure, innermost};

/// Explains an error below HTTP: the gateway was not reached, or its answer broke off.
pub fn unreachable(url: &GatewayUrl, error: &reqwest::Error) -> Failure {
    let (what, advice) = explain(url, error);
    Failure::unreachable(format!("the gateway {url} cannot be reached: {what}\n  {advice}"))
}

fn explain(url: &GatewayUrl, error: &reqwest::Error) -> (String, String) {
    if let Some(error) = find::<TlsError>(error) {
        return explain_tls(url, error);
    }
    let is_running = "Check the URL, and that the gateway runs; `pai gateway run` starts one on this machine".to_owned();
    let reason = innermost(error);
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => (format!("nothing listens at {} (connection refused)", url.name()), is_running),
        _ if reason.contains("failed to lookup address") => (
            format!("there is no host called `{}`", url.name()),
            "Check the URL, and that this machine is in the right network or VPN".to_owned(),
        ),
        _ if error.is_timeout() => ("it did not answer in time".to_owned(), is_running),
        _ => (reason, is_running),
    }
}

fn explain_tls(url: &GatewayUrl, error: &TlsError) -> (String, String) {
    let untrusted = "Name the certificate authority with --ca-cert FILE, or in the environment variable SSL_CERT_FILE";
    let (what, advice) = match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            ("its certificate is not from an authority that this machine trusts", untrusted)
        }
        TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ("its certificate has expired", "The operator of the gateway has to renew it. Check the clock of this machine too")
        }
        TlsError::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            ("its certificate is not valid yet", "Check the clock of this machine")
        }
        TlsError::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            ("its certificate is for another host name", "Use the host name that the certificate is for")
        }
        TlsError::InvalidMessage(_) => {
            return (format!("the server at {} does not use TLS", url.name()), format!("Try http://{}", url.name()));
        }
        TlsError::InvalidCertificate(_) => return (format!("its certificate is not accepted: {error}"), untrusted.to_owned()),
        _ => return (format!("the TLS handshake failed: {error}"), "Check that the URL is that of the gateway".to_owned()),
    };
    (what.to_owned(), advice.to_owned())
}

/// Returns the first error of this type among an error and its causes. An I/O error hides the error that it was made from.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}
