//! Being asked to stop.

/// Completes on Ctrl-C or SIGTERM: what [`App::run_until`](crate::App::run_until) is given in a program.
/// Where a signal cannot be listened for, that is logged, and it never comes.
///
/// # Example: a service that ends when it is asked to
///
/// ```no_run
/// use std::time::Duration;
///
/// use composable_rust_runtime::{App, shutdown_signal};
///
/// # async fn run(app: App) {
/// app.run_until(shutdown_signal(), Duration::from_secs(20)).await;
/// # }
/// ```
pub async fn shutdown_signal() {
    tokio::select! {
        biased;
        () = interrupted() => {}
        () = terminated() => {}
    }
}

async fn interrupted() {
    // A process that cannot listen can still be killed, which loses nothing either.
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "cannot listen for Ctrl-C");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot listen for SIGTERM");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending::<()>().await;
}
