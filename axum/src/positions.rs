//! Server-sent events of positions.

use std::convert::Infallible;

use axum::Extension;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{MethodRouter, get};
use composable_rust_core::Position;
use composable_rust_core::store::{EventStore as _, StoreError};
use composable_rust_runtime::App;
use composable_rust_runtime::operations::ProjectionHandle;
use futures_util::{Stream, StreamExt as _, stream};

use crate::serve::Stopping;

/// Returns a `GET` handler that sends the last processed position of each partition as a JSON
/// array, `["0:17","1:4"]`, now and whenever one changes: a client that shows a read model learns
/// when to read it again. Anyone who reaches the route may read: protect it with a middleware.
///
/// When the read model is unavailable, the stream ends and the client connects again.
pub fn projection_positions<S>(projection: ProjectionHandle) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    get(move |stopping| std::future::ready(respond(projection.positions(), stopping)))
}

/// As [`projection_positions`], for the ends of the log: changes when events are committed.
pub fn log_positions<S>(app: &App) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let app = app.clone();
    get(move |stopping| std::future::ready(respond(heads(&app), stopping)))
}

/// Returns the ends of the log, now and whenever one moves.
fn heads(app: &App) -> impl Stream<Item = Result<Vec<Position>, StoreError>> + Send + use<> {
    let store = app.store().clone();
    stream::try_unfold((store, None), |(store, seen)| async move {
        loop {
            let heads = store.heads().await?;
            if seen.as_ref() != Some(&heads) {
                return Ok(Some((heads.clone(), (store, Some(heads)))));
            }
            store.wait_for_events(&heads).await?;
        }
    })
}

fn respond(
    positions: impl Stream<Item = Result<Vec<Position>, StoreError>> + Send + 'static,
    stopping: Option<Extension<Stopping>>,
) -> impl IntoResponse {
    let events = positions.scan((), |(), positions| {
        let event = match positions {
            Ok(positions) => Event::default().event("positions").json_data(positions).ok(),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "failed to read positions; ending a stream of events");
                None
            }
        };
        std::future::ready(event.map(Ok::<_, Infallible>))
    });
    let Extension(stopping) = stopping.unwrap_or_default();
    Sse::new(stopping.end(events)).keep_alive(KeepAlive::default())
}
