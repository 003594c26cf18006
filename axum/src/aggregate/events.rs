//! `GET /{id}/events`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequestParts as _, State};
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use composable_rust_core::{Aggregate, Message, Recorded, Version};
use composable_rust_runtime::LoadError;
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::access::Action;
use super::builder::Exposed;
use super::event_json::EventJson;
use crate::extract::instance_id::InstanceId;
use crate::headers::names::LAST_EVENT_ID;
use crate::headers::single::{invalid, single};
use crate::serve::Stopping;
use crate::{Problem, Query};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// The version after which the events begin. Default: 0.
    #[serde(default)]
    after: Version,
}

pub(crate) async fn get<A: Aggregate>(
    State(api): State<Arc<Exposed<A>>>,
    InstanceId(id): InstanceId<A>,
    stopping: Option<Extension<Stopping>>,
    mut parts: Parts,
) -> Result<Response, Problem> {
    api.authorization.check(&parts, &id, Action::Events).await?;
    let Query(EventsQuery { after }) = Query::from_request_parts(&mut parts, &()).await?;
    // A client that reconnects repeats the query, so the header counts.
    let after = match single(&parts.headers, &LAST_EVENT_ID)? {
        Some(seen) => seen.parse().map_err(|_| invalid(&LAST_EVENT_ID, "is not a version"))?,
        None => after,
    };
    let recorded = api.app.handle(&id).follow(after);
    let events = recorded
        .scan((), |(), recorded| std::future::ready(event(recorded).map(Ok::<_, Infallible>)));
    let Extension(stopping) = stopping.unwrap_or_default();
    Ok(Sse::new(stopping.end(events)).keep_alive(KeepAlive::default()).into_response())
}

/// Returns an event for the client; `None` ends the stream, and the client connects again.
fn event<E: Message>(recorded: Result<Recorded<Option<E>>, LoadError>) -> Option<Event> {
    let recorded = recorded.inspect_err(|error| {
        let error = error as &dyn std::error::Error;
        tracing::warn!(error, "failed to follow a stream; ending a stream of events");
    });
    let recorded = recorded.ok()?;
    let event = Event::default().id(recorded.version.to_string());
    let name = recorded.event.as_ref().map_or("erased", |event| event.kind().name);
    // A line break would end the field.
    let event = if name.contains(['\n', '\r']) { event } else { event.event(name) };
    event.json_data(EventJson::of(&recorded)).ok()
}
