//! The subcommands.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use composable_rust::bus::SharedEventBus;
use composable_rust::prelude::*;
use composable_rust::shutdown_signal;
use composable_rust::testing::InMemoryEventBus;

use crate::args::{BusArgs, CheckoutArgs};
use crate::output::print_line;
use crate::progress::Progress;
use crate::simulation::{self, CheckoutTracker};
use crate::{
    Apps, Audit, AuditInput, Checkout, Inventory, Ledger, Order, Payment, Service, Shipping, Shop,
    Stores,
};

/// The time limit for finishing accepted work at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// Connects to the brokers; `None` if none are named.
pub(crate) async fn connect_bus(
    args: &BusArgs,
    shop: &Shop,
) -> anyhow::Result<Option<SharedEventBus>> {
    match &args.brokers {
        Some(brokers) => redpanda(brokers, args, shop).await.map(Some),
        None => Ok(None),
    }
}

#[cfg(feature = "redpanda")]
async fn redpanda(brokers: &str, args: &BusArgs, shop: &Shop) -> anyhow::Result<SharedEventBus> {
    let bus = composable_rust::redpanda::RedpandaEventBus::builder(brokers)
        .client_id("checkout-workflow")
        .topic_prefix(&args.topic_prefix)
        .max_outstanding(args.max_outstanding)
        // The open transaction of a dead process blocks readers no longer than its lease.
        .transaction_timeout(shop.lease_ttl)
        .session_timeout(shop.lease_ttl);
    let bus = bus.connect().await;
    let bus = bus.with_context(|| format!("cannot connect to the brokers {brokers}"))?;
    Ok(SharedEventBus::new(bus))
}

#[cfg(not(feature = "redpanda"))]
#[expect(clippy::unused_async, reason = "with the feature, connecting is asynchronous")]
async fn redpanda(_: &str, _: &BusArgs, _: &Shop) -> anyhow::Result<SharedEventBus> {
    bail!("this program is built without a Kafka client; add --features redpanda to cargo run")
}

/// Opens the ledger at `path`, or creates one in memory if there is no path.
pub(crate) fn open_ledger(path: Option<&Path>) -> anyhow::Result<Ledger> {
    let Some(path) = path else { return Ok(Ledger::in_memory()) };
    Ledger::open(path).with_context(|| format!("cannot open the ledger {}", path.display()))
}

/// Starts checkouts, runs them until all are finished, and stops the apps, which can still be read.
pub(crate) async fn run(
    args: &CheckoutArgs,
    shop: &Shop,
    stores: &Stores,
    bus: Option<SharedEventBus>,
) -> anyhow::Result<Apps> {
    let bus = match stores {
        Stores::Shared(_) => None,
        Stores::PerService(_) => {
            Some(bus.unwrap_or_else(|| SharedEventBus::new(InMemoryEventBus::new())))
        }
    };
    let apps = shop.open(&Service::ALL, stores, bus.as_ref()).await?;
    let plan = args.plan();
    let total = plan.checkouts().count();
    let found = find_started(&apps, &shop.provider.ledger).await?;
    let started = plan.checkouts().filter(|(id, _)| found.contains(id)).count();
    if started > 0 {
        eprintln!("an earlier run started {started} of {total} checkouts; continuing");
    }
    apps.start();
    let mut progress = Progress::new("checkouts", total);
    let simulation = async {
        simulation::restock(apps.app(Service::Warehouse), &plan).await?;
        let (checkout, in_flight) = (apps.app(Service::Checkout), usize::from(args.in_flight));
        let update = |_, finished| progress.set(finished);
        simulation::run(checkout, &plan, in_flight, true, update).await
    };
    let result = tokio::select! {
        result = simulation => Some(result),
        () = shutdown_signal() => None,
    };
    progress.finish();
    if !apps.shutdown(SHUTDOWN_GRACE).await {
        tracing::warn!("shutdown timed out; the next run continues the unfinished work");
    }
    match result {
        Some(result) => result?,
        None => bail!("interrupted; run the same command again to continue"),
    }
    Ok(apps)
}

/// Returns the checkouts that were started before. Fails if the ledger has entries while the store
/// has no checkouts: it belongs to another store.
async fn find_started(apps: &Apps, ledger: &Ledger) -> anyhow::Result<CheckoutTracker> {
    let checkout = apps.app(Service::Checkout);
    let mut tracker = CheckoutTracker::new(checkout);
    tracker.catch_up(checkout).await?;
    if tracker.started() == 0 && !ledger.entries()?.is_empty() {
        bail!("the ledger belongs to another store: remove it, or choose one with --ledger");
    }
    Ok(tracker)
}

/// Starts checkouts that other processes run.
pub(crate) async fn start(args: &CheckoutArgs, wait: bool, apps: &Apps) -> anyhow::Result<()> {
    let plan = args.plan();
    let total = plan.checkouts().count();
    let mut progress = Progress::new(if wait { "checkouts" } else { "starting" }, total);
    simulation::restock(apps.app(Service::Warehouse), &plan).await?;
    let (checkout, in_flight) = (apps.app(Service::Checkout), usize::from(args.in_flight));
    let update = |started, finished| progress.set(if wait { finished } else { started });
    simulation::run(checkout, &plan, in_flight, wait, update).await?;
    progress.finish();
    print_line(&format!("{total} checkouts are {}", if wait { "finished" } else { "started" }))
}

/// Runs the services until a shutdown signal arrives.
pub(crate) async fn serve(services: &[Service], apps: &Apps) -> anyhow::Result<()> {
    apps.start();
    let names: Vec<_> = services.iter().map(|service| service.name()).collect();
    print_line(&format!("serving {}", names.join(", ")))?;
    shutdown_signal().await;
    if !apps.shutdown(SHUTDOWN_GRACE).await {
        bail!("shutdown timed out; the next process continues the unfinished work");
    }
    Ok(())
}

/// Compares the state of every instance in memory with the state that its events give.
pub(crate) async fn check_states(services: &[Service], apps: &Apps) -> anyhow::Result<()> {
    let mut checked = 0;
    for service in services {
        let app = apps.app(*service);
        checked += match service {
            Service::Checkout => {
                check_states_of::<Checkout>(app).await? + check_states_of::<Order>(app).await?
            }
            Service::Payments => check_states_of::<Payment>(app).await?,
            Service::Warehouse => {
                check_states_of::<Inventory>(app).await? + check_states_of::<Shipping>(app).await?
            }
        };
    }
    print_line(&format!("checked {checked} states in memory against their events"))
}

/// Checks the instances of one aggregate and returns their number.
async fn check_states_of<A: Aggregate>(app: &App) -> anyhow::Result<usize> {
    let states = app.cached_states::<A>();
    for (id, state, version) in &states {
        let (logged, _) = app.handle(id).state_at(*version).await?;
        if logged != *state {
            let name = A::NAME;
            bail!("{name} {id} at version {version} is {state:?}, the log says {logged:?}");
        }
    }
    Ok(states.len())
}

/// Prints the audit, and fails if it does not balance.
pub(crate) async fn audit(apps: &Apps, ledger: &Ledger) -> anyhow::Result<()> {
    let audit = Audit::of(&AuditInput::read(apps, ledger).await?);
    print_line(audit.to_string().trim_end())?;
    if !audit.balances() {
        bail!("the audit does not balance");
    }
    Ok(())
}
