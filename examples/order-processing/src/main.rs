//! The command-line program.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use clap::Parser as _;
use order_processing::cli::Cli;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env()
        // An import waits for connections, so the warnings of the pool are left out.
        .unwrap_or_else(|_| EnvFilter::new("warn,sqlx::pool=error"));
    let ansi = stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(stderr).init();
    Cli::parse().run().await
}
