//! The HTTP API.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use composable_rust::SqlReadModel;
use composable_rust::axum::{
    Health, Json, OpenApi, Problem, Query, WaitFor, aggregate, with_problems,
};
use composable_rust::prelude::*;
use serde::Deserialize;

use crate::order::{Fulfilment, Order};
use crate::overview::{OrderRow, Overview, of_customer};
use crate::shop::Shop;

/// Returns all routes of a process. The API is open: a public service authorizes its users here.
pub fn router(shop: &Shop, health: &Health) -> Router {
    let mut router = health.router();
    if let (Some(app), Some(overview)) = (shop.orders(), &shop.overview) {
        router = router.merge(orders(app, overview));
    }
    with_problems(router)
}

fn orders(app: &App, overview: &SqlReadModel) -> Router {
    let orders = aggregate::<Order>(app).public().require_idempotency_key();
    let orders = orders.commands(["order.place", "order.cancel"]).state().history().events();
    let fulfilments = aggregate::<Fulfilment>(app).public().state().history();
    let document = OpenApi::new("Shop", env!("CARGO_PKG_VERSION"))
        .aggregate("/orders", &orders)
        .aggregate("/fulfilments", &fulfilments);
    Router::new()
        .route("/customers/orders", get(customer_orders))
        .with_state((app.clone(), overview.clone()))
        .route("/openapi.json", document.route())
        .nest("/orders", orders.router())
        .nest("/fulfilments", fulfilments.router())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfCustomer {
    customer: String,
}

async fn customer_orders(
    State((app, overview)): State<(App, SqlReadModel)>,
    wait_for: WaitFor,
    Query(OfCustomer { customer }): Query<OfCustomer>,
) -> Result<Json<Vec<OrderRow>>, Problem> {
    wait_for.on(&app.projection::<Overview>()).await?;
    let orders = of_customer(&overview, &customer).await;
    Ok(Json(orders.map_err(|error| Problem::internal(&error))?))
}
