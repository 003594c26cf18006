//! One checkout, across services.

use anyhow::bail;
use composable_rust::Timestamp;
use composable_rust::prelude::*;
use futures_util::TryStreamExt as _;

use crate::commands::say;
use crate::{Apps, Cart, Checkout, Inventory, InventoryEvent, Order, Payment, Service, Shipping};

/// Prints where a checkout stands, and everything that belongs to it.
pub(crate) async fn status(apps: &Apps, id: &Id<Checkout>) -> anyhow::Result<()> {
    let [checkouts, payments, warehouse] = Service::ALL.map(|service| apps.of(service));
    let checkout = checkouts.handle(id).state(Clone::clone).await?;
    let Some(Cart { sku, units, cents }) = &checkout.cart else {
        bail!("there is no checkout {id}");
    };
    let order = Order::id(id.as_str());
    let held = warehouse.handle(sku).state(|stock| stock.held(&order)).await?;
    let held = held.map_or_else(|| "nothing".to_owned(), |held| format!("{held:?}"));
    let order = checkouts.handle(&order).state(|order| format!("{order:?}")).await?;
    let payment = Payment::id(id.as_str());
    let payment = payments.handle(&payment).state(|payment| format!("{payment:?}")).await?;
    let parcel = Shipping::id(id.as_str());
    let parcel = warehouse.handle(&parcel).state(|parcel| format!("{parcel:?}")).await?;
    say(&format!("checkout   {:?}", checkout.status))?;
    if !checkout.kept.is_empty() {
        say(&format!("kept       {:?}", checkout.kept))?;
    }
    say(&format!("cart       {units} of {sku} for {cents} cents"))?;
    say(&format!("order      {order}"))?;
    say(&format!("stock      {held}"))?;
    say(&format!("payment    {payment}"))?;
    say(&format!("parcel     {parcel}"))
}

/// Prints what happened to a checkout and to everything that belongs to it, in the order of time.
pub(crate) async fn history(apps: &Apps, id: &Id<Checkout>) -> anyhow::Result<()> {
    let [checkouts, payments, warehouse] = Service::ALL.map(|service| apps.of(service));
    let Some(Cart { sku, .. }) = checkouts.handle(id).state(|c| c.cart.clone()).await? else {
        bail!("there is no checkout {id}");
    };
    let order = Order::id(id.as_str());
    let mut lines = lines(checkouts, id, |_| true).await?;
    lines.extend(self::lines(checkouts, &order, |_| true).await?);
    lines.extend(self::lines(payments, &Payment::id(id.as_str()), |_| true).await?);
    lines.extend(self::lines(warehouse, &Shipping::id(id.as_str()), |_| true).await?);
    lines.extend(
        self::lines::<Inventory>(warehouse, &sku, |event| of(event) == Some(&order)).await?,
    );
    lines.sort_by_key(|(at, _)| *at);
    for (_, line) in lines {
        say(&line)?;
    }
    Ok(())
}

/// The events of one instance that are to be kept, each on a line.
async fn lines<A: Aggregate>(
    app: &App,
    id: &Id<A>,
    keep: impl Fn(&A::Event) -> bool,
) -> anyhow::Result<Vec<(Timestamp, String)>> {
    let mut lines = Vec::new();
    let events: Vec<_> = app.handle(id).history().try_collect().await?;
    for recorded in events {
        let Some(event) = recorded.event.filter(|event| keep(event)) else { continue };
        let (stream, version) = (&recorded.stream, recorded.version);
        let at = recorded.recorded_at.to_string();
        lines.push((recorded.recorded_at, format!("{at:<27}  {stream} {version}  {event:?}")));
    }
    Ok(lines)
}

/// Whose pieces an event of a stock is about.
fn of(event: &InventoryEvent) -> Option<&Id<Order>> {
    match event {
        InventoryEvent::Restocked { .. } => None,
        InventoryEvent::Reserved { order, .. }
        | InventoryEvent::HandedOver { order }
        | InventoryEvent::Released { order, .. } => Some(order),
    }
}
