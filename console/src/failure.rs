//! The error of a request, as a page.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use composable_rust_admin::AdminError;
use composable_rust_runtime::operations::ConsumerError;
use maud::{DOCTYPE, html};

/// The error of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) title: String,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(
        status: StatusCode,
        title: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, title: title.into(), detail: detail.into() }
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    /// A parameter of a request has a value of another form.
    pub(crate) fn invalid(name: &str, value: &str) -> Self {
        let detail = format!("`{value}` is not a valid `{name}`.");
        Self::new(StatusCode::BAD_REQUEST, "Invalid request", detail)
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let (status, title) = match &error {
            AdminError::NotFound { .. }
            | AdminError::Consumer(
                ConsumerError::Unknown { .. } | ConsumerError::NoPosition { .. },
            ) => (StatusCode::NOT_FOUND, "Not found"),
            AdminError::NotAtHead | AdminError::TimerGone { .. } => {
                (StatusCode::CONFLICT, "Changed meanwhile")
            }
            AdminError::Consumer(ConsumerError::Bus(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "The bus is unavailable or refuses it")
            }
            AdminError::NotRegistered { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Not registered here")
            }
            error if error.is_transient() => {
                (StatusCode::SERVICE_UNAVAILABLE, "The store is unavailable")
            }
            AdminError::Registry(_)
            | AdminError::Erased { .. }
            | AdminError::Consumer(ConsumerError::NoBus) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "It cannot be done")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "The operation failed"),
        };
        if status.is_server_error() {
            tracing::warn!(%error, "a request of the console failed");
        }
        Self::new(status, title, texts(&error))
    }
}

impl From<composable_rust_core::store::StoreError> for Failure {
    fn from(error: composable_rust_core::store::StoreError) -> Self {
        AdminError::from(error).into()
    }
}

/// Returns the texts of an error and its sources.
pub(crate) fn texts(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let of = error.to_string();
        if !text.contains(&of) {
            text = format!("{text}: {of}");
        }
        source = error.source();
    }
    text
}

/// The page for a user who is not known, which therefore has no links.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) }
                }
                body { h1 { (self.title) } p { (self.detail) } }
            }
        };
        (self.status, Html(page.into_string())).into_response()
    }
}
