//! Texts that are printed as they read: without characters that command a terminal or reverse the
//! order of what is seen.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns a text in one line: line breaks and tabs become spaces, other characters that a terminal
/// obeys are escaped.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c, text| match c {
        '\n' | '\r' | '\t' => text.push(' '),
        _ => push_rust(c, text),
    })
}

/// Returns a text of several lines, in which characters that a terminal obeys are escaped.
pub(crate) fn block(text: &str) -> Cow<'_, str> {
    escaped(text, |c, text| match c {
        '\n' => text.push(c),
        _ => push_rust(c, text),
    })
}

/// Returns JSON text with the same value, in which characters that a terminal obeys are escaped.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    escaped(text, |c, text| match c {
        '\n' => text.push(c),
        // Within a string, and in the basic plane, as all of them are.
        _ => _ = write!(text, "\\u{:04x}", u32::from(c)),
    })
}

fn push_rust(c: char, text: &mut String) {
    _ = write!(text, "{}", c.escape_unicode());
}

fn escaped(text: &str, mut push: impl FnMut(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut found = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) { push(c, &mut found) } else { found.push(c) }
    }
    Cow::Owned(found)
}

/// Returns `true` for control characters, such as escape and its form in one character, U+009B, and
/// for those that change the direction of a text.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_a_text() {
        let text = "a\x1b]52;c;x\x07\u{9b}2J\x7f\u{202e}b\tc\nd é";
        assert_eq!(line(text), r"a\u{1b}]52;c;x\u{7}\u{9b}2J\u{7f}\u{202e}b c d é");
        assert_eq!(block(text), "a\\u{1b}]52;c;x\\u{7}\\u{9b}2J\\u{7f}\\u{202e}b\\u{9}c\nd é");
        assert!(matches!(line("order-1 é"), Cow::Borrowed("order-1 é")));
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({ "id": "order-\u{9b}\x7f\u{2066}\x1b", "n": [1] });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let printed = json(&text);
        assert!(!printed.contains(['\u{9b}', '\x7f', '\u{2066}', '\x1b']), "{printed}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value);
    }
}
