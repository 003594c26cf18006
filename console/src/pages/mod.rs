//! The pages, and the forms on them.

mod audit;
mod bus;
mod consumers;
mod dead_letters;
mod doctor;
mod events;
mod gateways;
mod instance;
pub(crate) mod login;
mod operations;
mod overview;
mod processes;
mod projections;
mod queues;
mod replacement;
mod sagas;
mod schema;
mod streams;
mod timers;
mod traces;

use std::sync::Arc;

use axum::Router;

use crate::action::action;
use crate::context::Shared;
use crate::page::page;

/// Returns the routes for known users.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", page(overview::page))
        .route("/streams", page(streams::page))
        .route("/streams/{stream}", page(instance::page))
        .route("/streams/{stream}/replace", page(replacement::form))
        .route("/events", page(events::page))
        .route("/traces/{correlation}", page(traces::page))
        .route("/sagas", page(sagas::page))
        .route("/queues", page(queues::page))
        .route("/queues/messages", page(queues::waiting))
        .route("/dead-letters", page(dead_letters::groups))
        .route("/dead-letters/list", page(dead_letters::list))
        .route("/dead-letters/rehearsal", page(dead_letters::rehearsal))
        .route("/timers", page(timers::page))
        .route("/projections", page(projections::page))
        .route("/bus", page(bus::page))
        .route(consumers::PATH, page(consumers::page))
        .route("/gateways", page(gateways::page))
        .route("/processes", page(processes::page))
        .route("/schema", page(schema::page))
        .route("/audit", page(audit::page))
        .route("/doctor", page(doctor::page))
        .route("/operations/{id}", page(operations::page))
        .merge(changes())
}

/// Returns the routes of forms.
fn changes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/dead-letters/redrive", action(dead_letters::redrive))
        .route("/dead-letters/discard", action(dead_letters::discard))
        .route("/streams/{stream}/replace", action(replacement::replace))
        .route("/operations/cancel", action(operations::cancel))
        .route("/queues/park", action(queues::park))
        .route("/queues/discard", action(queues::discard))
        .route("/timers/fire", action(timers::fire))
        .route("/timers/cancel", action(timers::cancel))
        .route("/projections/pause", action(projections::pause))
        .route("/projections/resume", action(projections::resume))
        .route("/projections/rebuild", action(projections::rebuild))
        .route("/bus/consumers/move", action(consumers::change))
        .route("/gateways/pause", action(gateways::pause))
        .route("/gateways/resume", action(gateways::resume))
        .route("/log/pause", action(gateways::pause_log))
        .route("/log/resume", action(gateways::resume_log))
}
