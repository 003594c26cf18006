//! The command line.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use composable_rust::prelude::*;
use composable_rust::{StoreUrl, Version};

use crate::import::Habits;
use crate::{Cents, Date, Order, OrderCommand, commands, demo, http};

/// Orders, durable on SQLite or PostgreSQL.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Where the orders are: sqlite:PATH, postgres://… or memory: [default: sqlite:orders.db]
    #[arg(long, env = "STORE_URL", hide_env_values = true, value_name = "URL")]
    store: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Place and ship generated orders and look at them [default store: sqlite:orders-demo.db]
    Demo,
    /// Place an order
    Place(Place),
    /// Send a parcel of an order
    Ship(Ship),
    /// Cancel an order of which nothing is shipped
    Cancel(Cancel),
    /// Print an order
    Show {
        /// The order
        #[arg(value_parser = parse_order)]
        order: Id<Order>,
        /// As it was after this many events
        #[arg(long)]
        at: Option<Version>,
    },
    /// Print the events of an order
    History {
        /// The order
        #[arg(value_parser = parse_order)]
        order: Id<Order>,
    },
    /// Place the purchases of a file in the CDNOW layout, each once
    Import {
        /// The file
        file: PathBuf,
        /// Report bad lines and go on
        #[arg(long)]
        skip_bad: bool,
        /// How many orders are on their way to the store at a time
        #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u16).range(1..))]
        in_flight: u16,
    },
    /// Print what all orders come to
    Report {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Answer HTTP requests until Ctrl-C
    Serve {
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:8080")]
        addr: String,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// The order's id
    #[arg(value_parser = parse_order)]
    order: Id<Order>,
    /// Who orders
    #[arg(long)]
    customer: String,
    /// How many pieces
    #[arg(long)]
    units: u32,
    /// What they cost together, such as 12.34
    #[arg(long)]
    amount: Cents,
    /// The day of the order [default: today in UTC]
    #[arg(long)]
    date: Option<Date>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
struct Ship {
    /// The order
    #[arg(value_parser = parse_order)]
    order: Id<Order>,
    /// The parcel's number
    #[arg(long)]
    tracking: String,
    /// How many pieces are in it [default: all that are left]
    #[arg(long)]
    units: Option<u32>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
struct Cancel {
    /// The order
    #[arg(value_parser = parse_order)]
    order: Id<Order>,
    /// Why
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    asking: Asking,
}

/// How a command is sent.
#[derive(Debug, Args)]
pub(crate) struct Asking {
    /// Makes it safe to run the command again: the same key gets the same answer
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Who asks
    #[arg(long)]
    pub(crate) by: Option<String>,
}

fn parse_order(text: &str) -> Result<Id<Order>, String> {
    Order::parse_id(text).map_err(|error| error.to_string())
}

impl Cli {
    /// Runs the command and says how the process ends: 0 done, 1 refused or failed, 2 wrong usage.
    pub async fn run(self) -> ExitCode {
        let store = match self.store.as_deref().map(str::parse::<StoreUrl>).transpose() {
            Ok(store) => store,
            Err(error) => return complain(&error, 2),
        };
        match self.command.run(store).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&causes(&error), 1),
        }
    }
}

/// The error and its causes, each said once.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}

/// One line on stderr.
fn complain(error: &dyn Display, status: u8) -> ExitCode {
    let lines = error.to_string();
    eprintln!("error: {}", lines.split_whitespace().collect::<Vec<_>>().join(" "));
    ExitCode::from(status)
}

impl Command {
    async fn run(self, store: Option<StoreUrl>) -> anyhow::Result<()> {
        let file = if matches!(self, Self::Demo) { "orders-demo.db" } else { "orders.db" };
        let store = store.unwrap_or_else(|| StoreUrl::Sqlite(file.into()));
        let app = crate::open(&store).await?;
        match self {
            Self::Demo => demo::run(&app, &store).await,
            Self::Place(Place { order, customer, units, amount, date, asking }) => {
                let placed_on = date;
                let command = OrderCommand::Place { customer, placed_on, units, amount };
                commands::send(&app, &order, command, asking).await
            }
            Self::Ship(Ship { order, tracking, units, asking }) => {
                commands::send(&app, &order, OrderCommand::Ship { tracking, units }, asking).await
            }
            Self::Cancel(Cancel { order, reason, asking }) => {
                commands::send(&app, &order, OrderCommand::Cancel { reason }, asking).await
            }
            Self::Show { order, at } => commands::show(&app, &order, at).await,
            Self::History { order } => commands::history(&app, &order).await,
            Self::Import { file, skip_bad, in_flight } => {
                commands::import(&app, &file, Habits { skip_bad, in_flight }).await
            }
            Self::Report { json } => commands::report(&app, json).await,
            Self::Serve { addr } => http::serve(&app, &addr).await,
        }
    }
}
