//! `cargo xtask prose`: checks the wording of docs, comments and Markdown files.
//!
//! Three rules: doc summaries are statements rather than indirect questions, phrases of a stop list
//! are absent, and comment lines in Rust have at most 100 columns. Code and string literals are
//! not checked.

mod files;
mod markdown;
mod phrases;
mod report;
mod rules;
mod scanner;
mod summary;

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;

/// Checks the workspace, or one crate, and prints each offence.
///
/// Exits with 1 if there is an offence.
pub(crate) fn run(only: Option<&str>) -> Result<ExitCode> {
    let root = cargo::root();
    let mut report = report::Report::default();
    for source in files::find(&root, only)? {
        rules::check(&source, &source.read(&root)?, &mut report);
    }
    print!("{report}");
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
