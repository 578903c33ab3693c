//! Secrets as Envoy reads them: one resource in one file each, which is replaced by a rename.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::digest::sha256;
use crate::failure::Failure;
use crate::manifest::Manifest;

use super::gateway::{Credentials, Settings};
use super::upstream::Upstreams;

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// The folder of these files in a gateway directory.
const FOLDER: &str = "sds";
/// The name of the resource with the listener's certificate.
const CERTIFICATE: &str = "pai.certificate";
/// The longest name of a file that contains the secret's name as it is.
const MAX_STEM_BYTES: usize = 200;

/// A file with a secret's value. It depends on the names alone, so it can be written before a manifest refers to the secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretFile {
    /// The name of the secret.
    pub secret: String,
    /// The key in the secret.
    pub key: String,
    /// What of the value is in the file.
    pub form: SecretForm,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretForm {
    /// The value alone, for a cluster with an attempt filter, which writes the header.
    Raw,
    /// `Bearer` and the value, for the header `authorization`.
    Bearer,
}

// === impl SecretFile ===

impl SecretFile {
    /// Names the file of this key of this secret.
    pub fn new(secret: &str, key: &str, form: SecretForm) -> Self {
        Self { secret: secret.to_owned(), key: key.to_owned(), form }
    }

    /// Returns the files of this key of this secret, in both forms.
    pub fn both(secret: &str, key: &str) -> [Self; 2] {
        [SecretForm::Raw, SecretForm::Bearer].map(|form| Self::new(secret, key, form))
    }

    /// Returns the name of the resource.
    pub fn resource(&self) -> String {
        let stem = format!("{}.{}", encode(&self.secret), encode(&self.key));
        let stem = if stem.len() > MAX_STEM_BYTES { sha256(&stem) } else { stem };
        match self.form {
            SecretForm::Raw => stem,
            SecretForm::Bearer => format!("{stem}.bearer"),
        }
    }

    /// Returns the path of the file in a gateway directory.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(FOLDER).join(format!("{}.json", self.resource()))
    }

    /// Returns the content of the file. `version` is a counter, never made from the value. White space around the value is removed.
    pub fn content(&self, value: &str, version: u64) -> Value {
        let value = value.trim();
        let value = match self.form {
            SecretForm::Raw => value.to_owned(),
            SecretForm::Bearer => format!("Bearer {value}"),
        };
        let secret =
            json!({ "@type": SECRET, "name": self.resource(), "generic_secret": { "secret": { "inline_string": value } } });
        json!({ "version_info": version.to_string(), "resources": [secret] })
    }
}

/// Returns the files that the clusters of these manifests read. Envoy refuses the clusters if one is missing.
pub fn secret_files(manifests: &[Manifest]) -> Result<Vec<SecretFile>, Failure> {
    let settings = Settings::read(manifests, Credentials::Proxy)?;
    let upstreams = Upstreams::read(manifests, &settings)?;
    let references: BTreeSet<_> = upstreams.list.iter().filter_map(|upstream| upstream.secret.as_ref()).collect();
    Ok(references.into_iter().flat_map(|secret| SecretFile::both(&secret.name, &secret.key)).collect())
}

/// Returns the path of the file that names the certificate of the listener.
pub fn certificate_path(directory: &Path) -> PathBuf {
    directory.join(FOLDER).join(format!("{CERTIFICATE}.json"))
}

/// Returns the content of that file: the paths of the chain and of the key. Envoy reads these again whenever a file is moved to one of
/// their folders.
pub fn certificate(chain: &Path, key: &Path) -> Value {
    let secret = json!({
        "@type": SECRET,
        "name": CERTIFICATE,
        "tls_certificate": { "certificate_chain": { "filename": chain }, "private_key": { "filename": key } },
    });
    json!({ "version_info": "1", "resources": [secret] })
}

/// Returns the name of the resource with the certificate of the listener.
pub(super) fn certificate_resource() -> &'static str {
    CERTIFICATE
}

/// Replaces what separates names or has a meaning in paths.
fn encode(name: &str) -> String {
    name.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02x}");
        }
        encoded
    })
}
