//! What requests hold.

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use composable_rust::Version;
use composable_rust::prelude::*;
use serde::Deserialize;

use super::error::ApiError;
use crate::{Cents, Date, Order};

/// The order that the path names.
pub(crate) struct OrderId(pub(crate) Id<Order>);

impl<S: Send + Sync> FromRequestParts<S> for OrderId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Self(Order::parse_id(&id)?))
    }
}

/// What the headers say about a command.
pub(crate) struct Asking {
    /// `Idempotency-Key`: the same request again gets the same answer.
    pub(crate) key: Option<String>,
    /// `X-User`: who asks. A server that is open to the world takes it from a token instead.
    pub(crate) user: Option<String>,
    /// `traceparent`: the trace that the request belongs to.
    pub(crate) traceparent: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asking {
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
    /// The order's id; one is made unless given, of the key if there is one.
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
pub(crate) struct At {
    /// The version to show the state of.
    pub(crate) at: Option<Version>,
}
