//! The command line.

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use composable_rust::prelude::*;

use crate::args::{BusArgs, CheckoutArgs, ConnectionArgs, ProviderArgs};
use crate::output::{error_chain, print_error};
use crate::{Checkout, Service, Stores};
use crate::{commands, demo, show};

/// Checkouts as a saga over orders, stock, payments and parcels.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(flatten)]
    connections: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run 10,000 checkouts, a fifth of which fail [default store: sqlite:checkout-demo.db]
    Demo,
    /// Start checkouts, process them until all are finished, and audit
    Run {
        #[command(flatten)]
        checkouts: CheckoutArgs,
        #[command(flatten)]
        provider: ProviderArgs,
    },
    /// Run services until Ctrl-C
    Serve {
        /// Services to run
        #[arg(default_values_t = Service::ALL, value_enum)]
        services: Vec<Service>,
        #[command(flatten)]
        provider: ProviderArgs,
        /// After Ctrl-C, compare the state of every instance in memory with its events, and fail
        /// if they differ
        #[arg(long)]
        check_states: bool,
    },
    /// Start checkouts that other processes run; skips those that were started before
    Start {
        #[command(flatten)]
        checkouts: CheckoutArgs,
        /// Wait until all are finished
        #[arg(long)]
        wait: bool,
    },
    /// Check that all checkouts add up: money to the cent, stock to the unit, nothing twice
    Audit,
    /// Print the status of a checkout
    Status {
        /// Id of the checkout, such as demo-000007
        #[arg(value_parser = parse_checkout)]
        checkout: Id<Checkout>,
    },
    /// Print the events of a checkout, in all services
    History {
        /// Id of the checkout, such as demo-000007
        #[arg(value_parser = parse_checkout)]
        checkout: Id<Checkout>,
    },
}

fn parse_checkout(text: &str) -> Result<Id<Checkout>, String> {
    Checkout::parse_id(text).map_err(|error| error.to_string())
}

impl Cli {
    /// Runs the command and returns the exit code: 0 on success, 1 if it failed or the audit does
    /// not balance, 2 on wrong usage.
    ///
    /// # Panics
    ///
    /// Inside a tokio runtime: it starts its own.
    // Here and not on `main`: where a future is polled, its code is generated.
    #[tokio::main]
    pub async fn run(self) -> ExitCode {
        let file =
            if matches!(self.command, Command::Demo) { "checkout-demo.db" } else { "checkout.db" };
        let ConnectionArgs { store, as_services, bus, ledger } = self.connections;
        let stores = match Stores::parse(&store, Path::new(file), as_services) {
            Ok(stores) => stores,
            Err(error) => return print_error(&error.to_string(), 2),
        };
        let ledger = ledger.or_else(|| stores.ledger_path());
        match self.command.run(&stores, &bus, ledger.as_deref()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => print_error(&error_chain(&error), 1),
        }
    }
}

impl Command {
    async fn run(
        self,
        stores: &Stores,
        bus: &BusArgs,
        ledger: Option<&Path>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Demo => {
                let shop = ProviderArgs::default().shop(commands::open_ledger(ledger)?);
                let bus = commands::connect_bus(bus, &shop).await?;
                demo::run(&shop, stores, bus).await
            }
            Self::Run { checkouts, provider } => {
                let shop = provider.shop(commands::open_ledger(ledger)?);
                let bus = commands::connect_bus(bus, &shop).await?;
                let apps = commands::run(&checkouts, &shop, stores, bus).await?;
                commands::audit(&apps, &shop.provider.ledger).await
            }
            Self::Serve { services, provider, check_states } => {
                let shop = provider.shop(commands::open_ledger(ledger)?);
                let bus = commands::connect_bus(bus, &shop).await?;
                let apps = shop.open(&services, stores, bus.as_ref()).await?;
                commands::serve(&services, &apps).await?;
                if check_states { commands::check_states(&services, &apps).await } else { Ok(()) }
            }
            Self::Start { checkouts, wait } => {
                let shop = ProviderArgs::default().shop(commands::open_ledger(None)?);
                let bus = commands::connect_bus(bus, &shop).await?;
                let services = [Service::Checkout, Service::Warehouse];
                let apps = shop.open(&services, stores, bus.as_ref()).await?;
                commands::start(&checkouts, wait, &apps).await
            }
            Self::Audit => {
                let shop = ProviderArgs::default().shop(commands::open_ledger(ledger)?);
                let apps = shop.open_for_reading(stores).await?;
                commands::audit(&apps, &shop.provider.ledger).await
            }
            Self::Status { checkout } => {
                let shop = ProviderArgs::default().shop(commands::open_ledger(None)?);
                show::status(&shop.open_for_reading(stores).await?, &checkout).await
            }
            Self::History { checkout } => {
                let shop = ProviderArgs::default().shop(commands::open_ledger(None)?);
                show::history(&shop.open_for_reading(stores).await?, &checkout).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
