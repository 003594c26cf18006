//! `cargo xtask load`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::kafka::Kafka;
use crate::server::Server;
use crate::session::Session;
use crate::{cargo, compiler, exit_code};

/// Provisions a PostgreSQL server and a Kafka broker, and runs the load of the example
/// `production-ready` with them, as three services.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    compiler::require()?;
    let session = Session::start()?;
    let mut build = cargo::cargo();
    build.args(["build", "--release", "--locked", "-p", "production-ready"]);
    if !session.run(&mut build)?.success() {
        bail!("failed to build the example");
    }
    let kafka = Kafka::start(&session)?;
    let server = Server::provision(session)?;
    let kafka = kafka.wait_until_ready(server.session())?;
    let mut load = Command::new(cargo::target().join("release/production-ready"));
    kafka.set_env(&mut load);
    load.arg("load").args(args);
    Ok(exit_code::from_status(server.run(&mut load)?))
}
