//! `GET /{id}/history`.

use std::sync::Arc;

use axum::extract::{FromRequestParts as _, State};
use axum::http::request::Parts;
use composable_rust_core::{Aggregate, Version};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::access::Action;
use super::builder::Exposed;
use super::event_json::EventJson;
use super::state::not_found;
use crate::extract::instance_id::InstanceId;
use crate::{Json, Problem, Query};

/// The default number of events of a page.
const DEFAULT_LIMIT: usize = 100;
/// The maximum number of events of a page.
const MAX_LIMIT: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryQuery {
    /// The version after which the page begins. Default: 0.
    #[serde(default)]
    after: Version,
    limit: Option<usize>,
}

/// A page of events.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    events: Vec<EventJson>,
    /// The `after` of the next page; `None` if this is the last.
    next: Option<Version>,
}

pub(crate) async fn get<A: Aggregate>(
    State(api): State<Arc<Exposed<A>>>,
    InstanceId(id): InstanceId<A>,
    mut parts: Parts,
) -> Result<Json<Page>, Problem> {
    api.authorization.check(&parts, &id, Action::History).await?;
    let Query(HistoryQuery { after, limit }) = Query::from_request_parts(&mut parts, &()).await?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let history = api.app.handle(&id).history_after(after);
    let mut recorded: Vec<_> = history.take(limit + 1).try_collect().await?;
    if recorded.is_empty() && after == Version::ZERO {
        return Err(not_found(&id));
    }
    let has_more = recorded.len() > limit;
    recorded.truncate(limit);
    let next = recorded.last().filter(|_| has_more).map(|last| last.version);
    Ok(Json(Page { events: recorded.iter().map(EventJson::of).collect(), next }))
}
