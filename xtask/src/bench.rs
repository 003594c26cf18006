//! `cargo xtask bench`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::kafka::Kafka;
use crate::server::Server;
use crate::session::Session;
use crate::{binaries, cargo, compiler, exit_code};

/// Provisions a PostgreSQL server and a Kafka broker, and runs the benchmarks against them.
///
/// `PGBENCH` is set to the path of `pgbench` if it is installed. If the server is a throw-away
/// cluster, a second server with slow commits is started.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    compiler::require()?;
    let session = Session::start()?;
    let kafka = Kafka::start(&session)?;
    let mut server = Server::provision(session)?;
    if server.is_cluster() {
        server.add_slow_commit()?;
    }
    let kafka = kafka.wait_until_ready(server.session())?;
    let mut command = cargo::cargo();
    kafka.set_env(&mut command);
    command.arg("bench").args(cargo::scope(args)).args(["--all-features", "--locked"]).args(args);
    match binaries::pgbench() {
        Some(pgbench) => {
            command.env("PGBENCH", pgbench);
        }
        None => {
            println!("pgbench is not installed; running the benchmarks without it as a reference");
        }
    }
    Ok(exit_code::from_status(server.run(&mut command)?))
}
