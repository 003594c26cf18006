//! `cargo xtask test`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::server::Server;
use crate::session::Session;
use crate::{cargo, compiler, status};

/// Runs the tests against a server provisioned for them.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    compiler::require()?;
    let server = Server::provision(Session::start()?)?;
    Ok(status::exit_code(server.run(&mut command(args))?))
}

/// The one test command of this repository; a server's URL is still to be added.
pub(crate) fn command(args: &[OsString]) -> Command {
    let mut command = cargo::cargo();
    command.arg("test").args(cargo::scope(args)).args(["--all-features", "--locked"]).args(args);
    command
}
