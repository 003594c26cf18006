//! `cargo xtask test`.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::kafka::Kafka;
use crate::package_manager::{Dependency, PackageManager};
use crate::server::Server;
use crate::session::Session;
use crate::{cargo, compiler, exit_code, program};

/// Provisions a PostgreSQL server and a Kafka broker, and runs the tests against them.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    compiler::require()?;
    let (server, kafka) = provision(Session::start()?)?;
    let mut tests = command(args);
    kafka.set_env(&mut tests);
    Ok(exit_code::from_status(server.run(&mut tests)?))
}

/// Starts the PostgreSQL server and the Kafka broker that the tests need.
///
/// The broker takes longer to become ready, so it is started first.
pub(crate) fn provision(session: Session) -> Result<(Server, Kafka)> {
    let kafka = Kafka::start(&session)?;
    let server = Server::provision(session)?;
    install_pgbouncer(server.session());
    install_browser(server.session());
    let kafka = kafka.wait_until_ready(server.session())?;
    Ok((server, kafka))
}

/// Installs `PgBouncer` if it is missing. If that fails, the tests that need it are skipped.
fn install_pgbouncer(session: &Session) {
    let is_installed =
        program::find("pgbouncer").is_some() || Path::new("/usr/sbin/pgbouncer").is_file();
    if !is_installed {
        install(Dependency::PgBouncer, session);
    }
}

/// Installs Chromium and its driver if they are missing. If that fails, the tests that need them
/// are skipped, or fail where `CI` is set.
pub(crate) fn install_browser(session: &Session) {
    if program::find("chromedriver").is_none() {
        install(Dependency::Browser, session);
    }
}

fn install(dependency: Dependency, session: &Session) {
    let Some(manager) = PackageManager::usable() else {
        eprintln!("{dependency} is not installed; skipping the tests that need it");
        return;
    };
    eprintln!("{dependency} is not installed; running: {}", manager.install_command(dependency));
    if let Err(error) = manager.install(dependency, session) {
        eprintln!("xtask: {error:#}; skipping the tests that need it");
    }
}

/// Returns the `cargo test` command. The caller sets the addresses of the server and the broker.
pub(crate) fn command(args: &[OsString]) -> Command {
    let mut command = cargo::cargo();
    command.arg("test").args(cargo::scope(args)).args(["--all-features", "--locked"]).args(args);
    command
}
