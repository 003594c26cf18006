//! A server that ends with its app.

use std::future::{Future, IntoFuture as _};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::{Extension, Router};
use composable_rust_runtime::App;
use futures_util::Stream;
use futures_util::StreamExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Tells streams of events that the server stops: an extension of each request that [`serve`]
/// handles, for handlers that answer with such a stream. The default never stops.
#[derive(Debug, Clone, Default)]
pub struct Stopping(CancellationToken);

impl Stopping {
    /// Ends a stream of events when the server stops.
    pub fn end<S: Stream>(self, stream: S) -> impl Stream<Item = S::Item> {
        stream.take_until(self.0.cancelled_owned())
    }
}

/// Starts the workers of `app` and serves `router` until `signal` completes. Then it accepts no new
/// connection, ends the streams of events, and finishes the requests in progress and then the work
/// of the app, each for at most `grace`. Requests have the extension
/// [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo). Returns `true` if all accepted commands
/// were finished, as [`App::shutdown`] does.
///
/// # Errors
///
/// The server cannot accept connections.
///
/// # Example: a service that stops on Ctrl-C and SIGTERM
///
/// ```no_run
/// # use std::time::Duration;
/// # use axum::Router;
/// # use composable_rust_runtime::{App, shutdown_signal};
/// # async fn run(app: App, router: Router) -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// let grace = Duration::from_secs(10);
/// composable_rust_axum::serve(&app, listener, router, shutdown_signal(), grace).await?;
/// # Ok(())
/// # }
/// ```
pub async fn serve(
    app: &App,
    listener: TcpListener,
    router: Router,
    signal: impl Future<Output = ()>,
    grace: Duration,
) -> io::Result<bool> {
    app.start();
    let stopping = Stopping::default();
    let router = router.layer(Extension(stopping.clone()));
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let stopped = stopping.0.clone().cancelled_owned();
    let server = axum::serve(listener, router).with_graceful_shutdown(stopped).into_future();
    let mut server = std::pin::pin!(server);
    let early = tokio::select! {
        biased;
        ended = &mut server => Some(ended),
        () = signal => None,
    };
    // Every request in progress finds the app open, so the server stops first.
    stopping.0.cancel();
    let ended = match early {
        Some(ended) => Some(ended),
        None => tokio::time::timeout(grace, &mut server).await.ok(),
    };
    if ended.is_none() {
        tracing::warn!("requests did not finish within the shutdown limit; abandoning them");
    }
    let has_finished = app.shutdown(grace).await;
    match ended {
        Some(Err(error)) => Err(error),
        _ => Ok(has_finished),
    }
}
