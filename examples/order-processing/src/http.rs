//! The HTTP API.

mod error;
mod request;
mod routes;

use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::{get, post};
use composable_rust::App;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::commands::say;
use composable_rust::shutdown_signal;

/// How long requests that are being answered may take to end once the server was asked to stop,
/// and then what they set in motion.
const GRACE: Duration = Duration::from_secs(10);

/// All routes.
fn router(app: App) -> Router {
    Router::new()
        .route("/orders", post(routes::place))
        .route("/orders/{id}", get(routes::show))
        .route("/orders/{id}/ship", post(routes::ship))
        .route("/orders/{id}/cancel", post(routes::cancel))
        .route("/orders/{id}/history", get(routes::history))
        .route("/report", get(routes::report))
        .route("/health", get(routes::health))
        .fallback(routes::no_such_route)
        .method_not_allowed_fallback(routes::no_such_method)
        .with_state(app)
}

/// Answers requests at `addr` until it is asked to stop.
pub(crate) async fn serve(app: &App, addr: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(addr).await;
    let listener = listener.with_context(|| format!("cannot listen at {addr}; pass --addr"))?;
    say(&format!("listening at http://{}", listener.local_addr()?))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router(app.clone()))
        .with_graceful_shutdown(async { stopped.await.unwrap_or(()) });
    let server = tokio::spawn(server.into_future());
    // The server first, so that no request finds the app closed.
    let requests_ended = async {
        shutdown_signal().await;
        drop(stop);
        if tokio::time::timeout(GRACE, server).await.is_err() {
            tracing::warn!("requests are cut off, they took too long");
        }
    };
    if !app.run_until(requests_ended, GRACE).await {
        anyhow::bail!("some commands were still being recorded at the end; look at their orders");
    }
    say("stopped")
}
