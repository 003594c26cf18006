//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use composable_rust::prelude::*;

use crate::{Checkout, PaymentProvider, Plan, Rates, Service, Shop, Stores};
use crate::{commands, show};

/// Checkouts as a saga over orders, stock, payments and parcels.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run 10,000 checkouts of which a fifth goes wrong [default store: sqlite:checkout-demo.db]
    Demo,
    /// Start checkouts, work on them until all are finished, and audit
    Run {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        rates: ProviderArgs,
    },
    /// Run services until Ctrl-C
    Serve {
        /// Which
        #[arg(default_values_t = Service::ALL, value_enum)]
        services: Vec<Service>,
        #[command(flatten)]
        rates: ProviderArgs,
        /// At the end, compare the state of every instance in memory with its events, and fail if
        /// one differs
        #[arg(long)]
        check_states: bool,
    },
    /// Start checkouts that other processes work on; those that are there are not started again
    Start {
        #[command(flatten)]
        which: Which,
        /// Until all are finished
        #[arg(long)]
        wait: bool,
    },
    /// Compare everything that happened: money to the cent, stock to the unit, nothing twice
    Audit,
    /// Print where a checkout stands
    Status {
        /// Which, such as demo-000007
        #[arg(value_parser = parse_checkout)]
        checkout: Id<Checkout>,
    },
    /// Print what happened to a checkout, in all services
    History {
        /// Which, such as demo-000007
        #[arg(value_parser = parse_checkout)]
        checkout: Id<Checkout>,
    },
}

/// Where things are.
#[derive(Debug, Args)]
struct Places {
    /// Where the events are: sqlite:PATH, postgres://… or memory:, for all services or, repeated,
    /// for each: checkout=URL, payments=URL, warehouse=URL [default: sqlite:checkout.db]
    #[arg(long, global = true, value_name = "[SERVICE=]URL")]
    store: Vec<String>,
    /// Of one store, give each service a part of its own (a file beside it, a schema), and join them
    /// over a bus
    #[arg(long, global = true)]
    as_services: bool,
    #[command(flatten)]
    brokers: BusArgs,
    /// What the simulated payment provider has done, a file that processes share [default: beside
    /// the store's file, or checkout-postgres.ledger.jsonl]
    #[arg(long, global = true, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// The bus.
#[derive(Debug, Args)]
pub(crate) struct BusArgs {
    /// The Kafka-compatible brokers that join services on stores of their own [default for `run`:
    /// a bus in memory]
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    pub(crate) brokers: Option<String>,
    /// Put in front of the names of topics
    #[arg(long, global = true, value_name = "TEXT", default_value = "")]
    pub(crate) topic_prefix: String,
    /// Messages of a topic partition in memory at a time
    #[arg(long, global = true, value_name = "N", default_value_t = 1_000)]
    pub(crate) max_outstanding: usize,
}

/// Which checkouts.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// How many
    #[arg(short = 'n', long = "checkouts", value_name = "N", default_value_t = 10_000)]
    checkouts: u32,
    /// How many are under way at a time
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: u16,
    /// What their ids begin with
    #[arg(long, default_value = "run")]
    name: String,
}

impl Which {
    pub(crate) fn plan(&self) -> Plan {
        Plan { name: self.name.clone(), checkouts: self.checkouts }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.into()
    }
}

/// How the simulated payment provider behaves, and how long it is waited for.
#[derive(Debug, Args)]
struct ProviderArgs {
    /// Of a hundred payments: refused
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    declines: u64,
    /// Never answered, half of them after the money was taken
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    hangs: u64,
    /// Answered with an error each time, half of them after the money was taken
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    failures: u64,
    /// Of those that were charged: never given back
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    refund_refusals: u64,
    /// Chooses which payments have which fate
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a step of a checkout may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    patience: u64,
    /// How long the work of a process that is gone waits for others, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    lease: u64,
}

impl Default for ProviderArgs {
    fn default() -> Self {
        Self {
            declines: 10,
            hangs: 5,
            failures: 5,
            refund_refusals: 0,
            seed: 1,
            patience: 30_000,
            lease: 10_000,
        }
    }
}

impl ProviderArgs {
    fn shop(&self, ledger: Option<&Path>) -> anyhow::Result<Shop> {
        let Self { declines, hangs, failures, refund_refusals, seed, patience, lease } = *self;
        let rates = Rates { declines, hangs, failures, refund_refusals };
        let ledger = commands::ledger(ledger)?;
        let shop = Shop::new(PaymentProvider { ledger, rates, seed });
        let [patience, lease] = [patience, lease].map(Duration::from_millis);
        Ok(Shop { patience, lease, ..shop })
    }
}

fn parse_checkout(text: &str) -> Result<Id<Checkout>, String> {
    Checkout::parse_id(text).map_err(|error| error.to_string())
}

impl Cli {
    /// Runs the command and says how the process ends: 0 done, 1 failed or does not balance, 2 wrong
    /// usage.
    pub async fn run(self) -> ExitCode {
        let file =
            if matches!(self.command, Command::Demo) { "checkout-demo.db" } else { "checkout.db" };
        let Places { store, as_services, brokers, ledger } = self.places;
        let stores = match Stores::parse(&store, Path::new(file), as_services) {
            Ok(stores) => stores,
            Err(error) => return complain(&error.to_string(), 2),
        };
        let ledger = ledger.or_else(|| stores.ledger_path());
        match self.command.run(&stores, &brokers, ledger.as_deref()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&causes(&error), 1),
        }
    }
}

impl Command {
    async fn run(
        self,
        stores: &Stores,
        brokers: &BusArgs,
        ledger: Option<&Path>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Demo => {
                let shop = ProviderArgs::default().shop(ledger)?;
                let bus = commands::bus(brokers, &shop).await?;
                let which = Which { checkouts: 10_000, in_flight: 512, name: "demo".to_owned() };
                commands::run(&which, &shop, stores, bus).await
            }
            Self::Run { which, rates } => {
                let shop = rates.shop(ledger)?;
                let bus = commands::bus(brokers, &shop).await?;
                commands::run(&which, &shop, stores, bus).await
            }
            Self::Serve { services, rates, check_states } => {
                let shop = rates.shop(ledger)?;
                let bus = commands::bus(brokers, &shop).await?;
                let apps = shop.open(&services, stores, bus.as_ref()).await?;
                commands::serve(&services, &apps).await?;
                if check_states { commands::check_states(&services, &apps).await } else { Ok(()) }
            }
            Self::Start { which, wait } => {
                let shop = ProviderArgs::default().shop(None)?;
                let bus = commands::bus(brokers, &shop).await?;
                let services = [Service::Checkout, Service::Warehouse];
                let apps = shop.open(&services, stores, bus.as_ref()).await?;
                commands::start(&which, wait, &apps).await
            }
            Self::Audit => {
                let shop = ProviderArgs::default().shop(ledger)?;
                commands::audit(&shop.look(stores).await?, &shop.provider.ledger).await
            }
            Self::Status { checkout } => {
                let shop = ProviderArgs::default().shop(None)?;
                show::status(&shop.look(stores).await?, &checkout).await
            }
            Self::History { checkout } => {
                let shop = ProviderArgs::default().shop(None)?;
                show::history(&shop.look(stores).await?, &checkout).await
            }
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
fn complain(text: &str, status: u8) -> ExitCode {
    eprintln!("error: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
