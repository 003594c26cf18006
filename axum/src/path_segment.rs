//! Segments of paths.

use std::fmt::Write as _;

/// Percent-encodes all that has a meaning in paths, and everything that is not ASCII.
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(encode("a-B.9_~"), "a-B.9_~");
        assert_eq!(encode("a/b {c}?ä"), "a%2Fb%20%7Bc%7D%3F%C3%A4");
    }
}
