//! What the subcommands do.

use std::io::{ErrorKind, Write as _, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use composable_rust::SharedEventBus;
use composable_rust::testing::InMemoryEventBus;
use composable_rust_redpanda::RedpandaEventBus;

use crate::cli::{BusArgs, Which};
use crate::play::{self, Watch};
use crate::progress::Progress;
use crate::{
    Apps, Audit, Books, Checkout, Inventory, Ledger, Order, Payment, Service, Shipping, Shop,
    Stores,
};
use composable_rust::prelude::*;
use composable_rust::shutdown_signal;

/// How long what was accepted may take to finish.
const GRACE: Duration = Duration::from_secs(20);

/// Joins services over a broker.
pub(crate) async fn bus(brokers: &BusArgs, shop: &Shop) -> anyhow::Result<Option<SharedEventBus>> {
    let Some(list) = &brokers.brokers else { return Ok(None) };
    let bus = RedpandaEventBus::builder(list)
        .client_id("checkout-workflow")
        .topic_prefix(&brokers.topic_prefix)
        .max_outstanding(brokers.max_outstanding)
        // A dead process's open transaction holds readers back no longer than its lease.
        .transaction_timeout(shop.lease)
        .session_timeout(shop.lease);
    let bus = bus.connect().await.with_context(|| format!("the bus at {list} cannot be opened"))?;
    Ok(Some(SharedEventBus::new(bus)))
}

/// Opens the ledger, or has one in memory.
pub(crate) fn ledger(path: Option<&Path>) -> anyhow::Result<Ledger> {
    let Some(path) = path else { return Ok(Ledger::in_memory()) };
    Ledger::open(path).with_context(|| format!("the ledger {} cannot be used", path.display()))
}

/// Starts checkouts, works on them until all are finished, and audits.
pub(crate) async fn run(
    which: &Which,
    shop: &Shop,
    stores: &Stores,
    bus: Option<SharedEventBus>,
) -> anyhow::Result<()> {
    let bus = match stores {
        Stores::Shared(_) => None,
        Stores::PerService(_) => {
            Some(bus.unwrap_or_else(|| SharedEventBus::new(InMemoryEventBus::new())))
        }
    };
    let apps = shop.open(&Service::ALL, stores, bus.as_ref()).await?;
    let plan = which.plan();
    let mut before = Watch::new(apps.of(Service::Checkout));
    before.catch_up(apps.of(Service::Checkout)).await?;
    let known = before.finished() + before.open();
    if known == 0 && !shop.provider.ledger.entries()?.is_empty() {
        bail!("the ledger is of another store: remove it, or choose one with --ledger");
    }
    apps.start();
    let mut progress = Progress::new("checkouts", plan.checkouts().count());
    let played = async {
        play::restock(apps.of(Service::Warehouse), &plan).await?;
        let checkout = apps.of(Service::Checkout);
        play::play(checkout, &plan, which.in_flight(), true, |_, finished| progress.at(finished))
            .await
    };
    let ended = tokio::select! {
        played = played => Some(played),
        () = shutdown_signal() => None,
    };
    progress.end();
    if !apps.shutdown(GRACE).await {
        tracing::warn!("not everything that was accepted has finished");
    }
    match ended {
        Some(played) => played?,
        None => bail!("interrupted; run the same again to go on"),
    }
    audit(&apps, &shop.provider.ledger).await
}

/// Starts checkouts that other processes work on.
pub(crate) async fn start(which: &Which, wait: bool, apps: &Apps) -> anyhow::Result<()> {
    let plan = which.plan();
    let total = plan.checkouts().count();
    let what = if wait { "checkouts" } else { "starting" };
    let mut progress = Progress::new(what, total);
    play::restock(apps.of(Service::Warehouse), &plan).await?;
    let checkout = apps.of(Service::Checkout);
    let played = play::play(checkout, &plan, which.in_flight(), wait, |started, finished| {
        progress.at(if wait { finished } else { started });
    });
    played.await?;
    progress.end();
    say(&format!("{total} checkouts are {}", if wait { "finished" } else { "started" }))
}

/// Works on what is there until somebody asks it to stop.
pub(crate) async fn serve(services: &[Service], apps: &Apps) -> anyhow::Result<()> {
    apps.start();
    let names: Vec<_> = services.iter().map(|service| service.name()).collect();
    say(&format!("serving {}", names.join(", ")))?;
    shutdown_signal().await;
    if !apps.shutdown(GRACE).await {
        bail!("not everything that was accepted has finished; the next process takes it up");
    }
    Ok(())
}

/// Compares the state of every instance in memory with the fold of its events.
pub(crate) async fn check_states(services: &[Service], apps: &Apps) -> anyhow::Result<()> {
    let mut checked = 0;
    for service in services {
        let app = apps.of(*service);
        checked += match service {
            Service::Checkout => {
                states_of::<Checkout>(app).await? + states_of::<Order>(app).await?
            }
            Service::Payments => states_of::<Payment>(app).await?,
            Service::Warehouse => {
                states_of::<Inventory>(app).await? + states_of::<Shipping>(app).await?
            }
        };
    }
    say(&format!("{checked} states are what their events say"))
}

async fn states_of<A: Aggregate>(app: &App) -> anyhow::Result<usize> {
    let states = app.cached_states::<A>();
    for (id, state, version) in &states {
        let (logged, _) = app.handle(id).state_at(*version).await?;
        if logged != *state {
            bail!("{} {id} at version {version} is {state:?}, the log says {logged:?}", A::NAME);
        }
    }
    Ok(states.len())
}

/// Prints the audit. That it does not balance is a failure.
pub(crate) async fn audit(apps: &Apps, ledger: &Ledger) -> anyhow::Result<()> {
    let audit = Audit::of(&Books::read(apps, ledger).await?);
    say(audit.to_string().trim_end())?;
    if !audit.balances() {
        bail!("the audit does not balance");
    }
    Ok(())
}

/// Prints to stdout. That nobody reads it any more, as behind `| head`, is no failure.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}
