//! The id of the instance in the path.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::StatusCode;
use axum::http::request::Parts;
use composable_rust_core::{Aggregate, Id};

use crate::Problem;

/// The path parameter `id`, also where the path has others.
#[derive(Debug, Clone)]
pub(crate) struct InstanceId<A>(pub(crate) Id<A>);

impl<A: Aggregate, S: Send + Sync> FromRequestParts<S> for InstanceId<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let invalid = |detail: String| {
            Problem::new(StatusCode::BAD_REQUEST, "invalid_path").with_detail(detail)
        };
        let parameters = RawPathParams::from_request_parts(parts, state).await;
        let parameters = parameters.map_err(|rejection| invalid(rejection.body_text()))?;
        let id = parameters.iter().filter(|(name, _)| *name == "id").last();
        let (_, id) = id.ok_or_else(|| invalid("the path has no id".to_owned()))?;
        Ok(Self(Id::parse(id)?))
    }
}
