//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use composable_rust::prelude::*;
use composable_rust::{StoreUrl, Version};

use crate::args::SendArgs;
use crate::import::ImportOptions;
use crate::output::{error_chain, print_error};
use crate::{Cents, Date, Order, OrderCommand, commands, demo, http};

/// An order system, durable on SQLite or PostgreSQL.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Event store: sqlite:PATH, postgres://… or memory: [default: sqlite:orders.db]
    #[arg(long, env = "STORE_URL", hide_env_values = true, value_name = "URL")]
    store: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Place and ship generated orders, and print a report [default store: sqlite:orders-demo.db]
    Demo,
    /// Place an order
    Place(Place),
    /// Ship a parcel of an order
    Ship(Ship),
    /// Cancel an order before it is shipped
    Cancel(Cancel),
    /// Print the state of an order
    Show {
        /// Id of the order
        #[arg(value_parser = parse_order)]
        order: Id<Order>,
        /// Version to print: the state after this number of events
        #[arg(long)]
        at: Option<Version>,
    },
    /// Print the events of an order
    History {
        /// Id of the order
        #[arg(value_parser = parse_order)]
        order: Id<Order>,
    },
    /// Place the purchases of a file in the CDNOW format, each once
    Import {
        /// Path of the file
        file: PathBuf,
        /// Report invalid lines and continue
        #[arg(long)]
        skip_bad: bool,
        /// Maximum number of concurrent sends
        #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u16).range(1..))]
        in_flight: u16,
    },
    /// Print the totals of all orders
    Report {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve HTTP requests until Ctrl-C
    Serve {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:8080")]
        addr: String,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// Id of the order
    #[arg(value_parser = parse_order)]
    order: Id<Order>,
    /// Customer's number or name
    #[arg(long)]
    customer: String,
    /// Number of units
    #[arg(long)]
    units: u32,
    /// Price of all units together, such as 12.34
    #[arg(long)]
    amount: Cents,
    /// Day of the order [default: today in UTC]
    #[arg(long)]
    date: Option<Date>,
    #[command(flatten)]
    send: SendArgs,
}

#[derive(Debug, Args)]
struct Ship {
    /// Id of the order
    #[arg(value_parser = parse_order)]
    order: Id<Order>,
    /// Carrier's number of the parcel
    #[arg(long)]
    tracking: String,
    /// Number of units in the parcel [default: all units that are not shipped]
    #[arg(long)]
    units: Option<u32>,
    #[command(flatten)]
    send: SendArgs,
}

#[derive(Debug, Args)]
struct Cancel {
    /// Id of the order
    #[arg(value_parser = parse_order)]
    order: Id<Order>,
    /// Reason for the cancellation
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    send: SendArgs,
}

fn parse_order(text: &str) -> Result<Id<Order>, String> {
    Order::parse_id(text).map_err(|error| error.to_string())
}

impl Cli {
    /// Runs the command and returns the exit code: 0 on success, 1 if it was rejected or failed, 2
    /// on wrong usage.
    ///
    /// # Panics
    ///
    /// Inside a tokio runtime: it starts its own.
    // Here and not on `main`: where a future is polled, its code is generated.
    #[tokio::main]
    pub async fn run(self) -> ExitCode {
        let store = match self.store.as_deref().map(str::parse::<StoreUrl>).transpose() {
            Ok(store) => store,
            Err(error) => return print_error(&error, 2),
        };
        match self.command.run(store).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => print_error(&error_chain(&error), 1),
        }
    }
}

impl Command {
    async fn run(self, store: Option<StoreUrl>) -> anyhow::Result<()> {
        let file = if matches!(self, Self::Demo) { "orders-demo.db" } else { "orders.db" };
        let store = store.unwrap_or_else(|| StoreUrl::Sqlite(file.into()));
        if let Self::Serve { addr } = self {
            return http::serve(&store, &addr).await;
        }
        let app = crate::open(&store).await?;
        match self {
            Self::Serve { .. } => Ok(()),
            Self::Demo => demo::run(&app, &store).await,
            Self::Place(Place { order, customer, units, amount, date, send }) => {
                let placed_on = date;
                let command = OrderCommand::Place { customer, placed_on, units, amount };
                commands::send(&app, &order, command, send).await
            }
            Self::Ship(Ship { order, tracking, units, send }) => {
                commands::send(&app, &order, OrderCommand::Ship { tracking, units }, send).await
            }
            Self::Cancel(Cancel { order, reason, send }) => {
                commands::send(&app, &order, OrderCommand::Cancel { reason }, send).await
            }
            Self::Show { order, at } => commands::show(&app, &order, at).await,
            Self::History { order } => commands::history(&app, &order).await,
            Self::Import { file, skip_bad, in_flight } => {
                commands::import(&app, &file, ImportOptions { skip_bad, in_flight }).await
            }
            Self::Report { json } => commands::report(&app, json).await,
        }
    }
}
