//! Parts of URLs.

use std::fmt::Write as _;

/// Returns a text percent-encoded, so that it can be a segment of a path or a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Returns a query, with its question mark, of the values that are not empty.
pub(crate) fn query(values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in values.iter().filter(|(_, value)| !value.is_empty()) {
        text.push(if text.is_empty() { '?' } else { '&' });
        let _ = write!(text, "{name}={}", encoded(value));
    }
    text
}

/// Returns `true` if a text is a path of the console and leads nowhere else.
///
/// Browsers read a backslash as a slash, and skip tabs and line breaks.
pub(crate) fn is_own_path(text: &str) -> bool {
    let is_unusual = |character: char| character == '\\' || character.is_control();
    text.starts_with('/') && !text.starts_with("//") && !text.contains(is_unusual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_part_of_a_url() {
        assert_eq!(encoded("order-a/b?c=d&e#f é"), "order-a%2Fb%3Fc%3Dd%26e%23f%20%C3%A9");
        assert_eq!(query(&[("a", "1&2"), ("b", ""), ("c", "x")]), "?a=1%262&c=x");
        assert_eq!(query(&[("b", "")]), "");
    }
}
