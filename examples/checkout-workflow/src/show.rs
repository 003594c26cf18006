//! Printing one checkout with everything that belongs to it in all services.

use anyhow::bail;
use composable_rust::prelude::*;
use composable_rust::{StreamId, Timestamp, Version};
use futures_util::TryStreamExt as _;

use crate::output::print_line;
use crate::{Apps, Cart, Checkout, Inventory, InventoryEvent, Order, Payment, Service, Shipping};

/// Prints the status of a checkout and of its order, stock, payment and parcel.
pub(crate) async fn status(apps: &Apps, id: &Id<Checkout>) -> anyhow::Result<()> {
    let [checkouts, payments, warehouse] = Service::ALL.map(|service| apps.app(service));
    let checkout = checkouts.handle(id).state(Clone::clone).await?;
    let Some(Cart { sku, units, cents }) = checkout.input() else {
        bail!("there is no checkout {id}");
    };
    let order = Order::id(id.as_str());
    let allocation = warehouse.handle(sku).state(|stock| stock.allocation(&order)).await?;
    let allocation = allocation.map_or_else(|| "nothing".to_owned(), |units| format!("{units:?}"));
    let order = checkouts.handle(&order).state(|order| format!("{order:?}")).await?;
    let payment = Payment::id(id.as_str());
    let payment = payments.handle(&payment).state(|payment| format!("{payment:?}")).await?;
    let parcel = Shipping::id(id.as_str());
    let parcel = warehouse.handle(&parcel).state(|parcel| format!("{parcel:?}")).await?;
    print_line(&format!("checkout   {}", checkout.status()))?;
    print_line(&format!("cart       {units} of {sku} for {cents} cents"))?;
    print_line(&format!("order      {order}"))?;
    print_line(&format!("stock      {allocation}"))?;
    print_line(&format!("payment    {payment}"))?;
    print_line(&format!("parcel     {parcel}"))
}

/// Prints the events of a checkout and of its order, stock, payment and parcel, sorted by time.
pub(crate) async fn history(apps: &Apps, id: &Id<Checkout>) -> anyhow::Result<()> {
    for Shown { at, stream, version, text } in events(apps, id).await? {
        let at = at.to_string();
        print_line(&format!("{at:<27}  {stream} {version}  {text}"))?;
    }
    Ok(())
}

/// An event as it is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The time at which the event was recorded.
    pub(crate) at: Timestamp,
    /// The stream of the event.
    pub(crate) stream: StreamId,
    /// The version of the event.
    pub(crate) version: Version,
    /// The content of the event.
    pub(crate) text: String,
}

/// Returns the events of a checkout and of its order, stock, payment and parcel, sorted by time.
pub(crate) async fn events(apps: &Apps, id: &Id<Checkout>) -> anyhow::Result<Vec<Shown>> {
    let [checkouts, payments, warehouse] = Service::ALL.map(|service| apps.app(service));
    let Some(Cart { sku, .. }) = checkouts.handle(id).state(|c| c.input().cloned()).await? else {
        bail!("there is no checkout {id}");
    };
    let order = Order::id(id.as_str());
    let of_order = |event: &InventoryEvent| order_of(event) == Some(&order);
    let mut events = events_of(checkouts, id, |_| true).await?;
    events.extend(events_of(checkouts, &order, |_| true).await?);
    events.extend(events_of(payments, &Payment::id(id.as_str()), |_| true).await?);
    events.extend(events_of(warehouse, &Shipping::id(id.as_str()), |_| true).await?);
    events.extend(events_of::<Inventory>(warehouse, &sku, of_order).await?);
    events.sort_by_key(|event| event.at);
    Ok(events)
}

/// Returns the events of an instance that pass `filter`.
async fn events_of<A: Aggregate>(
    app: &App,
    id: &Id<A>,
    filter: impl Fn(&A::Event) -> bool,
) -> anyhow::Result<Vec<Shown>> {
    let mut shown = Vec::new();
    let events: Vec<_> = app.handle(id).history().try_collect().await?;
    for recorded in events {
        let Some(event) = recorded.event.filter(|event| filter(event)) else { continue };
        let text = format!("{event:?}");
        let (at, stream, version) = (recorded.recorded_at, recorded.stream, recorded.version);
        shown.push(Shown { at, stream, version, text });
    }
    Ok(shown)
}

/// Returns the order that an inventory event belongs to.
fn order_of(event: &InventoryEvent) -> Option<&Id<Order>> {
    match event {
        InventoryEvent::Restocked { .. } => None,
        InventoryEvent::Reserved { order, .. }
        | InventoryEvent::HandedOver { order }
        | InventoryEvent::Released { order, .. } => Some(order),
    }
}
