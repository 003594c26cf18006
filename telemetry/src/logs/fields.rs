//! The fields of log lines.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Returns `true` if a field is there for traces only.
pub(super) fn is_of_traces(name: &str) -> bool {
    ["otel.", "messaging.", "db."].iter().any(|prefix| name.starts_with(prefix))
}

/// Writes fields as `tracing_subscriber` does, without those of traces, and on one line: a text
/// from outside, such as the error of a gateway, cannot forge a line or control a terminal.
#[derive(Debug)]
pub(crate) struct LogFields;

impl<'w> FormatFields<'w> for LogFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, is_first: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_err() || is_of_traces(field.name()) {
            return;
        }
        let space = if std::mem::take(&mut self.is_first) { "" } else { " " };
        let mut escaped = Escaped(&mut self.writer);
        self.result = match field.name() {
            "message" => write!(escaped, "{space}{value:?}"),
            name => write!(escaped, "{space}{name}={value:?}"),
        };
    }
}

/// Writes control characters as Rust's literals do, such as `\n`.
struct Escaped<W>(W);

impl<W: fmt::Write> fmt::Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut start = 0;
        for (at, found) in text.match_indices(char::is_control) {
            self.0.write_str(&text[start..at])?;
            write!(self.0, "{}", found.escape_default())?;
            start = at + found.len();
        }
        self.0.write_str(&text[start..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_as_escapes() {
        let mut text = String::new();
        let mut escaped = Escaped(&mut text);
        escaped.write_str("é\n\u{1b}[2J").and_then(|()| escaped.write_str("\t\u{9b}")).unwrap();
        assert_eq!(text, r"é\n\u{1b}[2J\t\u{9b}");
    }
}
