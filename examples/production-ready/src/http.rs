//! The HTTP API.

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use composable_rust::SqlReadModel;
use composable_rust::axum::{
    Health, Json, OpenApi, Problem, Query, WaitFor, aggregate, with_problems,
};
use composable_rust::prelude::*;
use composable_rust::telemetry::PrometheusMetrics;
use composable_rust_cli::{Admin, Operator};
use composable_rust_console::Console;
use serde::Deserialize;

use crate::config::Config;
use crate::order::{Fulfilment, Order};
use crate::overview::{OrderRow, Overview, of_customer};
use crate::shop::Shop;

/// Returns all routes of a process. The API is open: a public service authorizes its users here.
///
/// # Errors
///
/// The console's token is too short.
pub fn router(
    shop: &Shop,
    health: &Health,
    config: &Config,
    metrics: PrometheusMetrics,
) -> anyhow::Result<Router> {
    let mut router = health
        .router()
        .route("/metrics", get(async move || ([(CONTENT_TYPE, PROMETHEUS)], metrics.render())));
    for (name, app) in &shop.apps {
        let path = if shop.apps.len() == 1 { "/console" } else { &format!("/console/{name}") };
        router = router.nest(path, console(shop, app, config)?);
    }
    if let (Some(app), Some(overview)) = (shop.orders(), &shop.overview) {
        router = router.merge(orders(app, overview));
    }
    Ok(with_problems(router))
}

/// Returns the console of an app, which seeks workflows in the others of the process as well.
fn console(shop: &Shop, app: &App, config: &Config) -> anyhow::Result<Router> {
    let admin = |app| Admin::new(app, Operator::named("console"));
    let others = shop.apps.iter().filter(|(_, other)| other.log().id != app.log().id);
    let console = Console::new(admin(app));
    let console = others.fold(console, |console, (_, other)| console.also(admin(other)));
    let console = match &config.console_token {
        Some(token) => console.token("operator", token),
        None => console.loopback_only(),
    };
    let console = if config.console_changes { console.allow_changes() } else { console };
    console.router().context("SHOP_CONSOLE_TOKEN")
}

/// The content type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4";

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
