//! Runs the command line.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use checkout_workflow::cli::Cli;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    // That the provider hangs and fails is no news: here it does so on purpose.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("warn,sqlx::pool=error,composable_rust_runtime::work::dispatcher=error")
    });
    let ansi = stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(stderr).init();
    Cli::parse().run().await
}
