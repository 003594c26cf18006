//! Problems from the other errors of the framework.

use std::error::Error;

use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::StatusCode;
use composable_rust_core::store::StoreError;
use composable_rust_core::{InvalidId, InvalidPosition};
use composable_rust_runtime::operations::ProjectionWaitError;
use composable_rust_runtime::{LoadError, SettleError, WaitError};

use crate::Problem;

/// Returns a problem that hides the text of an error, which may name internals, and logs it.
pub(crate) fn internal(code: &'static str, error: &(dyn Error + 'static)) -> Problem {
    tracing::error!(code, error, "failed to handle a request; responding with status 500");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code)
}

impl Problem {
    /// The problem of an error that clients cannot correct, such as that of a query: status 500 and
    /// the code `internal`. The log has the error; the response has no text of it.
    ///
    /// ```
    /// use composable_rust_axum::Problem;
    ///
    /// let error = std::io::Error::other("password of app is wrong");
    /// let problem = Problem::internal(&error);
    /// assert_eq!((problem.code(), problem.detail()), ("internal", None));
    /// ```
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        internal("internal", error)
    }
}

/// Returns the problem of a store that does not answer.
fn unavailable(error: &(dyn Error + 'static)) -> Problem {
    tracing::warn!(error, "the store is unavailable; responding with status 503");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable").retry_after(1)
}

pub(crate) fn load_problem(error: &LoadError) -> Problem {
    match error {
        // A process with newer code can handle the request.
        LoadError::NewerSchema { .. } => unavailable(error),
        error if error.is_transient() => unavailable(error),
        error => internal("not_loadable", error),
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        load_problem(&error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_transient() { unavailable(&error) } else { internal("store_error", &error) }
    }
}

impl From<WaitError> for Problem {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Load(error) => error.into(),
            error => Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_passed")
                .with_detail(error.to_string()),
        }
    }
}

impl From<SettleError> for Problem {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Unavailable(error) => error.into(),
            // The error names the work that waits, which is no concern of the client.
            _ => Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_passed")
                .with_detail("the workflow has not come to rest within the deadline"),
        }
    }
}

/// The read model does not show the position: 503, because a later request may find it.
impl From<ProjectionWaitError> for Problem {
    fn from(error: ProjectionWaitError) -> Self {
        let code = match error {
            ProjectionWaitError::Unavailable(error) => return error.into(),
            ProjectionWaitError::NotRunning { .. } => "projection_not_running",
            _ => "projection_behind",
        };
        let detail = match code {
            "projection_behind" => "the read model does not show the position yet",
            _ => "the read model is not being updated",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code).with_detail(detail).retry_after(1)
    }
}

impl From<InvalidId> for Problem {
    fn from(error: InvalidId) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_id").with_detail(error.to_string())
    }
}

impl From<InvalidPosition> for Problem {
    fn from(error: InvalidPosition) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_position").with_detail(error.to_string())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let code = match &rejection {
            JsonRejection::MissingJsonContentType(_) => "unsupported_media_type",
            JsonRejection::JsonSyntaxError(_) => "invalid_json",
            JsonRejection::BytesRejection(_) => body_code(rejection.status()),
            _ => "invalid_body",
        };
        Self::new(rejection.status(), code).with_detail(rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        Self::new(status, body_code(status)).with_detail(rejection.body_text())
    }
}

fn body_code(status: StatusCode) -> &'static str {
    if status == StatusCode::PAYLOAD_TOO_LARGE { "body_too_large" } else { "unreadable_body" }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "invalid_path").with_detail(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "invalid_query").with_detail(rejection.body_text())
    }
}
