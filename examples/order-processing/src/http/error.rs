//! Error responses.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use composable_rust::{InvalidId, LoadError, SendError};
use serde::Serialize;

use crate::OrderRejection;

/// An error response: a status, a stable code for programs, and a message for people.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

#[derive(Serialize)]
struct Body {
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message } = self;
        (status, Json(Body { code, message })).into_response()
    }
}

impl From<SendError<OrderRejection>> for ApiError {
    fn from(error: SendError<OrderRejection>) -> Self {
        let status = match &error {
            SendError::Rejected(rejection) => rejection_status(rejection),
            SendError::KeyReused | SendError::Unstorable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            SendError::UnexpectedVersion { .. } => StatusCode::PRECONDITION_FAILED,
            SendError::Closed => StatusCode::GONE,
            SendError::DeadlinePassed => StatusCode::GATEWAY_TIMEOUT,
            SendError::Load(error) => return Self::unavailable(error),
            SendError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = match &error {
            SendError::Rejected(rejection) => rejection.to_string(),
            error => error.to_string(),
        };
        if status.is_server_error() {
            tracing::error!(error = %message, "command failed; answering with an error");
        }
        Self::new(status, error.code(), message)
    }
}

/// Returns the status of a rejection.
fn rejection_status(rejection: &OrderRejection) -> StatusCode {
    match rejection {
        OrderRejection::NoCustomer | OrderRejection::NoUnits => StatusCode::UNPROCESSABLE_ENTITY,
        OrderRejection::NotPlaced => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    }
}

impl ApiError {
    fn unavailable(error: &LoadError) -> Self {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "failed to load an order; answering with an error"
        );
        let status = if error.is_transient() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, "unavailable", error.to_string())
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<InvalidId> for ApiError {
    fn from(error: InvalidId) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_id", error.to_string())
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), "invalid_body", rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "invalid_id", rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "invalid_query", rejection.body_text())
    }
}
