//! Parameters of the path.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Problem;

/// The parameters of the path: as [`axum::extract::Path`], but a path that cannot be read is a
/// [`Problem`]. An id of an instance is read directly: `Path(id): Path<Id<Order>>`.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(parameters) = path.map_err(Problem::from)?;
        Ok(Self(parameters))
    }
}
