//! The credential of an attempt where the proxy has it (`credentials: proxy`).
//!
//! Envoy's `credential_injector` in the provider's cluster writes the bare secret into a header of its own. The attempt filter, which comes
//! next, moves it into the header of the API. All attempts of a request share one header map, so that each of them first removes what the
//! one before may have left: otherwise one provider's credential would reach another.

use std::borrow::Cow;

use crate::http::headers::HeaderEdit;
use crate::openai::Operation;
use crate::policy::{Credentials, Policy, Provider, ProviderCredential};

/// The header into which the proxy writes the secret.
pub const INJECTED: &str = "x-pai-credential";

/// The headers in which APIs expect a credential.
pub const HEADERS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

/// A provider needs a credential, and the proxy has added none that is a header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingCredential;

/// Returns the header, and its value, in which the API of this operation expects the credential `secret`.
fn header(operation: Operation, secret: &str) -> (&'static str, String) {
    match operation {
        Operation::Chat | Operation::TextCompletion | Operation::Embeddings => ("authorization", format!("Bearer {secret}")),
    }
}

/// Returns the edits to the headers of an attempt at `provider`. `injected` returns the value of [`INJECTED`]; it is called only for a
/// provider whose credential the proxy adds.
pub fn edits(
    policy: &Policy,
    provider: &Provider,
    operation: Operation,
    injected: &dyn Fn() -> Option<Vec<u8>>,
) -> Result<Vec<HeaderEdit>, MissingCredential> {
    // A cluster may still have the injector of a configuration before.
    let mut edits = vec![remove(INJECTED)];
    if policy.gateway.credentials == Credentials::Environment {
        return Ok(edits);
    }
    let credential = match provider.credential {
        ProviderCredential::Proxy => {
            let secret = injected().and_then(secret).ok_or(MissingCredential)?;
            Some(header(operation, &secret))
        }
        ProviderCredential::None | ProviderCredential::Filter(_) => None,
    };
    let own = credential.as_ref().map(|(name, _)| *name);
    edits.extend(HEADERS.into_iter().filter(|name| Some(*name) != own).map(remove));
    edits.extend(credential.map(|(name, value)| HeaderEdit::Set(name, value.into())));
    Ok(edits)
}

/// Returns the secret in a header value. A file that contains it may end with a line break.
fn secret(value: Vec<u8>) -> Option<String> {
    let secret = String::from_utf8(value).ok()?.trim().to_owned();
    (!secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic())).then_some(secret)
}

fn remove(name: &'static str) -> HeaderEdit {
    HeaderEdit::Remove(Cow::Borrowed(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_secret_is_one_visible_word() {
        for (value, expected) in [
            (&b"sk-1"[..], Some("sk-1")),
            (b" sk-1\r\n", Some("sk-1")),
            (b"", None),
            (b"\n", None),
            (b"a b", None),
            (b"a\r\nx-evil: 1", None),
            ("schl\u{fc}ssel".as_bytes(), None),
            (b"\xff", None),
        ] {
            assert_eq!(secret(value.to_vec()).as_deref(), expected, "{value:?}");
        }
    }
}
