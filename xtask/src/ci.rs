//! `cargo xtask ci`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Result, bail};

use crate::session::Session;
use crate::{cargo, compiler, deploy, program, test};

/// Runs all checks and stops at the first that fails.
pub(crate) fn run() -> Result<ExitCode> {
    compiler::require()?;
    let session = Session::start()?;
    for mut check in [formatting(), cargo_with(&["xtask", "prose"]), lints(), docs()] {
        step(&mut check, |check| session.run(check))?;
    }
    heading("PostgreSQL and Kafka");
    let (server, kafka) = test::provision(session)?;
    let mut tests = test::command(&[]);
    kafka.set_env(&mut tests);
    step(&mut tests, |tests| server.run(tests))?;
    let session = server.session();
    heading("deploy");
    deploy::check(session, false)?;
    if cargo::has_subcommand("deny") {
        step(&mut licences(), |check| session.run(check))?;
    } else {
        skipped("cargo deny check", "cargo install cargo-deny --locked");
    }
    if !cargo::root().join("docs/book.toml").exists() {
        return Ok(ExitCode::SUCCESS);
    }
    if program::find("mdbook").is_some() {
        step(&mut book(), |check| session.run(check))?;
    } else {
        skipped("mdbook build", "cargo install mdbook --locked");
    }
    Ok(ExitCode::SUCCESS)
}

fn formatting() -> Command {
    cargo_with(&["fmt", "--all", "--check"])
}

fn lints() -> Command {
    let mut command =
        cargo_with(&["clippy", "--workspace", "--all-targets", "--all-features", "--locked"]);
    command.args(["--", "-D", "warnings"]);
    command
}

fn docs() -> Command {
    let mut command =
        cargo_with(&["doc", "--workspace", "--all-features", "--no-deps", "--locked"]);
    let mut flags = env::var_os("RUSTDOCFLAGS").unwrap_or_default();
    flags.push(" -D warnings");
    command.env("RUSTDOCFLAGS", flags);
    command
}

/// Returns the check of licences and sources.
///
/// It does not check advisories: their database is not always reachable, and a new advisory must
/// not fail an unrelated change.
fn licences() -> Command {
    cargo_with(&["deny", "check", "bans", "licenses", "sources"])
}

fn book() -> Command {
    let mut command = Command::new("mdbook");
    command.arg("build").arg(cargo::root().join("docs"));
    command.arg("--dest-dir").arg(cargo::root().join("target/book"));
    command
}

fn cargo_with(args: &[&str]) -> Command {
    let mut command = cargo::cargo();
    command.args(args);
    command
}

fn step(command: &mut Command, run: impl FnOnce(&mut Command) -> Result<ExitStatus>) -> Result<()> {
    let line = command_line(command);
    heading(&line);
    let status = run(command)?;
    if !status.success() {
        bail!("failed ({status}): {line}");
    }
    Ok(())
}

fn skipped(step: &str, install: &str) {
    heading(step);
    println!("skipped: not installed ({install})");
}

fn heading(text: &str) {
    println!("\n==> {text}");
}

/// Returns the command line, with the program's name instead of its path.
fn command_line(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program);
    let args = command.get_args().map(OsStr::to_os_string).collect::<Vec<OsString>>();
    format!("{name} {}", args.join(OsStr::new(" ")).to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_is_the_command_line() {
        let mut command = Command::new("/opt/toolchain/bin/cargo");
        command.args(["clippy", "--", "-D", "warnings"]);
        assert_eq!(command_line(&command), "cargo clippy -- -D warnings");
    }
}
