//! Command-line arguments that several subcommands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::{Ledger, PaymentProvider, Plan, Rates, Shop};

/// The stores, the brokers and the ledger.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// Event store: sqlite:PATH, postgres://… or memory:, one for all services or, repeated, one
    /// for each: checkout=URL, payments=URL, warehouse=URL [default: sqlite:checkout.db]
    #[arg(long, global = true, value_name = "[SERVICE=]URL")]
    pub(crate) store: Vec<String>,
    /// Split one store into a part for each service (a file beside it, or a schema), and join the
    /// services over a bus
    #[arg(long, global = true)]
    pub(crate) as_services: bool,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Ledger of the simulated payment provider, a file that processes share [default: beside the
    /// store's file, or checkout-postgres.ledger.jsonl]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
}

/// The event bus.
#[derive(Debug, Args)]
pub(crate) struct BusArgs {
    /// Kafka-compatible brokers that join services with separate stores [default for `run`: a bus
    /// in memory]
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    pub(crate) brokers: Option<String>,
    /// Prefix of the topic names
    #[cfg(feature = "redpanda")]
    #[arg(long, global = true, value_name = "TEXT", default_value = "")]
    pub(crate) topic_prefix: String,
    /// Maximum number of messages of a topic partition in memory
    #[cfg(feature = "redpanda")]
    #[arg(long, global = true, value_name = "N", default_value_t = 1_000)]
    pub(crate) max_outstanding: usize,
}

/// The checkouts to run.
#[derive(Debug, Args)]
pub(crate) struct CheckoutArgs {
    /// Number of checkouts
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10_000)]
    pub(crate) checkouts: u32,
    /// Maximum number of checkouts in progress
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) in_flight: u16,
    /// Prefix of the checkout ids
    #[arg(long, default_value = "run")]
    pub(crate) name: String,
}

impl CheckoutArgs {
    pub(crate) fn plan(&self) -> Plan {
        Plan { name: self.name.clone(), checkouts: self.checkouts }
    }
}

/// The behaviour of the simulated payment provider, and the timeouts of the shop.
#[derive(Debug, Args)]
pub(crate) struct ProviderArgs {
    /// Payments that the provider declines
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    declines: u64,
    /// Payments that the provider never answers; it takes the money of half of them
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    hangs: u64,
    /// Payments that the provider answers with an error each time; it takes the money of half of
    /// them
    #[arg(long, value_name = "PERCENT", default_value_t = 5)]
    failures: u64,
    /// Charged payments that the provider refuses to refund
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    refund_refusals: u64,
    /// Seed that selects the payments which fail
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Timeout of a step of a checkout, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    step_timeout: u64,
    /// Time after which other processes take over the work of a crashed one, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    lease_ttl: u64,
}

impl Default for ProviderArgs {
    fn default() -> Self {
        Self {
            declines: 10,
            hangs: 5,
            failures: 5,
            refund_refusals: 0,
            seed: 1,
            step_timeout: 30_000,
            lease_ttl: 10_000,
        }
    }
}

impl ProviderArgs {
    /// Returns a shop whose payment provider writes to `ledger`.
    pub(crate) fn shop(&self, ledger: Ledger) -> Shop {
        let Self { declines, hangs, failures, refund_refusals, seed, .. } = *self;
        let rates = Rates { declines, hangs, failures, refund_refusals };
        Shop {
            step_timeout: Duration::from_millis(self.step_timeout),
            lease_ttl: Duration::from_millis(self.lease_ttl),
            ..Shop::new(PaymentProvider { ledger, rates, seed })
        }
    }
}
