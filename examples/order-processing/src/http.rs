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

use crate::output::print_line;
use composable_rust::shutdown_signal;

/// The time limit at shutdown for requests in progress, and then for the work that follows from
/// them.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Returns all routes.
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

/// Serves requests at `addr` until a shutdown signal arrives.
pub(crate) async fn serve(app: &App, addr: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(addr).await;
    let listener = listener
        .with_context(|| format!("cannot listen at {addr}; choose another address with --addr"))?;
    print_line(&format!("listening at http://{}", listener.local_addr()?))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, router(app.clone()))
        .with_graceful_shutdown(async { stopped.await.unwrap_or(()) });
    let server = tokio::spawn(server.into_future());
    // Stop the server first, so that every request finds the app open.
    let server_stopped = async {
        shutdown_signal().await;
        drop(stop);
        if tokio::time::timeout(SHUTDOWN_GRACE, server).await.is_err() {
            tracing::warn!(
                "requests did not finish within the shutdown limit; closing their connections"
            );
        }
    };
    if !app.run_until(server_stopped, SHUTDOWN_GRACE).await {
        anyhow::bail!("shutdown timed out with commands in progress; check their orders");
    }
    print_line("stopped")
}
