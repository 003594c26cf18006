//! Live pages by server-sent events.

use std::convert::Infallible;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep};

use crate::context::Context;
use crate::failure::Failure;
use crate::page::Page;

/// The maximum number of pages that are live at the same time, in all browsers.
pub(crate) const MAX_STREAMS: usize = 64;
/// The interval at which a page is rendered again.
const INTERVAL: Duration = Duration::from_secs(2);
/// The part of the time that one live page may spend on rendering, as its inverse.
const SHARE: u32 = 10;
/// The time after which a stream ends, so that the browser authenticates again.
const LIFETIME: Duration = Duration::from_secs(300);

struct Live<F> {
    context: Context,
    render: F,
    shown: String,
    wait: Duration,
    ends: Instant,
    /// Closed when the stream is dropped.
    _open: oneshot::Sender<()>,
}

/// Returns the digest by which a browser tells which body it shows.
pub(crate) fn digest(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Returns a stream of the bodies of a page, each time that it changes.
pub(crate) fn stream<F, R>(context: Context, render: F) -> Response
where
    F: Fn(Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Page, Failure>> + Send + 'static,
{
    let Ok(permit) = context.shared.streams.clone().try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let (shown, stopping) = (context.query("shown").to_owned(), context.stopping.clone());
    let ends = Instant::now() + LIFETIME;
    let wait = Duration::ZERO;
    let (open, dropped) = oneshot::channel();
    tokio::spawn(hold(permit, dropped));
    let live = Live { context, render, shown, wait, ends, _open: open };
    let events = stream::unfold(live, async |mut live| {
        let event = live.next().await?;
        Some((Ok::<_, Infallible>(event), live))
    });
    Sse::new(stopping.end(events)).keep_alive(KeepAlive::default()).into_response()
}

/// Holds a permit until its stream is dropped, or has lived: a client that reads nothing leaves its
/// stream alone, which then does not end.
async fn hold(permit: OwnedSemaphorePermit, dropped: oneshot::Receiver<()>) {
    let _ = tokio::time::timeout(LIFETIME, dropped).await;
    drop(permit);
}

impl<F, R> Live<F>
where
    F: Fn(Context) -> R,
    R: Future<Output = Result<Page, Failure>>,
{
    /// Returns the next body; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            sleep(self.wait).await;
            let before = Instant::now();
            if before >= self.ends {
                return None;
            }
            let rendered = (self.render)(self.context.clone()).await;
            self.wait = INTERVAL.max(before.elapsed() * SHARE);
            let event = match rendered {
                Ok(page) => {
                    let body = page.body.into_string();
                    let digest = digest(&body);
                    if digest == self.shown {
                        continue;
                    }
                    self.shown.clone_from(&digest);
                    Event::default().event("body").id(digest).data(body)
                }
                Err(failure) => Event::default().event("failure").data(failure.detail),
            };
            return Some(event);
        }
    }
}
