//! `GET /{id}`.

use std::sync::Arc;

use axum::extract::{FromRequestParts as _, State};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use composable_rust_core::{Aggregate, Id, Version};
use serde::Deserialize;

use super::access::Action;
use super::builder::{Exposed, View};
use crate::extract::instance_id::InstanceId;
use crate::headers::entity_tag::{entity_tag, is_current};
use crate::problem::errors::internal;
use crate::{Problem, Query};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateQuery {
    /// The version to show. Default: the current version.
    version: Option<Version>,
}

pub(crate) async fn get<A: Aggregate>(
    State((api, view)): State<(Arc<Exposed<A>>, View<A>)>,
    InstanceId(id): InstanceId<A>,
    mut parts: Parts,
) -> Result<Response, Problem> {
    api.authorization.check(&parts, &id, Action::State).await?;
    let Query(StateQuery { version: at }) = Query::from_request_parts(&mut parts, &()).await?;
    let handle = api.app.handle(&id);
    let (json, version) = match at {
        Some(at) => {
            let (state, version) = handle.state_at(at).await?;
            if version != at {
                let detail = format!("the stream ends at version {version}");
                return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_version")
                    .with_detail(detail)
                    .with_member("actual_version", version.get()));
            }
            (view(&id, &state, version), version)
        }
        None => {
            handle.state_with_version(|state, version| (view(&id, state, version), version)).await?
        }
    };
    let json = json.filter(|_| version > Version::ZERO).ok_or_else(|| not_found(&id))?;
    let tag = entity_tag(version);
    if is_current(&parts.headers, version) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    let json = json.map_err(|error| internal("unserializable_state", &error))?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(CONTENT_TYPE, kind), (ETAG, tag)], json).into_response())
}

/// Returns the problem of an instance that has no events, or that the view hides.
pub(crate) fn not_found<A: Aggregate>(id: &Id<A>) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found")
        .with_detail(format!("there is no {} {id}", A::NAME))
}
