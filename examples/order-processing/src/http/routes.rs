//! The handlers that are not ready-made.

use axum::extract::State;
use composable_rust::axum::{Json, Path, Problem, RequestContext, Sent, WaitFor};
use composable_rust::prelude::*;
use composable_rust::store::EventStore as _;
use composable_rust::{SqlReadModel, Version};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::customer_orders::{CustomerOrder, CustomerOrders, orders_of};
use crate::{Cents, Date, Details, Order, OrderCommand, Report};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// The order's id. Default: derived from the idempotency key, or random without a key.
    order: Option<String>,
    customer: String,
    placed_on: Option<Date>,
    units: u32,
    amount_cents: Cents,
}

pub(crate) async fn place(
    State(app): State<App>,
    ctx: RequestContext,
    Json(Place { order, customer, placed_on, units, amount_cents: amount }): Json<Place>,
) -> Result<Sent, Problem> {
    let id = match order {
        Some(order) => Order::parse_id(&order)?,
        None => ctx.new_id(),
    };
    let command = OrderCommand::Place { customer, placed_on, units, amount };
    Ok(ctx.send(&app, &id, command).await?.created("/orders"))
}

/// Returns the public view of an order; `None` before it is placed.
pub(crate) fn view(id: &Id<Order>, order: &Order, version: Version) -> Option<Value> {
    let (details, status, shipped) = match order {
        Order::New => return None,
        Order::Placed { details, shipped } if *shipped == details.units => {
            (details, "shipped", *shipped)
        }
        Order::Placed { details, shipped } => (details, "placed", *shipped),
        Order::Cancelled { details, .. } => (details, "cancelled", 0),
    };
    let Details { customer, placed_on, units, amount } = details;
    Some(json!({
        "order": id, "version": version, "status": status, "customer": customer,
        "placed_on": placed_on, "units": units, "shipped": shipped, "amount_cents": amount,
    }))
}

/// Returns the orders of a customer. With the header `Composable-Wait-For`, waits until the read
/// model shows these positions.
pub(crate) async fn customer_orders(
    State((app, model)): State<(App, SqlReadModel)>,
    Path(customer): Path<String>,
    wait_for: WaitFor,
) -> Result<Json<Vec<CustomerOrder>>, Problem> {
    wait_for.on(&app.projection::<CustomerOrders>()).await?;
    Ok(Json(orders_of(&model, &customer).await?))
}

pub(crate) async fn report(State(app): State<App>) -> Result<Json<Report>, Problem> {
    Ok(Json(Report::of(&app).await?))
}

pub(crate) async fn health(State(app): State<App>) -> Result<Json<Value>, Problem> {
    app.store().heads().await?;
    Ok(Json(json!({ "status": "ok" })))
}
