//! The repository's own commands: `cargo xtask test`, `ci`, `postgres`, `kafka`, `browser`,
//! `bench`, `load`, `msrv`, `prose`, `deploy`.
//!
//! Commands that need PostgreSQL start a server with [`server`], and commands that need Kafka start
//! a broker with [`kafka`]. A [`reaper`] process stops both, even if this process is killed.

mod bench;
mod binaries;
mod cargo;
mod ci;
mod cleanup;
mod cli;
mod cluster;
mod compiler;
mod container;
mod deploy;
mod exit_code;
mod held_process;
mod kafka;
mod kafka_jars;
mod kafka_process;
mod load;
mod msrv;
mod package_manager;
mod process_target;
mod program;
mod prose;
mod reaper;
mod server;
mod session;
mod signals;
mod test;
mod unprivileged_user;
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
