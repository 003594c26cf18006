//! The command-line program.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use clap::Parser as _;
use order_processing::cli::Cli;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    // An import waits for connections, so the warnings of the pool are left out.
    let default = || {
        Targets::new().with_default(LevelFilter::WARN).with_target("sqlx::pool", LevelFilter::ERROR)
    };
    let chosen = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let ansi = stderr().is_terminal();
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(stderr))
        .with(chosen.unwrap_or_else(default))
        .init();
    Cli::parse().run()
}
