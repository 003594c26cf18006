//! Composable Rust over HTTP with axum. Use it through the facade crate `composable-rust`, feature
//! `axum`.
//!
//! - [`Problem`]: error responses in the format of RFC 9457, from every error of the framework.
//! - [`RequestContext`]: the `Idempotency-Key`, `traceparent` and `If-Match` headers and the
//!   [`User`] of a request, for the commands that it sends.
//! - [`WaitFor`]: a read model that shows what the client wrote before.
//! - [`aggregate()`]: ready handlers for an aggregate's commands, state, history and events.
//! - [`OpenApi`]: a document of these handlers.
//! - [`Health`]: endpoints by which orchestrators restart and route.
//! - [`serve`]: a server that ends with its app, and [`Stopping`] for streams of events.

mod aggregate;
mod extract;
mod headers;
mod health;
mod openapi;
mod path_segment;
mod positions;
mod problem;
mod sent;
mod serve;

pub use aggregate::access::{Access, Action, authenticated};
pub use aggregate::builder::{AggregateApi, Unprotected, aggregate};
pub use extract::json::Json;
pub use extract::path::Path;
pub use extract::query::Query;
pub use extract::request_context::RequestContext;
pub use extract::user::User;
pub use extract::wait_for::WaitFor;
pub use headers::idempotency_key::IdempotencyKey;
pub use headers::names::{COMPOSABLE_POSITION, COMPOSABLE_WAIT_FOR, IDEMPOTENCY_KEY};
pub use health::Health;
pub use openapi::OpenApi;
pub use positions::{log_positions, projection_positions};
pub use problem::fallback::with_problems;
pub use problem::map::map_problems;
pub use problem::problem::Problem;
pub use sent::Sent;
pub use serve::{Stopping, serve};
