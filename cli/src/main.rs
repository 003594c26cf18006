//! The program `composable`: the commands of operators on any store.

use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use composable_rust::StoreUrl;
use composable_rust_cli::{Admin, CliError, Documentation, Operations, StoreOperations, operator};
use tracing_subscriber::filter::LevelFilter;

/// Inspect, repair and verify an event store.
///
/// Without the program that writes a store, contents are shown as they are stored. Mount the same
/// commands in your own program to see states and to rehearse repairs.
#[derive(Debug, Parser)]
#[command(name = "composable", version)]
struct Cli {
    /// Event store: `sqlite:PATH` or `postgres://USER@HOST/DATABASE`
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "COMPOSABLE_STORE",
        hide_env_values = true
    )]
    store: Option<StoreUrl>,
    /// Schema of the store in a PostgreSQL database
    #[arg(long, global = true, value_name = "NAME", env = "COMPOSABLE_SCHEMA")]
    schema: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Operations(Operations),
    #[command(flatten)]
    Store(StoreOperations),
    #[command(flatten)]
    Documentation(Documentation),
}

impl Cli {
    /// Returns the store of the arguments.
    fn url(&self) -> Result<StoreUrl, CliError> {
        let usage = |text: &str| CliError::Usage(text.to_owned());
        match (self.store.clone(), self.schema.clone()) {
            (None, _) => Err(usage("say which store, with --store or COMPOSABLE_STORE")),
            (Some(url), None) => Ok(url),
            (Some(StoreUrl::Postgres { url, .. }), schema) => {
                Ok(StoreUrl::Postgres { url, schema })
            }
            (Some(_), Some(_)) => Err(usage("only a PostgreSQL database has schemas")),
        }
    }

    async fn run(self) -> Result<ExitCode, CliError> {
        let url = self.url();
        match self.command {
            Command::Operations(operations) => {
                let store = url?.connect_existing().await?;
                Ok(operations.run(&Admin::of_store(store, operator())?).await)
            }
            Command::Store(operations) => Ok(operations.run(&url?).await),
            Command::Documentation(documentation) => Ok(documentation.run(Self::command())),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .init();
    let cli = Cli::parse();
    cli.run().await.unwrap_or_else(|error| error.report())
}
