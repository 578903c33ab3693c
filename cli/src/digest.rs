//! Digests, in the form in which they are written.

use sha2::{Digest as _, Sha256};

/// Returns the SHA-256 in hexadecimal digits.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    pai_filter::exchange::live_workers::hex(&Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::sha256;

    #[test]
    fn a_digest_is_hexadecimal() {
        assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
