//! Subscriptions and their billing. See the README of this crate.

mod cards;
mod demo;
mod figures;
mod http;
mod invoice;
mod money;
mod renewal;
mod subscription;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::{Parser, Subcommand};
use composable_rust::axum::serve;
use composable_rust::prelude::*;
use composable_rust::{AppBuilder, Gateway, SqlReadModel, connect, shutdown_signal};
use futures_util::TryStreamExt as _;
use tokio::net::TcpListener;
use tracing_subscriber::filter::LevelFilter;

use crate::cards::{CardRequest, Cards};
use crate::figures::{Figures, Report};
use crate::invoice::{Invoice, InvoiceCommand, InvoiceEvent};
use crate::money::{Money, Plan, Terms};
use crate::renewal::{Renewal, RenewalEvent};
use crate::subscription::{Subscription, SubscriptionCommand, SubscriptionEvent};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Adds the service to an app.
fn billing(app: AppBuilder, cards: impl Gateway, figures: SqlReadModel) -> AppBuilder {
    app.aggregate::<Subscription>(())
        .aggregate::<Invoice>(())
        .aggregate::<Renewal>(())
        .gateway(cards)
        .follows::<Subscription, Renewal>("renewal", |recorded| {
            Some(Renewal::id(recorded.stream.id()))
        })
        .follows::<Renewal, Subscription>("subscription", |recorded| {
            Some(Subscription::id(recorded.stream.id()))
        })
        .projection(Figures, figures)
}

/// Subscriptions and their billing.
#[derive(Debug, Parser)]
struct Cli {
    /// Event store and read model: sqlite:PATH or postgres://…
    #[arg(long, env = "STORE_URL", hide_env_values = true, default_value = "sqlite:billing.db")]
    store: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run three months on virtual time
    Demo,
    /// Serve HTTP requests until Ctrl-C
    Serve {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:8080")]
        addr: String,
    },
    /// Print the revenue of each plan
    Revenue,
    /// Print the open invoices
    Invoices,
    /// Print the renewals that are not paid, and the messages that failed
    Stuck,
}

// One thread, because virtual time needs it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).init();
    let Cli { store: url, command } = Cli::parse();
    if let Command::Demo = command {
        return demo::run().await;
    }
    let (store, model) = (connect(&url).await?, Report::open(&url).await?);
    let app = billing(App::builder(store), Cards::default(), model.clone()).build()?;
    let report = Report::read(&model).await?;
    match command {
        Command::Demo => {}
        Command::Serve { addr } => {
            let listener = TcpListener::bind(&addr).await?;
            println!("listening at http://{addr}");
            let (router, grace) = (http::router(&app, model), Duration::from_secs(10));
            serve(&app, listener, router, shutdown_signal(), grace).await?;
        }
        Command::Revenue => println!("{:#?}", report.plans),
        Command::Invoices => println!("{:#?}", report.open_invoices),
        Command::Stuck => {
            let letters: Vec<_> = app.dead_letters().all().try_collect().await?;
            println!("{:#?}\n{letters:#?}", report.stuck_renewals);
        }
    }
    Ok(())
}
