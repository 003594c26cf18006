//! Codes that only processes of this service can make, in the form of text.

use composable_rust_core::store::LogSecret;

/// Returns the code of `parts` for a purpose, as 32 hexadecimal digits.
pub(crate) fn seal(secret: &LogSecret, purpose: &str, parts: &[&[u8]]) -> String {
    use std::fmt::Write as _;

    secret.code(purpose, parts).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns `true` if `text` is the code of `parts`. It takes the same time for every wrong code.
pub(crate) fn is_sealed(secret: &LogSecret, purpose: &str, parts: &[&[u8]], text: &str) -> bool {
    code(text).is_some_and(|code| secret.verifies(purpose, parts, &code))
}

fn code(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut code = [0; 16];
    for (byte, n) in code.iter_mut().zip(0..) {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(code)
}
