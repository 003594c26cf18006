//! The names of header fields.

use axum::http::HeaderName;

/// The request header with which a repeated request is recognised.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The response header with the log position of the last event that a command caused.
pub const COMPOSABLE_POSITION: HeaderName = HeaderName::from_static("composable-position");

/// The request header with the positions that a read model must show: those of
/// [`COMPOSABLE_POSITION`], separated by commas.
pub const COMPOSABLE_WAIT_FOR: HeaderName = HeaderName::from_static("composable-wait-for");

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
