//! `cargo xtask test`.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::kafka::Kafka;
use crate::package_manager::{Need, PackageManager};
use crate::server::Server;
use crate::session::Session;
use crate::{cargo, compiler, program, status};

/// Runs the tests against a server and a broker provisioned for them.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    compiler::require()?;
    let (server, kafka) = provision(Session::start()?)?;
    let mut tests = command(args);
    kafka.set(&mut tests);
    Ok(status::exit_code(server.run(&mut tests)?))
}

/// What the tests run against. The broker, which takes longer, starts first.
pub(crate) fn provision(session: Session) -> Result<(Server, Kafka)> {
    let kafka = Kafka::begin(&session)?;
    let server = Server::provision(session)?;
    install_pooler(server.session());
    let kafka = kafka.wait_until_ready(server.session())?;
    Ok((server, kafka))
}

/// The tests that need it are skipped where it cannot be had.
fn install_pooler(session: &Session) {
    let is_there =
        program::find("pgbouncer").is_some() || Path::new("/usr/sbin/pgbouncer").is_file();
    if is_there {
        return;
    }
    let Some(manager) = PackageManager::usable() else {
        eprintln!("no PgBouncer is installed here: the tests that need it are skipped");
        return;
    };
    eprintln!("no PgBouncer is installed here: {}", manager.line(Need::Pooler));
    if let Err(error) = manager.install(Need::Pooler, session) {
        eprintln!("xtask: {error:#}; the tests that need it are skipped");
    }
}

/// The one test command of this repository; where the server and the broker are is still to be
/// added.
pub(crate) fn command(args: &[OsString]) -> Command {
    let mut command = cargo::cargo();
    command.arg("test").args(cargo::scope(args)).args(["--all-features", "--locked"]).args(args);
    command
}
