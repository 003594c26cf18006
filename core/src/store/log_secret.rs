//! The secret of a log.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The secret of a log. It authenticates what leaves the service and must come back.
///
/// It is created with the log, stored in the log's row, and the same in every process of the
/// service. It never leaves the database, since a process that knows it can forge replies to this
/// service's requests, and `Debug` does not print it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogSecret([u8; 32]);

impl LogSecret {
    /// Creates a secret from these bytes, which must be random.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the authentication code of `parts`: HMAC-SHA-256, cut to its first 16 bytes.
    ///
    /// Codes for different purposes are unrelated. No two lists of parts have the same input,
    /// because each part is preceded by its length.
    pub fn code(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 16] {
        let whole = self.mac(purpose, parts).finalize().into_bytes();
        let mut code = [0; 16];
        code.copy_from_slice(&whole[..16]);
        code
    }

    /// Returns `true` if `code` is the code of `parts`. It takes the same time for every wrong
    /// code.
    pub fn verifies(&self, purpose: &str, parts: &[&[u8]], code: &[u8; 16]) -> bool {
        self.mac(purpose, parts).verify_truncated_left(code).is_ok()
    }

    fn mac(&self, purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for LogSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_of_its_purpose_its_parts_and_its_secret() {
        let secret = LogSecret::new([7; 32]);
        let code = secret.code("a", &[b"bc", b"d"]);
        assert_eq!(code, secret.code("a", &[b"bc", b"d"]));
        assert!(secret.verifies("a", &[b"bc", b"d"], &code));
        for other in [
            secret.code("ab", &[b"c", b"d"]),
            secret.code("a", &[b"b", b"cd"]),
            secret.code("a", &[b"bcd"]),
            secret.code("a", &[b"bc", b"d", b""]),
            LogSecret::new([8; 32]).code("a", &[b"bc", b"d"]),
        ] {
            assert_ne!(code, other);
            assert!(!secret.verifies("a", &[b"bc", b"d"], &other));
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", LogSecret::new([7; 32])), "LogSecret(…)");
    }
}
