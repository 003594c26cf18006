//! The HTTP API.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use composable_rust::SqlReadModel;
use composable_rust::axum::{Json, OpenApi, Problem, WaitFor};
use composable_rust::axum::{aggregate, projection_positions, with_problems};
use composable_rust::prelude::*;

use crate::{Figures, Invoice, Report, Subscription};

/// Returns all routes. They admit everybody: a public service authorizes its users here.
pub(crate) fn router(app: &App, model: SqlReadModel) -> Router {
    let subscriptions = aggregate::<Subscription>(app).public().require_idempotency_key();
    let subscriptions = subscriptions.all_commands().state().history().events();
    let invoices = aggregate::<Invoice>(app).public().state().history();
    let document = OpenApi::new("Subscriptions", "1.0")
        .aggregate("/subscriptions", &subscriptions)
        .aggregate("/invoices", &invoices);
    let router = Router::new()
        .route("/report", get(report))
        .route("/report/positions", projection_positions(app.projection::<Figures>()))
        .with_state((app.clone(), model))
        .route("/openapi.json", document.route())
        .nest("/subscriptions", subscriptions.router())
        .nest("/invoices", invoices.router());
    with_problems(router)
}

async fn report(
    State((app, model)): State<(App, SqlReadModel)>,
    wait_for: WaitFor,
) -> Result<Json<Report>, Problem> {
    wait_for.on(&app.projection::<Figures>()).await?;
    Ok(Json(Report::read(&model).await?))
}
