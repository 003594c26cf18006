//! Problems for requests that no route matches.

use axum::Router;
use axum::http::StatusCode;

use crate::Problem;

/// Makes a router respond with a [`Problem`] to a path or a method that it does not have. Call it
/// after all routes are added.
pub fn with_problems<S>(router: Router<S>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router.fallback(no_such_path).method_not_allowed_fallback(no_such_method)
}

async fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_path").with_detail("no resource has this path")
}

async fn no_such_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method")
        .with_detail("the resource does not support this method")
}
