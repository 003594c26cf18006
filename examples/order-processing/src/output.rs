//! Printing to stdout and stderr.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _, stdout};
use std::process::ExitCode;

use anyhow::Context as _;

/// Prints a line to stdout. A closed pipe, as with `| head`, is not an error.
pub(crate) fn print_line(text: &str) -> anyhow::Result<()> {
    match writeln!(stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// Prints an error to stderr as one line, and returns the exit code `status`.
pub(crate) fn print_error(error: &dyn Display, status: u8) -> ExitCode {
    let text = error.to_string();
    eprintln!("error: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    ExitCode::from(status)
}

/// Returns the messages of an error and its causes, without repetitions.
pub(crate) fn error_chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}
