//! `cargo xtask bench`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::kafka::Kafka;
use crate::server::Server;
use crate::session::Session;
use crate::{binaries, cargo, compiler, status};

/// Runs the benchmarks against a server and a broker provisioned for them, with `PGBENCH` naming the
/// reference client where there is one; beside a cluster of our own, one with slow commits too.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    compiler::require()?;
    let session = Session::start()?;
    let kafka = Kafka::begin(&session)?;
    let mut server = Server::provision(session)?;
    if server.is_cluster() {
        server.add_slow_commit()?;
    }
    let kafka = kafka.wait_until_ready(server.session())?;
    let mut command = cargo::cargo();
    kafka.set(&mut command);
    command.arg("bench").args(cargo::scope(args)).args(["--all-features", "--locked"]).args(args);
    match binaries::pgbench() {
        Some(pgbench) => {
            command.env("PGBENCH", pgbench);
        }
        None => println!("pgbench is not installed: the benchmarks run without that reference"),
    }
    Ok(status::exit_code(server.run(&mut command)?))
}
