//! Printing one checkout with everything that belongs to it in all services.

use anyhow::bail;
use composable_rust::Timestamp;
use composable_rust::prelude::*;
use futures_util::TryStreamExt as _;

use crate::output::print_line;
use crate::{Apps, Cart, Checkout, Inventory, InventoryEvent, Order, Payment, Service, Shipping};

/// Prints the status of a checkout and of its order, stock, payment and parcel.
pub(crate) async fn status(apps: &Apps, id: &Id<Checkout>) -> anyhow::Result<()> {
    let [checkouts, payments, warehouse] = Service::ALL.map(|service| apps.app(service));
    let checkout = checkouts.handle(id).state(Clone::clone).await?;
    let Some(Cart { sku, units, cents }) = &checkout.cart else {
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
    print_line(&format!("checkout   {:?}", checkout.status))?;
    if !checkout.not_undone.is_empty() {
        print_line(&format!("not undone {:?}", checkout.not_undone))?;
    }
    print_line(&format!("cart       {units} of {sku} for {cents} cents"))?;
    print_line(&format!("order      {order}"))?;
    print_line(&format!("stock      {allocation}"))?;
    print_line(&format!("payment    {payment}"))?;
    print_line(&format!("parcel     {parcel}"))
}

/// Prints the events of a checkout and of its order, stock, payment and parcel, sorted by time.
pub(crate) async fn history(apps: &Apps, id: &Id<Checkout>) -> anyhow::Result<()> {
    let [checkouts, payments, warehouse] = Service::ALL.map(|service| apps.app(service));
    let Some(Cart { sku, .. }) = checkouts.handle(id).state(|c| c.cart.clone()).await? else {
        bail!("there is no checkout {id}");
    };
    let order = Order::id(id.as_str());
    let of_order = |event: &InventoryEvent| order_of(event) == Some(&order);
    let mut lines = event_lines(checkouts, id, |_| true).await?;
    lines.extend(event_lines(checkouts, &order, |_| true).await?);
    lines.extend(event_lines(payments, &Payment::id(id.as_str()), |_| true).await?);
    lines.extend(event_lines(warehouse, &Shipping::id(id.as_str()), |_| true).await?);
    lines.extend(event_lines::<Inventory>(warehouse, &sku, of_order).await?);
    lines.sort_by_key(|(at, _)| *at);
    for (_, line) in lines {
        print_line(&line)?;
    }
    Ok(())
}

/// Returns the time and a line of text for each event of an instance that passes `filter`.
async fn event_lines<A: Aggregate>(
    app: &App,
    id: &Id<A>,
    filter: impl Fn(&A::Event) -> bool,
) -> anyhow::Result<Vec<(Timestamp, String)>> {
    let mut lines = Vec::new();
    let events: Vec<_> = app.handle(id).history().try_collect().await?;
    for recorded in events {
        let Some(event) = recorded.event.filter(|event| filter(event)) else { continue };
        let (stream, version) = (&recorded.stream, recorded.version);
        let at = recorded.recorded_at.to_string();
        lines.push((recorded.recorded_at, format!("{at:<27}  {stream} {version}  {event:?}")));
    }
    Ok(lines)
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
