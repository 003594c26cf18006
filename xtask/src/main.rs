//! The repository's own commands: `cargo xtask test`, `ci`, `postgres`, `kafka`, `bench`, `msrv`,
//! `prose`.
//!
//! Whatever needs PostgreSQL gets a server of its own from [`server`], whatever needs Kafka a broker
//! from [`kafka`]; a [`guard`] process takes them down however this process ends.

mod account;
mod bench;
mod binaries;
mod cargo;
mod ci;
mod cli;
mod cluster;
mod compiler;
mod container;
mod duty;
mod guard;
mod jars;
mod kafka;
mod kraft;
mod msrv;
mod package_manager;
mod program;
mod prose;
mod server;
mod session;
mod signals;
mod status;
mod suite;
mod target;
mod version;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
