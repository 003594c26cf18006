//! The request handlers.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use composable_rust::codec::Format;
use composable_rust::environment::{IdGenerator as _, SystemIds};
use composable_rust::prelude::*;
use composable_rust::store::EventStore as _;
use composable_rust::{Receipt, Recorded, Version};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::request::{Cancel, CommandHeaders, OrderId, Place, Ship, ShowQuery};
use crate::{Details, Order, OrderCommand, OrderEvent, Report};

type Body<T> = Result<Json<T>, JsonRejection>;

/// The response to a command: the version and position of its event.
#[derive(Debug, Serialize)]
struct CommandResponse {
    order: Id<Order>,
    version: Version,
    position: Option<String>,
}

async fn send(
    app: &App,
    id: &Id<Order>,
    command: OrderCommand,
    headers: CommandHeaders,
) -> Result<Receipt, ApiError> {
    let order = app.handle(id);
    let mut send = order.send(command);
    if let Some(key) = headers.key {
        send = send.key(key);
    }
    if let Some(user) = headers.user {
        send = send.by(user);
    }
    if let Some(traceparent) = headers.traceparent {
        send = send.traceparent(traceparent);
    }
    Ok(send.await?)
}

fn response(order: Id<Order>, Receipt { version, position }: Receipt) -> Json<CommandResponse> {
    Json(CommandResponse {
        order,
        version,
        position: position.map(|position| position.to_string()),
    })
}

pub(crate) async fn place(
    State(app): State<App>,
    headers: CommandHeaders,
    body: Body<Place>,
) -> Result<impl IntoResponse, ApiError> {
    let Json(Place { order, customer, placed_on, units, amount_cents: amount }) = body?;
    let id = match (&order, &headers.key) {
        (Some(order), _) => Order::parse_id(order)?,
        // A retry with the same key addresses the same order.
        (None, Some(key)) => Order::id_from(key),
        (None, None) => Order::id(SystemIds.new_id()),
    };
    let command = OrderCommand::Place { customer, placed_on, units, amount };
    let receipt = send(&app, &id, command, headers).await?;
    let status = if receipt.position.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, response(id, receipt)))
}

pub(crate) async fn ship(
    State(app): State<App>,
    OrderId(id): OrderId,
    headers: CommandHeaders,
    body: Body<Ship>,
) -> Result<impl IntoResponse, ApiError> {
    let Json(Ship { tracking, units }) = body?;
    let receipt = send(&app, &id, OrderCommand::Ship { tracking, units }, headers).await?;
    Ok(response(id, receipt))
}

pub(crate) async fn cancel(
    State(app): State<App>,
    OrderId(id): OrderId,
    headers: CommandHeaders,
    body: Body<Cancel>,
) -> Result<impl IntoResponse, ApiError> {
    let Json(Cancel { reason }) = body?;
    let receipt = send(&app, &id, OrderCommand::Cancel { reason }, headers).await?;
    Ok(response(id, receipt))
}

fn not_found(id: &Id<Order>) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is no order {id}"))
}

pub(crate) async fn show(
    State(app): State<App>,
    OrderId(id): OrderId,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(ShowQuery { at }) = query?;
    let order = app.handle(&id);
    let (state, version) = match at {
        Some(at) => order.state_at(at).await?,
        None => order.state_with_version(|state, version| (state.clone(), version)).await?,
    };
    if at.is_some_and(|at| at != version) {
        return Err(not_found(&id));
    }
    state_json(&id, version, &state).map(Json).ok_or_else(|| not_found(&id))
}

/// Returns the state as JSON; `None` before the order is placed.
fn state_json(id: &Id<Order>, version: Version, order: &Order) -> Option<Value> {
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

pub(crate) async fn history(
    State(app): State<App>,
    OrderId(id): OrderId,
) -> Result<Json<Value>, ApiError> {
    let events: Vec<_> =
        app.handle(&id).history().map_ok(|recorded| event_json(&recorded)).try_collect().await?;
    if events.is_empty() {
        return Err(not_found(&id));
    }
    Ok(Json(json!({ "order": id, "events": events })))
}

fn event_json(recorded: &Recorded<Option<OrderEvent>>) -> Value {
    let content = recorded.event.as_ref().and_then(|event| event.encode(Format::Json).ok());
    let content = content.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    json!({
        "version": recorded.version,
        "position": recorded.position.to_string(),
        "recorded_at": recorded.recorded_at,
        "user": recorded.metadata.as_ref().and_then(|metadata| metadata.user.as_deref()),
        "type": recorded.event.as_ref().map(|event| event.kind().name),
        "content": content,
    })
}

pub(crate) async fn report(State(app): State<App>) -> Result<Json<Report>, ApiError> {
    Ok(Json(Report::of(&app).await?))
}

pub(crate) async fn health(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    match app.store().heads().await {
        Ok(_) => Ok(Json(json!({ "status": "ok" }))),
        Err(error) => {
            let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            Err(ApiError::new(status, "unavailable", message))
        }
    }
}

pub(crate) async fn no_such_route() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_such_route", "no resource has this path")
}

pub(crate) async fn no_such_method() -> ApiError {
    let message = "this path does not support the method";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", message)
}
