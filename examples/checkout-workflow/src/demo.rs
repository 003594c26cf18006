//! The demo: ten thousand checkouts, one of them in detail, the audit, and commands to try.

use composable_rust::StoreUrl;
use composable_rust::bus::SharedEventBus;
use composable_rust::prelude::*;

use crate::args::CheckoutArgs;
use crate::output::print_line;
use crate::{Apps, Checkout, EntryKind, Ledger, Shop, Stores, commands, show};

const CHECKOUTS: u32 = 10_000;

/// The longest line of an event, in characters.
const MAX_WIDTH: usize = 100;

/// Runs the checkouts, and prints what happened.
pub(crate) async fn run(
    shop: &Shop,
    stores: &Stores,
    bus: Option<SharedEventBus>,
) -> anyhow::Result<()> {
    print_line(&format!(
        "{CHECKOUTS} checkouts, each a saga over an order, stock, a payment and a parcel, in \
         {stores}.\nThe simulated payment provider declines a tenth of the payments. It does not \
         answer, or fails,\nfor another tenth, and has taken the money of half of these.\n"
    ))?;
    let name = "demo".to_owned();
    let checkouts = CheckoutArgs { checkouts: CHECKOUTS, in_flight: 512, name };
    let apps = commands::run(&checkouts, shop, stores, bus).await?;
    if let Some(id) = refunded(&shop.provider.ledger)? {
        print_events(&apps, &id).await?;
    }
    commands::audit(&apps, &shop.provider.ledger).await?;
    match stores {
        Stores::Shared(store @ StoreUrl::Sqlite(_)) => print_line(&suggestions(store)),
        _ => Ok(()),
    }
}

/// Returns the first checkout whose money the provider took and gave back.
fn refunded(ledger: &Ledger) -> anyhow::Result<Option<Id<Checkout>>> {
    let entries = ledger.entries()?;
    let refunds = entries.iter().filter(|entry| entry.kind == EntryKind::Refund);
    Ok(refunds.map(|entry| Checkout::id(entry.payment.as_str())).min())
}

/// Prints the events of a checkout with the time since the first.
async fn print_events(apps: &Apps, id: &Id<Checkout>) -> anyhow::Result<()> {
    print_line(&format!(
        "\nOne of them, {id}. The provider took the money without an answer, so the saga undid \
         everything:\n"
    ))?;
    let events = show::events(apps, id).await?;
    let Some(start) = events.first().map(|event| event.at) else { return Ok(()) };
    for event in &events {
        let milliseconds = (event.at.as_micros() - start.as_micros()) / 1_000;
        let category = event.stream.category();
        let line = format!("{milliseconds:>7} ms  {category:<10} {}", event.text);
        print_line(&line.chars().take(MAX_WIDTH).collect::<String>())?;
    }
    print_line("")
}

/// Returns the commands to try next.
fn suggestions(store: &StoreUrl) -> String {
    let program = "cargo run --release -p checkout-workflow --";
    format!(
        "
Look at another checkout, in the file that the demo has written:

    {program} --store {store} history demo-000007

Start again in another file, and kill the program in the middle (Ctrl-C, or `kill -9`). The same
command continues, and the audit balances:

    {program} --store sqlite:second.db demo

Read the saga: examples/checkout-workflow/src/saga.rs"
    )
}
