//! The repository's own commands: `cargo xtask test`, `ci`, `postgres`, `bench`, `msrv`.
//!
//! Whatever needs PostgreSQL gets a server of its own from [`server`]; a [`guard`] process takes
//! that server down however this process ends.

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
mod msrv;
mod package_manager;
mod program;
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
