//! The content of requests.

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use composable_rust::Version;
use composable_rust::prelude::*;
use serde::Deserialize;

use super::error::ApiError;
use crate::{Cents, Date, Order};

/// The order id in the path.
pub(crate) struct OrderId(pub(crate) Id<Order>);

impl<S: Send + Sync> FromRequestParts<S> for OrderId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Self(Order::parse_id(&id)?))
    }
}

/// The metadata of a command, from the headers.
pub(crate) struct CommandHeaders {
    /// `Idempotency-Key`: a repeated request with the same key gets the same response.
    pub(crate) key: Option<String>,
    /// `X-User`: the user. A public server would take it from an access token instead.
    pub(crate) user: Option<String>,
    /// `traceparent`: the trace of the request.
    pub(crate) traceparent: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for CommandHeaders {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let header = |name: &str| {
            let text = parts.headers.get(name).map(|value| value.to_str().map(str::to_owned));
            text.transpose().map_err(|_| {
                let message = format!("the header {name} must be visible ASCII");
                ApiError::new(StatusCode::BAD_REQUEST, "invalid_header", message)
            })
        };
        Ok(Self {
            key: header("idempotency-key")?,
            user: header("x-user")?,
            traceparent: header("traceparent")?,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// The order's id. Default: derived from the idempotency key, or random without a key.
    pub(crate) order: Option<String>,
    pub(crate) customer: String,
    pub(crate) placed_on: Option<Date>,
    pub(crate) units: u32,
    pub(crate) amount_cents: Cents,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ship {
    pub(crate) tracking: String,
    pub(crate) units: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancel {
    pub(crate) reason: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ShowQuery {
    /// The version to show. Default: the current version.
    pub(crate) at: Option<Version>,
}
