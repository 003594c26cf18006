//! The command line of operators: streams, queues, timers, dead letters, sagas, projections,
//! gateways, verification and repair.
//!
//! [`Operations`] are the commands on a store, for the program `composable` or for your own, whose
//! app decodes what it registers. [`StoreOperations`] are those that need the URL of the store, and
//! [`Documentation`] prints completions and the manual page.
//!
//! # Example: the commands in your own program
//!
//! ```
//! use std::process::ExitCode;
//!
//! use clap::Parser;
//! use composable_rust::App;
//! use composable_rust_cli::{Admin, Operations, operator};
//!
//! #[derive(Parser)]
//! enum Cli {
//!     /// Run the service until Ctrl-C
//!     Serve,
//!     #[command(flatten)]
//!     Operations(Operations),
//! }
//!
//! async fn run(cli: Cli, app: App) -> ExitCode {
//!     match cli {
//!         Cli::Serve => ExitCode::SUCCESS,
//!         Cli::Operations(operations) => operations.run(&Admin::new(&app, operator())).await,
//!     }
//! }
//!
//! # use composable_rust::testing::InMemoryEventStore;
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let cli = Cli::try_parse_from(["shop", "queues", "list", "--json"])?;
//! let app = App::builder(InMemoryEventStore::new()).build()?;
//! assert_eq!(run(cli, app).await, ExitCode::SUCCESS);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod args;
#[cfg(feature = "web-console")]
mod console_server;
mod dead;
mod diagnosis;
mod documentation;
mod error;
mod events;
mod followers;
mod mounted;
mod operations;
mod pauses;
mod place;
mod printable;
mod projections;
mod queues;
mod repair;
mod store_operations;
mod streams;
mod table;
mod terminal;
mod text;
mod timers;
mod trace;
mod verify;
mod workers;

/// The chapter of the book: its snippet is a test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/command-line.md")]
mod book {}

pub use composable_rust_admin::{Admin, Operator};
pub use documentation::Documentation;
pub use error::CliError;
pub use operations::{Operations, operator};
pub use store_operations::StoreOperations;
pub use terminal::Terminal;
