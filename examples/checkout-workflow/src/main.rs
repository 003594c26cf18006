//! The command-line program.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use checkout_workflow::cli::Cli;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    // The simulated provider hangs and fails on purpose, so its warnings are left out.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("warn,sqlx::pool=error,composable_rust_runtime::worker::outbox=error")
    });
    let ansi = stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(stderr).init();
    Cli::parse().run().await
}
